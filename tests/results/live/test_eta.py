"""Tests the estimate of the time left: the mean of the ended trials, early-stopped ones included."""

import pytest

from huetune.results.live.eta import DurationEstimator


def _seconds(epochs, each=10.0):
    return dict.fromkeys(range(1, epochs + 1), each)


@pytest.fixture
def estimator():
    """Two trials of four epochs, and two that were stopped after the first."""
    estimator = DurationEstimator()
    for epochs in (4, 1, 4, 1):
        estimator.add(_seconds(epochs))
    return estimator


def test_seconds_left_before_a_trial_ended_is_none():
    assert DurationEstimator().seconds_left([(_seconds(1), 4)], 10, 2) is None
    estimator = DurationEstimator()
    estimator.add({})
    assert estimator.seconds_left([], 10, 2) == 0.0


def test_seconds_left_of_new_trials_is_the_mean(estimator):
    assert estimator.seconds_left([], 8, 2) == pytest.approx(8 * 25 / 2)


def test_trial_seconds_left_counts_trials_that_came_as_far(estimator):
    assert estimator.trial_seconds_left({}, 4) == pytest.approx(25)
    assert estimator.trial_seconds_left(_seconds(1), 4) == pytest.approx(30)  # both trials of four epochs: 3 more
    assert estimator.trial_seconds_left(_seconds(3), 4) == pytest.approx(10)


def test_trial_seconds_left_ignores_trials_stopped_there():
    """Decided by the epoch, not by the seconds that are left over: 0.1 + 0.2 - 0.1 - 0.2 is not 0."""
    estimator = DurationEstimator()
    for _ in range(3):
        estimator.add({1: 0.1, 2: 0.2, 3: 0.3})
    estimator.add({1: 0.1, 2: 0.2, 3: 0.3, 4: 60.0})
    assert estimator.trial_seconds_left({1: 0.1, 2: 0.2, 3: 0.3}, 4) == pytest.approx(60.0)


def test_trial_seconds_left_beyond_all_ended_uses_its_own_pace(estimator):
    assert estimator.trial_seconds_left(_seconds(5, 7.0), 8) == pytest.approx(21)


def test_seconds_left_with_many_slots_is_the_longest_trial(estimator):
    assert estimator.seconds_left([(_seconds(1), 4)], 0, 100) == pytest.approx(30)
    assert estimator.seconds_left([], 1, 100) == pytest.approx(25)


def test_seconds_left_with_a_time_budget_is_shorter(estimator):
    assert estimator.seconds_left([], 80, 2, budget=50.0) == pytest.approx(75)
    assert estimator.seconds_left([(_seconds(1), 4)], 80, 2, budget=0.0) == pytest.approx(30)
