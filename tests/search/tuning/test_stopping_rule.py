"""A search stops at the first of its limits, and counts time and trials across sessions."""

import pytest

from huetune.results.records.outcomes import Stop, StopReason
from huetune.search.tuning.stopping_rule import Budget, StoppingRule


def _rule(objective="chroma_mse", seconds_before=0.0, now=(0.0,), **budget):
    return StoppingRule(
        Budget(**{"trials": 10, **budget}), objective, seconds_before=seconds_before, clock=lambda: now[0]
    )


def test_stopping_rule_stops_at_the_trial_budget():
    rule = _rule(trials=3)
    assert rule.stop(2, False) is None
    assert rule.stop(3, False) == rule.stop(4, False) == Stop(StopReason.TRIAL_BUDGET, 3)


def test_stopping_rule_counts_time_from_the_first_suggestion():
    now = [5.0]
    rule = _rule(seconds_before=40.0, now=now, seconds=100.0)
    now[0] = 500.0
    assert rule.seconds == 40.0 and rule.seconds_left == 60.0 and rule.stop(1, False) is None
    rule.start_clock()
    now[0] = 559.0
    rule.start_clock()
    assert rule.seconds == 99.0 and rule.seconds_left == 1.0 and rule.stop(1, False) is None
    now[0] = 561.0
    assert rule.stop(7, False) == Stop(StopReason.TIME_BUDGET, 7) and rule.seconds_left == 0.0


def test_stopping_rule_without_time_budget_has_no_time_left():
    rule = _rule()
    rule.start_clock()
    assert rule.seconds_left is None


@pytest.mark.parametrize(("objective", "sign"), [("chroma_mse", 1), ("skill", -1)])
def test_stopping_rule_counts_trials_since_the_best_score(objective, sign):
    """Equal scores and failed trials are no improvement."""
    rule = _rule(objective, patience=3)
    for score in (0.5, 0.6, None, 0.4, 0.4, None):
        assert rule.stop(1, False) is None
        rule.trial_ended(None if score is None else sign * score)
    rule.trial_ended(sign * 0.5)
    assert rule.stop(7, False) == Stop(StopReason.NO_IMPROVEMENT, 3)
    rule.trial_ended(sign * 0.3)
    assert rule.stop(8, False) is None


def test_stopping_rule_stops_when_nothing_is_left_to_start():
    assert _rule().stop(4, True) == Stop(StopReason.SPACE_EXHAUSTED, 4)


def test_stopping_rule_names_the_trial_budget_before_other_limits():
    now = [0.0]
    rule = _rule(now=now, trials=1, seconds=1.0, patience=1)
    rule.start_clock()
    rule.trial_ended(0.5)
    rule.trial_ended(0.6)
    now[0] = 9.0
    reasons = [rule.stop(1, True), rule.stop(0, True)]
    assert reasons == [Stop(StopReason.TRIAL_BUDGET, 1), Stop(StopReason.TIME_BUDGET, 0)]
