"""Replicates: configurations trained again from fresh seeds, so that a score has an error bar.

A search's own scores are optimistic: its best is the best of many noisy numbers. What counts is what its configuration
does when it is trained again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import optuna
from optuna.trial import FrozenTrial, TrialState

from huetune.model.metrics import METRICS, better
from huetune.results.analysis.intervals import Estimate, difference, mean
from huetune.results.records.outcomes import FailureKind
from huetune.results.records.study_record import StudyRecord
from huetune.results.records.trial_record import TrialRecord

LEAST = 2
"""Seeds without which there is no error bar."""


@dataclass(frozen=True)
class Replicated:
    """A configuration's replicates.

    Attributes:
        scores: of those that trained to their end, one a seed.
        failed: how many diverged.
        trials: all of them.
    """

    scores: tuple[float, ...]
    failed: int
    trials: tuple[FrozenTrial, ...]

    def estimate(self, objective: str) -> Estimate | None:
        """Return the mean score with its 95 % interval; None without a score.

        Args:
            objective: what the scores are, a key of `model.metrics.METRICS`.
        """
        return mean(self.scores, METRICS[objective].limits) if self.scores else None


def replicated(study: optuna.Study | None) -> dict[str, Replicated]:
    """Return the replicates of each configuration, by `config_key`; empty without a study of replicates.

    Of an extended search only those with the most epochs: with others they cannot be compared.
    """
    trials = study.get_trials(deepcopy=False) if study else []
    known = [(trial, record) for trial in trials if (record := TrialRecord.of(trial)).config]
    most = max((record.planned_epochs for _, record in known), default=0)
    groups: dict[str, list[FrozenTrial]] = {}
    for trial, record in known:
        if record.planned_epochs == most:
            groups.setdefault(record.key, []).append(trial)
    return {key: _gather(trials) for key, trials in groups.items()}


def of_trial(trial: FrozenTrial, found: Mapping[str, Replicated]) -> Replicated | None:
    """Return the replicates of a trial's configuration over as many epochs; None where there are none.

    Of an extended search, those with more epochs say nothing of a trial with fewer.

    Args:
        trial: of the search.
        found: what `replicated` returns.
    """
    if not found:
        return None
    record = TrialRecord.of(trial)
    group = found.get(record.key)
    return group if group and TrialRecord.of(group.trials[0]).planned_epochs == record.planned_epochs else None


def _gather(trials: Sequence[FrozenTrial]) -> Replicated:
    scores = tuple(trial.value for trial in trials if trial.state == TrialState.COMPLETE and trial.value is not None)
    # Those that ended by no fault of theirs say nothing of the configuration, and are trained again.
    failed = sum(diverged(trial) for trial in trials)
    return Replicated(scores, failed, tuple(trials))


def diverged(trial: FrozenTrial) -> bool:
    """Whether a trial failed by its own fault, and not because a worker, the disk or the whole search did."""
    failure = TrialRecord.of(trial).failure
    return trial.state == TrialState.FAIL and failure is not None and failure.kind is FailureKind.DIVERGED


def places(study: optuna.Study, replicates: optuna.Study | None) -> dict[int, int]:
    """Return the place of each confirmed finalist, 1 for the winner, by its trial's number.

    There are none before each finalist has two seeds, or one that diverged: an early first would only be the one that
    was trained first. A finalist of which a seed diverged comes after all others, and without two good ones nowhere.
    One that was trained further since has no place: the trial that took it further may have.
    """
    if replicates is None:
        return {}
    found = replicated(replicates)
    most = max((TrialRecord.of(group.trials[0]).planned_epochs for group in found.values()), default=0)
    objective, finalists = StudyRecord.of(study).objective, StudyRecord.of(replicates).finalists
    sign = 1 if METRICS[objective].minimized else -1
    ranks = {}
    known: set[str] = set()
    for trial in study.get_trials(deepcopy=False):
        if trial.number not in finalists:
            continue
        record = TrialRecord.of(trial)
        if record.planned_epochs == most and (key := record.key) not in known:
            known.add(key)
            group = of_trial(trial, found)
            if not group or (len(group.scores) < LEAST and not group.failed):
                return {}
            estimate = group.estimate(objective)
            if estimate and len(group.scores) >= LEAST:
                ranks[trial.number] = group.failed > 0, sign * estimate.value
    return {number: place for place, number in enumerate(sorted(ranks, key=lambda number: ranks[number]), 1)}


@dataclass(frozen=True)
class Standing:
    """How a configuration compares with the mean-color baseline.

    Attributes:
        relation: better or worse; alike where there is no significant difference, or none at all.
        baseline: the baseline's score.
        seeds: fresh seeds whose 95 % interval decides; 1 where one training alone does.
    """

    relation: Literal["better", "alike", "worse"]
    baseline: float
    seeds: int

    def __str__(self) -> str:
        baseline = f"the mean-color baseline ({self.baseline:.3g})"
        if self.seeds > 1:
            return (
                f"no significant difference to {baseline}"
                if self.relation == "alike"
                else f"{self.relation} than {baseline}"
            )
        return f"{'just as' if self.relation == 'alike' else self.relation + ' than'} {baseline} in one training"

    def sentence(self) -> str:
        """Return it as a sentence."""
        no_difference = self.relation == "alike" and self.seeds > 1
        return f"There is {self}." if no_difference else f"It is {self}."


def against_baseline(objective: str, score: float, again: Sequence[float], baseline: float) -> Standing:
    """Return how a configuration compares with the mean-color baseline: the one place where that is decided.

    The 95 % interval of its mean score over fresh seeds decides where there is one: if it contains the baseline's
    score, there is no significant difference. Otherwise one training decides, which may be luck, as the result says.

    Args:
        objective: what the scores are, a key of `model.metrics.METRICS`.
        score: of one training.
        again: the scores from fresh seeds; fewer than `LEAST` have no interval.
        baseline: the score of the mean chroma of the training photos.
    """
    if len(again) >= LEAST:
        estimate = mean(again, METRICS[objective].limits)
        apart = estimate.low is not None and estimate.high is not None and not estimate.low <= baseline <= estimate.high
        score, seeds = estimate.value, len(again)
    else:
        apart, seeds = score != baseline, 1
    if not apart:
        return Standing("alike", baseline, seeds)
    return Standing("better" if better(objective, score, baseline) else "worse", baseline, seeds)


def verdict(study: optuna.Study, replicates: optuna.Study | None) -> str | None:
    """Return which finalist wins, its score, and how that compares with the baseline and the second; None before."""
    order = sorted(places(study, replicates).items(), key=lambda place: place[1])
    if not order:
        return None
    searched = StudyRecord.of(study)
    objective = searched.objective
    found = replicated(replicates)
    groups = {
        trial.number: found[TrialRecord.of(trial).key]
        for trial in study.get_trials(deepcopy=False)
        if trial.number in dict(order)
    }
    first = order[0][0]
    scores = groups[first].scores
    estimate = mean(scores, METRICS[objective].limits)
    standing = against_baseline(objective, estimate.value, scores, searched.baseline[objective])
    text = f"trial {first} wins: {objective} {shown_estimate(estimate, seeds=len(scores))}"
    if groups[first].failed:
        text += f", {groups[first].failed} more diverged"
    if len(order) == 1:
        return f"{text}; {standing}; there is no other finalist that did not diverge"
    second = order[1][0]
    gap = difference(scores, groups[second].scores)
    return f"{text}; {standing}; {judged(gap)} trial {second}: {shown_estimate(gap)}"


def judged(gap: Estimate) -> str:
    """Return in words, before the name of the other one, whether a difference is significant."""
    return "significantly different from" if gap.sure else "no significant difference to"


def shown_estimate(estimate: Estimate, scale: float = 1.0, unit: str = "", seeds: int | None = None) -> str:
    """Return a value and its interval as people read them, with the number of seeds if it is given."""
    signed = "+" if unit else ""
    value = f"{estimate.value * scale:{signed}.3g}{unit}"
    if estimate.low is None or estimate.high is None:
        return f"{value} (one seed, no interval)"
    ends = f"{estimate.low * scale:{signed}.3g} to {estimate.high * scale:{signed}.3g}{unit}"
    return f"{value} (95 % CI {ends}{f', {seeds} seeds' if seeds else ''})"
