"""Passes the events of Tune's trials to the searcher and the scheduler."""

import textwrap
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.schedulers import TrialScheduler

from huetune.search.ray_runtime.ray_compat import forget_trial
from huetune.search.ray_runtime.scheduler_replay import replay_curve, replay_ended_trials
from huetune.search.tuning.searcher import StudySearcher


class SearchAborted(BaseException):  # like KeyboardInterrupt, so that no `except Exception` catches it
    """Ends Tune's loop at once, without Tune's cleanup: everything is recorded, and the workers end with Ray."""


class TrialEvents(Callback):
    """Tells the searcher of dead workers, restores the scheduler, and ends the search when it is aborted.

    Args:
        searcher: the searcher.
        scheduler: the scheduler of the same search.
        timeout: seconds of silence after which a worker ends itself as hung; None for never.
    """

    def __init__(self, searcher: StudySearcher, scheduler: TrialScheduler, timeout: float | None):
        self._searcher, self._scheduler, self._timeout = searcher, scheduler, timeout
        self._restored = False

    def __getstate__(self) -> dict[str, Any]:
        """Return no state; see `StudySearcher.__getstate__`."""
        return {}

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Replay into the scheduler what happened before an interruption."""
        if not self._restored:
            self._restored = True
            replay_ended_trials(self._scheduler, self._searcher.ended_curves)
        if trial.trial_id in self._searcher.resumed:
            self._searcher.resumed.discard(trial.trial_id)
            replay_curve(self._scheduler, trial, self._searcher.curve(trial.trial_id))

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Resume a trial whose worker died on another worker."""
        # Tune can retry trials, too, but counts the two errors of a worker that dies between two trials as two deaths.
        forget_trial(self._scheduler, trial)
        if trial.trial_id in self._searcher.running:
            self._searcher.worker_died(trial.trial_id, _reason(trial), self._timeout)

    def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
        """End the search if it was aborted."""
        if self._searcher.aborted_by:
            raise SearchAborted


def _reason(trial: Any) -> str:
    """Return the last line of a trial's error file; Tune itself reports only that there was an error."""
    lines = (
        Path(trial.error_file).read_text(encoding="utf-8", errors="replace").splitlines() if trial.error_file else []
    )
    reason = next((line.strip() for line in reversed(lines) if line.strip()), "no reason given")
    return textwrap.shorten(reason, 200, placeholder=" ...")
