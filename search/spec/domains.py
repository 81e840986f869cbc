"""The domain of a searched setting: all its values, whether it contains a value, and the values of a grid search."""

import math
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

GRID_VALUES_PER_RANGE = 5
"""A grid search takes this many values of a range, or all values of a float range with a step."""
MAX_POINTS = 20_000
"""Domains with more values, and spaces with more points, are not counted to the end."""


def all_values(domain: BaseDistribution) -> list[Any] | None:
    """Return all values of a domain, or None if there are more than `MAX_POINTS` or infinitely many."""
    if isinstance(domain, CategoricalDistribution):
        return list(domain.choices)
    if isinstance(domain, IntDistribution):
        values = range(domain.low, domain.high + 1, domain.step)
        return list(values) if len(values) <= MAX_POINTS else None
    assert isinstance(domain, FloatDistribution)
    return None if domain.step is None else grid_values(domain)


def grid_values(domain: BaseDistribution) -> list[Any]:
    """Return the values of a domain that a grid search tries.

    These are all choices, all values of a float range with a step, and otherwise up to `GRID_VALUES_PER_RANGE` values
    that are spaced evenly from `low` to `high`, on a logarithmic scale for a logarithmic range.
    """
    if isinstance(domain, CategoricalDistribution):
        return list(domain.choices)
    if isinstance(domain, IntDistribution):
        steps = [(value - domain.low) / domain.step for value in _spaced(domain.low, domain.high, domain.log)]
        return sorted({domain.low + math.ceil(step - 0.5) * domain.step for step in steps})
    assert isinstance(domain, FloatDistribution)
    if domain.step is None:
        return _spaced(domain.low, domain.high, domain.log)
    count = math.floor((domain.high - domain.low) / domain.step + 1e-9) + 1
    return [min(domain.low + index * domain.step, domain.high) for index in range(count)]


def _spaced(low: float, high: float, log: bool) -> list[float]:
    shares = [index / (GRID_VALUES_PER_RANGE - 1) for index in range(GRID_VALUES_PER_RANGE)]
    inner = [low * (high / low) ** share if log else low + share * (high - low) for share in shares[1:-1]]
    return [low, *inner, high]


def contains(domain: BaseDistribution, value: Any) -> bool:
    """Return whether a value of the right type is one that the domain can take, up to rounding errors."""
    if isinstance(domain, CategoricalDistribution):
        return is_among(value, domain.choices)
    assert isinstance(domain, (FloatDistribution, IntDistribution))
    steps = (value - domain.low) / (domain.step or 1)
    return domain.low <= value <= domain.high and (domain.step is None or math.isclose(steps, round(steps)))


def is_among(value: Any, values: tuple[Any, ...]) -> bool:
    """Return whether a value equals one of several; 1 differs from True, and floats may differ by a rounding error."""
    return any(
        isinstance(value, bool) == isinstance(other, bool)
        and (value == other or (isinstance(value, float) and isinstance(other, float) and math.isclose(value, other)))
        for other in values
    )
