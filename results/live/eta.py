"""How long a search still takes, from how long its trials took."""

from collections import defaultdict
from collections.abc import Iterable, Mapping


class Pace:
    """What ended trials say of those that run and those that have not begun; early-stopped ones count as they were."""

    def __init__(self) -> None:
        # By the epochs that a trial has behind it: how many ended ones came so far, and how long they took from there.
        self._count: defaultdict[int, int] = defaultdict(int)
        self._rest: defaultdict[int, float] = defaultdict(float)

    def add(self, seconds: Mapping[int, float]) -> None:
        """Take in an ended trial.

        Args:
            seconds: that each of its epochs took, by the epoch's number; empty for one that failed before the first.
        """
        rest, last = sum(seconds.values()), max(seconds, default=0)
        self._count[0] += 1
        self._rest[0] += rest
        for epoch, took in sorted(seconds.items()):
            rest -= took
            if epoch < last:
                self._count[epoch] += 1
                self._rest[epoch] += rest

    def rest(self, seconds: Mapping[int, float], target: int) -> float:
        """Return how long a running trial still takes: as ended ones from there, or else at its own pace.

        Args:
            seconds: that each of its epochs took, by the epoch's number.
            target: its last epoch.
        """
        epoch = max(seconds, default=0)
        if count := self._count.get(epoch):
            return self._rest[epoch] / count
        return sum(seconds.values()) / max(1, len(seconds)) * max(0, target - epoch)

    def left(
        self, running: Iterable[tuple[Mapping[int, float], int]], waiting: int, slots: int, budget: float | None = None
    ) -> float | None:
        """Return the seconds until all trials have ended; None before any has, for then there is nothing to go by.

        Args:
            running: the seconds by epoch of each running trial, and its last epoch.
            waiting: trials that are still to be begun.
            slots: trials that run side by side, 1 or more.
            budget: seconds after which no more are begun; None for as long as it takes.
        """
        if not self._count:
            return None
        usual = self._rest[0] / self._count[0]
        rests = [self.rest(*trial) for trial in running]
        longest = max([*rests, usual if waiting else 0.0])
        left = max(longest, (sum(rests) + waiting * usual) / slots)
        return left if budget is None else min(left, max(longest, budget + usual))
