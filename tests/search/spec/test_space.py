"""A space holds what can be trained, and refuses the rest before anything starts."""

from dataclasses import fields

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from huetune.model.config import PRESETS, Config, batched
from huetune.search.spec.space import DEFAULT, SpaceError, parse, read_space

BASE = batched(PRESETS["model-2"], "photos")


def test_the_default_space_is_the_designs_and_names_config_fields():
    space = parse(DEFAULT, BASE)
    assert dict(space.domains) == {
        "mse_weight": FloatDistribution(1.0, 8.0, log=True),
        "activation": CategoricalDistribution(["relu", "silu", "gelu", "elu"]),
        "skip": CategoricalDistribution([True, False]),
    }
    assert set(space.domains) <= {field.name for field in fields(Config)}


def test_a_file_may_hold_every_kind_of_domain(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text(
        "mse_weight = {low = 1, high = 8, log = true}\n[dropout]\nlow = 0.0\nhigh = 0.6\nstep = 0.2\n"
        "[merge_units]\nlow = 32\nhigh = 128\nstep = 32\n[skip]\nchoices = [true]\n[positions]\nvalue = 7\n",
        encoding="utf-8",
    )
    space = read_space(path, BASE)
    assert space.domains["merge_units"] == IntDistribution(32, 128, step=32)
    assert space.domains["dropout"] == FloatDistribution(0.0, 0.6, step=0.2)
    assert space.base.positions == 7 and "positions" not in space.domains
    assert space.config({"mse_weight": 3.0, "dropout": 0.2, "merge_units": 64, "skip": True}) == Config.of(
        {**BASE.__dict__, "mse_weight": 3.0, "dropout": 0.2, "merge_units": 64, "positions": 7}
    )


def test_space_file_with_a_byte_order_mark_is_read(tmp_path):
    """Windows' editors write one before the first letter."""
    (tmp_path / "space.toml").write_bytes("\ufeff[mse_weight]\nlow = 1\nhigh = 2\n".encode())
    assert read_space(tmp_path / "space.toml", BASE).domains["mse_weight"] == FloatDistribution(1.0, 2.0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("name", "low", "high", "step", "last", "note"),
    [
        ("merge_units", 64, 150, 32, 128, "steps of 32 from 64 do not end at 150; the values are 64, 96, 128"),
        ("mse_weight", 1, 2, 0.3, 1.9, "steps of 0.3 from 1 do not end at 2; the values are 1, 1.3, 1.6, 1.9"),
        ("merge_units", 1, 1000, 10, 991, "the values are 1, 11, 21, ..., 991"),
        ("dropout", 0.0, 0.6, 0.2, 0.6, None),
        ("mse_weight", 1, 5, 4, 5, None),
    ],
)
def test_step_that_does_not_divide_its_range_is_noted(name, low, high, step, last, note):
    """In one line of ours instead of two raw warnings of Optuna's, which says what will be tried."""
    space = parse({name: {"low": low, "high": high, "step": step}}, BASE)
    domain = space.domains[name]
    assert isinstance(domain, (FloatDistribution, IntDistribution)) and domain.high == pytest.approx(last)
    assert max(point[name] for point in space.points()) == pytest.approx(last)
    assert (len(space.notes) == 1 and space.notes[0].endswith(note)) if note else not space.notes


def test_whole_number_fixed_for_a_float_is_one():
    """A preset's 4.0 and a file's 4 are one configuration."""
    space = parse({"mse_weight": {"value": 4}, "skip": {"choices": [True, False]}}, BASE)
    assert type(space.base.mse_weight) is float


CONDITIONAL = {
    "merge_units": {"low": 64, "high": 128, "step": 32, "where": {"skip": True}},
    "skip": {"choices": [True, False]},
    "activation": {"choices": ["relu", "silu"]},
}


def test_a_setting_may_be_searched_only_where_another_has_a_value():
    space = parse(CONDITIONAL, BASE)
    assert space.size == 2 * (3 + 1) == len(space.grid()) == len(space.points())
    without = {"activation": "silu", "skip": False}
    assert without in space.grid() and space.config(without).merge_units == BASE.merge_units
    assert space.active({**without, "merge_units": 64}) == without
    heavy = parse({**CONDITIONAL, "mse_weight": {"value": 4.0}}, BASE)
    assert heavy.point("model-1") == {"activation": "silu", "skip": False} and heavy.point("model-2") is None
    assert space.point("model-2") == {"activation": "silu", "skip": True, "merge_units": 96}


def test_a_space_with_a_range_has_no_end():
    assert parse(DEFAULT, BASE).size == float("inf")
    assert parse({"skip": {"choices": [True, False]}}, BASE).size == 2


def test_a_preset_is_a_point_only_of_a_space_that_holds_it():
    space = parse(DEFAULT, BASE)
    assert space.point("model-1") == {"mse_weight": 4.0, "activation": "silu", "skip": False}
    assert space.config(space.point("model-3") or {}) == batched(PRESETS["model-3"], "photos")
    assert space.point("model-4") is None, "merge_units is not searched, and is another"
    narrow = parse({"mse_weight": {"low": 1.0, "high": 3.0}}, BASE)
    assert narrow.point("model-2") == {"mse_weight": 2.5} and narrow.point("model-3") is None
    wider = parse({"merge_units": {"choices": [96, 128]}, "mse_weight": {"low": 1.0, "high": 3.0}}, BASE)
    assert wider.point("model-4") == {"merge_units": 128, "mse_weight": 2.0}


def test_a_grid_takes_every_choice_and_both_ends():
    points = parse(DEFAULT, BASE).grid()
    assert len(points) == 5 * 4 * 2 and len({tuple(point.values()) for point in points}) == 40
    weights = sorted({point["mse_weight"] for point in points})
    assert weights[0] == 1.0 and weights[-1] == 8.0 and weights[2] == pytest.approx(8**0.5)
    steps = parse({"dropout": {"low": 0.0, "high": 0.6, "step": 0.2}}, BASE).grid()
    assert [point["dropout"] for point in steps] == pytest.approx([0.0, 0.2, 0.4, 0.6])


def test_points_are_counted_as_their_conditions_allow_them():
    """40,000 if each were combined with each."""
    space = parse(
        {
            "activation": {"choices": ["relu", "silu", "gelu", "elu"]},
            "merge_units": {"low": 64, "high": 83, "where": {"activation": "relu"}},
            "dropout": {"low": 0.0, "high": 0.19, "step": 0.01, "where": {"activation": "silu"}},
            "flips": {"choices": [True, False], "where": {"activation": ["gelu", "elu"]}},
            "batch_size": {"low": 1, "high": 20, "where": {"activation": "elu"}},
        },
        BASE,
    )
    assert space.size == 20 + 20 + 2 + 2 * 20 == len(space.points())
    assert len({tuple(sorted(point.items())) for point in space.points()}) == space.size
    assert len(space.grid()) == 5 + 20 + 2 + 2 * 5


def test_what_lies_between_two_fine_ends_must_be_fine_too():
    with pytest.raises(SpaceError, match="positions"):
        parse({"positions": {"low": 2, "high": 7}}, BASE)
    assert parse({"positions": {"low": 2, "high": 7, "step": 5}}, BASE).size == 2
