"""What a study records of its trials and of itself, typed: the one module that reads and writes its user attributes.

Compatibility: a study of any released huetune is read. Whatever only newer ones record is optional.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from huetune.model.score import METRICS, best_of, running_best

TRAINING = "train_"
"""Begins the names of what is measured of the training itself: the loss, its parts and the time."""


@dataclass(frozen=True, eq=False)
class EpochMetrics(Mapping[str, float]):
    """A finished epoch of a training; as a mapping, what was measured of it: `seconds`, `train_loss`, the metrics.

    Attributes:
        epoch: its number, from 1 on.
        numbers: what was measured, by name.
        boxes: patches that were trained on; None where that is not recorded.
        checkpoint: the folder of its weights, in the run; None where an earlier epoch was better.
    """

    epoch: int
    numbers: Mapping[str, float]
    boxes: int | None = None
    checkpoint: str | None = None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "EpochMetrics":
        """Read the record of an epoch."""
        numbers = {name: value for name, value in record.items() if name not in ("epoch", "boxes", "checkpoint")}
        return cls(record["epoch"], numbers, record.get("boxes"), record.get("checkpoint"))

    @classmethod
    def reported(cls, result: Mapping[str, Any]) -> "EpochMetrics":
        """Take from a result that a worker reported what a study records: of Tune's own entries none."""
        known = {"epoch", "boxes", "seconds", "checkpoint", *METRICS}
        return cls.of({name: result[name] for name in result if name in known or name.startswith(TRAINING)})

    @property
    def record(self) -> dict[str, Any]:
        """What a study stores."""
        boxes = {} if self.boxes is None else {"boxes": self.boxes}
        checkpoint = {} if self.checkpoint is None else {"checkpoint": self.checkpoint}
        return {"epoch": self.epoch, **boxes, **self.numbers, **checkpoint}

    @property
    def seconds(self) -> float:
        """That it took, its scoring included."""
        return self.numbers["seconds"]

    def __getitem__(self, name: str) -> float:
        return self.numbers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


def best_epoch_of(epochs: Sequence[EpochMetrics], objective: str) -> EpochMetrics | None:
    """Return the best epoch, whose weights are the checkpoint of a training; None before the first."""
    return best_of(objective, epochs, lambda epoch: epoch[objective])


def curve_of(epochs: Sequence[EpochMetrics], objective: str) -> dict[int, float]:
    """Return the best value so far after each epoch of a training, by the number of the epoch."""
    best = running_best(objective, epochs, lambda epoch: epoch[objective])
    return {epoch.epoch: its[objective] for epoch, its in zip(epochs, best, strict=True)}
