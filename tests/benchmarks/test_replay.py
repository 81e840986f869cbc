"""Replays run the real searcher and scheduler, so that their budgets and states are those of a search."""

import random
import statistics

import pytest
from optuna.trial import TrialState

from huetune.results.records.outcomes import Stop, StopReason
from huetune.search.tuning.stopping_rule import Budget
from tests.benchmarks import replay, replayed_searches
from tests.benchmarks.table import EPOCHS, SEEDS, read_table
from tests.search.builders import make_searcher, make_study


@pytest.fixture(scope="module")
def table():
    return replay.Table.read()


def _run(table, searcher, scheduler="asha", seed=0, **options):
    return replay.run(
        table,
        searcher,
        replayed_searches.make_scheduler(scheduler),
        random.Random(seed),
        until_reached=False,
        **options,
    )


def _searcher(budget, clock=lambda: 0.0, grid=False):
    study = make_study()
    return make_searcher(study, replayed_searches.table_space(grid), budget, epochs=EPOCHS, clock=clock), study


def test_table_is_complete_with_differences_above_the_noise(table):
    assert len(table.truth) == 8 * 4 * 2 and len(read_table()) == 8 * 4 * 2 * SEEDS * EPOCHS
    assert all(len(curve) == EPOCHS for curves in table.curves.values() for curve in curves)
    spread = statistics.stdev(table.truth.values())
    assert 0 < table.step < spread / 3 and 1 < len(table.near) < len(table.truth) / 4


def test_replay_records_every_trial_with_state_and_epochs(table):
    searcher, study = _searcher(Budget(20))
    done = _run(table, searcher)
    states = {state: [trial for trial in study.trials if trial.state == state] for state in TrialState}
    assert len(states[TrialState.COMPLETE]) + len(states[TrialState.PRUNED]) == len(study.trials) == 20
    assert sum(len(trial.intermediate_values) for trial in study.trials) == done.epochs
    assert states[TrialState.PRUNED]
    for trial in states[TrialState.COMPLETE]:
        assert trial.value == min(trial.intermediate_values.values()) and len(trial.intermediate_values) == EPOCHS
    assert all(0 < len(trial.intermediate_values) < EPOCHS for trial in states[TrialState.PRUNED])


def test_replay_with_64_workers_is_8_times_as_fast(table):
    """The clock is simulated, so that 500 trials take seconds."""
    clocks = {}
    for workers in (2, 64):
        searcher, study = _searcher(Budget(500))
        clocks[workers] = [0.0]
        _run(table, searcher, workers=workers, clock=clocks[workers])
        assert len(study.trials) == 500 and searcher.ended == 500
    assert clocks[64][0] < clocks[2][0] / 8


def test_replay_of_a_grid_tries_each_point_once(table):
    searcher, study = _searcher(Budget(1000), grid=True)
    _run(table, searcher)
    assert len(study.trials) == 64 == len({tuple(trial.params.values()) for trial in study.trials})
    assert searcher.ended_by == Stop(StopReason.SPACE_EXHAUSTED, 64)
    assert searcher.trials == searcher.ended == 64


def test_replay_at_the_time_budget_finishes_running_trials(table):
    clock = [0.0]
    searcher, study = _searcher(Budget(1000, seconds=60), clock=lambda: clock[0])
    _run(table, searcher, clock=clock)
    assert searcher.ended_by == Stop(StopReason.TIME_BUDGET, len(study.trials))
    assert 2 < len(study.trials) < 100 and clock[0] > 60
    assert all(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in study.trials)


def test_replay_without_improvement_ends(table):
    searcher, study = _searcher(Budget(1000, patience=7))
    _run(table, searcher)
    assert searcher.ended_by == Stop(StopReason.NO_IMPROVEMENT, 7)
    ended = sorted(study.trials, key=lambda trial: trial.datetime_complete)
    scores = [min(trial.intermediate_values.values()) for trial in ended]
    best = scores.index(min(scores))
    # One more trial ran when the seventh ended.
    assert 7 <= len(scores) - 1 - best <= 8 and len(scores) < 200


@pytest.mark.parametrize("scheduler", ["hyperband", "median"])
def test_replay_with_hyperband_or_median_prunes_trials(table, scheduler):
    searcher, study = _searcher(Budget(30))
    _run(table, searcher, scheduler)
    states = [trial.state for trial in study.trials]
    assert len(states) == 30 and TrialState.PRUNED in states and TrialState.COMPLETE in states


def test_default_search_needs_far_fewer_epochs_than_random(table):
    def mean_epochs(name):
        return statistics.fmean(replay.epochs_needed(table, name, seed) for seed in range(60))

    random_epochs = mean_epochs("random")
    # The presets are not among the best of this table, so trying them first costs epochs, but must not cost many.
    for name in ("tpe + asha", replayed_searches.DEFAULT):
        assert mean_epochs(name) < min(0.6 * random_epochs, 0.25 * replay.TRIALS * EPOCHS), name


def test_intervals_of_confirmed_winners_contain_the_truth(table):
    confirmed = [replay.confirmation(table, seed) for seed in range(60)]
    assert 0.88 <= statistics.fmean(outcome["covered"] for outcome in confirmed) <= 1
    assert statistics.fmean(outcome["among_best"] for outcome in confirmed) > 0.9
