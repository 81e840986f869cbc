"""The searcher records each trial as what it was, and resumes a study with what earlier sessions recorded."""

import optuna
import pytest
from optuna.trial import TrialState

from huetune.data_tools.common.errors import StorageError
from huetune.model.config import Config
from huetune.results.records.outcomes import Stop, StopReason
from huetune.results.records.trial_record import TrialRecord
from huetune.search.spec.space_parser import parse_space
from huetune.search.tuning.retry_policy import MAX_DEATHS
from huetune.search.tuning.stopping_rule import Budget
from huetune.search.tuning.trial_queue import Job, grid_jobs
from huetune.search.tuning.trial_result import SCORE
from tests.search.builders import BASE, make_searcher, make_study

EPOCHS = 3
SPACE = parse_space({"mse_weight": {"low": 1.0, "high": 8.0}, "skip": {"choices": [True, False]}}, BASE)
TOGGLES = parse_space({"skip": {"choices": [True, False]}, "merge_units": {"choices": [64, 96]}}, SPACE.base)


def _searcher(study, trials=6, space=SPACE, kind="tpe", clock=lambda: 0.0, **budget):
    sampler = None if kind == "grid" else kind
    searcher = make_searcher(
        study, space, Budget(trials, **budget), epochs=EPOCHS, sampler=sampler, seed=100, clock=clock
    )
    if kind == "grid":
        searcher.enqueue(grid_jobs(space, 0))
    return searcher


def _result(epoch, score):
    metrics = {"epoch": epoch, "seconds": 1.0, "chroma_mse": score, "checkpoint": f"trials/0000/epoch-{epoch:03}"}
    return {**metrics, SCORE: score, "host": "here", "pid": 1}


def _train(searcher, name, epochs=EPOCHS, score=0.5):
    """Start or resume a trial and report epochs up to a number; the last epoch of all ends it."""
    asked = searcher.suggest(name)
    for epoch in range(searcher.progress[asked["number"]] + 1, epochs + 1):
        result = _result(epoch, score - 0.1 * epoch)
        if epoch == EPOCHS:
            searcher.on_trial_complete(name, {**result, "done": True})
        else:
            searcher.on_trial_result(name, result)
    return asked


@pytest.mark.parametrize("clean", [True, False], ids=["after close", "after a kill"])
def test_searcher_resumes_interrupted_trials_within_budget(clean):
    study = make_study()
    before = _searcher(study)
    ended = _train(before, "a", score=0.9)
    left = [_train(before, "b", epochs=2), _train(before, "c", epochs=0)]
    if clean:
        before.close()
        assert [trial.state for trial in study.trials[1:]] == [TrialState.WAITING] * 2
    after = _searcher(study)
    assert after.best and after.best[0] == pytest.approx(0.3) and after.ended == 1
    assert after.ended_curves == [{1: pytest.approx(0.8), 2: pytest.approx(0.7), 3: pytest.approx(0.6)}]
    again = [_train(after, name) for name in ("d", "e")]
    assert [{**asked} for asked in again] == left and after.resumed == {"d", "e"}
    assert list(study.trials[1].intermediate_values) == [1, 2, 3]
    others = [_train(after, name) for name in ("f", "g", "h")]
    assert after.suggest("i") == "FINISHED" and after.finished and after.trials == 6
    assert [asked["number"] for asked in (ended, *again, *others)] == list(range(6))
    assert [asked["seed"] for asked in (ended, *again, *others)] == list(range(100, 106))
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
    assert len({tuple(trial.params.items()) for trial in study.trials}) == 6
    assert _searcher(study).suggest("j") == "FINISHED"


def test_searcher_continued_trial_has_the_curve_before():
    """A scheduler must get it as the trial's own curve, and not count it twice."""
    study = make_study()
    before = _searcher(study)
    for name in "abc":
        _train(before, name)
    after = _searcher(study)
    assert len(after.ended_curves) == 3
    config = Config.of(study.trials[1].user_attrs["config"])
    after.enqueue([Job(config, study.trials[1].params, 101, {"continues": 1})])
    assert len(after.ended_curves) == 2
    after.suggest("d")
    assert "d" in after.resumed and after.curve("d") == TrialRecord.of(study.trials[1]).best_so_far("chroma_mse") != {}
    assert len(after.ended_curves) == 2
    after.suggest("e")
    assert "e" not in after.resumed and after.curve("e") == {}


def test_searcher_resumed_trial_keeps_its_start_time():
    study = make_study()
    before = _searcher(study)
    _train(before, "a", epochs=1)
    first = TrialRecord.of(study.trials[0]).start
    before.close()
    after = _searcher(study)
    _train(after, "b")
    resumed_at = study.trials[0].datetime_start
    assert first and resumed_at and TrialRecord.of(study.trials[0]).start == first != resumed_at.astimezone()
    assert study.trials[0].user_attrs["begun"].endswith("+00:00"), "UTC, independent of the reader's time zone"


