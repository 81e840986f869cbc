"""The runs recorded in `structures.csv`: configurations, learning curves and goals, and how runs are trained."""

import csv
import functools
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
    return statistics.fmean(comparable_epochs(runs[one])[-1].cpu_seconds for one in like) if like else None


def comparable_epochs(curve: Curve) -> Curve:
    """The patches recipe's run; one for `ranks` may be longer."""
    return curve[:PATCH_EPOCHS]


def target_skill(runs: Mapping[Run, Curve], run: Run) -> float:
    """Return the skill at which a run of photos passes: infinite where its run of patches is not recorded."""
    patches = runs.get(run._replace(recipe="patches"))
    return passing(best_skill(comparable_epochs(patches))) if patches else math.inf


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
