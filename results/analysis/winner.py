"""The winner of a run: its trial, the checkpoint that is used, and its scores.

The winner is the finalist with the best mean score over fresh seeds, or, without a confirmation, the best complete
trial. After a search by several objectives there is a winner for each objective: the best trial of the Pareto front.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState

from huetune.data_tools.common.plural import counted
from huetune.model.metrics import METRICS, best_of
from huetune.results.analysis.intervals import Estimate, format_estimate
from huetune.results.analysis.replicates import (
    BaselineComparison,
    compare_with_baseline,
    ranks,
    replicates_by_config,
    replicates_of,
    verdict,
)
from huetune.results.records.epoch_metrics import EpochMetrics, displayed_metrics
from huetune.results.records.run import Run
from huetune.results.records.study_record import StudyRecord
from huetune.results.records.trial_record import TrialRecord, find_trial
from huetune.results.records.value_text import format_value


@dataclass(frozen=True)
class Training:
    """A training whose checkpoint can be used: a trial, or a replicate of its configuration.

    Attributes:
        trial: a trial of the study, or of the study of replicates.
        metrics: metrics of its best epoch, whose weights are its checkpoint.
    """

    trial: FrozenTrial
    metrics: EpochMetrics

    @property
    def is_replicate(self) -> bool:
        """Whether this is a replicate and not a trial of the search itself."""
        return TrialRecord.of(self.trial).name is not None

    @property
    def seed(self) -> int | None:
        """Random seed of the training; None where an older version did not record it."""
        return TrialRecord.of(self.trial).seed

    def __str__(self) -> str:
        return f"{'replicate' if self.is_replicate else f'trial {self.trial.number}'}, seed {self.seed}"


def trainings(
    study: optuna.Study, replicates: optuna.Study | None, number: int, by: str | None = None
) -> list[Training]:
    """Return a trial and the complete replicates of its configuration, the one with the best score first.

    Args:
        study: the study of a search.
        replicates: the study of its replicates; None if there is none.
        number: number of a trial of the search.
        by: the objective of the search that sorts them; None for the first objective.
    """
    first = StudyRecord.of(study).objective
    objective = by or first
    trial = find_trial(study, number)
    assert trial
    group = replicates_of(trial, replicates_by_config(replicates))
    complete = [replicate for replicate in (group.trials if group else ()) if replicate.state == TrialState.COMPLETE]
    found = _trainings([trial, *complete], first)
    return sorted(found, key=lambda one: one.metrics[objective], reverse=not METRICS[objective].minimized)


def _trainings(trials: Iterable[FrozenTrial], objective: str) -> list[Training]:
    """Return the trials that have finished an epoch, each with the metrics of its best epoch."""
    return [Training(trial, best) for trial in trials if (best := TrialRecord.of(trial).best_epoch(objective))]


@dataclass(frozen=True)
class Winner:
    """The confirmed winner of a run, or else its best complete trial.

    Attributes:
        searched: the training of the winner in the search.
        training: the training whose checkpoint is used: the one in the search, or a replicate with a better score. The
            metrics of the winner are the metrics of this training.
        objective: the objective by which it wins.
        confirmed: mean score over fresh seeds; None if it was not trained again.
        seeds: number of fresh seeds.
        comparison: how it compares with the mean-color baseline.
    """

    searched: Training
    training: Training
    objective: str
    confirmed: Estimate | None
    seeds: int
    comparison: BaselineComparison

    @property
    def number(self) -> int:
        """Number of its trial."""
        return self.searched.trial.number

    @property
    def score(self) -> float:
        """The objective of the checkpoint that is used."""
        return self.training.metrics[self.objective]

    @property
    def search_score(self) -> float:
        """The objective of its trial in the search."""
        return self.searched.metrics[self.objective]

    def __str__(self) -> str:
        name = f"trial {self.number}"
        return f"{name}, {self.objective} {format_value(self.score)}" + (
            f" ({self.training})" if self.training.is_replicate else ""
        )

    def lines(self) -> list[tuple[str, str]]:
        """Return the checkpoint with its metrics, then the other scores, each as a name and a text."""
        metrics = self.training.metrics
        names = [name for name in dict.fromkeys((*displayed_metrics(), self.objective)) if name in metrics]
        lines = [("checkpoint", str(self.training)), ("best epoch", str(metrics.epoch))]
        lines += [(name, format_value(metrics[name])) for name in names]
        lines.append(("search score", f"{self.objective} {format_value(self.search_score)} ({self.searched})"))
        if self.confirmed:
            lines.append(("confirmed", f"{self.objective} {format_estimate(self.confirmed, seeds=self.seeds)}"))
        baseline = format_value(self.comparison.baseline)
        return [*lines, ("baseline", f"{self.objective} {baseline} (the mean color for everything)")]


def front_ends(study: optuna.Study) -> dict[str, FrozenTrial]:
    """Return the best trial of the Pareto front by each objective.

    Returns:
        Trials by the names of the objectives; empty after a search by one objective or without a complete trial.
    """
    searched = StudyRecord.of(study)
    if len(searched.objectives) < 2:
        return {}
    front = _trainings(study.best_trials, searched.objective)
    return {objective: best.trial for objective in searched.objectives if (best := _best(front, objective))}


def _best(found: Iterable[Training], objective: str) -> Training | None:
    return best_of(objective, found, lambda training: training.metrics[objective])


def find_winner(run: Run, by: str | None = None) -> Winner | None:
    """Return the winner of a run, see `winner_of`."""
    return winner_of(*run.snapshot(), by)


def winner_of(study: optuna.Study, replicates: optuna.Study | None, by: str | None = None) -> Winner | None:
    """Return the winner of a search.

    Args:
        study: the study of a search.
        replicates: the study of its replicates; None if there is none.
        by: after a search by several objectives, the objective that decides.

    Returns:
        None if no trial is complete, or if there are several objectives and `by` names none of them.
    """
    searched_by = StudyRecord.of(study)
    first = searched_by.objective
    ends = front_ends(study)
    trial = ends.get(by or "") if ends else _best_trial(study, replicates)
    if trial is None:
        return None
    objective = by or first
    group = replicates_of(trial, replicates_by_config(replicates))
    scores = group.scores if group and objective == first else ()
    found = trainings(study, replicates, trial.number, objective)
    searched = next((one for one in found if not one.is_replicate), None)
    if searched is None:
        return None  # The study is damaged: it has no epoch of a complete trial.
    return Winner(
        searched=searched,
        training=found[0],
        objective=objective,
        confirmed=group.estimate(objective) if group and scores else None,
        seeds=len(scores),
        comparison=compare_with_baseline(
            objective, searched.metrics[objective], scores, searched_by.baseline[objective]
        ),
    )


def _best_trial(study: optuna.Study, replicates: optuna.Study | None) -> FrozenTrial | None:
    """Return the finalist of rank 1, or else the complete trial with the best score."""
    for number, rank in ranks(study, replicates).items():
        if rank == 1:
            return find_trial(study, number)
    objective = StudyRecord.of(study).objective
    complete = _trainings(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)), objective)
    best = _best(complete, objective)
    return best.trial if best else None


def headline(study: optuna.Study, replicates: optuna.Study | None) -> str | None:
    """Return a line with the winner of a search, how it compares with the baseline, and which checkpoint is used.

    Args:
        study: the study of a search.
        replicates: the study of its replicates; None if there is none.

    Returns:
        None if no trial is complete, or if there are several objectives.
    """
    won = winner_of(study, replicates)
    if won is None:
        return None
    line = verdict(study, replicates)
    if line is None:
        many = len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
        line = f"trial {won.number} has the best {won.objective} of {counted(many, 'complete trial')}, "
        line += f"{format_value(won.search_score)}, but was trained once; {won.comparison}"
    return line + (
        f"; checkpoint: {won.training}, {won.objective} {format_value(won.score)}" if won.training.is_replicate else ""
    )
