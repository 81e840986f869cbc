"""Stop reasons and failures are stored as enums, and what older versions stored in words is still understood."""

import json

import optuna
import pytest
from optuna.trial import TrialState

from huetune.results.analysis.replicates import has_diverged
from huetune.results.records.outcomes import Failure, FailureKind, Stop, StopReason
from huetune.results.records.trial_record import TrialRecord

STOPS = [
    (Stop(StopReason.TRIAL_BUDGET, 30), "trial budget reached (30)", "all 30 are asked for"),
    (Stop(StopReason.TIME_BUDGET, 1), "time budget reached after 1 trial", "its time was over after 1 trials"),
    (
        Stop(StopReason.NO_IMPROVEMENT, 9),
        "no improvement in the last 9 trials",
        "none of the last 9 trials was better than those before",
    ),
    (
        Stop(StopReason.SPACE_EXHAUSTED, 6),
        "search space exhausted, all 6 configurations were tried",
        "the space is exhausted: all its 6 configurations were tried",
    ),
    (Stop(StopReason.UNKNOWN, detail="all are tried"), "all are tried", "all are tried"),
]
FAILURES = [
    (Failure(FailureKind.DIVERGED, "train_loss is nan", epoch=2), "diverged in epoch 2: train_loss is nan"),
    (Failure(FailureKind.WORKER_DIED, "no power\nat all"), "died: no power\nat all"),
    (Failure(FailureKind.WORKER_DIED, "diverged"), "died: diverged"),
    (Failure(FailureKind.HUNG, seconds=0.5), "hung: no epoch within 0.5 s"),
    (Failure(FailureKind.STOPPED), "stopped before its first epoch"),
    (Failure(FailureKind.UNKNOWN, "the search ended: disk full"), "the search ended: disk full"),
]


def _stored(value):
    """Return it as a study gives it back."""
    return json.loads(json.dumps(value))


@pytest.mark.parametrize(("stop", "words", "old"), STOPS, ids=lambda value: getattr(value, "reason", ""))
def test_stop_is_read_from_old_and_new_records(stop, words, old):
    assert str(stop) == words and Stop.of({"by": old, "trials": 30, "epochs": 8}) == stop
    if stop.reason is not StopReason.UNKNOWN:
        assert stop.record["by"] == stop.reason.value and Stop.of(_stored(stop.record)) == stop


@pytest.mark.parametrize(("failure", "words"), FAILURES, ids=lambda value: getattr(value, "kind", ""))
def test_failure_is_read_from_old_and_new_records(failure, words):
    """Of failures the words are those that older versions stored."""
    assert str(failure) == words and Failure.of(words) == failure == Failure.of(_stored(failure.record))


@pytest.mark.parametrize("stored", [{"kind": "melted"}, {"epoch": 1}, {"kind": "hung", "seconds": "x"}, 7, ["died"]])
def test_failure_of_newer_version_is_unknown_and_shown(stored):
    assert Failure.of(stored) == Failure(FailureKind.UNKNOWN, str(stored))


def test_stop_of_newer_version_is_unknown_and_shown():
    assert Stop.of({"by": "melted"}) == Stop(StopReason.UNKNOWN, detail="melted")


def test_resumed_trial_has_deaths_in_both_forms():
    """A trial that an older version left, and this one continued."""
    study = optuna.create_study()
    trial = study.ask()
    assert TrialRecord.of(trial).failure is None and TrialRecord.of(trial).deaths == ()
    hung = Failure(FailureKind.HUNG, seconds=15.0)
    trial.set_user_attr("deaths", ["died: no power", hung.record])
    trial.set_user_attr("error", "diverged in epoch 1: train_loss is nan")
    study.tell(trial, state=TrialState.FAIL)
    assert TrialRecord.of(study.trials[0]).deaths == (Failure(FailureKind.WORKER_DIED, "no power"), hung)
    assert TrialRecord.of(study.trials[0]).failure == Failure(FailureKind.DIVERGED, "train_loss is nan", epoch=1)
    assert has_diverged(study.trials[0])
