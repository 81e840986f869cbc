"""The duration of a step is split into a fixed part and a part for each photo."""

import pytest

from tests.benchmarks import step


def test_cost_of_steps_is_a_least_squares_line():
    line = step.cost_of({1: 34.7, 2: 56.4, 4: 99.8, 8: 186.6})
    assert line == pytest.approx({"fixed_milliseconds": 13.0, "photo_milliseconds": 21.7})
    noisy = step.cost_of({1: 12.0, 2: 10.0, 3: 14.0})
    assert noisy == pytest.approx({"fixed_milliseconds": 10.0, "photo_milliseconds": 1.0})
