"""`resume` and `extend` continue a search, and leave ended trials as they are."""

import contextlib
import json
import re
import shutil
import sqlite3
from dataclasses import asdict

import optuna
import pytest
from optuna.trial import TrialState
from rich.console import Console

from huetune.data_tools.datasets.synthetic_garden import write_garden
from huetune.results.records.outcomes import Stop, StopReason
from huetune.results.records.run import MANIFEST, STUDY, Run, backup_path, open_storage
from huetune.results.records.study_record import StudyRecord
from huetune.results.records.trial_record import digest
from huetune.results.tables.trial_table import run_rows, winner_row
from huetune.search.session.repair import repair
from tests.faults.program import ONE_SLOT


@pytest.fixture
def run(searched, tmp_path):
    shutil.copytree(searched[0] / "tiny", tmp_path / "tiny")
    found = Run(tmp_path / "tiny")
    _change(found, "cluster", {**found.manifest["cluster"], "cpus_per_trial": ONE_SLOT[1]})
    return found


def _change(run, part, value):
    (run.folder / MANIFEST).write_text(json.dumps({**run.manifest, part: value}), encoding="utf-8")


def _trials(run):
    return run.study().get_trials(deepcopy=False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "extend: pass --trials, --epochs or both"),
        (("--epochs", 3), "extend: pass --trials, --epochs or both"),
        (("--trials", 1, "--time-budget", "0s"), "time-budget must be above 0, received 0.0"),
        (("--epochs", 2), "epochs must be at least 3, as in the search so far, received 2"),
    ],
)
def test_extend_with_bad_options_changes_nothing(words, message, run, in_process):
    before = run.study().user_attrs
    done = in_process("extend", "tiny", "--storage", run.folder.parent, *words)
    assert done.returncode == 2 and message in done.stderr
    assert run.study().user_attrs == before


def test_extend_continues_complete_trials_as_new_trials(run, huetune, in_process, tmp_path):
    before = {trial.number: digest(trial) for trial in _trials(run)}
    complete = {trial.number for trial in _trials(run) if trial.state == TrialState.COMPLETE}
    # As an extension leaves it that had no time for one of them.
    study = optuna.load_study(study_name=run.study_name, storage=open_storage(run.database))
    study.set_user_attr("asked", {**asdict(StudyRecord.of(study).requested), "further": [min(complete)]})
    # The scenes of the garden are in a folder now.
    write_garden(12, tmp_path / "scenes")
    done = huetune("extend", "tiny", "--storage", run.folder.parent, "--epochs", 5, "--photos", tmp_path / "scenes")
    assert done.returncode == 0, done.stderr
    after = {trial.number: trial for trial in _trials(run)}
    assert {number: digest(after[number]) for number in before} == before
    further = [after[number] for number in after if number not in before]
    assert {trial.user_attrs["continues"] for trial in further} == complete and len(further) == len(complete) > 0
    for trial in further:
        old = after[trial.user_attrs["continues"]]
        assert trial.params == old.params and trial.user_attrs["seed"] == old.user_attrs["seed"]
        assert {epoch: trial.intermediate_values[epoch] for epoch in (1, 2, 3)} == old.intermediate_values
        assert trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and max(trial.intermediate_values) > 3
    assert in_process("verify", "tiny", "--storage", run.folder.parent).returncode == 0
    table = in_process("trials", "tiny", "--storage", run.folder.parent, "--columns", "trial,continues").stdout
    assert all(re.search(rf" {trial.number} .* {trial.user_attrs['continues']} ", table) for trial in further), table
    won = winner_row(run_rows(run))
    shown = in_process("best", "tiny", "--storage", run.folder.parent).stdout
    assert won and (f"continues      {won['continues']}\n" in shown) is (won["continues"] is not None)

    done = in_process("resume", "tiny", "--storage", run.folder.parent)
    assert done.returncode == 0 and "is finished, nothing was changed" in done.stdout
    assert {number: digest(trial) for number, trial in after.items()} == {t.number: digest(t) for t in _trials(run)}


@pytest.mark.long
def test_extend_trains_what_an_earlier_extension_did_not(run, huetune):
    """Up to the number of trials that the earlier extension requested."""
    before = _trials(run)
    complete = [trial.number for trial in before if trial.state == TrialState.COMPLETE]
    total = len(before) + len(complete)
    study = optuna.load_study(study_name=run.study_name, storage=open_storage(run.database))
    study.set_user_attr(
        "asked", {**asdict(StudyRecord.of(study).requested), "trials": total, "epochs": 4, "further": complete}
    )
    study.set_user_attr("ended", {**Stop(StopReason.TIME_BUDGET, len(before)).record, "trials": total, "epochs": 4})
    done = huetune("extend", "tiny", "--storage", run.folder.parent, "--epochs", 4)
    assert done.returncode == 0, done.stderr
    assert sorted(trial.user_attrs["continues"] for trial in _trials(run)[len(before) :]) == complete
    assert len(_trials(run)) == total


def test_resume_of_an_older_schema_is_refused(run, in_process):
    _change(run, "schema", 1)
    done = in_process("resume", "tiny", "--storage", run.folder.parent)
    said = "was made by an older version of huetune, which did not record how to continue it; start a new search"
    assert done.returncode == 4 and said in done.stderr
    assert in_process("trials", "tiny", "--storage", run.folder.parent).returncode == 0


def test_repair_ignores_a_damaged_copy_of_an_intact_study(run, capsys):
    before = (run.folder / STUDY).read_bytes()
    backup_path(run.folder / STUDY).write_bytes(b"no copy")
    repair(run, Console())
    assert (run.folder / STUDY).read_bytes() == before and capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "known",
    [pytest.param(True, marks=pytest.mark.long), False],
    ids=["unconfirmed", "and nothing says that it had ended"],
)
def test_resume_after_the_last_trial_only_confirms(known, run, huetune, in_process):
    before = {trial.number: digest(trial) for trial in _trials(run)}
    _change(run, "search", {**run.manifest["search"], "confirm": [1, 2]})
    if not known:
        with contextlib.closing(sqlite3.connect(run.folder / STUDY)) as connection, connection:
            connection.execute("DELETE FROM study_user_attributes WHERE key = 'ended'")
    done = huetune("resume", "tiny", "--storage", run.folder.parent)
    assert done.returncode == 0, done.stderr
    assert " wins: chroma_mse " in done.stdout and {t.number: digest(t) for t in _trials(run)} == before
    assert in_process("verify", "tiny", "--quick", "--storage", run.folder.parent).returncode == 0
