"""Measure what each structure learns in the same CPU time with the default recipe and that of the experiment log.

    python -m tests.benchmarks structures --sets "garden 100" roses-train --recipes patches --seeds 1

trains the selected runs that `structures.csv` does not have, in processes of one thread, and prints the summary;
`--summary` prints it without training. A run of "patches" has five epochs with the recipe of the experiment log. A run
of "photos" has as much CPU time as the run of "patches" with the same structure, weight and seed; with `--until pass`
it ends when its best skill is 1.15 times as high. For both, CPU time includes scoring, but not building and tracing.
The two runs of a pair must be recorded on the same machine, because CPU seconds of two machines cannot be compared.
"""

import argparse
import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks.structure_runs import (
    ACTIVATIONS,
    BASELINE_SKILL,
    PASS_RATIO,
    PATCH_EPOCHS,
    RECIPES,
    SETS,
    SKIPS,
    STRUCTURES,
    WEIGHTS,
    Curve,
    Goal,
    Run,
    Runs,
    best_skill,
    change_runs,
    comparable_epochs,
    cpu_budget,
    photo_goals,
    read_runs,
    record,
    required_skill,
    source_of,
    with_tolerance,
)


class Pair(NamedTuple):
    """A run of each recipe with the same structure and seed.

    Attributes:
        seed: Seed of both.
        patches: Best skill of the run of "patches", NaN if it is not recorded.
        photos: Best skill of the run of "photos" within the budget, NaN if it is not recorded.
        budget: CPU seconds of both.
        epochs: Epochs of "patches"; 0 if the run is not recorded, fewer than PATCH_EPOCHS if it was cut short.
        reached: CPU seconds after which "photos" has the best skill of "patches", NaN if not within the budget.
        ended_early: Whether the run of "photos" ended when it passed, so that its best skill is a lower bound.
    """

    seed: int
    patches: float
    photos: float
    budget: float
    epochs: int
    reached: float
    ended_early: bool


def pairs(runs: Mapping[Run, Curve]) -> dict[tuple[str, str], list[Pair]]:
    """Return the pairs of each set and structure, only those with both runs if there are any."""
    found: dict[tuple[str, str], list[Pair]] = {}
    for patches in sorted({run._replace(recipe="patches") for run in runs}):
        found.setdefault((patches.set, patches.structure), []).append(_pair(runs, patches))
    return {
        key: [pair for pair in group if not math.isnan(pair.patches + pair.photos)] or group
        for key, group in found.items()
    }


def _pair(runs: Mapping[Run, Curve], patches: Run) -> Pair:
    patch_curve = comparable_epochs(runs.get(patches, ()))
    photo_curve = runs.get(patches._replace(recipe="photos"))
    budget = cpu_budget(runs, patches)
    limit = math.inf if budget is None else budget
    patch_skill = best_skill(patch_curve) if patch_curve else math.nan
    photo_skill = best_skill(photo_curve, limit) if photo_curve else math.nan
    reached = [
        epoch.cpu_seconds for epoch in photo_curve or () if epoch.cpu_seconds <= limit and epoch.skill >= patch_skill
    ]
    ended_early = bool(photo_curve and budget and not with_tolerance(Goal(cpu_seconds=budget)).reached(photo_curve))
    first_reached = min(reached, default=math.nan)
    return Pair(patches.seed, patch_skill, photo_skill, limit, len(patch_curve), first_reached, ended_early)


def summary(runs: Mapping[Run, Curve]) -> str:
    """Return recorded runs as Markdown: for each set a table of its structures, and how many of them pass."""
    found = pairs(runs)
    sets = dict.fromkeys(name for name, _ in found)
    return "\n\n".join(
        _section(name, {key[1]: group for key, group in found.items() if key[0] == name}) for name in sets
    )


