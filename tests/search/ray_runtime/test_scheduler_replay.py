"""A scheduler into which earlier trials are replayed decides like one that saw them."""

import random

import pytest
from ray.tune.schedulers import TrialScheduler

from huetune.search.ray_runtime.ray_compat import forget_trial
from huetune.search.ray_runtime.scheduler_replay import EndedTrial, replay_curve, replay_ended_trials
from huetune.search.tuning.schedulers import SCHEDULERS
from huetune.search.tuning.trial_result import SCORE

EPOCHS = 9


def _curves(count, seed):
    rng = random.Random(seed)
    curves = []
    for _ in range(count):
        best, curve = rng.uniform(1, 3), {}
        for epoch in range(1, EPOCHS + 1):
            best = min(best, best * rng.uniform(0.8, 1.1))
            curve[epoch] = best
        curves.append(curve)
    return curves


def _new(name):
    scheduler = SCHEDULERS[name](EPOCHS)
    scheduler.set_search_properties(SCORE, "min")
    return scheduler


def _train(scheduler, trial, curve, start=1):
    """Report a trial's epochs; return the epoch after which it is stopped."""
    for epoch in range(start, EPOCHS + 1):
        decision = scheduler.on_trial_result(None, trial, {"epoch": epoch, SCORE: curve[epoch]})
        if decision == TrialScheduler.STOP:
            return epoch
    return EPOCHS


def _seen(name, curves):
    """Return a scheduler that saw trials, and the number of epochs of each."""
    scheduler, lengths = _new(name), []
    for number, curve in enumerate(curves):
        trial = EndedTrial(f"trial-{number}")
        scheduler.on_trial_add(None, trial)
        lengths.append(_train(scheduler, trial, curve))
    return scheduler, lengths


@pytest.mark.parametrize("name", ["asha", "median"])
def test_scheduler_after_replay_decides_as_before(name):
    curves, later = _curves(20, 0), _curves(20, 1)
    seen, lengths = _seen(name, curves)
    replayed, new = _new(name), _new(name)
    replay_ended_trials(
        replayed, [{epoch: curve[epoch] for epoch in range(1, n + 1)} for curve, n in zip(curves, lengths, strict=True)]
    )
    decisions = []
    for scheduler in (seen, replayed, new):
        ends = []
        for number, curve in enumerate(later):
            trial = EndedTrial(f"later-{number}")
            scheduler.on_trial_add(None, trial)
            ends.append(_train(scheduler, trial, curve))
        decisions.append(ends)
    assert decisions[0] == decisions[1] != decisions[2]
    assert min(decisions[0]) < EPOCHS


@pytest.mark.parametrize("name", ["asha", "median"])
def test_scheduler_counts_a_retried_trial_once(name):
    """A retried trial has a new id each time."""
    curves = _curves(20, 0)
    once, often = _new(name), _new(name)
    for number, curve in enumerate(curves):
        trial = EndedTrial(f"trial-{number}")
        once.on_trial_add(None, trial)
        end = _train(once, trial, curve)
        past = {epoch: curve[epoch] for epoch in range(1, end + 1)}
        for death in range(4):
            trial = EndedTrial(f"trial-{number}-{death}")
            often.on_trial_add(None, trial)
            replay_curve(often, trial, past)
            if death < 3:
                forget_trial(often, trial)
    ends: list[list[int]] = []
    for scheduler in (once, often):
        ends.append([])
        for number, curve in enumerate(_curves(20, 1)):
            trial = EndedTrial(f"later-{number}")
            scheduler.on_trial_add(None, trial)
            ends[-1].append(_train(scheduler, trial, curve))
    assert ends[0] == ends[1] and min(ends[0]) < EPOCHS


@pytest.mark.parametrize("name", ["asha", "hyperband", "median", "none"])
def test_scheduler_does_not_stop_a_trial_for_replayed_results(name):
    """The decision was made when they were new. The trial still counts when others are compared with it."""
    scheduler, _ = _seen(name, _curves(20, 0))
    trial = EndedTrial("reminded")
    scheduler.on_trial_add(None, trial)
    worst = dict.fromkeys(range(1, EPOCHS + 1), 99.0)
    replay_curve(scheduler, trial, {epoch: worst[epoch] for epoch in range(1, 5)})
    end = _train(scheduler, trial, worst, start=5)
    assert 5 <= end <= EPOCHS and (end < EPOCHS) == (name != "none")
