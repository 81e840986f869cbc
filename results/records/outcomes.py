"""The reasons why searches stop and trials fail: stored as enums and turned into words where they are shown.

Compatibility: released versions of huetune (runs of the schemas 1 and 2) stored English sentences instead: for a search
in "ended", for a trial in "error" and "deaths". `Stop.of` and `Failure.of` read both forms, which a resumed study can
mix. These sentences are parsed only here, and are no longer written.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from huetune.data_tools.common.plural import counted


class StopReason(StrEnum):
    """Why a search starts no more trials."""

    TRIAL_BUDGET = "trial_budget"
    TIME_BUDGET = "time_budget"
    NO_IMPROVEMENT = "no_improvement"
    SPACE_EXHAUSTED = "space_exhausted"
    UNKNOWN = "unknown"


class FailureKind(StrEnum):
    """Why a trial failed, or why one of its workers was lost."""

    DIVERGED = "diverged"
    WORKER_DIED = "worker_died"
    HUNG = "hung"
    STOPPED = "stopped"
    UNKNOWN = "unknown"


_SENTENCES_OF_STOPS = {
    StopReason.TRIAL_BUDGET: r"all (?P<count>\d{1,9}) are asked for",
    StopReason.TIME_BUDGET: r"its time was over after (?P<count>\d{1,9}) trials",
    StopReason.NO_IMPROVEMENT: r"none of the last (?P<count>\d{1,9}) trials was better than those before",
    StopReason.SPACE_EXHAUSTED: r"the space is exhausted: all its (?P<count>\d{1,9}) configurations were tried",
}
_SENTENCES_OF_FAILURES = {
    FailureKind.DIVERGED: r"diverged in epoch (?P<epoch>\d{1,9}): (?P<detail>.*)",
    FailureKind.WORKER_DIED: r"died: (?P<detail>.*)",
    FailureKind.HUNG: r"hung: no epoch within (?P<seconds>\S+) s",
    FailureKind.STOPPED: r"stopped before its first epoch",
}
"""Regular expressions of the sentences that released versions of huetune wrote."""


@dataclass(frozen=True)
class Stop:
    """The reason why a search stopped.

    Attributes:
        reason: why it starts no more trials.
        count: number of trials that it started; for NO_IMPROVEMENT, the number of last trials without improvement.
        detail: text to show for an UNKNOWN reason; otherwise empty.
    """

    reason: StopReason
    count: int = 0
    detail: str = ""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Stop":
        """Read a record, also one with a sentence of an older version; an unknown reason becomes UNKNOWN."""
        if record["by"] not in [*StopReason]:
            record = _parsed(_SENTENCES_OF_STOPS, str(record["by"]), "by")
        return cls(StopReason(record["by"]), int(record.get("count", 0)), record.get("detail", ""))

    @property
    def record(self) -> dict[str, Any]:
        """The record that a study stores."""
        return {"by": self.reason.value, "count": self.count}

    def __str__(self) -> str:
        trials = counted(self.count, "trial")
        return {
            StopReason.TRIAL_BUDGET: f"trial budget reached ({self.count})",
            StopReason.TIME_BUDGET: f"time budget reached after {trials}",
            StopReason.NO_IMPROVEMENT: f"no improvement in the last {trials}",
            StopReason.SPACE_EXHAUSTED: f"search space exhausted, all {self.count} configurations were tried",
            StopReason.UNKNOWN: self.detail,
        }[self.reason]


@dataclass(frozen=True)
class Failure:
    """The failure of a trial, or the loss of one of its workers.

    Attributes:
        kind: why it failed.
        detail: error message of the training or the worker; it is shown, but no code depends on it.
        epoch: epoch in which the training DIVERGED, from 1 on; otherwise 0.
        seconds: time without a finished epoch after which the worker was ended as HUNG; otherwise 0.
    """

    kind: FailureKind
    detail: str = ""
    epoch: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, stored: Any) -> "Failure":
        """Read the record of a trial, or a sentence of an older version; an unknown failure becomes UNKNOWN."""
        record = stored if isinstance(stored, Mapping) else _parsed(_SENTENCES_OF_FAILURES, str(stored), "kind")
        try:
            number, seconds = int(record.get("epoch", 0)), float(record.get("seconds", 0))
            return cls(FailureKind(record["kind"]), str(record.get("detail", "")), number, seconds)
        except (KeyError, TypeError, ValueError, OverflowError):  # A newer version wrote it, or it is damaged.
            return cls(FailureKind.UNKNOWN, str(stored))

    @property
    def record(self) -> dict[str, Any]:
        """The record that a trial stores."""
        return {name: value for name, value in {**asdict(self), "kind": self.kind.value}.items() if value}

    def __str__(self) -> str:
        return {
            FailureKind.DIVERGED: f"diverged in epoch {self.epoch}: {self.detail}",
            FailureKind.WORKER_DIED: f"died: {self.detail}",
            FailureKind.HUNG: f"hung: no epoch within {self.seconds:g} s",
            FailureKind.STOPPED: "stopped before its first epoch",
            FailureKind.UNKNOWN: self.detail,
        }[self.kind]


def _parsed(sentences: Mapping[Any, str], text: str, key: str) -> dict[str, Any]:
    """Return the record that corresponds to a sentence of an older version of huetune."""
    for value, pattern in sentences.items():
        if found := re.fullmatch(pattern, text, re.DOTALL):
            return {key: value, **found.groupdict()}
    return {key: "unknown", "detail": text}
