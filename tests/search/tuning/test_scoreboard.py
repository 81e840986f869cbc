"""The scoreboard has the epochs of running trials, the scores of all, and the curves of those before this session."""

import optuna
import pytest
from optuna.trial import TrialState

from huetune.results.records.epoch_metrics import EpochMetrics
from huetune.results.records.trial_record import TrialRecord
from huetune.search.tuning.scoreboard import Scoreboard


def _epoch(number, score):
    return EpochMetrics(number, {"chroma_mse": score, "skill": -score})


@pytest.fixture
def study():
    return optuna.create_study(sampler=optuna.samplers.RandomSampler())


def _stored(study, scores, state):
    """A trial that the study had before, with a record of each epoch."""
    trial = study.ask()
    for number, score in enumerate(scores, 1):
        trial.set_user_attr(f"epoch-{number}", {"epoch": number, "chroma_mse": score, "skill": -score})
    if state.is_finished():
        study.tell(trial, min(scores) if state == TrialState.COMPLETE else None, state)
    return study.trials[-1]


def test_scoreboard_keeps_the_best_score_of_each_trial(study):
    board, trials = Scoreboard("chroma_mse"), [study.ask(), study.ask()]
    for trial in trials:
        board.start(trial, ())
    assert board.best is None and board.progress == {0: 0, 1: 0}
    for number, (first, second) in enumerate([(0.5, 0.6), (0.4, 0.7), (0.45, 0.3)], 1):
        board.add(trials[0], _epoch(number, first))
        board.add(trials[1], _epoch(number, second))
    assert board.best == (0.3, trials[1]) and board.progress == {0: 3, 1: 3}
    best = board.best_epoch(0)
    assert best and best.epoch == 2 and board.curve(0, None) == {1: 0.5, 2: 0.4, 3: 0.4}
    assert board.end(1) == {1: 0.6, 2: 0.6, 3: 0.3} and board.best == (0.3, trials[1])


def test_scoreboard_compares_in_the_direction_of_the_objective(study):
    board, trial = Scoreboard("skill"), study.ask()
    board.start(trial, [_epoch(1, 0.5), _epoch(2, 0.6)])
    assert board.best == (-0.5, trial) and board.progress == {0: 2}


def test_scoreboard_drops_the_score_of_a_failed_trial(study):
    board, trials = Scoreboard("chroma_mse"), [study.ask(), study.ask()]
    for trial, score in zip(trials, (0.5, 0.1), strict=True):
        board.start(trial, [_epoch(1, score)])
    board.discard(1)
    assert board.best == (0.5, trials[0]) and board.best_epoch(1) is None and board.end(1) == {}


def test_scoreboard_restores_all_trials_but_failed_ones(study):
    board = Scoreboard("chroma_mse")
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING)
    curves = []
    for scores, state in zip([(0.5, 0.6), (0.7,), (0.1,), (0.4,)], states, strict=True):
        trial = _stored(study, scores, state)
        curves.append(board.restore(trial, TrialRecord.of(trial)))
    assert curves == [{1: 0.5, 2: 0.5}, {1: 0.7}, {}, {1: 0.4}]
    assert board.best and board.best[0] == 0.4 and board.best[1].number == 3
    assert board.curves_before({None, 1}) == [{1: 0.5, 2: 0.5}, {}], "a running trial has not ended before"


def test_scoreboard_gives_a_continuing_trial_the_curve_before(study):
    board = Scoreboard("chroma_mse")
    before = _stored(study, (0.5, 0.4), TrialState.COMPLETE)
    board.restore(before, TrialRecord.of(before))
    trial = study.ask()
    board.start(trial, ())
    assert board.curve(1, 0) == {1: 0.5, 2: 0.4} and board.curve(1, None) == board.curve(1, 7) == {}
    board.add(trial, _epoch(3, 0.3))
    assert board.curve(1, 0) == {3: 0.3}
