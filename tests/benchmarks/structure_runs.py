"""The runs recorded in `structures.csv`: configurations, learning curves, goals, and their training."""

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
"""A best skill up to this value counts as that of the mean-color baseline."""
CPU_TOLERANCE = 0.9
"""Share of the required CPU time that a recorded run must have, because CPU times vary between recordings."""


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
        """The structure and its loss weight, as shown in tables."""
        return f"{self.activation}{', skip' if self.skip else ''}, {self.mse_weight:g}"

    @property
    def config(self) -> Config:
        """The configuration that is trained."""
        settings: dict[str, Any] = {"activation": self.activation, "skip": self.skip, "mse_weight": self.mse_weight}
        return with_recipe(replace(PRESETS["model-2"], **settings), cast(Recipe, self.recipe))


class Epoch(NamedTuple):
    """The end of an epoch: CPU seconds since the start of training, and the skill, NaN if training diverged."""

    epoch: int
    cpu_seconds: float
    skill: float


Curve = Sequence[Epoch]
Runs = dict[Run, Curve]


@dataclass(frozen=True)
class Goal:
    """When a run ends: after a number of epochs and a CPU time, or earlier if it reaches a skill."""

    epochs: int = 1
    cpu_seconds: float = 0.0
    skill: float = math.inf

    def reached(self, curve: Curve) -> bool:
        """Return whether a run has ended; a run that diverged has."""
        if not curve:
            return False
        last = curve[-1]
        full_length = last.epoch >= self.epochs and last.cpu_seconds >= self.cpu_seconds
        return full_length or math.isnan(last.skill) or best_skill(curve) >= self.skill


def best_skill(curve: Curve, cpu_seconds: float = math.inf) -> float:
    """Return the best skill of a run within a CPU time, or minus infinity if it has no epoch."""
    skills = [epoch.skill for epoch in curve if epoch.cpu_seconds <= cpu_seconds and not math.isnan(epoch.skill)]
    return max(skills, default=-math.inf)


def read_runs(path: Path) -> Runs:
    """Return the recorded runs; none if the file does not exist."""
    runs: dict[Run, list[Epoch]] = {}
    if path.exists():
        with path.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                names = row["set"], row["recipe"], row["activation"], row["skip"] == "True"
                run = Run(*names, float(row["mse_weight"]), int(row["seed"]))
                epoch = Epoch(int(row["epoch"]), float(row["cpu_seconds"]), float(row["skill"]))
                runs.setdefault(run, []).append(epoch)
    return {**runs}


def change_runs(path: Path, new: Mapping[Run, Curve], removed: Iterable[Run] = ()) -> None:
    """Add or replace runs in the file and remove others. Several processes may call this at the same time."""
    with FileLock(Path(tempfile.gettempdir()) / f"{path.name}.lock"):
        runs = {**read_runs(path), **new}
        for run in removed:
            runs.pop(run, None)
        draft = path.with_suffix(".part")
        with draft.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([*Run._fields, *Epoch._fields])
            for run, curve in sorted(runs.items()):
                writer.writerows([*run, epoch, f"{seconds:.2f}", f"{skill:.5f}"] for epoch, seconds, skill in curve)
        os.replace(draft, path)


def source_of(name: str) -> Source:
    """Return the source of the photos of a set.

    Args:
        name: "garden N" for N scenes, a key of FOLDERS for all of its photos, or such a key and a number for as many
            photos, drawn evenly from the classes with seed 0.

    Raises:
        ValueError: The set does not exist.
    """
    kind, _, count = name.partition(" ")
    limit = int(count) if count else None
    if kind == "garden":
        return Source(scenes=limit)
    if kind not in FOLDERS:
        raise ValueError(
            f"unknown set {name!r}; use garden N, {' or '.join(FOLDERS)}, the last two also with a number of photos"
        )
    return Source(FOLDERS[kind], limit=limit, seed=0 if limit else None)


def read_set(name: str) -> Split:
    """Return the photos of a set, split as in a search."""
    return split(source_of(name).read()[0], 0)


@functools.lru_cache(maxsize=1)
def _trainer(name: str) -> Any:
    from huetune.model.trainer import Trainer

    parts = read_set(name)
    return Trainer(parts.training, parts.validation)


