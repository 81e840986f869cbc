"""The winner of a run: its trial, the checkpoint that is used for it, and how good each measurement says that it is."""

from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState

from huetune.model.metrics import METRICS
from huetune.results.analysis.intervals import Estimate
from huetune.results.analysis.replicates import (
    Standing,
    against_baseline,
    of_trial,
    replicated,
    shown_estimate,
    verdict,
)
from huetune.results.records.epoch_metrics import EpochMetrics
from huetune.results.records.run import Run
from huetune.results.records.study_record import StudyRecord
from huetune.results.records.trial_record import TrialRecord, find_trial
from huetune.results.tables.trial_table import Row, front_ends, measures, rows, shown
from huetune.results.tables.trial_table import winner as best_row


@dataclass(frozen=True)
class Training:
    """A training whose checkpoint can be used: a trial, or a replicate of its configuration.

    Attributes:
        trial: of the study, or of the study of replicates.
        metrics: of its best epoch, whose weights are its checkpoint.
    """

    trial: FrozenTrial
    metrics: EpochMetrics

    @property
    def is_replicate(self) -> bool:
        """Whether it is no trial of the search itself."""
        return TrialRecord.of(self.trial).name is not None

    @property
    def seed(self) -> int | None:
        """That it was trained from; None where an older huetune did not record it."""
        return TrialRecord.of(self.trial).seed

    def __str__(self) -> str:
        return f"{'replicate' if self.is_replicate else f'trial {self.trial.number}'}, seed {self.seed}"


def trainings(
    study: optuna.Study, replicates: optuna.Study | None, number: int, by: str | None = None
) -> list[Training]:
    """Return a trial and the complete replicates of its configuration, the best one first: its checkpoint is used.

    Args:
        study: of a search.
        replicates: study of what was trained again.
        number: of a trial.
        by: an objective of the search that orders them; None for the first one.
    """
    first = StudyRecord.of(study).objective
    objective = by or first
    trial = find_trial(study, number)
    assert trial
    group = of_trial(trial, replicated(replicates))
    complete = [again for again in (group.trials if group else ()) if again.state == TrialState.COMPLETE]
    found = [Training(one, metrics) for one in (trial, *complete) if (metrics := TrialRecord.of(one).best_epoch(first))]
    return sorted(found, key=lambda one: one.metrics[objective], reverse=not METRICS[objective].minimized)


@dataclass(frozen=True)
class Winner:
    """The confirmed winner of a run, or else its best complete trial.

    Attributes:
        row: of its trial, with the metrics of the search.
        searched: its training in the search.
        training: whose checkpoint is used: that one or a replicate. The metrics of the winner are those of this one.
        objective: that made it the winner.
        confirmed: its mean score over fresh seeds; None where it was not trained again.
        seeds: how many these are.
        standing: how it compares with the mean-color baseline.
    """

    row: Row
    searched: Training
    training: Training
    objective: str
    confirmed: Estimate | None
    seeds: int
    standing: Standing

    @property
    def number(self) -> int:
        """Of its trial."""
        return self.row["trial"]

    @property
    def score(self) -> float:
        """The objective as its checkpoint has it."""
        return self.training.metrics[self.objective]

    def __str__(self) -> str:
        name = f"trial {self.number}"
        return f"{name}, {self.objective} {shown(self.score)}" + (
            f" ({self.training})" if self.training.is_replicate else ""
        )

    def lines(self) -> list[tuple[str, str]]:
        """Return its checkpoint with its metrics, and apart from these its other scores: a name and a text each."""
        metrics = self.training.metrics
        lines = [("checkpoint", str(self.training)), ("best epoch", str(metrics.epoch))]
        lines += [
            (name, shown(metrics[name])) for name in dict.fromkeys((*measures(), self.objective)) if name in metrics
        ]
        lines.append(("search score", f"{self.objective} {shown(self.row[self.objective])} ({self.searched})"))
        if self.confirmed:
            lines.append(("confirmed", f"{self.objective} {shown_estimate(self.confirmed, seeds=self.seeds)}"))
        return [
            *lines,
            ("baseline", f"{self.objective} {shown(self.standing.baseline)} (the mean color for everything)"),
        ]


def find_winner(run: Run, by: str | None = None) -> Winner | None:
    """Return the winner of a run, as `winner_of` does."""
    study, replicates = run.snapshot()
    return winner_of(study, replicates, rows(study, replicates), by)


def winner_of(
    study: optuna.Study, replicates: optuna.Study | None, table: list[Row], by: str | None = None
) -> Winner | None:
    """Return the winner of a search; None where no trial is complete, or several objectives leave it open.

    Args:
        study: of a search.
        replicates: study of what was trained again.
        table: rows of both, as `results.tables.trial_table.rows` orders them.
        by: an objective of the search, where it had several: that end of the Pareto front wins.
    """
    ends = front_ends(study, table)
    row = (ends.get(by) if by else None) if ends else best_row(table)
    if row is None:
        return None
    first = StudyRecord.of(study).objective
    objective, trial = by or first, find_trial(study, row["trial"])
    assert trial
    group = of_trial(trial, replicated(replicates))
    again = group.scores if group and objective == first else ()
    found = trainings(study, replicates, row["trial"], objective)
    searched = next((one for one in found if not one.is_replicate), None)
    if searched is None:
        return None  # a damaged study, which has no epoch of a complete trial
    return Winner(
        row,
        searched=searched,
        training=found[0],
        objective=objective,
        confirmed=group.estimate(objective) if group and again else None,
        seeds=len(again),
        standing=against_baseline(objective, row[objective], again, StudyRecord.of(study).baseline[objective]),
    )


def headline(study: optuna.Study, replicates: optuna.Study | None, table: list[Row]) -> str | None:
    """Return in a line who wins a search, how that compares with the baseline, and which checkpoint is used.

    Args:
        study: of a search.
        replicates: study of what was trained again.
        table: rows of both.

    Returns:
        None where no trial is complete, or several objectives leave it open.
    """
    won = winner_of(study, replicates, table)
    if won is None:
        return None
    line = verdict(study, replicates)
    if line is None:
        many = sum(row["state"] == "complete" for row in table)
        line = f"trial {won.number} has the best {won.objective} of {many} complete trial{'s' * (many > 1)}, "
        line += f"{shown(won.row['score'])}, but was trained once; {won.standing}"
    return line + (
        f"; checkpoint: {won.training}, {won.objective} {shown(won.score)}" if won.training.is_replicate else ""
    )
