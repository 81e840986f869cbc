"""The record of a study is read back as it was stored, also one that a released huetune stored."""

from dataclasses import asdict, replace
from typing import Any

import optuna
import pytest

from huetune.results.records.outcomes import Stop, StopReason
from huetune.results.records.study_record import (
    End,
    RequestedBudget,
    Session,
    StudyRecord,
    write_launch,
    write_study,
)

SEARCHED = StudyRecord(
    objectives=("chroma_mse", "skill"),
    parameters=("mse_weight",),
    baseline={"chroma_mse": 0.08, "skill": 0.0},
    requested=RequestedBudget(6, 3, 60.0, 4, (1, 2)),
)
AFTER: dict[str, Any] = {
    "end": End(Stop(StopReason.TRIAL_BUDGET, 6), 6, 3),
    "seconds": 12.5,
    "session": Session(2, 1.0, 10.0),
    "finalists": (3, 1),
}


@pytest.fixture
def study():
    return optuna.create_study()


def test_study_record_is_read_back(study):
    write_launch(study, SEARCHED)
    assert StudyRecord.of(study) == SEARCHED and StudyRecord.of(study).ended is None
    write_study(study, **AFTER)
    assert StudyRecord.of(study) == replace(SEARCHED, **AFTER)
    assert StudyRecord.of(study).ended == Stop(StopReason.TRIAL_BUDGET, 6)


def test_extended_study_has_not_ended(study):
    write_launch(study, SEARCHED)
    write_study(study, **AFTER)
    write_study(study, requested=replace(SEARCHED.requested, trials=9))
    assert StudyRecord.of(study).ended is None
    write_study(study, end=None)
    assert StudyRecord.of(study).end is None


def test_study_record_keeps_stored_keys(study):
    write_launch(study, SEARCHED)
    write_study(study, **AFTER)
    assert study.user_attrs == {
        "objective": "chroma_mse",
        "objectives": ["chroma_mse", "skill"],
        "parameters": ["mse_weight"],
        "zero_line": SEARCHED.baseline,
        "epochs": 3,
        "asked": {**asdict(SEARCHED.requested), "further": [1, 2]},
        "ended": {"by": "trial_budget", "count": 6, "trials": 6, "epochs": 3},
        "seconds": 12.5,
        "session": {"slots": 2, "since": 1.0, "spent": 10.0},
        "finalists": [3, 1],
    }


def test_study_record_of_released_version_is_read(study):
    """The first one recorded neither how many trials were asked for nor several objectives."""
    for name, value in {"objective": "skill", "parameters": [], "epochs": 2, "zero_line": {"skill": 0.0}}.items():
        study.set_user_attr(name, value)
    read = StudyRecord.of(study)
    assert (read.objective, read.objectives, read.ended) == ("skill", ("skill",), None)
    assert read.requested == RequestedBudget(None, 2)
