"""Early stopping of trials: Tune's schedulers, and how they get back what they knew before an interruption."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from huetune.results.records.baseline import grace_epochs
from huetune.search.ray_runtime.ray_compat import ignore_stop
from huetune.search.ray_runtime.worker import SCORE


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


class EndedTrial:
    """Stands for a trial that ended in an earlier session; schedulers read nothing of it but its id.

    Args:
        trial_id: a unique id.
    """

    def __init__(self, trial_id: str):
        self.trial_id = trial_id


def replay_ended_trials(scheduler: TrialScheduler, curves: Iterable[Mapping[int, float]]) -> None:
    """Replay the trials of earlier sessions into a new scheduler, because Tune does not save a scheduler's state.

    Args:
        scheduler: a scheduler whose search properties are set.
        curves: for each trial, the best score so far after each epoch.
    """
    for number, curve in enumerate(curves):
        ended: Any = EndedTrial(f"past-{number}")
        scheduler.on_trial_add(None, ended)  # type: ignore[arg-type]  # none of them uses the controller
        replay_curve(scheduler, ended, curve)


def replay_curve(scheduler: TrialScheduler, trial: Any, curve: Mapping[int, float]) -> None:
    """Replay a trial's past results into a scheduler and ignore its decisions, which were made when they were new.

    Args:
        scheduler: a scheduler that has the trial.
        trial: Tune's trial, or an `EndedTrial`.
        curve: the best score so far after each epoch.
    """
    for epoch, score in curve.items():
        scheduler.on_trial_result(None, trial, {"epoch": epoch, SCORE: score})  # type: ignore[arg-type]
        # Otherwise a scheduler that decided to stop the trial would refuse its further results.
        ignore_stop(scheduler, trial)
