"""What is trained next: enqueued jobs, then points of the sampler, and no configuration twice."""

from dataclasses import asdict

import optuna
from optuna.trial import TrialState, create_trial

from huetune.model.presets import PRESETS
from huetune.model.recipes import with_recipe
from huetune.results.records.trial_record import config_key
from huetune.search.spec.space_parser import parse_space
from huetune.search.tuning.sampler import Sampler
from huetune.search.tuning.trial_queue import Job, TrialQueue, grid_jobs

SPACE = parse_space(
    {"skip": {"choices": [True, False]}, "merge_units": {"choices": [64, 96]}},
    with_recipe(PRESETS["model-2"], "photos"),
)
POINTS = SPACE.grid_points()
CONFIGS = [SPACE.config(point) for point in POINTS]


def _sampled():
    return TrialQueue(SPACE, Sampler(SPACE, "random", ["minimize"], 0, 4))


def _trial(point, state=TrialState.COMPLETE):
    return create_trial(
        state=state,
        params=point,
        distributions=dict(SPACE.domains),
        value=0.5 if state == TrialState.COMPLETE else None,
    )


def test_queue_starts_jobs_in_order_before_sampled_points():
    queue = _sampled()
    queue.enqueue([Job(CONFIGS[2], POINTS[2]), Job(CONFIGS[0], POINTS[0])])
    drawn = []
    while not queue.exhausted:
        drawn.append(queue.next_job())
    assert [job.point for job in drawn[:2]] == [POINTS[2], POINTS[0]]
    assert sorted(repr(job.config) for job in drawn) == sorted(map(repr, CONFIGS)), "each point once"


def test_queue_keeps_equal_jobs_once():
    queue = TrialQueue(None, None)
    queue.enqueue([Job(CONFIGS[0]), Job(CONFIGS[0]), Job(CONFIGS[0], seed=1)])
    queue.enqueue([Job(CONFIGS[0]), Job(CONFIGS[0], seed=1), Job(CONFIGS[0], seed=2)])
    assert [job.seed for job in queue.jobs] == [None, 1, 2]


def test_queue_skips_jobs_that_the_study_has():
    queue = TrialQueue(SPACE, None)
    queue.restore(_trial(POINTS[0]), config_key(asdict(CONFIGS[0])))
    further = Job(CONFIGS[0], POINTS[0], attributes={"continues": 0})
    queue.enqueue([Job(CONFIGS[0]), Job(CONFIGS[0], seed=1), further])
    assert [(job.seed, dict(job.attributes)) for job in queue.jobs] == [(1, {}), (None, {"continues": 0})]


def test_queue_resumes_only_trials_that_have_not_ended():
    queue = _sampled()
    states = (TrialState.COMPLETE, TrialState.WAITING, TrialState.FAIL, TrialState.RUNNING)
    for point, config, state in zip(POINTS, CONFIGS, states, strict=True):
        queue.restore(_trial(point, state), config_key(asdict(config)))
    assert [trial.state for trial in queue.interrupted] == [TrialState.WAITING, TrialState.RUNNING]
    assert queue.exhausted, "the sampler has learned of all four points"


def test_queue_without_sampler_is_exhausted_with_its_jobs():
    queue = TrialQueue(None, None)
    assert queue.exhausted and queue.domains == {}
    queue.enqueue([Job(CONFIGS[0])])
    assert not queue.exhausted
    assert queue.next_job().config == CONFIGS[0] and queue.exhausted


def test_queue_tells_its_sampler_of_ended_trials():
    queue = _sampled()
    points = [queue.next_job().point for _ in range(3)]
    queue.tell(points[0], [0.5], {1: 0.5})
    queue.tell(points[1], None, {1: 0.7})
    queue.tell(points[2], None, {})
    memory = queue._sampler._memory
    assert [trial.state for trial in memory.trials] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
    assert isinstance(memory, optuna.Study) and memory.best_value == 0.5


def test_grid_jobs_are_the_whole_grid_in_a_random_order():
    orders = [[job.point for job in grid_jobs(SPACE, seed)] for seed in (0, 0, 1, 2, 3)]
    assert orders[0] == orders[1] and any(order != orders[0] for order in orders)
    for order in orders:
        assert sorted(map(repr, order)) == sorted(map(repr, POINTS))


def test_queue_enqueues_a_grid_of_thousands_at_once():
    domains = {"mse_weight": {"low": 1.0, "high": 8.0, "step": 0.001}, "skip": {"choices": [True, False]}}
    space = parse_space(domains, SPACE.base)
    queue = TrialQueue(space, None)
    queue.enqueue(grid_jobs(space, 0))
    assert len(queue.jobs) == 14_002
    queue.enqueue(queue.jobs[:100])
    assert len(queue.jobs) == 14_002
