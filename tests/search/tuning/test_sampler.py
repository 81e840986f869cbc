"""The sampler learns, draws no point twice, and is exhausted when every point was drawn."""

import math
from pathlib import Path

import numpy as np
import pytest

from huetune.data_tools.common.errors import UserError
from huetune.model.presets import PRESETS
from huetune.model.recipes import with_recipe
from huetune.search.spec.search_spec import Search
from huetune.search.spec.space_parser import parse_space
from huetune.search.tuning.sampler import SAMPLERS, Sampler

BASE = with_recipe(PRESETS["model-2"], "photos")
TOGGLES = parse_space({"skip": {"choices": [True, False]}, "activation": {"choices": ["relu", "silu", "gelu"]}}, BASE)
CONDITIONAL = parse_space(
    {
        "skip": {"choices": [True, False]},
        "merge_units": {"low": 64, "high": 128, "step": 32, "where": {"skip": True}},
    },
    BASE,
)
NUMBERS = parse_space(
    {"mse_weight": {"low": 0.1, "high": 10.0, "log": True}, "dropout": {"low": 0.0, "high": 0.6}},
    BASE,
)


def _key(point):
    return tuple(sorted(point.items()))


@pytest.mark.parametrize("kind", [kind for kind in SAMPLERS if kind != "cmaes"])
@pytest.mark.parametrize("space", [TOGGLES, CONDITIONAL])
def test_sampler_draws_each_point_of_a_finite_space_once(space, kind):
    sampler = Sampler(space, kind, ["minimize"], 0, 12)
    drawn = []
    while not sampler.exhausted:
        point = sampler.draw()
        drawn.append(_key(point))
        # One value is much better, so a sampler that may repeat points would draw it again and again.
        sampler.tell(point, [0.0 if point["skip"] else 1.0], {1: 0.0 if point["skip"] else 1.0})
    assert sorted(drawn) == sorted(_key(point) for point in space.all_points())


def test_sampler_does_not_draw_an_added_point():
    sampler = Sampler(TOGGLES, "random", ["minimize"], 0, 12)
    chosen = {"skip": True, "activation": "silu"}
    sampler.add(chosen)
    drawn = [_key(sampler.draw()) for _ in range(5)]
    assert sampler.exhausted and _key(chosen) not in drawn


def test_sampler_leaves_a_finite_corner_of_an_infinite_space():
    """Without skip there is a single point; a sampler that has learned that it is good must still draw others."""
    space = parse_space(
        {"skip": {"choices": [True, False]}, "dropout": {"low": 0.0, "high": 0.5, "where": {"skip": True}}}, BASE
    )
    sampler = Sampler(space, "tpe", ["minimize"], 0, 60)
    points = []
    for _ in range(60):
        points.append(sampler.draw())
        score = 1.0 if points[-1]["skip"] else 0.0
        sampler.tell(points[-1], [score], {1: score})
    assert len({_key(point) for point in points}) == 60 and not sampler.exhausted


def _error(point):
    return (math.log(point["mse_weight"]) - 1) ** 2 + 10 * (point["dropout"] - 0.3) ** 2


@pytest.mark.parametrize("kind", ["tpe", "cmaes", "nsga2"])
def test_sampler_beats_random_search(kind):
    def late(kind):
        sampler = Sampler(NUMBERS, kind, ["minimize"], 1, 120)
        errors = []
        for _ in range(120):
            point = sampler.draw()
            errors.append(_error(point))
            sampler.tell(point, [errors[-1]], {1: errors[-1]})
        return float(np.mean(errors[90:]))

    # A genetic algorithm is made for Pareto fronts and keeps exploring.
    assert late(kind) < (0.85 if kind == "nsga2" else 0.6) * late("random")


@pytest.mark.parametrize("kind", ["tpe", "cmaes", "nsga2"])
def test_sampler_told_of_earlier_trials_draws_like_before(kind):
    before = Sampler(NUMBERS, kind, ["minimize"], 1, 200)
    after, fresh = (Sampler(NUMBERS, kind, ["minimize"], seed, 200) for seed in (2, 2))
    for _ in range(120):
        point = before.draw()
        score = _error(point)
        for sampler in (before, after):
            if sampler is after:
                sampler.add(point)
            sampler.tell(point, [score], {1: score})

    def next_ones(sampler):
        errors = []
        for _ in range(20):
            point = sampler.draw()
            errors.append(_error(point))
            sampler.tell(point, [errors[-1]], {1: errors[-1]})
        return float(np.median(errors))

    assert next_ones(after) < (0.75 if kind == "nsga2" else 0.2) * next_ones(fresh)


