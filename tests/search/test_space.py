"""A space holds what can be trained, and refuses the rest before anything starts."""

from dataclasses import fields

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from data_tools.errors import UserError
from model.config import PRESETS, Config, batched
from search.space import DEFAULT, parse, read_space

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
        "[merge_units]\nlow = 32\nhigh = 128\nstep = 32\n[skip]\nchoices = [true]\n[positions]\nvalue = 7\n"
    )
    space = read_space(path, BASE)
    assert space.domains["merge_units"] == IntDistribution(32, 128, step=32)
    assert space.domains["dropout"] == FloatDistribution(0.0, 0.6, step=0.2)
    assert space.base.positions == 7 and "positions" not in space.domains
    assert space.config({"mse_weight": 3.0, "dropout": 0.2, "merge_units": 64, "skip": True}) == Config.of(
        {**BASE.__dict__, "mse_weight": 3.0, "dropout": 0.2, "merge_units": 64, "positions": 7}
    )


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# a space\n[mse_weight]\nlow = 1\nhihg = 2", "line 4: mse_weight: unknown key 'hihg': did you mean 'high'?"),
        ("[skip]\nchoices = [true, false]\n\n[mse_weight]\nlow = 8\nhigh = 1", "line 5: mse_weight: low must be below"),
        ("mse_weight.low = 1.0\nmse_weight.high = 'x'", "line 1: mse_weight: low, high and step must be numbers"),
        ("[skip]\nchoices = [true, false]\n[droput]\nvalue = 0.1", "line 3: unknown setting 'droput'"),
        (
            "[skip]\nchoices = [true, false]\n[dropout]\nlow = 0\nhigh = 0.5\nwhere = {skpi = true}",
            "line 6: dropout: where names 'skpi', which is not searched: did you mean 'skip'?",
        ),
        (
            "[skip]\nchoices = [true, false]\n[dropout]\nlow = 0\nhigh = 0.5\nwhere = {skip = 'yes'}",
            "line 6: dropout: where wants skip to be 'yes', which it never is",
        ),
        ("[dropout]\nlow = 0\nhigh = 0.5\nwhere = true", "line 4: dropout: where must say which values"),
        ("[dropout]\nlow = 0\nhigh = 1.5", "line 3: dropout must be 0 up to but not including 1, received 1.5"),
        ("[mse_wieght]\nlow = 1\nhigh = 2", "unknown setting 'mse_wieght': did you mean 'mse_weight'?"),
        ("[mse_weight]\nlow = 1\nhigh = x\n", "not TOML: Invalid value (at line 3, column 8)"),
        ("[mse_weight]\nlow = 8.0\nhigh = 1.0", "mse_weight: low must be below high, received 8.0 and 1.0"),
        ("[mse_weight]\nlow = 0.0\nhigh = 1.0", "mse_weight must be above 0, received 0.0"),
        ("[mse_weight]\nlow = nan\nhigh = 1.0", "mse_weight: low must be below high"),
        ("[mse_weight]\nlow = true\nhigh = 2", "mse_weight: low, high and step must be numbers"),
        ("[mse_weight]\nlow = 1\nhigh = 2\nlog = true\nstep = 0.5", "mse_weight: "),
        ("[mse_weight]\nlow = 1", "mse_weight: give low and high (with log or step), choices, or value; received low"),
        ("[merge_units]\nlow = 1.5\nhigh = 8", "merge_units: takes whole numbers"),
        ("[activation]\nchoices = []", "activation: choices must be a list of at least one value, received []"),
        ("[activation]\nchoices = ['relu', 'relu']", "activation: choices must differ"),
        ("[activation]\nchoices = ['relu', 'swish2']", "activation must be one of relu, silu"),
        ("[skip]\nvalue = 'yes'", "skip must be true or false, received 'yes'"),
        ("skip = true", "skip: must be a table such as [skip]"),
        ("[skip]\nvalue = true", "nothing to search"),
        ("", "nothing to search"),
    ],
)
def test_a_bad_space_is_refused_in_one_line_that_names_the_key(text, message, tmp_path):
    path = tmp_path / "space.toml"
    path.write_text(text)
    with pytest.raises(UserError) as refused:
        read_space(path, BASE)
    assert message in str(refused.value) and repr(str(path)) in str(refused.value)
    assert "\n" not in str(refused.value)


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
