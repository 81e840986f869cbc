"""Measure whether the scores of the default search rank models as much longer training does.

    python -m tests.benchmarks ranks --sets "garden 100" --seeds 3

The score of a configuration is its best skill within the epochs of the default search, with the default recipe. Its
truth is its best skill in five times the CPU time of these epochs (or in that of `--truth-epochs`), with the better of
the two recipes. Both are means over seeds. Runs that `structures.csv` lacks are trained and recorded there; a run that
is too short is trained again from the start.
"""

import argparse
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import CategoricalDistribution
from scipy.stats import spearmanr

from huetune.model.config import Config
from huetune.search.spec.space_parser import DEFAULT_SPACE, parse_space
from tests.benchmarks.structure_runs import (
    RECIPES,
    Curve,
    Goal,
    Run,
    Runs,
    best_skill,
    read_runs,
    record,
    with_tolerance,
)
from tests.benchmarks.structures import remove_for_retraining, selected_runs, spread

SETS = "garden 100", "flowers 300"
WEIGHTS = 1.0, 4.0, 8.0
"""Loss weights within the range of the default space."""
TRUTH_FACTOR = 5
"""Training time of the truth over that of a trial of the default search."""


@dataclass
class Point:
    """A configuration: its score by seed, and its best skill within the time of the truth by recipe and seed."""

    scores: dict[int, float] = field(default_factory=dict)
    best: dict[str, dict[int, float]] = field(default_factory=lambda: {recipe: {} for recipe in RECIPES})

    def score(self, seeds: Iterable[int]) -> float:
        """Return the mean score of some seeds."""
        return statistics.fmean(self.scores[seed] for seed in seeds)

    def truth(self, seeds: Iterable[int]) -> tuple[float, str]:
        """Return the mean skill of some seeds with the better recipe, and the name of that recipe."""
        requested = set(seeds)
        means = [
            (statistics.fmean(skills[seed] for seed in requested), recipe)
            for recipe, skills in self.best.items()
            if requested <= set(skills)
        ]
        return max(means)


def points_of(runs: Runs, requested: Iterable[Run], epochs: int, truth: int) -> dict[str, Point]:
    """Return the recorded configurations of a set by their names.

    Args:
        runs: The recorded runs.
        requested: Runs of the recipe "photos" on one set.
        epochs: Epochs of the default search.
        truth: Epochs of the recipe "photos" whose CPU time is the time of the truth.
    """
    points: dict[str, Point] = {}
    for run in requested:
        point = points.setdefault(run.structure, Point())
        photos = runs.get(run, ())
        if not Goal(truth).reached(photos):
            continue
        point.scores[run.seed] = best_skill(photos[:epochs])
        point.best["photos"][run.seed] = best_skill(photos[:truth])
        seconds, patches = _truth_seconds(photos, truth), runs.get(run._replace(recipe="patches"), ())
        if with_tolerance(Goal(cpu_seconds=seconds)).reached(patches):
            point.best["patches"][run.seed] = best_skill(patches, seconds)
    return points


def _truth_seconds(photos: Curve, truth: int) -> float:
    """Return the CPU seconds of the truth, extrapolated for a run that diverged earlier."""
    curve = photos[:truth]
    return curve[-1].cpu_seconds / len(curve) * truth


def correlation(points: Mapping[str, Point], seeds: int) -> dict[str, Any]:
    """Return Spearman's rank correlation of the scores of configurations with their truths.

    Args:
        points: Configurations of one set.
        seeds: Number of seeds that each must have; a configuration that lacks one is skipped.

    Returns:
        `spearman`: the correlation of mean scores with truths; `of_one_seed`: the correlation of the scores of one seed
        with the truths of the other seeds, lowest and highest; `truth_of_one_seed`: the same for the truths of one
        seed, a bound for what scores of one seed can reach; `points`: the number of configurations; `missing`: the
        number of skipped ones; `truth_by`: the number of truths from each recipe.
    """
    complete = [point for point in points.values() if set(range(seeds)) <= set(point.scores)]
    counts = {"points": len(complete), "missing": len(points) - len(complete)}
    if len(complete) < 3:
        return counts
    all_seeds = range(seeds)
    truths = [point.truth(all_seeds) for point in complete]
    means = [point.score(all_seeds) for point in complete]
    correlations: dict[str, Any] = {"spearman": _spearman(means, [truth for truth, _ in truths])}
    if seeds > 1:
        scores, ceilings = [], []
        for seed in all_seeds:
            other_truths = [point.truth(other for other in all_seeds if other != seed)[0] for point in complete]
            scores.append(_spearman([point.scores[seed] for point in complete], other_truths))
            ceilings.append(_spearman([point.truth([seed])[0] for point in complete], other_truths))
        correlations |= {"of_one_seed": [min(scores), max(scores)], "truth_of_one_seed": [min(ceilings), max(ceilings)]}
    truth_by = {recipe: sum(best == recipe for _, best in truths) for recipe in RECIPES}
    return {**correlations, **counts, "truth_by": truth_by}


def _spearman(first: Sequence[float], second: Sequence[float]) -> float:
    return float(spearmanr(first, second).statistic)


def markdown(points: Mapping[str, Point], seeds: int) -> str:
    """Return a Markdown table of configurations with their scores, their truths and the recipe of each truth."""
    lines = ["| structure, mse_weight | score | truth | recipe |", "| --- | --- | --- | --- |"]
    for name, point in points.items():
        if set(range(seeds)) <= set(point.scores):
            _, recipe = point.truth(range(seeds))
            skills = [point.best[recipe][seed] for seed in range(seeds)]
            scores = [point.scores[seed] for seed in range(seeds)]
            lines.append(f"| {name} | {spread(scores)} | {spread(skills)} | {recipe} |")
    return "\n".join(lines)


def default_activations() -> list[str]:
    """Return the activations of the default space. The only other structural setting of that space is `skip`."""
    domain = parse_space(DEFAULT_SPACE, Config()).domains["activation"]
    assert isinstance(domain, CategoricalDistribution)
    return [str(choice) for choice in domain.choices]


def ranks(options: argparse.Namespace) -> dict[str, Any]:
    """Record missing runs of the default space, and return the correlation for each set."""
    from huetune.search.spec.search_spec import Search

    epochs, path = Search.epochs, options.record
    truth = options.truth_epochs or TRUTH_FACTOR * epochs
    if truth < epochs:
        raise SystemExit(
            f"--truth-epochs {truth}: must be {epochs} or more, the epochs of a trial of the default search"
        )
    requested = {recipe: selected_runs(options, recipe, default_activations(), WEIGHTS, SETS) for recipe in RECIPES}
    if not options.summary:
        remove_for_retraining(options, requested)
        record(path, dict.fromkeys(requested["photos"], Goal(truth)), options.workers)
        if "patches" in options.recipes:
            runs = read_runs(path)
            times = {run: _truth_seconds(runs[run._replace(recipe="photos")], truth) for run in requested["patches"]}
            record(path, {run: Goal(cpu_seconds=seconds) for run, seconds in times.items()}, options.workers)
    runs, correlations = read_runs(path), {}
    for name in dict.fromkeys(run.set for run in requested["photos"]):
        points = points_of(runs, (run for run in requested["photos"] if run.set == name), epochs, truth)
        print(f"### {name}\n\n{markdown(points, options.seeds)}\n", flush=True)
        correlations[name] = correlation(points, options.seeds)
    return correlations
