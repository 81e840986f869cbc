"""Whether the default search ranks models, or only its recipe: its scores beside the truth, by rank.

    python -m tests.benchmarks ranks --sets "garden 100" --seeds 3

The score of a configuration is its best skill in the default search's epochs, with the default recipe. Its truth is its
best skill in five times the CPU time of these (or of `--truth-epochs`), by whichever recipe of `structures` is best for
it. Both are means over seeds. What `structures.csv` lacks of it is recorded there, from the start where a run is too
short.
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
from tests.benchmarks.structure_runs import RECIPES, Curve, Goal, Run, Runs, best_skill, nearly, read_runs, record
from tests.benchmarks.structures import chosen, forget, spread

SETS = "garden 100", "flowers 300"
WEIGHTS = 1.0, 4.0, 8.0
"""Of the range of the default space."""
TRUTH_TIMES = 5
"""The truth is trained for this many times the default search's time."""


@dataclass
class Point:
    """A configuration: its score of each seed, and what each recipe makes of it in the time of the truth."""

    scores: dict[int, float] = field(default_factory=dict)
    best: dict[str, dict[int, float]] = field(default_factory=lambda: {recipe: {} for recipe in RECIPES})

    def score(self, seeds: Iterable[int]) -> float:
        """The mean of the scores of some seeds."""
        return statistics.fmean(self.scores[seed] for seed in seeds)

    def truth(self, seeds: Iterable[int]) -> tuple[float, str]:
        """The best recipe's mean skill of some seeds, and which recipe that is."""
        wanted = set(seeds)
        means = [
            (statistics.fmean(skills[seed] for seed in wanted), recipe)
            for recipe, skills in self.best.items()
            if wanted <= set(skills)
        ]
        return max(means)


def points_of(runs: Runs, wanted: Iterable[Run], epochs: int, truth: int) -> dict[str, Point]:
    """Return the configurations of a set by their names, as far as they are recorded.

    Args:
        runs: the recorded ones.
        wanted: runs of photos, of one set.
        epochs: of the default search.
        truth: epochs of whole photos whose CPU time the truth has.
    """
    points: dict[str, Point] = {}
    for run in wanted:
        point = points.setdefault(run.structure, Point())
        photos = runs.get(run, ())
        if not Goal(truth).reached(photos):
            continue
        point.scores[run.seed] = best_skill(photos[:epochs])
        point.best["photos"][run.seed] = best_skill(photos[:truth])
        seconds, patches = _truth_seconds(photos, truth), runs.get(run._replace(recipe="patches"), ())
        if nearly(Goal(cpu_seconds=seconds)).reached(patches):
            point.best["patches"][run.seed] = best_skill(patches, seconds)
    return points


def _truth_seconds(photos: Curve, truth: int) -> float:
    """CPU seconds of the truth; of a run that diverged before, what it would have taken."""
    curve = photos[:truth]
    return curve[-1].cpu_seconds / len(curve) * truth


def correlation(points: Mapping[str, Point], seeds: int) -> dict[str, Any]:
    """Return how the scores of configurations rank them, beside the truth.

    Args:
        points: of one set.
        seeds: how many each must have; a configuration that lacks one is left out.

    Returns:
        `spearman`: of the mean scores with the truth; `of_one_seed`: the range over seeds of that of one seed's scores
        with the truth of the other seeds; `truth_of_one_seed`: the same of one seed's truth, a bound for what scores of
        one seed can be expected to reach; `points`: how many; `missing`: how many are left out; `truth_by`: how many
        have their truth from each recipe.
    """
    whole = [point for point in points.values() if set(range(seeds)) <= set(point.scores)]
    counts = {"points": len(whole), "missing": len(points) - len(whole)}
    if len(whole) < 3:
        return counts
    every = range(seeds)
    truths = [point.truth(every) for point in whole]
    means = [point.score(every) for point in whole]
    figures: dict[str, Any] = {"spearman": _spearman(means, [truth for truth, _ in truths])}
    if seeds > 1:
        scores, ceilings = [], []
        for seed in every:
            rest = [point.truth(other for other in every if other != seed)[0] for point in whole]
            scores.append(_spearman([point.scores[seed] for point in whole], rest))
            ceilings.append(_spearman([point.truth([seed])[0] for point in whole], rest))
        figures |= {"of_one_seed": [min(scores), max(scores)], "truth_of_one_seed": [min(ceilings), max(ceilings)]}
    by = {recipe: sum(best == recipe for _, best in truths) for recipe in RECIPES}
    return {**figures, **counts, "truth_by": by}


def _spearman(some: Sequence[float], others: Sequence[float]) -> float:
    return float(spearmanr(some, others).statistic)


def markdown(points: Mapping[str, Point], seeds: int) -> str:
    """Return configurations as a table: their scores and truths, and which recipe the truth is from."""
    lines = ["| structure, mse_weight | score | truth | recipe |", "| --- | --- | --- | --- |"]
    for name, point in points.items():
        if set(range(seeds)) <= set(point.scores):
            _, recipe = point.truth(range(seeds))
            skills = [point.best[recipe][seed] for seed in range(seeds)]
            scores = [point.scores[seed] for seed in range(seeds)]
            lines.append(f"| {name} | {spread(scores)} | {spread(skills)} | {recipe} |")
    return "\n".join(lines)


def default_activations() -> list[str]:
    """Return the activations of the default space, whose other structural choice is skip, on and off."""
    domain = parse_space(DEFAULT_SPACE, Config()).domains["activation"]
    assert isinstance(domain, CategoricalDistribution)
    return [str(choice) for choice in domain.choices]


def ranks(asked: argparse.Namespace) -> dict[str, Any]:
    """Record the runs of the default space that are lacking, and return the correlation of each set."""
    from huetune.search.spec.search_spec import Search

    epochs, path = Search.epochs, asked.record
    truth = asked.truth_epochs or TRUTH_TIMES * epochs
    if truth < epochs:
        raise SystemExit(f"--truth-epochs {truth}: must be {epochs} or more, the epochs of the search that is ranked")
    wanted = {recipe: chosen(asked, recipe, default_activations(), WEIGHTS, SETS) for recipe in RECIPES}
    if not asked.summary:
        forget(asked, wanted)
        record(path, dict.fromkeys(wanted["photos"], Goal(truth)), asked.workers)
        if "patches" in asked.recipes:
            runs = read_runs(path)
            times = {run: _truth_seconds(runs[run._replace(recipe="photos")], truth) for run in wanted["patches"]}
            record(path, {run: Goal(cpu_seconds=seconds) for run, seconds in times.items()}, asked.workers)
    runs, figures = read_runs(path), {}
    for name in dict.fromkeys(run.set for run in wanted["photos"]):
        points = points_of(runs, (run for run in wanted["photos"] if run.set == name), epochs, truth)
        print(f"### {name}\n\n{markdown(points, asked.seeds)}\n", flush=True)
        figures[name] = correlation(points, asked.seeds)
    return figures
