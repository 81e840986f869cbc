"""Confidence intervals of means and of differences between means, for few measurements."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
"""Confidence level of all intervals."""


@dataclass(frozen=True)
class Estimate:
    """A value and its 95% confidence interval.

    Attributes:
        value: the estimated value.
        low: lower end of the interval; None if there is only one measurement, which has no interval.
        high: upper end of the interval; None likewise.
    """

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def half_width(self) -> float | None:
        """Half the width of the interval, before it was clipped to possible values; None without an interval."""
        if self.low is None or self.high is None:
            return None
        return max(self.value - self.low, self.high - self.value)

    @property
    def significant(self) -> bool:
        """Whether there is an interval and it does not contain zero."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def mean(values: Sequence[float], limits: tuple[float, float] = (-math.inf, math.inf)) -> Estimate:
    """Return the mean of one or more measurements with Student's t interval (Student, Biometrika 6, 1908).

    Args:
        values: independent measurements of the same thing.
        limits: smallest and largest possible mean, to which the interval is clipped. The true mean is never outside of
            these limits, so the clipped interval contains it exactly as often.
    """
    center = float(np.mean(values))
    if len(values) < 2:
        return Estimate(center)
    whole = _interval_around(center, float(np.std(values, ddof=1)) / math.sqrt(len(values)), len(values) - 1)
    assert whole.low is not None and whole.high is not None
    return Estimate(center, max(whole.low, limits[0]), min(whole.high, limits[1]))


def difference(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Return the mean of the first minus that of the second, with Welch's t interval (Welch, Biometrika 34, 1947).

    Args:
        first: one or more independent measurements.
        second: one or more independent measurements.
    """
    center = float(np.mean(first) - np.mean(second))
    if min(len(first), len(second)) < 2:
        return Estimate(center)
    variances = [float(np.var(values, ddof=1)) / len(values) for values in (first, second)]
    if not sum(variances):
        return Estimate(center, center, center)
    freedom = sum(variances) ** 2 / sum(
        variance**2 / (len(values) - 1) for variance, values in zip(variances, (first, second), strict=True)
    )
    return _interval_around(center, math.sqrt(sum(variances)), freedom)


def _interval_around(center: float, standard_error: float, freedom: float) -> Estimate:
    half_width = t_quantile(freedom) * standard_error
    return Estimate(center, center - half_width, center + half_width)


@functools.cache
def t_quantile(freedom: float) -> float:
    """Return the value that a Student's t variable does not exceed in absolute value with probability CONFIDENCE.

    SciPy has this function, too, but importing it takes longer than showing a table.

    Args:
        freedom: degrees of freedom, 1 or more.
    """
    # With t = sqrt(freedom) tan(angle) the density becomes cos(angle)^(freedom - 1), for which 40 nodes are plenty.
    nodes, weights = np.polynomial.legendre.leggauss(40)
    density = 2 / math.sqrt(math.pi) * math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2))
    angle = 0.0
    for _ in range(100):  # Newton's method approaches from below, because the density decreases.
        share = density * angle / 2 * float(weights @ np.cos(angle / 2 * (nodes + 1)) ** (freedom - 1))
        step = (CONFIDENCE - share) / (density * math.cos(angle) ** (freedom - 1))
        angle += step
        if abs(step) < 1e-15:
            break
    return math.sqrt(freedom) * math.tan(angle)


def format_estimate(estimate: Estimate, scale: float = 1.0, unit: str = "", seeds: int | None = None) -> str:
    """Return a value and its interval as text.

    Args:
        estimate: the value and its interval.
        scale: factor by which all numbers are multiplied.
        unit: text after the numbers; with a unit, the numbers have a sign.
        seeds: number of seeds to be named; None to name none.
    """
    signed = "+" if unit else ""
    value = f"{estimate.value * scale:{signed}.3g}{unit}"
    if estimate.low is None or estimate.high is None:
        return f"{value} (one seed, no interval)"
    ends = f"{estimate.low * scale:{signed}.3g} to {estimate.high * scale:{signed}.3g}{unit}"
    return f"{value} (95% CI {ends}{f', {seeds} seeds' if seeds else ''})"
