"""Means of few numbers, and how sure they are."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SURE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval; without one where a single number says nothing of the noise."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def half(self) -> float | None:
        """Half the width of the interval, before what no mean can be was cut off; None without an interval."""
        if self.low is None or self.high is None:
            return None
        return max(self.value - self.low, self.high - self.value)

    @property
    def sure(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def mean(values: Sequence[float], within: tuple[float, float] = (-math.inf, math.inf)) -> Estimate:
    """Return the mean of one or more numbers, with Student's t interval (Student, Biometrika 6, 1908).

    Args:
        values: measured alike.
        within: smallest and largest value that the mean can have. What of the interval is outside is cut off: the true
            mean is never there, so the interval holds it exactly as often as before.
    """
    center = float(np.mean(values))
    if len(values) < 2:
        return Estimate(center)
    whole = _around(center, float(np.std(values, ddof=1)) / math.sqrt(len(values)), len(values) - 1)
    assert whole.low is not None and whole.high is not None
    return Estimate(center, max(whole.low, within[0]), min(whole.high, within[1]))


def difference(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Return the mean of the first less that of the second, with Welch's t interval (Welch, Biometrika 34, 1947)."""
    center = float(np.mean(first) - np.mean(second))
    if min(len(first), len(second)) < 2:
        return Estimate(center)
    shares = [float(np.var(values, ddof=1)) / len(values) for values in (first, second)]
    if not sum(shares):
        return Estimate(center, center, center)
    freedom = sum(shares) ** 2 / sum(
        share**2 / (len(values) - 1) for share, values in zip(shares, (first, second), strict=True)
    )
    return _around(center, math.sqrt(sum(shares)), freedom)


def _around(center: float, error: float, freedom: float) -> Estimate:
    half = quantile(freedom) * error
    return Estimate(center, center - half, center + half)


@functools.cache
def quantile(freedom: float) -> float:
    """Return what a number of Student's t distribution stays below in size, SURE of the time.

    SciPy has it, too, but takes longer to import than a table takes to be shown.

    Args:
        freedom: degrees of freedom, 1 or more.
    """
    # With t = sqrt(freedom) tan(angle) the density becomes cos(angle)^(freedom - 1), for which 40 nodes are plenty.
    nodes, weights = np.polynomial.legendre.leggauss(40)
    density = 2 / math.sqrt(math.pi) * math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2))
    angle = 0.0
    for _ in range(100):  # Newton's steps come from below, for the density falls
        share = density * angle / 2 * float(weights @ np.cos(angle / 2 * (nodes + 1)) ** (freedom - 1))
        step = (SURE - share) / (density * math.cos(angle) ** (freedom - 1))
        angle += step
        if abs(step) < 1e-15:
            break
    return math.sqrt(freedom) * math.tan(angle)
