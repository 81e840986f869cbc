"""What is recorded is read back as it was, also what released huetune recorded."""

import ast
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution

from huetune.results.records.outcomes import Failure, FailureKind, Stop, StopReason
from huetune.results.records.trial_records import (
    Asked,
    End,
    EpochMetrics,
    Session,
    StudyRecord,
    TrialRecord,
    begun_trial,
    write_epoch,
    write_launch,
    write_study,
    write_trial,
)

EPOCH = {"epoch": 1, "boxes": 588, "train_seconds": 1.0, "seconds": 2.0, "train_loss": 3.0, "skill": 0.5}
RECORD = TrialRecord(
    number=0,
    state="running",
    params={"mse_weight": 2.0},
    config={"mse_weight": 2.0},
    seed=0,
    target=3,
    preset="model-1",
    continues=0,
    name="trial 0",
    ray_trial="5d0a",
    begun=datetime(2026, 11, 28, tzinfo=UTC).isoformat(),
    host="vm",
    pid=7,
    notes=("left aside",),
    deaths=(Failure(FailureKind.WORKER_DIED, "no power"),),
    failure=Failure(FailureKind.DIVERGED, "loss nan", epoch=2),
    digest="0f",
)


@pytest.fixture
def study():
    return optuna.create_study()


def test_epoch_written_is_read_back_and_stored_as_before():
    for stored in (EPOCH, {**EPOCH, "checkpoint": "trials/0000/epoch-001"}, {"epoch": 2, "seconds": 1.0}):
        assert EpochMetrics.of(stored).record == stored and list(EpochMetrics.of(stored).record) == list(stored)
    assert dict(EpochMetrics.of(EPOCH)) == {"train_seconds": 1.0, "seconds": 2.0, "train_loss": 3.0, "skill": 0.5}


def test_reported_epoch_has_nothing_of_tune():
    """Its time, its own names and the score so far are in the same result."""
    tune = {"score": 0.5, "host": "vm", "pid": 1, "time_total_s": 9.0, "training_iteration": 1, "done": True}
    assert EpochMetrics.reported({**EPOCH, **tune}).record == EPOCH


def test_trial_written_at_once_is_read_back(study):
    study.add_trial(begun_trial(RECORD, {"mse_weight": FloatDistribution(1.0, 8.0)}))
    read = TrialRecord.of(study.trials[0])
    assert read.attributes == RECORD.attributes and read.params == RECORD.params
    for name in RECORD.__dataclass_fields__.keys() - {"started"}:
        assert getattr(read, name) == getattr(RECORD, name), name


def test_trial_written_in_steps_is_read_back_from_both_kinds(study):
    trial = study.ask()
    changes = {name: getattr(RECORD, name) for name in ("host", "pid", "notes", "deaths", "failure", "seed")}
    write_trial(trial, **changes)
    write_epoch(trial, EpochMetrics.of(EPOCH))
    for read in (TrialRecord.of(trial), TrialRecord.of(study.trials[0])):
        assert {name: getattr(read, name) for name in changes} == changes and read.state == "running"
        assert [epoch.record for epoch in read.epochs] == [EPOCH] and read.curve("skill") == {1: 0.5}


def test_field_that_no_trial_has_is_refused(study):
    with pytest.raises(TypeError, match="records no errors"):
        write_trial(study.ask(), errors="none")


def test_trial_of_a_released_huetune_is_read():
    """It had neither a target nor a begin, and sentences for its failures."""
    attributes = {"config": {"skip": True}, "error": "died: no power", "deaths": ["died: no light"], "epoch-1": EPOCH}
    state = optuna.trial.TrialState.FAIL
    read = TrialRecord.of(
        optuna.trial.create_trial(state=state, user_attrs=attributes, intermediate_values={1: 0.5, 2: 0.4})
    )
    assert str(read.failure) == "died: no power" and list(map(str, read.deaths)) == ["died: no light"]
    assert (read.full_epochs, read.target, read.state) == (2, None, "failed")


SEARCHED = StudyRecord(
    objectives=("chroma_mse", "skill"),
    parameters=("mse_weight",),
    baseline={"chroma_mse": 0.08, "skill": 0.0},
    asked=Asked(6, 3, 60.0, 4, (1, 2)),
)
AFTER: dict[str, Any] = {
    "end": End(Stop(StopReason.TRIAL_BUDGET, 6), 6, 3),
    "seconds": 12.5,
    "session": Session(2, 1.0, 10.0),
    "finalists": (3, 1),
}


def test_study_written_is_read_back(study):
    write_launch(study, SEARCHED)
    assert StudyRecord.of(study) == SEARCHED and StudyRecord.of(study).ended is None
    write_study(study, **AFTER)
    assert StudyRecord.of(study) == replace(SEARCHED, **AFTER)
    assert StudyRecord.of(study).ended == Stop(StopReason.TRIAL_BUDGET, 6)


def test_study_extended_has_not_ended(study):
    write_launch(study, SEARCHED)
    write_study(study, **AFTER)
    write_study(study, asked=replace(SEARCHED.asked, trials=9))
    assert StudyRecord.of(study).ended is None
    write_study(study, end=None)
    assert StudyRecord.of(study).end is None


def test_study_is_stored_as_released_huetune_stored_it(study):
    write_launch(study, SEARCHED)
    write_study(study, **AFTER)
    assert study.user_attrs == {
        "objective": "chroma_mse",
        "objectives": ["chroma_mse", "skill"],
        "parameters": ["mse_weight"],
        "zero_line": SEARCHED.baseline,
        "epochs": 3,
        "asked": {**asdict(SEARCHED.asked), "further": [1, 2]},
        "ended": {"by": "trial_budget", "count": 6, "trials": 6, "epochs": 3},
        "seconds": 12.5,
        "session": {"slots": 2, "since": 1.0, "spent": 10.0},
        "finalists": [3, 1],
    }


def test_study_of_a_released_huetune_is_read(study):
    """The first one recorded neither how many trials were asked for nor several objectives."""
    for name, value in {"objective": "skill", "parameters": [], "epochs": 2, "zero_line": {"skill": 0.0}}.items():
        study.set_user_attr(name, value)
    read = StudyRecord.of(study)
    assert (read.objective, read.objectives, read.asked, read.ended) == ("skill", ("skill",), Asked(None, 2), None)


OWNERS = {
    "results/records/trial_records.py",
    # Copies the attributes of a study file into memory, whatever they are.
    "results/records/study_file.py",
}
ACCESS = {"user_attrs", "set_user_attr", "set_trial_user_attr", "set_study_user_attr"}


def test_user_attributes_are_touched_in_one_module():
    """So that no other module spells a key, and a field is added in one place."""
    root = Path(__file__).parents[3]
    found = set()
    for path in (path for part in ("data_tools", "model", "results", "search") for path in (root / part).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = {getattr(node, "attr", None), getattr(node, "id", None), getattr(node, "arg", None)}
            if names & ACCESS:
                found.add(path.relative_to(root).as_posix())
    assert found == OWNERS
