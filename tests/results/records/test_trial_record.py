"""The record of a trial is read back as it was stored, also one that a released huetune stored."""

import ast
from datetime import UTC, datetime
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution

from huetune.results.records.epoch_metrics import EpochMetrics
from huetune.results.records.outcomes import Failure, FailureKind
from huetune.results.records.trial_record import TrialRecord, config_key, running_trial, write_epoch, write_trial

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


def test_trial_added_in_one_step_is_read_back(study):
    study.add_trial(running_trial(RECORD, {"mse_weight": FloatDistribution(1.0, 8.0)}))
    read = TrialRecord.of(study.trials[0])
    assert read.attributes == RECORD.attributes and read.params == RECORD.params
    for name in RECORD.__dataclass_fields__.keys() - {"started"}:
        assert getattr(read, name) == getattr(RECORD, name), name


def test_trial_written_in_steps_is_read_back(study):
    trial = study.ask()
    changes = {name: getattr(RECORD, name) for name in ("host", "pid", "notes", "deaths", "failure", "seed")}
    write_trial(trial, **changes)
    write_epoch(trial, EpochMetrics.of(EPOCH))
    for read in (TrialRecord.of(trial), TrialRecord.of(study.trials[0])):
        assert {name: getattr(read, name) for name in changes} == changes and read.state == "running"
        assert [epoch.record for epoch in read.epochs] == [EPOCH] and read.best_so_far("skill") == {1: 0.5}


def test_write_trial_unknown_field_is_refused(study):
    with pytest.raises(TypeError, match="records no errors"):
        write_trial(study.ask(), errors="none")


def test_trial_record_of_released_version_is_read():
    """It had neither a target nor a begin, and sentences for its failures."""
    attributes = {"config": {"skip": True}, "error": "died: no power", "deaths": ["died: no light"], "epoch-1": EPOCH}
    state = optuna.trial.TrialState.FAIL
    read = TrialRecord.of(
        optuna.trial.create_trial(state=state, user_attrs=attributes, intermediate_values={1: 0.5, 2: 0.4})
    )
    assert str(read.failure) == "died: no power" and list(map(str, read.deaths)) == ["died: no light"]
    assert (read.planned_epochs, read.target, read.state) == (2, None, "failed")


OWNERS = {
    "results/records/study_record.py",
    "results/records/trial_record.py",
    # Copies the attributes of a study file into memory, whatever they are.
    "results/records/study_file.py",
}
ACCESS = {"user_attrs", "set_user_attr", "set_trial_user_attr", "set_study_user_attr"}


def test_user_attributes_have_one_owner_each():
    """So that no other module spells a key, and a field is added in one place."""
    root = Path(__file__).parents[3]
    found = set()
    for path in (path for part in ("data_tools", "model", "results", "search") for path in (root / part).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = {getattr(node, "attr", None), getattr(node, "id", None), getattr(node, "arg", None)}
            if names & ACCESS:
                found.add(path.relative_to(root).as_posix())
    assert found == OWNERS


def test_trial_record_reads_boxes_as_patches():
    """Released huetune stored the older name of the recipe."""
    trial = optuna.create_study().ask()
    trial.set_user_attr("config", {"batching": "boxes", "mse_weight": 2.0})
    read = TrialRecord.of(trial)
    assert read.config == {"batching": "patches", "mse_weight": 2.0}
    assert read.key == config_key({"batching": "patches", "mse_weight": 2.0})
