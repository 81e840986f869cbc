"""The recorded structures: what the default recipe makes of each of them, beside the log's recipe at equal CPU time.

    python -m tests.benchmarks structures --sets "garden 100" roses-train --recipes patches --seeds 1

trains what `structures.csv` lacks of the chosen runs, in processes of one thread, and prints the summary; `--summary`
prints it without training. A run of "patches" takes five epochs with the log's recipe. A run of "photos" takes as much
CPU time as the run of patches of the same structure, weight and seed; with `--until pass` it ends as soon as its best
skill is 1.15 times as high. Building and tracing are not counted, for both; scoring is. The two runs of a pair are
recorded on the same machine: CPU seconds of two machines cannot be compared.
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
    nearly,
    passing,
    photo_goals,
    read_runs,
    record,
    source_of,
)


class Pair(NamedTuple):
    """A run of patches and one of photos: best skills at equal CPU time; NaN where one of them is not recorded.

    Attributes:
        budget: CPU seconds of both.
        epochs: of patches, fewer than PATCH_EPOCHS where time was short; 0 where they are not recorded.
        reached: CPU seconds in which photos have patches' best skill, NaN where they never have within the budget.
        ended_early: whether the photos' run was ended when it passed: its best skill might have become better.
    """

    seed: int
    patches: float
    photos: float
    budget: float
    epochs: int
    reached: float
    ended_early: bool


def pairs(runs: Mapping[Run, Curve]) -> dict[tuple[str, str], list[Pair]]:
    """Return the pairs of each set and structure; where both recipes are recorded, of the seeds that both have."""
    found: dict[tuple[str, str], list[Pair]] = {}
    for patches in sorted({run._replace(recipe="patches") for run in runs}):
        found.setdefault((patches.set, patches.structure), []).append(_pair(runs, patches))
    return {
        key: [pair for pair in some if not math.isnan(pair.patches + pair.photos)] or some
        for key, some in found.items()
    }


def _pair(runs: Mapping[Run, Curve], patches: Run) -> Pair:
    slow, fast = comparable_epochs(runs.get(patches, ())), runs.get(patches._replace(recipe="photos"))
    budget = cpu_budget(runs, patches)
    limit = math.inf if budget is None else budget
    before = best_skill(slow) if slow else math.nan
    after = best_skill(fast, limit) if fast else math.nan
    reached = [one.cpu_seconds for one in fast or () if one.cpu_seconds <= limit and one.skill >= before]
    early = bool(fast and budget and not nearly(Goal(cpu_seconds=budget)).reached(fast))
    return Pair(patches.seed, before, after, limit, len(slow), min(reached, default=math.nan), early)


def summary(runs: Mapping[Run, Curve]) -> str:
    """Return recorded runs as Markdown: for each set a table of its structures, and how many of them pass."""
    found = pairs(runs)
    sets = dict.fromkeys(name for name, _ in found)
    return "\n\n".join(_section(name, {key[1]: some for key, some in found.items() if key[0] == name}) for name in sets)


def _section(name: str, structures: Mapping[str, Sequence[Pair]]) -> str:
    lines = [
        f"### {name}",
        "",
        "| structure, mse_weight | seeds | patches: best skill in 5 epochs | photos: best skill in the same CPU time "
        "| ratio | CPU seconds in which photos have patches' best skill |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    compared: list[bool] = []
    failed: list[str] = []
    total = 0
    for structure, some in structures.items():
        patches, photos = statistics.fmean(one.patches for one in some), statistics.fmean(one.photos for one in some)
        whole = not math.isnan(patches + photos)
        if whole:
            compared.append(photos >= passing(patches))
            lost = [one.seed for one in some if one.photos <= BASELINE_SKILL < one.patches]
            failed += [f"{structure}, seed {seed}" for seed in lost]
            total += len(some)
        ratio = f"{photos / patches:.2f}" if whole and patches > BASELINE_SKILL else "-"
        cells = [
            structure,
            str(len(some)),
            spread([one.patches for one in some]) + _fewer_epochs(some),
            ("at least " if any(one.ended_early for one in some) else "") + spread([one.photos for one in some]),
            ratio,
            _reached(some),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    at_baseline = f"{len(failed)} of {total} runs are at the baseline (best skill at most {BASELINE_SKILL})"
    lines += [
        "",
        f"{sum(compared)} of {len(compared)} structures reach {PASS_RATIO} times patches' best skill. "
        f"{at_baseline} where patches are not{': ' if failed else ''}{'; '.join(failed)}.",
    ]
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """Return the mean of some skills in words, and the range of several; a dash where one is NaN."""
    if any(map(math.isnan, values)):
        return "-"
    ends = f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{ends}"


def _fewer_epochs(some: Sequence[Pair]) -> str:
    fewest = min(one.epochs for one in some)
    return f" ({fewest} epochs)" if 0 < fewest < PATCH_EPOCHS else ""


def _reached(some: Sequence[Pair]) -> str:
    if any(math.isnan(one.patches + one.photos) for one in some):
        return "-"
    times = [one.reached for one in some if not math.isnan(one.reached)]
    budget = statistics.fmean(one.budget for one in some)
    shown = f"{statistics.fmean(times):.1f} of {budget:.1f}" if times else f"more than {budget:.1f}"
    return shown + (f" ({len(times)} of {len(some)} seeds)" if 0 < len(times) < len(some) else "")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose runs."""

    def photo_set(name: str) -> str:
        try:
            source_of(name)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return name

    some = parser.add_argument_group("structures, ranks", "which runs; for training, --activations and --skips, too")
    some.add_argument("--sets", nargs="+", type=photo_set, metavar="SET", help=f"default: {', '.join(map(repr, SETS))}")
    some.add_argument("--recipes", nargs="+", choices=RECIPES, default=[*RECIPES])
    some.add_argument("--activations", nargs="+", choices=ACTIVATIONS)
    some.add_argument("--skips", nargs="+", choices=SKIPS, default=[*SKIPS])
    some.add_argument("--weights", nargs="+", type=float, metavar="WEIGHT", help="default: 4; for ranks 1 4 8")
    some.add_argument("--workers", type=int, choices=(1, 2), default=1, help="processes of one thread each")
    some.add_argument("--again", nargs="+", choices=RECIPES, default=[], help="forget these of the chosen runs first")
    some.add_argument(
        "--until", choices=("time", "pass"), default="time", help="pass: end photos' runs at 1.15 times patches' skill"
    )
    some.add_argument("--truth-epochs", type=int, metavar="N", help="ranks: of the truth; default: 5 x a search's")
    some.add_argument("--summary", action="store_true", help="train nothing, print what is recorded")
    some.add_argument("--record", type=Path, default=STRUCTURES, help="file of the recorded runs")