@pytest.mark.parametrize("kind", ["tpe", "grid"])
def test_searcher_resumed_stops_when_the_space_is_exhausted(kind):
    study = make_study()
    before = _searcher(study, 99, TOGGLES, kind)
    for name in "ab":
        _train(before, name)
    after = _searcher(study, 99, TOGGLES, kind)
    for name in "cd":
        _train(after, name)
    assert after.suggest("e") == "FINISHED" and after.ended_by == Stop(StopReason.SPACE_EXHAUSTED, 4)
    assert len({tuple(sorted(trial.params.items())) for trial in study.trials}) == 4


def test_searcher_limits_count_earlier_sessions():
    study, now = make_study(), [0.0]
    before = _searcher(study, 99, clock=lambda: now[0], seconds=100.0, patience=3)
    _train(before, "a", score=0.5)
    now[0] = 60.0
    for name in "bc":
        _train(before, name, score=0.9)
    before.close()
    late = _searcher(study, 99, clock=lambda: now[0], seconds=100.0)
    assert isinstance(late.suggest("d"), dict)
    now[0] = 101.0
    assert late.suggest("e") is None and late.ended_by == Stop(StopReason.TIME_BUDGET, 4)
    flat = _searcher(_copied(study, 3), 99, patience=3)
    _train(flat, "f", score=0.9)
    assert flat.suggest("g") == "FINISHED" and flat.ended_by == Stop(StopReason.NO_IMPROVEMENT, 3)


def _copied(study, count):
    other = make_study()
    other.add_trials(study.trials[:count])
    return other


def test_searcher_records_epochs_that_a_dead_worker_missed():
    study = make_study()
    searcher = _searcher(study)
    searcher.suggest("a")
    searcher.on_trial_result("a", _result(1, 0.5))
    missed = [_result(epoch, 0.4) for epoch in (1, 2)]
    searcher.on_trial_complete("a", {**_result(3, 0.3), "missed": missed})
    assert study.trials[0].intermediate_values == {1: 0.5, 2: 0.4, 3: 0.3}
    assert study.trials[0].state == TrialState.COMPLETE


def test_searcher_ignores_a_repeated_epoch():
    study = make_study()
    searcher = _searcher(study)
    searcher.suggest("a")
    searcher.on_trial_result("a", _result(1, 0.5))
    searcher.on_trial_result("a", _result(2, 0.4))
    searcher.on_trial_result("a", _result(2, 0.1))
    assert study.trials[0].intermediate_values == {1: 0.5, 2: 0.4}
    assert study.trials[0].user_attrs["epoch-2"]["chroma_mse"] == 0.4 and searcher.best[0] == 0.4


def test_searcher_fails_a_trial_after_three_deaths_in_a_row():
    study = make_study()
    searcher = _searcher(study, 1)
    for attempt in range(2 * MAX_DEATHS - 1):
        asked = searcher.suggest(f"attempt-{attempt}")
        assert isinstance(asked, dict) and asked["number"] == 0
        if attempt == MAX_DEATHS - 2:
            searcher.on_trial_result(f"attempt-{attempt}", _result(1, 0.5))
        assert searcher.suggest("another") is None, "the search must not end while a trial may have to be retried"
        searcher.worker_died(f"attempt-{attempt}", "no power")
        if study.trials[0].state == TrialState.FAIL:
            break
    assert attempt == 2 * MAX_DEATHS - 3 and str(TrialRecord.of(study.trials[0]).failure) == "died: no power"
    assert searcher.suggest("z") == "FINISHED"


def test_searcher_aborts_when_the_study_cannot_be_written(monkeypatch):
    study = make_study()
    searcher = _searcher(study)
    searcher.suggest("a")
    broken = optuna.exceptions.StorageInternalError("disk is full")
    monkeypatch.setattr(study._storage, "set_trial_user_attr", lambda *_, **__: (_ for _ in ()).throw(broken))
    searcher.on_trial_result("a", _result(1, 0.5))
    assert isinstance(searcher.aborted_by, StorageError) and "disk is full" in str(searcher.aborted_by)
    assert searcher.suggest("b") is None
    searcher.close()
    monkeypatch.undo()
    assert [trial.state for trial in study.trials] == [TrialState.WAITING]


def test_searcher_last_epoch_unwritten_does_not_end_trial(monkeypatch):
    study = make_study()
    searcher = _searcher(study)
    _train(searcher, "a", epochs=2)
    broken = optuna.exceptions.StorageInternalError("disk is full")
    monkeypatch.setattr(study._storage, "set_trial_user_attr", lambda *_, **__: (_ for _ in ()).throw(broken))
    searcher.on_trial_complete("a", _result(3, 0.1))
    monkeypatch.undo()
    searcher.close()
    assert study.trials[0].state == TrialState.WAITING and "epoch-3" not in study.trials[0].user_attrs


def test_searcher_close_interrupts_all_running_trials():
    """Three trials ran when the first session was killed; the second had resumed one of them when it was aborted."""
    study = make_study()
    before = _searcher(study)
    for name in "abc":
        before.suggest(name)
    after = _searcher(study)
    after.suggest("d")
    after.aborted_by = StorageError("aborted")
    assert after.suggest("e") is None
    after.close()
    assert [trial.state for trial in study.trials] == [TrialState.WAITING] * 3
    idle = _searcher(study)
    idle.aborted_by = StorageError("aborted")
    assert idle.suggest("f") == "FINISHED", "without running trials, Tune would ask again for ten minutes"
