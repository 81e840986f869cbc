"""How often a trial whose worker died is retried before the trial fails."""

import time
from collections import Counter
from collections.abc import Callable

from huetune.results.records.outcomes import Failure, FailureKind

MAX_DEATHS = 3
"""A trial fails when this many of its workers in a row die without finishing an epoch: then the trial is at fault."""


class RetryPolicy:
    """Counts the deaths of each trial's workers. All arguments `number` are trial numbers.

    Args:
        clock: returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._deaths: Counter[int] = Counter()
        self._last_report: dict[int, float] = {}

    def report(self, number: int) -> None:
        """Note that a trial's worker started or reported a result just now."""
        self._last_report[number] = self._clock()

    def epoch_finished(self, number: int) -> None:
        """Reset the count of a trial that made progress."""
        self._deaths[number] = 0

    def failure(self, number: int, reason: str, timeout: float | None) -> Failure:
        """Return how a trial's worker died.

        Args:
            number: number of the trial.
            reason: Ray's error message.
            timeout: seconds of silence after which a worker ends itself as hung; None for never.
        """
        if timeout and self._clock() - self._last_report[number] >= timeout:
            return Failure(FailureKind.HUNG, seconds=timeout)
        return Failure(FailureKind.WORKER_DIED, reason)

    def count_death(self, number: int) -> bool:
        """Count the death of a trial's worker; return whether the trial is retried."""
        self._deaths[number] += 1
        return self._deaths[number] < MAX_DEATHS
