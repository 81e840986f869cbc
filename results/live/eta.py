"""Estimates the remaining time of a search from the durations of its ended trials."""

from collections import defaultdict
from collections.abc import Iterable, Mapping


class DurationEstimator:
    """Estimates remaining durations from ended trials; pruned and failed trials count with the time that they took."""

    def __init__(self) -> None:
        # For each number of finished epochs: how many ended trials continued beyond it, and their seconds from there.
        self._count: defaultdict[int, int] = defaultdict(int)
        self._remaining: defaultdict[int, float] = defaultdict(float)

    def add(self, seconds: Mapping[int, float]) -> None:
        """Add an ended trial.

        Args:
            seconds: duration of each epoch by the epoch's number; empty for a trial that failed in its first epoch.
        """
        remaining, last = sum(seconds.values()), max(seconds, default=0)
        self._count[0] += 1
        self._remaining[0] += remaining
        for epoch, duration in sorted(seconds.items()):
            remaining -= duration
            if epoch < last:
                self._count[epoch] += 1
                self._remaining[epoch] += remaining

    def trial_seconds_left(self, seconds: Mapping[int, float], target: int) -> float:
        """Return an estimate of the seconds until a running trial ends.

        This is the mean of the ended trials that continued beyond its last epoch; if there are none, its own mean
        duration of an epoch times the epochs that are left.

        Args:
            seconds: duration of each of its epochs by the epoch's number.
            target: number of epochs that it is to be trained.
        """
        epoch = max(seconds, default=0)
        if count := self._count.get(epoch):
            return self._remaining[epoch] / count
        return sum(seconds.values()) / max(1, len(seconds)) * max(0, target - epoch)

    def seconds_left(
        self, running: Iterable[tuple[Mapping[int, float], int]], waiting: int, slots: int, budget: float | None = None
    ) -> float | None:
        """Return the seconds until all trials have ended; None before any trial has ended.

        Args:
            running: the arguments of `trial_seconds_left` for each running trial.
            waiting: number of trials that have not started.
            slots: number of trials that run at a time, 1 or more.
            budget: seconds after which no more trials start; None for no limit.
        """
        if not self._count:
            return None
        mean = self._remaining[0] / self._count[0]
        each = [self.trial_seconds_left(*trial) for trial in running]
        longest = max([*each, mean if waiting else 0.0])
        left = max(longest, (sum(each) + waiting * mean) / slots)
        return left if budget is None else min(left, max(longest, budget + mean))
