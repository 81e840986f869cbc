"""Intervals hold what they should as often as they say."""

import numpy as np
import pytest
from scipy import stats

from huetune.model.metrics import METRICS
from huetune.results.analysis.intervals import difference, mean, t_quantile


def test_mean_has_students_interval():
    values = [1.0, 2.0, 4.0]
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    estimate = mean(values)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((7 / 3, expected.low, expected.high))


def test_difference_has_welchs_interval():
    first, second = [1.0, 2.0, 4.0], [2.0, 2.5, 2.6, 8.0]
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval()
    gap = difference(first, second)
    assert (gap.low, gap.high) == pytest.approx((expected.low, expected.high))
    assert (
        difference(first, first).value == 0 and not gap.significant and difference([1.0, 1.1], [9.0, 9.1]).significant
    )


@pytest.mark.parametrize("freedom", [1, 1.3, 2, 4, 29.7, 724, 1e6])
def test_t_quantile_equals_scipys(freedom):
    assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-8)


def test_mean_interval_is_clipped_to_limits():
    """Two seeds, whose t interval is 12.7 standard errors wide; the half width tells what was cut off."""
    whole, cut = mean([0.01, 0.03]), mean([0.01, 0.03], METRICS["chroma_mse"].limits)
    assert whole.low is not None and whole.low < 0
    assert (cut.value, cut.low, cut.high, cut.half_width) == (whole.value, 0.0, whole.high, whole.half_width)
    skill = mean([0.6, 0.8], METRICS["skill"].limits)
    assert skill.high == 1.0 and skill.low == mean([0.6, 0.8]).low and skill.half_width == mean([0.6, 0.8]).half_width


def test_clipped_interval_covers_as_often(rng):
    """Exponential numbers have a mean of 1, and none is below 0."""
    draws = rng.exponential(size=(3000, 3))
    whole, cut = (
        [mean(values, within) for values in draws] for within in ((-np.inf, np.inf), METRICS["chroma_mse"].limits)
    )
    held = [
        [one.low is not None and one.high is not None and one.low <= 1 <= one.high for one in some]
        for some in (whole, cut)
    ]
    assert held[0] == held[1] and min(one.low or 0 for one in cut) == 0 > min(one.low or 0 for one in whole)


def test_mean_of_one_number_has_no_interval():
    assert mean([1.0]).low is None and not mean([1.0]).significant
    assert difference([1.0], [2.0, 3.0]).high is None


def test_intervals_of_three_seeds_cover_95_percent(rng):
    covered = [abs(estimate.value) <= estimate.high - estimate.value for estimate in _estimates(rng)]
    assert 0.93 < np.mean(covered) < 0.97


def _estimates(rng):
    for values in rng.normal(size=(3000, 3)):
        estimate = mean(values)
        assert estimate.high is not None
        yield estimate
