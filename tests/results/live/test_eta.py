"""The time left is what ended trials took, early-stopped ones among them."""

import pytest

from huetune.results.live.eta import Pace


def _seconds(epochs, each=10.0):
    return dict.fromkeys(range(1, epochs + 1), each)


@pytest.fixture
def pace():
    """Two trials of four epochs, and two that were stopped after the first."""
    pace = Pace()
    for epochs in (4, 1, 4, 1):
        pace.add(_seconds(epochs))
    return pace


def test_none_before_there_is_a_basis(pace):
    assert Pace().left([(_seconds(1), 4)], 10, 2) is None
    pace = Pace()
    pace.add({})
    assert pace.left([], 10, 2) == 0.0


def test_trials_that_are_to_begin_take_the_mean_of_the_ended_ones(pace):
    assert pace.left([], 8, 2) == pytest.approx(8 * 25 / 2)


def test_who_came_further_is_compared_with_those_who_did(pace):
    assert pace.rest({}, 4) == pytest.approx(25)
    assert pace.rest(_seconds(1), 4) == pytest.approx(30)  # of those that went on: all the three others
    assert pace.rest(_seconds(3), 4) == pytest.approx(10)


def test_one_that_was_stopped_did_not_go_on_whatever_its_seconds_sum_up_to():
    """0.1 + 0.2 - 0.1 - 0.2 is no 0."""
    pace = Pace()
    for _ in range(3):
        pace.add({1: 0.1, 2: 0.2, 3: 0.3})
    pace.add({1: 0.1, 2: 0.2, 3: 0.3, 4: 60.0})
    assert pace.rest({1: 0.1, 2: 0.2, 3: 0.3}, 4) == pytest.approx(60.0)


def test_where_nobody_came_yet_a_trial_has_its_own_pace(pace):
    assert pace.rest(_seconds(5, 7.0), 8) == pytest.approx(21)


def test_no_slots_make_one_trial_shorter(pace):
    assert pace.left([(_seconds(1), 4)], 0, 100) == pytest.approx(30)
    assert pace.left([], 1, 100) == pytest.approx(25)


def test_a_time_budget_ends_it_earlier(pace):
    assert pace.left([], 80, 2, budget=50.0) == pytest.approx(75)
    assert pace.left([(_seconds(1), 4)], 80, 2, budget=0.0) == pytest.approx(30)
