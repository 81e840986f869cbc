"""The metrics of predicted chroma maps, without the loss weight in them: each is defined in `METRICS` alone."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Direction = Literal["minimize", "maximize"]
T = TypeVar("T")


@dataclass(frozen=True)
class Metric:
    """A number measured on held-out photos.

    Attributes:
        name: name in tables, records and commands.
        direction: whether lower or higher values are better; None for a metric that cannot rank trials.
        limits: smallest and largest possible value, which also limit a mean of values.
        meaning: explanation that follows the name in texts.
        formula: function that computes the value; that of a metric in `METRICS` takes `Maps`.
        labels: text of the metric in the experiment log by language, with `{value}` for its value. A language without a
            text gets the name and the value.
        decimals: number of decimals of the value in the experiment log.
        shown: whether tables and logs show the metric. If not, they show it only if it is an objective.
    """

    name: str
    direction: Direction | None
    limits: tuple[float, float]
    meaning: str
    formula: Callable[..., float]
    labels: Mapping[str, str] = field(default_factory=dict)
    decimals: int = 4
    shown: bool = True

    @property
    def minimized(self) -> bool:
        """Whether lower values are better."""
        return self.direction == "minimize"

    def label(self, language: str, value: float) -> str:
        """Return the metric with a value as the experiment log writes it in a language."""
        return self.labels.get(language, f"{self.name} {{value}}").format(value=f"{value:.{self.decimals}f}")


class MetricRegistry(dict[str, Metric]):
    """Metrics by their names, in the order in which they are shown.

    Args:
        metrics: metrics with different names.
    """

    def __init__(self, *metrics: Metric):
        super().__init__()
        for metric in metrics:
            self.register(metric)

    def register(self, metric: Metric) -> None:
        """Add a metric: from then on it is measured, recorded and shown everywhere.

        Raises:
            ValueError: there is one of its name.
        """
        if metric.name in self:
            raise ValueError(f"metric {metric.name!r} is registered already")
        self[metric.name] = metric

    @property
    def objectives(self) -> dict[str, Direction]:
        """The metrics that a search can rank trials by, with their directions."""
        return {name: metric.direction for name, metric in self.items() if metric.direction}

    @property
    def shown(self) -> tuple[str, ...]:
        """The names of the metrics that tables and logs show."""
        return tuple(name for name, metric in self.items() if metric.shown)


@dataclass(frozen=True, eq=False)
class Maps:
    """Predicted chroma maps beside the true ones: what a metric is computed from.

    Attributes:
        drawn: float32 [n, samples, 14, 14, 2], each sample judged by itself.
        truth: float32 [n, 14, 14, 2].
        mean_chroma: float32 [2], of the training photos.
    """

    drawn: "NDArray[np.float32]"
    truth: "NDArray[np.float32]"
    mean_chroma: "NDArray[np.float32]"

    @cached_property
    def mse(self) -> float:
        """Mean squared error."""
        return _squares(self.drawn, self.truth) / self.drawn.size

    @cached_property
    def baseline_mse(self) -> float:
        """Mean squared error of the mean-color baseline."""
        return _squares(_everywhere(self.mean_chroma, self.truth), self.truth) / self.truth.size

    @cached_property
    def saturation_ratio(self) -> float:
        """Mean predicted saturation over mean true saturation."""
        import numpy as np  # imported here because `--help`, which lists the objectives, needs no NumPy

        saturation = sum(float(np.linalg.norm(samples, axis=-1).sum()) for samples in self.drawn)
        true_saturation = float(np.linalg.norm(self.truth, axis=-1).mean())
        return saturation / (self.drawn.size / 2) / max(true_saturation, 1e-9)


METRICS = MetricRegistry(
    Metric(
        "chroma_mse",
        "minimize",
        (0.0, math.inf),
        "mean squared error of the colors of 14 x 14 patches, less is better",
        lambda maps: maps.mse,
        {"en": "chroma_mse **{value}**", "ko": "chroma_mse **{value}**"},
    ),
    Metric(
        "skill",
        "maximize",
        (-math.inf, 1.0),
        "1 - chroma_mse / chroma_mse of the mean-color baseline; a model with 0 is no better than the baseline",
        lambda maps: 1 - maps.mse / max(maps.baseline_mse, 1e-12),
        decimals=3,
    ),
    Metric(
        "chroma_ratio",
        None,
        (0.0, math.inf),
        "mean predicted saturation over mean true saturation, 1 is as colorful as the photos",
        lambda maps: maps.saturation_ratio,
        {
            "en": "colors {value} times as strong as the photos'",
            "ko": "채도는 원본의 {value}배",
        },
        decimals=2,
    ),
    Metric(
        "chroma_ratio_error",
        "minimize",
        (0.0, math.inf),
        "the distance of chroma_ratio from 1, less is better",
        lambda maps: abs(maps.saturation_ratio - 1),
        shown=False,
    ),
)
"""All metrics of chroma maps. A new entry is measured, recorded and shown everywhere, and can be an objective."""


def better(objective: str, new: float, old: float | None) -> bool:
    """Return whether a value of an objective is better than an earlier one; True if there is no earlier one."""
    if old is None:
        return True
    return new < old if METRICS[objective].minimized else new > old


def running_best(objective: str, items: Iterable[T], value: Callable[[T], float]) -> Iterator[T]:
    """Yield the best item so far after each item; of equal ones it is the first.

    Args:
        objective: a key of `METRICS`.
        items: items that have a value of the objective.
        value: function that returns this value of an item.
    """
    best: T | None = None
    for item in items:
        if best is None or better(objective, value(item), value(best)):
            best = item
        yield best


def best_of(objective: str, items: Iterable[T], value: Callable[[T], float]) -> T | None:
    """Return the best one of all items; None where there are none. The arguments are those of `running_best`."""
    best: T | None = None
    for best in running_best(objective, items, value):  # noqa: B007
        pass
    return best


def scores(
    drawn: "NDArray[np.float32]", truth: "NDArray[np.float32]", mean_chroma: "NDArray[np.float32]"
) -> dict[str, float]:
    """Return the metrics of predicted chroma maps, by the names in `METRICS`.

    Args:
        drawn: float32 [n, samples, 14, 14, 2], each sample judged by itself.
        truth: float32 [n, 14, 14, 2].
        mean_chroma: float32 [2], of the training photos.
    """
    maps = Maps(drawn, truth, mean_chroma)
    return {name: metric.formula(maps) for name, metric in METRICS.items()}


def baseline_scores(truth: "NDArray[np.float32]", mean_chroma: "NDArray[np.float32]") -> dict[str, float]:
    """Return the metrics of the mean-color baseline, which predicts the same chroma for every patch.

    Args:
        truth: float32 [n, 14, 14, 2], true chroma maps.
        mean_chroma: float32 [2], mean chroma of the training photos.

    Returns:
        As `scores`.
    """
    return scores(_everywhere(mean_chroma, truth), truth, mean_chroma)


def _squares(drawn: "NDArray[np.float32]", truth: "NDArray[np.float32]") -> float:
    """Return the sum of squared errors, computed photo by photo, because one array of all differences would be slow."""
    import numpy as np

    return sum(float(np.square(samples - true).sum()) for samples, true in zip(drawn, truth, strict=True))


def _everywhere(mean_chroma: "NDArray[np.float32]", truth: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """Return one sample for each photo that has the same chroma everywhere: float32 [n, 1, 14, 14, 2]."""
    import numpy as np

    return np.broadcast_to(mean_chroma, truth[:, None].shape)
