"""What stops trials early: Tune's schedulers, and how they learn again what an earlier session taught them."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from huetune.results.records.baseline import grace
from huetune.search.ray_runtime.ray_compat import keep_running
from huetune.search.ray_runtime.worker import BEST


def _asha(epochs: int) -> TrialScheduler:
    return ASHAScheduler(time_attr="epoch", max_t=epochs, grace_period=grace(epochs), reduction_factor=3)


def _hyperband(epochs: int) -> TrialScheduler:
    # Hyperband's brackets, each with a grace three times as long as the one before, without its pauses: a trial that
    # waits for its bracket to fill would hold a place that another could train in.
    brackets = max(1, round(math.log(epochs / grace(epochs), 3)) + 1)
    return ASHAScheduler(
        time_attr="epoch", max_t=epochs, grace_period=grace(epochs), reduction_factor=3, brackets=brackets
    )


def _median(epochs: int) -> TrialScheduler:
    # Tune would have trials pause until there are enough to compare; here a trial that waits would only hold its place.
    return MedianStoppingRule(
        time_attr="epoch",
        grace_period=grace(epochs),
        min_samples_required=3,
        min_time_slice=math.inf,  # type: ignore[arg-type]  # its first pause comes after an infinite time
    )


SCHEDULERS: dict[str, Callable[[int], TrialScheduler]] = {
    "asha": _asha,
    "hyperband": _hyperband,
    "median": _median,
    "none": lambda epochs: FIFOScheduler(),
}


class Past:
    """An ended trial, as far as a scheduler asks.

    Args:
        trial_id: that no other trial has.
    """

    def __init__(self, trial_id: str):
        self.trial_id = trial_id


def teach(scheduler: TrialScheduler, curves: Iterable[Mapping[int, float]]) -> None:
    """Tell a scheduler of the trials that ended before it was made; Tune does not keep what it knew.

    Args:
        scheduler: of a search that has begun.
        curves: the best score so far after each epoch, one a trial.
    """
    for number, curve in enumerate(curves):
        ended: Any = Past(f"past-{number}")
        scheduler.on_trial_add(None, ended)  # type: ignore[arg-type]  # none of them asks the controller
        remind(scheduler, ended, curve)


def remind(scheduler: TrialScheduler, trial: Any, curve: Mapping[int, float]) -> None:
    """Tell a scheduler of the epochs that a trial has behind it; what it thinks of them was decided then."""
    for epoch, score in curve.items():
        scheduler.on_trial_result(None, trial, {"epoch": epoch, BEST: score})  # type: ignore[arg-type]
        # It may find now that it should have stopped the trial, and insists on never seeing it again.
        keep_running(scheduler, trial)