def train(run: Run, goal: Goal) -> list[Epoch]:
    """Train a run to its goal in this process."""
    from huetune.model.trainer import DivergedError

    trainer = _trainer(run.set)
    trainer.start(run.config, run.seed)
    first_step(trainer)
    trainer.draw()
    # Everything is traced now, and the run starts again.
    trainer.start(run.config, run.seed)
    curve: list[Epoch] = []
    cpu_seconds = 0.0
    while not goal.reached(curve):
        begun = time.process_time()
        try:
            skill = trainer.epoch()["skill"]
        except DivergedError:
            skill = math.nan
        cpu_seconds += time.process_time() - begun
        curve.append(Epoch(len(curve) + 1, round(cpu_seconds, 2), round(skill, 5)))
    return curve


def record(path: Path, goals: Mapping[Run, Goal], workers: int) -> int:
    """Train the runs that are not in the file up to their goals; return how many. Each is recorded when it ends."""
    recorded = read_runs(path)
    missing = [run for run, goal in goals.items() if not with_tolerance(goal).reached(recorded.get(run, ()))]
    pool = ProcessPoolExecutor(workers, get_context("spawn"), one_thread)
    try:
        tasks = {pool.submit(train, run, goals[run]): run for run in missing}
        for number, task in enumerate(as_completed(tasks), 1):
            run, curve = tasks[task], task.result()
            change_runs(path, {run: curve})
            shown = f"skill {best_skill(curve):.3f}, {len(curve)} epochs, {curve[-1].cpu_seconds:.0f} CPU seconds"
            print(
                f"{number}/{len(missing)}: {run.set}, {run.recipe}, {run.structure}, seed {run.seed}: {shown}",
                flush=True,
            )
    finally:
        pool.shutdown(cancel_futures=True)
    return len(missing)


def with_tolerance(goal: Goal) -> Goal:
    """Return the goal that a recorded run must have reached; see CPU_TOLERANCE."""
    return replace(goal, cpu_seconds=CPU_TOLERANCE * goal.cpu_seconds)


def cpu_budget(runs: Mapping[Run, Curve], run: Run) -> float | None:
    """Return the CPU seconds of five epochs with the recipe "patches": those of the same run, or the mean of its set.

    Args:
        runs: The recorded runs.
        run: A run of any recipe.

    Returns:
        None if no run of that set with the recipe "patches" is recorded.
    """
    patches = run._replace(recipe="patches")
    others = [other for other in runs if (other.set, other.recipe) == (run.set, "patches")]
    compared = [patches] if patches in runs else others
    if not compared:
        return None
    return statistics.fmean(comparable_epochs(runs[other])[-1].cpu_seconds for other in compared)


def comparable_epochs(curve: Curve) -> Curve:
    """Return the first five epochs of a run with the recipe "patches"; one that was recorded for `ranks` has more."""
    return curve[:PATCH_EPOCHS]


def target_skill(runs: Mapping[Run, Curve], run: Run) -> float:
    """Return the skill that a run of "photos" must reach; infinity if the same run of "patches" is not recorded."""
    patches = runs.get(run._replace(recipe="patches"))
    return required_skill(best_skill(comparable_epochs(patches))) if patches else math.inf


def required_skill(patches: float) -> float:
    """Return the skill that "photos" must reach: 1.15 times that of "patches", or as much if that is negative."""
    return patches * PASS_RATIO if patches > 0 else patches


def photo_goals(runs: Mapping[Run, Curve], requested: Iterable[Run], until_pass: bool) -> dict[Run, Goal]:
    """Return the goals of runs with the recipe "photos".

    Raises:
        SystemExit: No run of their set with the recipe "patches" is recorded.
    """
    goals = {}
    for run in requested:
        budget = cpu_budget(runs, run)
        if budget is None:
            raise SystemExit(
                f"structures: {run.set!r} has no run of patches to compare with; record one with --recipes patches"
            )
        goals[run] = Goal(cpu_seconds=budget, skill=target_skill(runs, run) if until_pass else math.inf)
    return goals
