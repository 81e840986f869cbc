"""Restores what a scheduler knew before an interruption, by replaying the results of earlier trials."""

from collections.abc import Iterable, Mapping
from typing import Any

from ray.tune.schedulers import TrialScheduler

from huetune.search.ray_runtime.ray_compat import ignore_stop
from huetune.search.tuning.trial_result import SCORE


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
