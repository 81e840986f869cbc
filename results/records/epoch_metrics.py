"""The metrics of one finished epoch, and the best epoch of a training."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from huetune.model.metrics import METRICS, best_of, running_best

TRAINING_PREFIX = "train_"
"""Prefix of the names of what is measured during training itself: the loss, its parts and the time."""
PATCHES_KEY = "boxes"
"""Name under which studies store the number of patches. It is part of the stored schema, so it stays."""


def displayed_metrics() -> tuple[str, ...]:
    """Return the names of the metrics that tables show of a trial's best epoch; the training loss comes first."""
    return "train_loss", *METRICS.shown


@dataclass(frozen=True, eq=False)
class EpochMetrics(Mapping[str, float]):
    """The record of a finished epoch, and a mapping from names to its measurements: `seconds`, `train_loss`, metrics.

    Attributes:
        epoch: number of the epoch, from 1 on.
        numbers: measurements by name.
        patches: number of patches that the epoch trained on; None where that is not recorded.
        checkpoint: path of the folder with the weights, relative to the run; None if an earlier epoch was better.
    """

    epoch: int
    numbers: Mapping[str, float]
    patches: int | None = None
    checkpoint: str | None = None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "EpochMetrics":
        """Read the stored record of an epoch."""
        numbers = {name: value for name, value in record.items() if name not in ("epoch", PATCHES_KEY, "checkpoint")}
        return cls(record["epoch"], numbers, record.get(PATCHES_KEY), record.get("checkpoint"))

    @classmethod
    def from_result(cls, result: Mapping[str, Any]) -> "EpochMetrics":
        """Take the stored entries from a result that a worker reported, without those that Ray Tune added."""
        known = {"epoch", PATCHES_KEY, "seconds", "checkpoint", *METRICS}
        return cls.of({name: result[name] for name in result if name in known or name.startswith(TRAINING_PREFIX)})

    @property
    def record(self) -> dict[str, Any]:
        """The record as a study stores it."""
        patches = {} if self.patches is None else {PATCHES_KEY: self.patches}
        checkpoint = {} if self.checkpoint is None else {"checkpoint": self.checkpoint}
        return {"epoch": self.epoch, **patches, **self.numbers, **checkpoint}

    @property
    def seconds(self) -> float:
        """Duration of the epoch in seconds, including validation."""
        return self.numbers["seconds"]

    def __getitem__(self, name: str) -> float:
        return self.numbers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


def best_epoch(epochs: Sequence[EpochMetrics], objective: str) -> EpochMetrics | None:
    """Return the epoch with the best objective, whose weights are the checkpoint; None if there is no epoch."""
    return best_of(objective, epochs, lambda epoch: epoch[objective])


def best_so_far(epochs: Sequence[EpochMetrics], objective: str) -> dict[int, float]:
    """Return the best value of the objective up to each epoch, by the number of the epoch."""
    best = running_best(objective, epochs, lambda epoch: epoch[objective])
    return {epoch.epoch: its[objective] for epoch, its in zip(epochs, best, strict=True)}
