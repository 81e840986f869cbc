"""The epochs and scores that the study has of a search's trials."""

from collections.abc import Collection, Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from huetune.model.metrics import best_of
from huetune.results.records.epoch_metrics import EpochMetrics, best_epoch, best_so_far
from huetune.results.records.trial_record import TrialRecord

Curve = dict[int, float]
"""The best score so far after each epoch, by epoch."""


class Scoreboard:
    """Keeps the epochs of running trials and the scores of all trials. All arguments `number` are trial numbers.

    Args:
        objective: a key of `METRICS`; a trial's score is its best value of it.

    Attributes:
        progress: the last recorded epoch of each trial that ran in this session, by trial number; 0 before the first.
    """

    def __init__(self, objective: str):
        self.progress: dict[int, int] = {}
        self._objective = objective
        self._scores: dict[int, tuple[float, optuna.Trial | FrozenTrial]] = {}
        self._epochs: dict[int, list[EpochMetrics]] = {}
        self._curves_before: dict[int, Curve] = {}

    def restore(self, trial: FrozenTrial, record: TrialRecord) -> Curve:
        """Add a trial that the study had before this session; return its curve, which is empty if it failed."""
        curve = {} if trial.state == TrialState.FAIL else record.best_so_far(self._objective)
        if trial.state.is_finished():
            self._curves_before[trial.number] = curve
        if curve:
            self._scores[trial.number] = list(curve.values())[-1], trial
        return curve

    def start(self, trial: optuna.Trial, epochs: Sequence[EpochMetrics]) -> None:
        """Add a trial that starts or resumes.

        Args:
            trial: the running trial.
            epochs: its epochs that are already recorded in the study.
        """
        self._epochs[trial.number] = []
        for epoch in epochs:
            self.add(trial, epoch)
        self.progress[trial.number] = len(epochs)

    def add(self, trial: optuna.Trial, epoch: EpochMetrics) -> None:
        """Add an epoch of a running trial."""
        self.progress[trial.number] = epoch.epoch
        self._epochs[trial.number].append(epoch)
        best = self.best_epoch(trial.number)
        assert best
        self._scores[trial.number] = best[self._objective], trial

    def discard(self, number: int) -> None:
        """Drop the epochs and the score of a running trial that failed."""
        self._scores.pop(number, None)
        self._epochs[number] = []

    def end(self, number: int) -> Curve:
        """Drop the epochs of a trial that ended, keep its score, and return its curve."""
        return best_so_far(self._epochs.pop(number), self._objective)

    def best_epoch(self, number: int) -> EpochMetrics | None:
        """Return the best epoch of a running trial; None before its first."""
        return best_epoch(self._epochs[number], self._objective)

    def curve(self, number: int, continues: int | None) -> Curve:
        """Return the curve of a running trial; before its first epoch, that of the ended trial that it continues."""
        curve = best_so_far(self._epochs[number], self._objective)
        return dict(curve or ({} if continues is None else self._curves_before.get(continues, {})))

    def curves_before(self, excluded: Collection[int | None]) -> list[Curve]:
        """Return the curves of the trials that ended before this session, without some trial numbers."""
        return [curve for number, curve in self._curves_before.items() if number not in excluded]

    @property
    def best(self) -> tuple[float, optuna.Trial | FrozenTrial] | None:
        """The best score so far and its trial; failed trials do not count."""
        return best_of(self._objective, self._scores.values(), lambda scored: scored[0])
