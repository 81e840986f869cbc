"""What Tune tells of its trials, taken to those whom it concerns."""

import textwrap
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.schedulers import TrialScheduler

from huetune.search.ray_runtime.ray_compat import forget_trial
from huetune.search.tuning.schedulers import replay_curve, replay_ended_trials
from huetune.search.tuning.searcher import StudySearcher


class SearchAborted(BaseException):  # as with KeyboardInterrupt: no error, and nobody on the way may catch it
    """Tune's loop is left at once: all that it would tidy up is on disk or dies with Ray."""


class TrialEvents(Callback):
    """Keeps the searcher and the scheduler informed, and leaves when the searcher wants to.

    Args:
        searcher: whose trials they are.
        scheduler: of the same search.
        timeout: seconds after which a silent trial counts as hung; None for never.
    """

    def __init__(self, searcher: StudySearcher, scheduler: TrialScheduler, timeout: float | None):
        self._searcher, self._scheduler, self._timeout = searcher, scheduler, timeout
        self._taught = False

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as with the searcher."""
        return {}

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Give the scheduler back what it knew before an interruption."""
        if not self._taught:
            self._taught = True
            replay_ended_trials(self._scheduler, self._searcher.ended_curves)
        if trial.trial_id in self._searcher.resumed:
            self._searcher.resumed.discard(trial.trial_id)
            replay_curve(self._scheduler, trial, self._searcher.curve(trial.trial_id))

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Have another worker go on with a trial whose worker died."""
        # Tune could do so itself, but takes the two errors of a worker that dies between two trials for two deaths.
        forget_trial(self._scheduler, trial)
        if trial.trial_id in self._searcher.running:
            self._searcher.worker_died(trial.trial_id, _reason(trial), self._timeout)

    def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
        """Leave, if the searcher wants to."""
        if self._searcher.aborted_by:
            raise SearchAborted


def _reason(trial: Any) -> str:
    """The last line of a trial's error; Tune itself only says that there was one."""
    lines = (
        Path(trial.error_file).read_text(encoding="utf-8", errors="replace").splitlines() if trial.error_file else []
    )
    reason = next((line.strip() for line in reversed(lines) if line.strip()), "no reason given")
    return textwrap.shorten(reason, 200, placeholder=" ...")