def test_sampler_learns_from_pruned_but_not_failed_trials():
    """Trials with a weight below 1 are pruned with bad scores, or fail; all others complete."""

    def low_weights(epochs):
        sampler = Sampler(NUMBERS, "tpe", ["minimize"], 0, 60)
        low = 0
        for _ in range(60):
            point = sampler.draw()
            if point["mse_weight"] < 1:
                low += 1
                sampler.tell(point, None, epochs)
            else:
                sampler.tell(point, [_error(point)], {1: _error(point)})
        return low

    assert low_weights({1: 9.0}) < 15
    assert low_weights({}) > low_weights({1: 9.0})


@pytest.mark.parametrize(("kind", "difference"), [("nsga2", 0.08), ("tpe", 0.4)])
def test_sampler_optimizes_several_objectives(kind, difference):
    """The first objective needs a certain weight; the second much or little dropout, depending on its direction."""

    def late(*directions):
        sampler = Sampler(NUMBERS, kind, directions, 0, 40)
        points = []
        for _ in range(120):
            points.append(sampler.draw())
            error = (math.log(points[-1]["mse_weight"]) - 1) ** 2
            sampler.tell(points[-1], [error, points[-1]["dropout"]], {1: error})
        errors = [abs(math.log(point["mse_weight"]) - 1) for point in points[90:]]
        return np.mean(errors), np.mean([point["dropout"] for point in points[90:]])

    (first, much), (second, little) = late("minimize", "maximize"), late("minimize", "minimize")
    assert much - little > difference
    assert max(first, second) < 1, "random search reaches 1.5"


@pytest.mark.parametrize(("space", "objectives"), [(TOGGLES, ("chroma_mse",)), (NUMBERS, ("chroma_mse", "skill"))])
def test_cmaes_with_unsuitable_space_fails(space, objectives):
    with pytest.raises(UserError, match="searcher cmaes needs one objective and at least two settings"):
        Search("fine", Path("runs"), space, objectives=objectives, searcher="cmaes", scheduler="none")


def test_sampler_memory_keeps_best_newest_and_pending_trials(monkeypatch):
    """Pending trials are still accepted after the memory was reduced."""
    monkeypatch.setattr("huetune.search.tuning.sampler.MAX_REMEMBERED_TRIALS", 20)
    sampler = Sampler(NUMBERS, "tpe", ["minimize"], 0, 200)
    pending = [sampler.draw() for _ in range(5)]
    errors = []
    for _ in range(90):
        point = sampler.draw()
        errors.append(_error(point))
        sampler.tell(point, [errors[-1]], {1: errors[-1]})
    kept = [trial.values[0] for trial in sampler._memory.get_trials() if trial.values]
    assert len(kept) < 45 and min(errors) in kept and errors[-1] in kept
    for point in pending:
        sampler.tell(point, [1.0], {1: 1.0})


def test_sampler_draws_are_reproducible():
    def draw():
        sampler = Sampler(NUMBERS, "tpe", ["minimize"], 3, 20)
        points = []
        for _ in range(12):
            points.append(sampler.draw())
            sampler.tell(points[-1], [_error(points[-1])], {1: _error(points[-1])})
        return points

    assert draw() == draw()


def test_sampler_treats_4_and_4_0_as_one_point():
    """A space file may contain 4 where the preset has 4.0."""
    space = parse_space({"mse_weight": {"choices": [1, 4]}, "skip": {"choices": [True, False]}}, BASE)
    sampler = Sampler(space, "random", ["minimize"], 0, 12)
    preset = space.preset_point("model-3")
    assert preset == {"mse_weight": 4.0, "skip": True}
    sampler.add(preset)
    drawn = []
    while not sampler.exhausted:
        drawn.append(sampler.draw())
    assert len(drawn) == 3 and preset not in drawn
