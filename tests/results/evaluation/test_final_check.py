"""Tests that the final check stays with its run, whatever is evaluated later, and is shown beside the winner."""

import json
import shutil

import pytest
from PIL import Image

from huetune.data_tools.common.errors import StorageError
from huetune.data_tools.datasets.synthetic_garden import garden
from huetune.data_tools.photos.source import Source
from huetune.results.cli.log_command import log
from huetune.results.cli.report_command import report
from huetune.results.evaluation import final_check
from huetune.results.evaluation.evaluate import evaluation_folder
from huetune.results.integrity import find_violations
from huetune.results.records.run import Run
from tests.results.experiment_log.test_document import call
from tests.results.synthetic_run import make_run


@pytest.fixture
def run(searched, tmp_path):
    shutil.copytree(searched[0] / "tiny", tmp_path / "tiny")
    return Run(tmp_path / "tiny")


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def photos_at(folder, seed):
    folder.mkdir(parents=True)
    Image.fromarray(garden(1, seed=seed)[0]).save(folder / "a.png")
    return folder


def test_evaluate_on_other_photos_gives_each_source_a_folder(run, in_process, tmp_path):
    """Two sources of the same name get two folders, which they keep, and the final check is unchanged."""
    kept = files_of(run.folder / "evaluation") | {run.folder / final_check.FILE_NAME: b""}
    kept[run.folder / final_check.FILE_NAME] = (run.folder / final_check.FILE_NAME).read_bytes()
    sources = [photos_at(tmp_path / place / "my roses", seed) for place, seed in (("a", 8), ("b", 9))]
    for source, name in zip([*sources, *sources], ["my-roses", "my-roses-2"] * 2, strict=True):
        done = in_process("evaluate", run.folder, "--photos", source, "--samples", 1)
        assert done.returncode == 0, done.stderr
        metrics = json.loads((run.folder / "evaluations" / name / "metrics.json").read_text(encoding="utf-8"))
        assert metrics["source"]["folder"] == str(source) and f"evaluations/{name}/contact-sheet.png" in done.stdout
    assert {path.name for path in (run.folder / "evaluations").iterdir()} == {"my-roses", "my-roses-2"}
    assert all(path.read_bytes() == content for path, content in kept.items())
    assert list(find_violations(run)) == []


@pytest.mark.parametrize(
    ("place", "classes", "name"),
    [
        ("roses", (), "roses"),
        ("flowers", ("rose", "tulip"), "flowers-rose-tulip"),
        ("/", (), "photos"),
        ("a\nb\udcff", (), "a-b"),
        ("..hidden", (), "hidden"),
        ("장미", (), "장미"),
        ("a" * 250, (), "a" * 200),
    ],
)
def test_evaluation_folder_is_named_after_its_source(place, classes, name, tmp_path):
    source = Source(tmp_path / place, classes=classes)
    assert evaluation_folder(tmp_path / "evaluations", source) == tmp_path / "evaluations" / name


def test_final_check_is_shown_with_its_references(run, in_process, tmp_path):
    found = final_check.read(run)
    assert found
    done = in_process("best", run.folder)
    assert all(f"\n{line}\n" in done.stdout for line in found.lines())
    assert "; baseline " in done.stdout and ", gray " in done.stdout
    for language in ("en", "ko"):
        done = call(log, run.folder, "--out", tmp_path / "log", "--lang", language)
        assert done.exit_code == 0, done.output
    for name, says in (
        ("log.md", "Final check on photos that no trial has seen (**1**)"),
        ("log.ko.md", "이미지 **1장** 에 대한 최종 평가"),
    ):
        entries = (tmp_path / "log" / name).read_text(encoding="utf-8").split("<a id=")
        assert [f'-trial-{found.trial}"' in entry for entry in entries] == [says in entry for entry in entries]
        assert f"{found.metrics['chroma_mse'].value:.4f}" in (tmp_path / "log" / name).read_text(encoding="utf-8")
    done = call(report, run.folder, "--out", tmp_path / "r.html")
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert done.exit_code == 0 and '<h3 id="final-check">' in html and "<td>chroma_mse</td>" in html
    assert f"{found.references['baseline']['delta_e']:.4g}</td>" in html


def test_a_run_without_a_final_check_shows_none(run, in_process, tmp_path):
    """Older versions of huetune recorded none."""
    (run.folder / final_check.FILE_NAME).unlink()
    done = in_process("best", run.folder)
    assert done.returncode == 0 and "final check" not in done.stdout
    done = call(report, run.folder, "--out", tmp_path / "r.html")
    assert done.exit_code == 0 and "final-check" not in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert list(find_violations(run)) == []


def test_measure_keeps_an_evaluation_of_an_older_huetune(run, in_process):
    """It may be of other photos; `resume` measures the test photos again."""
    (run.folder / final_check.FILE_NAME).unlink()
    (run.folder / "evaluation" / ".huetune.json").unlink()
    before = {path.name: content for path, content in files_of(run.folder / "evaluation").items()}
    done = in_process("resume", run.folder)
    assert done.returncode == 0 and "the earlier evaluation is now in evaluations/earlier" in done.stdout, done.stderr
    assert {path.name: content for path, content in files_of(run.folder / "evaluations" / "earlier").items()} == before
    assert final_check.is_current(run) and (run.folder / "evaluation" / "contact-sheet.png").is_file()


@pytest.mark.parametrize(
    "harm",
    [
        lambda record: "[]",
        lambda record: "{",
        lambda record: json.dumps({**record, "trial": "1"}),
        lambda record: json.dumps({**record, "objective": "train_loss"}),
        lambda record: json.dumps({**record, "checkpoints": 5}),
        lambda record: json.dumps({**record, "references": {}}),
        lambda record: json.dumps({**record, "metrics": {"chroma_mse": {"value": "x"}}}),
        lambda record: json.dumps({**record, "metrics": {"chroma_mse": {"value": float("nan")}}}),
        lambda record: json.dumps({name: value for name, value in record.items() if name != "count"}),
    ],
)
def test_read_of_a_damaged_final_check_is_refused_in_one_line(harm, tmp_path):
    run = make_run(tmp_path / "made", 4)
    record = {"trial": 1, "objective": "chroma_mse", "checkpoints": ["a"], "count": 1, "fingerprint": "f"}
    record |= {"metrics": {"chroma_mse": {"value": 1.0, "low": None, "high": None}}, "measured": "then"}
    record |= {"references": {"baseline": {"chroma_mse": 1.0}, "gray": {"chroma_mse": 2.0}}}
    (run.folder / final_check.FILE_NAME).write_text(json.dumps(record), encoding="utf-8")
    assert final_check.read(run)
    (run.folder / final_check.FILE_NAME).write_text(harm(record), encoding="utf-8")
    with pytest.raises(StorageError, match=r"is damaged \(.*\); measure again with: huetune resume \S*made$"):
        final_check.read(run)
    assert next(final_check.report_lines(run, run.snapshot())).startswith("final check: ")