def chosen(
    asked: argparse.Namespace,
    recipe: str,
    activations: Sequence[str] = ACTIVATIONS,
    weights: Sequence[float] = WEIGHTS,
    sets: Sequence[str] = SETS,
) -> list[Run]:
    """Return the runs of a recipe that the options choose, the first seed of all of them first.

    Args:
        asked: the parsed options.
        recipe: of RECIPES.
        activations: where no option names some; `weights` and `sets` likewise.
        weights: see there.
        sets: see there.
    """
    axes = range(asked.seeds), asked.sets or sets, asked.weights or weights, asked.activations or activations
    return [
        Run(name, recipe, activation, SKIPS[skip], weight, seed)
        for seed, name, weight, activation, skip in itertools.product(*axes, asked.skips)
    ]


def forget(asked: argparse.Namespace, wanted: Mapping[str, Sequence[Run]]) -> None:
    """Remove the wanted runs of the recipes that are to be recorded again."""
    if asked.again:
        change_runs(asked.record, {}, [run for recipe in asked.again for run in wanted[recipe]])


def structures(asked: argparse.Namespace) -> dict[str, Any]:
    """Record the chosen runs that are lacking, patches first, and print the summary of all that are chosen."""
    wanted = {recipe: chosen(asked, recipe) for recipe in RECIPES}
    path, trained = asked.record, 0
    if not asked.summary:
        forget(asked, wanted)
        if "patches" in asked.recipes:
            trained += record(path, dict.fromkeys(wanted["patches"], Goal(PATCH_EPOCHS)), asked.workers)
        if "photos" in asked.recipes:
            goals = photo_goals(read_runs(path), wanted["photos"], asked.until == "pass")
            trained += record(path, goals, asked.workers)
    print(summary(_shown(read_runs(path), asked)), flush=True)
    return {"recorded": trained}


def _shown(runs: Runs, asked: argparse.Namespace) -> Runs:
    """The recorded runs that the options choose; without an option all of them."""
    return {
        run: curve
        for run, curve in runs.items()
        if (not asked.sets or run.set in asked.sets)
        and (not asked.weights or run.mse_weight in asked.weights)
        and (not asked.activations or run.activation in asked.activations)
        and run.skip in [SKIPS[skip] for skip in asked.skips]
        and run.seed < asked.seeds
    }