def _section(name: str, structures: Mapping[str, Sequence[Pair]]) -> str:
    lines = [
        f"### {name}",
        "",
        "| structure, mse_weight | seeds | patches: best skill in 5 epochs | photos: best skill in the same CPU time "
        "| ratio | CPU seconds in which photos have patches' best skill |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    passed: list[bool] = []
    failed: list[str] = []
    total = 0
    for structure, group in structures.items():
        patches = statistics.fmean(pair.patches for pair in group)
        photos = statistics.fmean(pair.photos for pair in group)
        is_compared = not math.isnan(patches + photos)
        if is_compared:
            passed.append(photos >= required_skill(patches))
            failed_seeds = [pair.seed for pair in group if pair.photos <= BASELINE_SKILL < pair.patches]
            failed += [f"{structure}, seed {seed}" for seed in failed_seeds]
            total += len(group)
        ratio = f"{photos / patches:.2f}" if is_compared and patches > BASELINE_SKILL else "-"
        cells = [
            structure,
            str(len(group)),
            spread([pair.patches for pair in group]) + _fewer_epochs(group),
            ("at least " if any(pair.ended_early for pair in group) else "") + spread([pair.photos for pair in group]),
            ratio,
            _reached(group),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    at_baseline = f"{len(failed)} of {total} runs are at the baseline (best skill at most {BASELINE_SKILL})"
    lines += [
        "",
        f"{sum(passed)} of {len(passed)} structures reach {PASS_RATIO} times patches' best skill. "
        f"{at_baseline} where patches are not{': ' if failed else ''}{'; '.join(failed)}.",
    ]
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """Return the mean of skills as text, with the range if there are several; a dash if one is NaN."""
    if any(map(math.isnan, values)):
        return "-"
    ends = f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{ends}"


def _fewer_epochs(group: Sequence[Pair]) -> str:
    fewest = min(pair.epochs for pair in group)
    return f" ({fewest} epochs)" if 0 < fewest < PATCH_EPOCHS else ""


def _reached(group: Sequence[Pair]) -> str:
    if any(math.isnan(pair.patches + pair.photos) for pair in group):
        return "-"
    times = [pair.reached for pair in group if not math.isnan(pair.reached)]
    budget = statistics.fmean(pair.budget for pair in group)
    shown = f"{statistics.fmean(times):.1f} of {budget:.1f}" if times else f"more than {budget:.1f}"
    return shown + (f" ({len(times)} of {len(group)} seeds)" if 0 < len(times) < len(group) else "")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that select runs."""

    def photo_set(name: str) -> str:
        try:
            source_of(name)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return name

    group = parser.add_argument_group(
        "structures, ranks", "select runs; --activations and --skips also apply to training"
    )
    group.add_argument(
        "--sets", nargs="+", type=photo_set, metavar="SET", help=f"default: {', '.join(map(repr, SETS))}"
    )
    group.add_argument("--recipes", nargs="+", choices=RECIPES, default=[*RECIPES])
    group.add_argument("--activations", nargs="+", choices=ACTIVATIONS)
    group.add_argument("--skips", nargs="+", choices=SKIPS, default=[*SKIPS])
    group.add_argument("--weights", nargs="+", type=float, metavar="WEIGHT", help="default: 4; for ranks 1 4 8")
    group.add_argument("--workers", type=int, choices=(1, 2), default=1, help="processes of one thread each")
    group.add_argument(
        "--retrain", nargs="+", choices=RECIPES, default=[], help="train recorded runs of these recipes again"
    )
    group.add_argument(
        "--until",
        choices=("time", "pass"),
        default="time",
        help="pass: end a run of photos at 1.15 times the skill of patches",
    )
    group.add_argument(
        "--truth-epochs", type=int, metavar="N", help="ranks: epochs of the truth; default: 5 times those of a search"
    )
    group.add_argument("--summary", action="store_true", help="print recorded runs without training")
    group.add_argument("--record", type=Path, default=STRUCTURES, help="CSV file of the recorded runs")


def selected_runs(
    options: argparse.Namespace,
    recipe: str,
    activations: Sequence[str] = ACTIVATIONS,
    weights: Sequence[float] = WEIGHTS,
    sets: Sequence[str] = SETS,
) -> list[Run]:
    """Return the runs of a recipe that the options select, ordered by seed.

    Args:
        options: The parsed options.
        recipe: One of RECIPES.
        activations: Activations if no option selects some.
        weights: Loss weights if no option selects some.
        sets: Sets if no option selects some.
    """
    axes = range(options.seeds), options.sets or sets, options.weights or weights, options.activations or activations
    return [
        Run(name, recipe, activation, SKIPS[skip], weight, seed)
        for seed, name, weight, activation, skip in itertools.product(*axes, options.skips)
    ]


def remove_for_retraining(options: argparse.Namespace, requested: Mapping[str, Sequence[Run]]) -> None:
    """Remove the requested runs of recipes that are trained again."""
    if options.retrain:
        change_runs(options.record, {}, [run for recipe in options.retrain for run in requested[recipe]])


def structures(options: argparse.Namespace) -> dict[str, Any]:
    """Record the selected runs that are missing, those of patches first, and print the summary of all selected runs."""
    requested = {recipe: selected_runs(options, recipe) for recipe in RECIPES}
    path, trained = options.record, 0
    if not options.summary:
        remove_for_retraining(options, requested)
        if "patches" in options.recipes:
            trained += record(path, dict.fromkeys(requested["patches"], Goal(PATCH_EPOCHS)), options.workers)
        if "photos" in options.recipes:
            goals = photo_goals(read_runs(path), requested["photos"], options.until == "pass")
            trained += record(path, goals, options.workers)
    print(summary(_select(read_runs(path), options)), flush=True)
    return {"recorded": trained}


def _select(runs: Runs, options: argparse.Namespace) -> Runs:
    """Return the recorded runs that the options select; without options all of them."""
    return {
        run: curve
        for run, curve in runs.items()
        if (not options.sets or run.set in options.sets)
        and (not options.weights or run.mse_weight in options.weights)
        and (not options.activations or run.activation in options.activations)
        and run.skip in [SKIPS[skip] for skip in options.skips]
        and run.seed < options.seeds
    }
