"""The commands that a search prints at its end."""

import json
import shlex
import shutil

import optuna
import pytest

from huetune.data_tools.datasets.synthetic_garden import write_garden
from huetune.results.records.run import MANIFEST, Run, open_storage
from huetune.search.cli.search_end import print_next_commands


@pytest.mark.parametrize("objectives", [["chroma_mse"], ["chroma_mse", "chroma_ratio_error"]])
def test_print_next_commands_prints_commands_that_work(objectives, searched, in_process, tmp_path, monkeypatch, capsys):
    """In a storage whose name has a space, and after a search with several objectives, which needs --by."""
    shutil.copytree(searched[0] / "tiny", tmp_path / "all runs" / "tiny")
    run = Run(tmp_path / "all runs" / "tiny")
    asked = {**run.manifest["search"], "objectives": objectives}
    (run.folder / MANIFEST).write_text(json.dumps({**run.manifest, "search": asked}), encoding="utf-8")
    study = optuna.load_study(study_name="tiny", storage=open_storage(run.database))
    study.set_user_attr("objectives", objectives)
    write_garden(1, tmp_path / "new", seed=9)
    monkeypatch.chdir(tmp_path)
    print_next_commands(run, True)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert len(lines) == 6
    for line in lines:
        filled = line.replace("--photos DIR", "--photos new").replace("PHOTO --out DIR", "new/garden-0000.png --out o")
        if len(objectives) > 1 or " report " not in line:
            done = in_process(*shlex.split(filled)[1:])
            assert done.returncode == 0, (line, done.stderr)
    assert in_process("best", run.location).returncode == (2 if len(objectives) > 1 else 0)
