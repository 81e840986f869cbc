"""The parser accepts only spaces whose points are valid configurations."""

from dataclasses import fields

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from huetune.model.config import Config
from huetune.search.spec.space_parser import DEFAULT_SPACE, SpaceError, parse_space
from tests.search.builders import BASE


def test_default_space_varies_weight_activation_and_skip():
    space = parse_space(DEFAULT_SPACE, BASE)
    assert dict(space.domains) == {
        "mse_weight": FloatDistribution(1.0, 8.0, log=True),
        "activation": CategoricalDistribution(["relu", "silu", "gelu", "elu"]),
        "skip": CategoricalDistribution([True, False]),
    }
    assert set(space.domains) <= {field.name for field in fields(Config)}


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
def test_parse_space_notes_a_step_that_misses_the_end(name, low, high, step, last, note):
    """One note lists the values, in place of two warnings by Optuna."""
    space = parse_space({name: {"low": low, "high": high, "step": step}}, BASE)
    domain = space.domains[name]
    assert isinstance(domain, (FloatDistribution, IntDistribution)) and domain.high == pytest.approx(last)
    assert max(point[name] for point in space.all_points()) == pytest.approx(last)
    assert (len(space.notes) == 1 and space.notes[0].endswith(note)) if note else not space.notes


def test_parse_space_converts_a_whole_number_to_a_float():
    """4.0 in a preset and 4 in a space file are one configuration."""
    space = parse_space({"mse_weight": {"value": 4}, "skip": {"choices": [True, False]}}, BASE)
    assert type(space.base.mse_weight) is float


def test_parse_space_refuses_an_invalid_value_inside_a_range():
    with pytest.raises(SpaceError, match="positions"):
        parse_space({"positions": {"low": 2, "high": 7}}, BASE)
    assert parse_space({"positions": {"low": 2, "high": 7, "step": 5}}, BASE).size == 2
