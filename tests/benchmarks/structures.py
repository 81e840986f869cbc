"""The recorded structures: what the default recipe makes of each of them, beside the log's recipe at equal CPU time.

    python -m tests.benchmarks structures --sets "garden 100" roses-train --recipes patches --seeds 1

trains what `structures.csv` lacks of the chosen runs, in processes of one thread, and prints the summary; `--summary`
prints it without training. A run of "patches" takes five epochs with the log's recipe. A run of "photos" takes as much
CPU time as the run of patches of the same structure, weight and seed; with `--until pass` it ends as soon as its best
skill is 1.15 times as high. Building and tracing are not counted, for both; scoring is. The two runs of a pair are
recorded on the same machine: CPU seconds of two machines cannot be compared.
"""

import argparse
import csv
import functools
import itertools
import math
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

from filelock import FileLock

from huetune.data_tools.photos.source import Source
from huetune.data_tools.photos.split import Split, split
from huetune.model.config import Activation, Config, Recipe
from huetune.model.presets import PRESETS
from huetune.model.recipes import with_recipe
from tests.benchmarks.processes import first_step, one_thread

STRUCTURES = Path(__file__).with_name("structures.csv")
SHARED = Path(__file__).parents[3] / "shared" / "photos"
FOLDERS = {"flowers": SHARED / "flowers" / "train", "roses-train": SHARED / "roses-train"}
SETS = "garden 100", "roses-train", "flowers 300"
RECIPES: tuple[str, ...] = get_args(Recipe)
ACTIVATIONS: tuple[str, ...] = get_args(Activation)
SKIPS = {"on": True, "off": False}
WEIGHTS = (4.0,)
PATCH_EPOCHS = 5
PASS_RATIO = 1.15
BASELINE_SKILL = 0.01
"""A best skill up to this is no better than one color for everything."""
CPU_TOLERANCE = 0.9
"""Share of its CPU time that a recorded run must have: that of a run of patches varies when it is recorded again."""


class Run(NamedTuple):
    """A configuration trained from a seed on a set of photos, with a recipe of RECIPES."""

    set: str
    recipe: str
    activation: str
    skip: bool
    mse_weight: float
    seed: int

    def __str__(self) -> str:
        return f"{self.set}, {self.recipe}, {self.structure}, seed {self.seed}"

    @property
    def structure(self) -> str:
        """The structure and its weight, in words."""
        return f"{self.activation}{', skip' if self.skip else ''}, {self.mse_weight:g}"

    @property
    def config(self) -> Config:
        """What it is trained with."""
        settings: dict[str, Any] = {"activation": self.activation, "skip": self.skip, "mse_weight": self.mse_weight}
        return with_recipe(replace(PRESETS["model-2"], **settings), cast(Recipe, self.recipe))


class Epoch(NamedTuple):
    """The end of an epoch: CPU seconds since the first began, and its skill, NaN where training diverged."""

    epoch: int
    cpu_seconds: float
    skill: float


Curve = Sequence[Epoch]
Runs = dict[Run, Curve]


@dataclass(frozen=True)
class Goal:
    """Where a run ends: after so many epochs and so much CPU time, or before, as soon as it has a skill."""

    epochs: int = 1
    cpu_seconds: float = 0.0
    skill: float = math.inf

    def reached(self, curve: Curve) -> bool:
        """Whether a run is at its end; one that diverged is."""
        if not curve:
            return False
        last = curve[-1]
        whole = last.epoch >= self.epochs and last.cpu_seconds >= self.cpu_seconds
        return whole or math.isnan(last.skill) or best_skill(curve) >= self.skill


def best_skill(curve: Curve, cpu_seconds: float = math.inf) -> float:
    """Return the best skill of a run up to a CPU time, minus infinity where it has none."""
    skills = [epoch.skill for epoch in curve if epoch.cpu_seconds <= cpu_seconds and not math.isnan(epoch.skill)]
    return max(skills, default=-math.inf)


def read_runs(path: Path) -> Runs:
    """Return the recorded runs; none where there is no file."""
    runs: dict[Run, list[Epoch]] = {}
    if path.exists():
        with path.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                names = row["set"], row["recipe"], row["activation"], row["skip"] == "True"
                run = Run(*names, float(row["mse_weight"]), int(row["seed"]))
                epoch = Epoch(int(row["epoch"]), float(row["cpu_seconds"]), float(row["skill"]))
                runs.setdefault(run, []).append(epoch)
    return {**runs}


def change_runs(path: Path, new: Mapping[Run, Curve], forgotten: Iterable[Run] = ()) -> None:
    """Add runs to the file or replace them there, and forget others. Several processes may do so at the same time."""
    with FileLock(Path(tempfile.gettempdir()) / f"{path.name}.lock"):
        runs = {**read_runs(path), **new}
        for run in forgotten:
            runs.pop(run, None)
        written = path.with_suffix(".part")
        with written.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([*Run._fields, *Epoch._fields])
            for run, curve in sorted(runs.items()):
                writer.writerows([*run, epoch, f"{seconds:.2f}", f"{skill:.5f}"] for epoch, seconds, skill in curve)
        os.replace(written, path)


