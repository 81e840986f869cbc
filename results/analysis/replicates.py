"""Replicates: configurations that were trained again from fresh seeds, so that a score has an interval.

The scores of a search are optimistic, because its best score is the best of many noisy ones. Replicates measure how
good a configuration is when it is trained again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import optuna
from optuna.trial import FrozenTrial, TrialState

from huetune.model.metrics import METRICS, better
from huetune.results.analysis.intervals import Estimate, difference, format_estimate, mean
from huetune.results.records.outcomes import FailureKind
from huetune.results.records.study_record import StudyRecord
from huetune.results.records.trial_record import TrialRecord

MIN_INTERVAL_SEEDS = 2
"""Smallest number of seeds that has an interval."""


@dataclass(frozen=True)
class Replicates:
    """The replicates of a configuration.

    Attributes:
        scores: scores of the complete replicates, one for each seed.
        failed: number of replicates that diverged.
        trials: all replicates, in any state.
    """

    scores: tuple[float, ...]
    failed: int
    trials: tuple[FrozenTrial, ...]

    def estimate(self, objective: str) -> Estimate | None:
        """Return the mean score with its 95% interval; None without a score.

        Args:
            objective: the metric that the scores are, a key of `model.metrics.METRICS`.
        """
        return mean(self.scores, METRICS[objective].limits) if self.scores else None


def replicates_by_config(study: optuna.Study | None) -> dict[str, Replicates]:
    """Return the replicates of each configuration, by `config_key`.

    After a search was extended to more epochs, only replicates with the most epochs count; others cannot be compared
    with them.

    Args:
        study: a study of replicates; None for no replicates.
    """
    trials = study.get_trials(deepcopy=False) if study else []
    known = [(trial, record) for trial in trials if (record := TrialRecord.of(trial)).config]
    most = max((record.planned_epochs for _, record in known), default=0)
    groups: dict[str, list[FrozenTrial]] = {}
    for trial, record in known:
        if record.planned_epochs == most:
            groups.setdefault(record.key, []).append(trial)
    return {key: _replicates(trials) for key, trials in groups.items()}


def replicates_of(trial: FrozenTrial, groups: Mapping[str, Replicates]) -> Replicates | None:
    """Return the replicates of a trial's configuration with as many epochs as the trial; None if there are none.

    After a search was extended, replicates with more epochs cannot be compared with a trial with fewer.

    Args:
        trial: a trial of the search.
        groups: the result of `replicates_by_config`.
    """
    if not groups:
        return None
    record = TrialRecord.of(trial)
    group = groups.get(record.key)
    return group if group and TrialRecord.of(group.trials[0]).planned_epochs == record.planned_epochs else None


def _replicates(trials: Sequence[FrozenTrial]) -> Replicates:
    scores = tuple(trial.value for trial in trials if trial.state == TrialState.COMPLETE and trial.value is not None)
    # Other failures are not the configuration's fault, so they do not count and their seeds are trained again.
    return Replicates(scores, sum(map(has_diverged, trials)), tuple(trials))


def has_diverged(trial: FrozenTrial) -> bool:
    """Return whether a trial failed because its training diverged, and not because of a worker, disk or search."""
    failure = TrialRecord.of(trial).failure
    return trial.state == TrialState.FAIL and failure is not None and failure.kind is FailureKind.DIVERGED


def ranks(study: optuna.Study, replicates: optuna.Study | None) -> dict[int, int]:
    """Return the ranks of the confirmed finalists, 1 for the winner, by the numbers of their trials.

    The result is empty until each finalist has two complete seeds or one that diverged, because before that the
    finalist that was trained first would win. A finalist with a diverged seed comes after all others; one with fewer
    than two complete seeds has no rank. A finalist that was trained further since has no rank; the trial that continues
    it can have one.

    Args:
        study: the study of a search.
        replicates: the study of its replicates; None if there is none.
    """
    if replicates is None:
        return {}
    groups = replicates_by_config(replicates)
    most = max((TrialRecord.of(group.trials[0]).planned_epochs for group in groups.values()), default=0)
    objective, finalists = StudyRecord.of(study).objective, StudyRecord.of(replicates).finalists
    sign = 1 if METRICS[objective].minimized else -1
    order = {}
    known: set[str] = set()
    for trial in study.get_trials(deepcopy=False):
        if trial.number not in finalists:
            continue
        record = TrialRecord.of(trial)
        if record.planned_epochs == most and (key := record.key) not in known:
            known.add(key)
            group = replicates_of(trial, groups)
            if not group or (len(group.scores) < MIN_INTERVAL_SEEDS and not group.failed):
                return {}
            estimate = group.estimate(objective)
            if estimate and len(group.scores) >= MIN_INTERVAL_SEEDS:
                order[trial.number] = group.failed > 0, sign * estimate.value
    return {number: rank for rank, number in enumerate(sorted(order, key=lambda number: order[number]), 1)}


@dataclass(frozen=True)
class BaselineComparison:
    """How a configuration compares with the mean-color baseline.

    Attributes:
        relation: "better" or "worse" than the baseline; "alike" if there is no significant difference.
        baseline: score of the baseline.
        seeds: number of fresh seeds whose 95% interval decides; 1 if a single training decides.
    """

    relation: Literal["better", "alike", "worse"]
    baseline: float
    seeds: int

    def __str__(self) -> str:
        baseline = f"the mean-color baseline ({self.baseline:.3g})"
        if self.seeds > 1:
            return (
                f"no significant difference from {baseline}"
                if self.relation == "alike"
                else f"{self.relation} than {baseline}"
            )
        return f"{'as good as' if self.relation == 'alike' else self.relation + ' than'} {baseline} in one training"

    def sentence(self) -> str:
        """Return the comparison as a sentence."""
        no_difference = self.relation == "alike" and self.seeds > 1
        return f"There is {self}." if no_difference else f"It is {self}."


def compare_with_baseline(
    objective: str, score: float, fresh_scores: Sequence[float], baseline: float
) -> BaselineComparison:
    """Return how a configuration compares with the mean-color baseline.

    If there are at least two fresh seeds, the 95% interval of their mean score decides: if it contains the baseline's
    score, there is no significant difference. Otherwise a single training decides, which may be luck; the result
    records that.

    Args:
        objective: the metric that the scores are, a key of `model.metrics.METRICS`.
        score: score of one training.
        fresh_scores: scores of the replicates, each from a fresh seed.
        baseline: score of the mean-color baseline.
    """
    if len(fresh_scores) >= MIN_INTERVAL_SEEDS:
        estimate = mean(fresh_scores, METRICS[objective].limits)
        assert estimate.low is not None and estimate.high is not None
        differs = not estimate.low <= baseline <= estimate.high
        score, seeds = estimate.value, len(fresh_scores)
    else:
        differs, seeds = score != baseline, 1
    if not differs:
        return BaselineComparison("alike", baseline, seeds)
    return BaselineComparison("better" if better(objective, score, baseline) else "worse", baseline, seeds)


def verdict(study: optuna.Study, replicates: optuna.Study | None) -> str | None:
    """Return a line with the confirmed winner, its score, and its comparison with the baseline and the second finalist.

    Returns:
        None if no finalist has a rank yet.
    """
    order = sorted(ranks(study, replicates).items(), key=lambda item: item[1])
    if not order:
        return None
    searched = StudyRecord.of(study)
    objective = searched.objective
    by_config = replicates_by_config(replicates)
    groups = {
        trial.number: by_config[TrialRecord.of(trial).key]
        for trial in study.get_trials(deepcopy=False)
        if trial.number in dict(order)
    }
    first = order[0][0]
    scores = groups[first].scores
    estimate = mean(scores, METRICS[objective].limits)
    comparison = compare_with_baseline(objective, estimate.value, scores, searched.baseline[objective])
    text = f"trial {first} wins: {objective} {format_estimate(estimate, seeds=len(scores))}"
    if groups[first].failed:
        text += f", {groups[first].failed} more diverged"
    if len(order) == 1:
        return f"{text}; {comparison}; there is no other finalist that did not diverge"
    second = order[1][0]
    gap = difference(scores, groups[second].scores)
    return f"{text}; {comparison}; {significance(gap)} trial {second}: {format_estimate(gap)}"


def significance(gap: Estimate) -> str:
    """Return whether a difference is significant, in words that precede the name of the other configuration."""
    return "significantly different from" if gap.significant else "no significant difference from"
