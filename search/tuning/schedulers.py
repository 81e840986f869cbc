"""Early stopping of trials: Tune's schedulers with huetune's settings."""

import math
from collections.abc import Callable

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from huetune.results.records.baseline import grace_epochs


def _asha(epochs: int) -> TrialScheduler:
    return ASHAScheduler(time_attr="epoch", max_t=epochs, grace_period=grace_epochs(epochs), reduction_factor=3)


def _hyperband(epochs: int) -> TrialScheduler:
    # Hyperband's brackets, each with three times the grace period of the one before, but without its pauses: a trial
    # that waits for its bracket to fill would occupy a slot in which another could train.
    brackets = max(1, round(math.log(epochs / grace_epochs(epochs), 3)) + 1)
    return ASHAScheduler(
        time_attr="epoch", max_t=epochs, grace_period=grace_epochs(epochs), reduction_factor=3, brackets=brackets
    )


def _median(epochs: int) -> TrialScheduler:
    # By default Tune pauses trials until there are enough to compare; such a trial would occupy a slot.
    return MedianStoppingRule(
        time_attr="epoch",
        grace_period=grace_epochs(epochs),
        min_samples_required=3,
        min_time_slice=math.inf,  # type: ignore[arg-type]  # the first pause comes after an infinite time
    )


SCHEDULERS: dict[str, Callable[[int], TrialScheduler]] = {
    "asha": _asha,
    "hyperband": _hyperband,
    "median": _median,
    "none": lambda epochs: FIFOScheduler(),
}
"""By name, a function that makes a scheduler for trials of a number of epochs."""