def source_of(name: str) -> Source:
    """Return where a set's photos come from.

    Args:
        name: "garden 100" for so many scenes; a key of FOLDERS, or with a number after it for so many photos, drawn
            evenly from the classes by seed 0.

    Raises:
        ValueError: no such set.
    """
    place, _, count = name.partition(" ")
    limit = int(count) if count else None
    if place == "garden":
        return Source(scenes=limit)
    if place not in FOLDERS:
        raise ValueError(
            f"unknown set {name!r}: known are garden N, {', '.join(FOLDERS)}, each with a number if wanted"
        )
    return Source(FOLDERS[place], limit=limit, seed=0 if limit else None)


def read_set(name: str) -> Split:
    """Return a set's photos, split as a search splits them."""
    return split(source_of(name).read()[0], 0)


@functools.lru_cache(maxsize=1)
def _trainer(name: str) -> Any:
    from huetune.model.trainer import Trainer

    parts = read_set(name)
    return Trainer(parts.training, parts.validation)


def train(run: Run, goal: Goal) -> list[Epoch]:
    """Train a run to its goal, in this process."""
    from huetune.model.trainer import DivergedError

    trainer = _trainer(run.set)
    trainer.start(run.config, run.seed)
    first_step(trainer)
    trainer.draw()
    # All is traced, and the run begins anew.
    trainer.start(run.config, run.seed)
    curve: list[Epoch] = []
    spent = 0.0
    while not goal.reached(curve):
        begun = time.process_time()
        try:
            skill = trainer.epoch()["skill"]
        except DivergedError:
            skill = math.nan
        spent += time.process_time() - begun
        curve.append(Epoch(len(curve) + 1, round(spent, 2), round(skill, 5)))
    return curve


def record(path: Path, goals: Mapping[Run, Goal], workers: int) -> int:
    """Train the runs that the file lacks, or has not to their goal; each is kept as it ends. Return how many."""
    recorded = read_runs(path)
    lacking = [run for run, goal in goals.items() if not nearly(goal).reached(recorded.get(run, ()))]
    pool = ProcessPoolExecutor(workers, get_context("spawn"), one_thread)
    try:
        tasks = {pool.submit(train, run, goals[run]): run for run in lacking}
        for number, task in enumerate(as_completed(tasks), 1):
            run, curve = tasks[task], task.result()
            change_runs(path, {run: curve})
            shown = f"skill {best_skill(curve):.3f}, {len(curve)} epochs, {curve[-1].cpu_seconds:.0f} CPU seconds"
            print(
                f"{number}/{len(lacking)}: {run.set}, {run.recipe}, {run.structure}, seed {run.seed}: {shown}",
                flush=True,
            )
    finally:
        pool.shutdown(cancel_futures=True)
    return len(lacking)


def nearly(goal: Goal) -> Goal:
    """Return the goal that a recorded run must have reached: see CPU_TOLERANCE."""
    return replace(goal, cpu_seconds=CPU_TOLERANCE * goal.cpu_seconds)


def cpu_budget(runs: Mapping[Run, Curve], run: Run) -> float | None:
    """Return the CPU seconds in which patches do their five epochs, of the same run, or else the mean of its set.

    Args:
        runs: the recorded ones.
        run: of any recipe.

    Returns:
        None where no run of patches of that set is recorded.
    """
    patches = run._replace(recipe="patches")
    others = [other for other in runs if (other.set, other.recipe) == (run.set, "patches")]
    like = [patches] if patches in runs else others
    return statistics.fmean(_five_epochs(runs[one])[-1].cpu_seconds for one in like) if like else None


def _five_epochs(curve: Curve) -> Curve:
    """The patches recipe's run; one for `ranks` may be longer."""
    return curve[:PATCH_EPOCHS]


def target_skill(runs: Mapping[Run, Curve], run: Run) -> float:
    """Return the skill at which a run of photos passes: infinite where its run of patches is not recorded."""
    patches = runs.get(run._replace(recipe="patches"))
    return passing(best_skill(_five_epochs(patches))) if patches else math.inf


def passing(patches: float) -> float:
    """Return the least skill that passes beside one of patches; below the baseline 1.15 times would be less of it."""
    return patches * PASS_RATIO if patches > 0 else patches


def photo_goals(runs: Mapping[Run, Curve], wanted: Iterable[Run], until_pass: bool) -> dict[Run, Goal]:
    """Return where runs of photos end.

    Raises:
        SystemExit: no run of patches of their set is recorded.
    """
    goals = {}
    for run in wanted:
        budget = cpu_budget(runs, run)
        if budget is None:
            raise SystemExit(f"structures: {run.set!r} has no run of patches to compare with; record --recipes patches")
        goals[run] = Goal(cpu_seconds=budget, skill=target_skill(runs, run) if until_pass else math.inf)
    return goals


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
    slow, fast = _five_epochs(runs.get(patches, ())), runs.get(patches._replace(recipe="photos"))
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
