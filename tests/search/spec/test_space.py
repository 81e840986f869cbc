"""Points of a search space: their number, the grid, conditions, and presets as points."""

import pytest

from huetune.model.presets import PRESETS
from huetune.model.recipes import with_recipe
from huetune.search.spec.space_parser import DEFAULT_SPACE, parse_space
from tests.search.builders import BASE

CONDITIONAL = {
    "merge_units": {"low": 64, "high": 128, "step": 32, "where": {"skip": True}},
    "skip": {"choices": [True, False]},
    "activation": {"choices": ["relu", "silu"]},
}


def test_space_with_a_condition_omits_inactive_settings():
    space = parse_space(CONDITIONAL, BASE)
    assert space.size == 2 * (3 + 1) == len(space.grid_points()) == len(space.all_points())
    without = {"activation": "silu", "skip": False}
    assert without in space.grid_points() and space.config(without).merge_units == BASE.merge_units
    assert space.active_settings({**without, "merge_units": 64}) == without
    heavy = parse_space({**CONDITIONAL, "mse_weight": {"value": 4.0}}, BASE)
    assert (
        heavy.preset_point("model-1") == {"activation": "silu", "skip": False} and heavy.preset_point("model-2") is None
    )
    assert space.preset_point("model-2") == {"activation": "silu", "skip": True, "merge_units": 96}


def test_space_size_is_infinite_with_a_float_range():
    assert parse_space(DEFAULT_SPACE, BASE).size == float("inf")
    assert parse_space({"skip": {"choices": [True, False]}}, BASE).size == 2


def test_preset_point_is_none_outside_of_the_space():
    space = parse_space(DEFAULT_SPACE, BASE)
    assert space.preset_point("model-1") == {"mse_weight": 4.0, "activation": "silu", "skip": False}
    assert space.config(space.preset_point("model-3") or {}) == with_recipe(PRESETS["model-3"], "photos")
    assert space.preset_point("model-4") is None, "merge_units is not searched, and the preset has another value"
    narrow = parse_space({"mse_weight": {"low": 1.0, "high": 3.0}}, BASE)
    assert narrow.preset_point("model-2") == {"mse_weight": 2.5} and narrow.preset_point("model-3") is None
    wider = parse_space({"merge_units": {"choices": [96, 128]}, "mse_weight": {"low": 1.0, "high": 3.0}}, BASE)
    assert wider.preset_point("model-4") == {"merge_units": 128, "mse_weight": 2.0}


def test_grid_points_take_every_choice_and_both_ends():
    points = parse_space(DEFAULT_SPACE, BASE).grid_points()
    assert len(points) == 5 * 4 * 2 and len({tuple(point.values()) for point in points}) == 40
    weights = sorted({point["mse_weight"] for point in points})
    assert weights[0] == 1.0 and weights[-1] == 8.0 and weights[2] == pytest.approx(8**0.5)
    steps = parse_space({"dropout": {"low": 0.0, "high": 0.6, "step": 0.2}}, BASE).grid_points()
    assert [point["dropout"] for point in steps] == pytest.approx([0.0, 0.2, 0.4, 0.6])


def test_space_size_counts_only_points_that_meet_conditions():
    """If every setting were combined with every other, there would be 40,000 points."""
    space = parse_space(
        {
            "activation": {"choices": ["relu", "silu", "gelu", "elu"]},
            "merge_units": {"low": 64, "high": 83, "where": {"activation": "relu"}},
            "dropout": {"low": 0.0, "high": 0.19, "step": 0.01, "where": {"activation": "silu"}},
            "flips": {"choices": [True, False], "where": {"activation": ["gelu", "elu"]}},
            "batch_size": {"low": 1, "high": 20, "where": {"activation": "elu"}},
        },
        BASE,
    )
    assert space.size == 20 + 20 + 2 + 2 * 20 == len(space.all_points())
    assert len({tuple(sorted(point.items())) for point in space.all_points()}) == space.size
    assert len(space.grid_points()) == 5 + 20 + 2 + 2 * 5
