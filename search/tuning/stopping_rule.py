"""Decides when a search starts no more trials: trial budget, time budget, no improvement, or an exhausted space."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from huetune.model.metrics import better
from huetune.results.records.outcomes import Stop, StopReason


@dataclass(frozen=True)
class Budget:
    """The limits of a search. When one is reached, no more trials start, and the running ones train to their end.

    Attributes:
        trials: maximum number of trials, 1 or more, including those that the study had before.
        seconds: maximum search time, including the time before an interruption; None for no limit.
        patience: the search stops after this many ended trials in a row without a better score; None for no limit.
    """

    trials: int
    seconds: float | None = None
    patience: int | None = None


class StoppingRule:
    """Decides when a search starts no more trials.

    Args:
        budget: the limits.
        objective: a key of `METRICS`; scores are compared in its direction.
        seconds_before: search time of earlier sessions.
        clock: returns monotonic seconds.
    """

    def __init__(
        self,
        budget: Budget,
        objective: str,
        *,
        seconds_before: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._budget, self._objective, self._seconds_before, self._clock = budget, objective, seconds_before, clock
        self._started_at: float | None = None
        self._best_score: float | None = None
        self._without_improvement = 0

    def start_clock(self) -> None:
        """Start counting search time; later calls have no effect."""
        if self._started_at is None:
            self._started_at = self._clock()

    @property
    def seconds(self) -> float:
        """Search time so far, including earlier sessions."""
        return self._seconds_before + (0.0 if self._started_at is None else self._clock() - self._started_at)

    @property
    def seconds_left(self) -> float | None:
        """Seconds until no more trials start; None without a time budget."""
        return None if self._budget.seconds is None else max(0.0, self._budget.seconds - self.seconds)

    def trial_ended(self, score: float | None) -> None:
        """Count an ended trial.

        Args:
            score: the trial's best value of the objective; None if it failed or has no epoch.
        """
        self._without_improvement += 1
        if score is not None and better(self._objective, score, self._best_score):
            self._best_score, self._without_improvement = score, 0

    def stop(self, started: int, exhausted: bool) -> Stop | None:
        """Return why no more trials start; None if the search continues.

        Args:
            started: number of trials that the study has.
            exhausted: whether the trial queue has nothing left to start.
        """
        budget = self._budget
        if started >= budget.trials:
            return Stop(StopReason.TRIAL_BUDGET, budget.trials)
        if budget.seconds is not None and self.seconds >= budget.seconds:
            return Stop(StopReason.TIME_BUDGET, started)
        if budget.patience is not None and self._without_improvement >= budget.patience:
            return Stop(StopReason.NO_IMPROVEMENT, self._without_improvement)
        if exhausted:
            return Stop(StopReason.SPACE_EXHAUSTED, started)
        return None
