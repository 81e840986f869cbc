"""Searches replayed on the recorded table: the real searchers and schedulers, on a clock that jumps.

    python -m tests.benchmarks replay [--replays 50]

A replay is a search of the table's grid by two workers or more. What a trial reports, and how long an epoch takes, is
looked up; who is asked next, who is told what and who is stopped is the real code. Nothing is trained, so that fifty
searches with fifty seeds take seconds. The loss weight is a range on a log scale, as in a real search: the nearest
recorded weight stands for it.

The truth of a configuration is the mean of its best epochs over the recorded seeds. A trial of the search is one of
these seeds, drawn at random. Where more are needed than were recorded, as for confirmation, a score is the truth and
normal noise with the standard deviation of the configuration's own seeds.
"""

import heapq
import itertools
import logging
import math
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from huetune.model.presets import PRESETS
from huetune.model.recipes import with_recipe
from huetune.results.analysis.intervals import mean
from huetune.search.spec.space import Space
from huetune.search.spec.space_parser import parse_space
from huetune.search.tuning.sampler import Sampler
from huetune.search.tuning.schedulers import SCHEDULERS
from huetune.search.tuning.searcher import StudySearcher
from huetune.search.tuning.stopping_rule import Budget
from huetune.search.tuning.study_writer import StudyWriter
from huetune.search.tuning.trial_queue import Job, grid_jobs
from huetune.search.tuning.trial_result import SCORE
from tests.benchmarks.table import EPOCHS, GRID, read_table

WORKERS = 2
OBJECTIVE = "chroma_mse"
TRIALS = math.prod(len(values) for values in GRID.values())
MOST = 400
"""Trials after which a replay is given up."""
TOP, SEEDS = 3, 3
"""Finalists of a confirmation, and their fresh seeds."""
SEARCH_TRIALS = 30
"""Trials of the searches whose winners are confirmed."""

Config = tuple[Any, ...]


@dataclass(frozen=True)
class Table:
    """The recorded curves.

    Attributes:
        curves: (seconds, chroma_mse) of each epoch, by configuration and seed.
        truth: of each configuration the mean of its best epochs.
        noise: of each the standard deviation of these.
        near: the configurations within one noise of the best; the noise is that of the best quarter of all, pooled: bad
            configurations are many times as noisy, and say nothing of how well good ones can be told apart.
        step: that noise.
    """

    curves: dict[Config, list[list[tuple[float, float]]]]
    truth: dict[Config, float] = field(init=False)
    noise: dict[Config, float] = field(init=False)
    near: frozenset[Config] = field(init=False)
    step: float = field(init=False)

    def __post_init__(self) -> None:
        best = {config: [min(score for _, score in seed) for seed in seeds] for config, seeds in self.curves.items()}
        truth = {config: statistics.fmean(scores) for config, scores in best.items()}
        noise = {config: statistics.stdev(scores) for config, scores in best.items()}
        ordered = sorted(truth, key=lambda config: truth[config])
        quarter = ordered[: len(ordered) // 4]
        step = math.sqrt(statistics.fmean(noise[config] ** 2 for config in quarter))
        near = frozenset(config for config in ordered if truth[config] <= truth[ordered[0]] + step)
        for name, value in (("truth", truth), ("noise", noise), ("near", near), ("step", step)):
            object.__setattr__(self, name, value)

    def cell(self, settings: dict[str, Any]) -> Config:
        """Return the recorded configuration that stands for some settings."""
        weights = GRID["mse_weight"]
        nearest = min(weights, key=lambda weight: abs(math.log(weight / settings["mse_weight"])))
        return (nearest, *(settings[name] for name in GRID if name != "mse_weight"))

    @classmethod
    def read(cls) -> "Table":
        """Return the committed table."""
        curves: dict[Config, dict[int, list[tuple[float, float]]]] = {}
        for row in read_table():
            config = tuple(row[name] for name in GRID)
            curves.setdefault(config, {}).setdefault(row["seed"], []).append((row["seconds"], row[OBJECTIVE]))
        return cls({config: list(seeds.values()) for config, seeds in curves.items()})


@dataclass
class Replay:
    """What became of a search: its epochs, and the incumbent, the best complete trial, after each of them."""

    table: Table
    epochs: int = 0
    reached: int | None = None
    complete: list[tuple[float, Config]] = field(default_factory=list)

    def trained(self, config: Config, score: float, complete: bool) -> None:
        """Count an epoch."""
        self.epochs += 1
        if complete:
            self.complete.append((score, config))
            if self.reached is None and min(self.complete)[1] in self.table.near:
                self.reached = self.epochs


@dataclass
class _Controller:
    """What a scheduler of Tune's may ask of Tune."""

    running: dict[str, Any]

    def get_live_trials(self) -> list[Trial]:
        return [trial for trial, *_ in self.running.values()]


def run(
    table: Table,
    searcher: Searcher,
    scheduler: TrialScheduler,
    rng: random.Random,
    *,
    until_reached: bool,
    workers: int = WORKERS,
    clock: list[float] | None = None,
) -> Replay:
    """Replay a search: what Tune does with a searcher and a scheduler, at once.

    Args:
        table: what trials report.
        searcher: is asked and told.
        scheduler: decides after each epoch.
        rng: draws the recorded seed of each trial.
        until_reached: end when the incumbent is near the best; or else when the searcher has no more trials.
        workers: trials that run side by side.
        clock: holds the time.
    """
    replay = Replay(table)
    clock = [0.0] if clock is None else clock
    names = (f"{number:08x}" for number in itertools.count())
    queue: list[tuple[float, str]] = []
    running: dict[str, tuple[Trial, Config, Iterator[tuple[int, tuple[float, float]]], list[float]]] = {}

    controller: Any = _Controller(running)

    def start() -> None:
        name = next(names)
        asked = searcher.suggest(name)
        if asked is None or asked == Searcher.FINISHED:
            return
        assert isinstance(asked, dict)
        config = table.cell(asked.get("config", asked))
        curve = table.curves[config][rng.randrange(len(table.curves[config]))]
        trial = Trial("replayed", trial_id=name, config=asked, stub=True)
        running[name] = trial, config, iter(list(enumerate(curve, 1))), []
        scheduler.on_trial_add(controller, trial)
        heapq.heappush(queue, (clock[0] + curve[0][0], name))

    while len(running) < workers:
        before = len(running)
        start()
        if len(running) == before:
            break
    while queue and not (until_reached and replay.reached is not None):
        clock[0], name = heapq.heappop(queue)
        trial, config, curve, scores = running[name]
        epoch, (seconds, score) = next(curve)
        scores.append(score)
        result: dict[str, Any] = {
            "epoch": epoch,
            "training_iteration": epoch,
            "trial_id": name,
            "seconds": seconds,
            OBJECTIVE: score,
            "skill": 0.0,
            "host": "",
            "pid": 0,
            SCORE: min(scores),
        }
        if score == min(scores):
            result["checkpoint"] = ""
        replay.trained(config, min(scores), epoch == EPOCHS)
        if epoch == EPOCHS:
            scheduler.on_trial_complete(controller, trial, result)
        elif scheduler.on_trial_result(controller, trial, result) != TrialScheduler.STOP:
            searcher.on_trial_result(name, result)
            heapq.heappush(queue, (clock[0] + seconds, name))
            continue
        searcher.on_trial_complete(name, result)
        del running[name]
        start()
    return replay


LOW, HIGH = GRID["mse_weight"][0] / 2**0.5, GRID["mse_weight"][-1] * 2**0.5
"""The range of which each recorded weight stands for an equal share."""


def _space(grid: bool = False) -> Space:
    record: dict[str, Any] = {name: {"choices": values} for name, values in GRID.items()}
    if not grid:
        record["mse_weight"] = {"low": LOW, "high": HIGH, "log": True}
    return parse_space(record, with_recipe(PRESETS["model-2"], "photos"))


def ours(kind: str, seed: int, trials: int = MOST, presets: Sequence[str] = ()) -> StudySearcher:
    """Return our searcher, with the study in memory: what a database costs says nothing of what it finds."""
    space = _space(kind == "grid")
    searcher = StudySearcher(
        StudyWriter(optuna.create_study(sampler=optuna.samplers.RandomSampler(), direction="minimize")),
        Path("/nonexistent"),
        space=space,
        sampler=None if kind == "grid" else Sampler(space, kind, ["minimize"], seed, trials),
        budget=Budget(trials),
        epochs=EPOCHS,
        seed=seed,
        objectives=[OBJECTIVE],
    )
    if kind == "grid":
        searcher.enqueue(grid_jobs(space, seed))
    for preset in presets:
        point = space.preset_point(preset)
        assert point
        searcher.enqueue([Job(space.config(point), point)])
    return searcher


def _scheduler(name: str) -> TrialScheduler:
    scheduler = SCHEDULERS[name](EPOCHS)
    scheduler.set_search_properties(SCORE, "min")
    return scheduler


def stock(seed: int) -> OptunaSearch:
    """Return Ray Tune's own OptunaSearch, as its documentation sets it up."""
    return OptunaSearch(space=_plain_space, metric=SCORE, mode="min", seed=seed)


def _plain_space(trial: optuna.Trial) -> None:
    trial.suggest_float("mse_weight", LOW, HIGH, log=True)
    for name in ("activation", "skip"):
        trial.suggest_categorical(name, GRID[name])


class _OptunaAlone(Searcher):
    """Optuna's `study.optimize` with its default sampler and a pruner of its own, for several workers."""

    def __init__(self, seed: int):
        super().__init__(metric=SCORE, mode="min")
        pruner = optuna.pruners.MedianPruner(n_warmup_steps=2)
        self.study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed), pruner=pruner)
        self.live: dict[str, optuna.Trial] = {}

    def suggest(self, trial_id: str) -> dict[str, Any]:
        self.live[trial_id] = self.study.ask()
        _plain_space(self.live[trial_id])
        return self.live[trial_id].params

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: the pruner has reported it, to decide."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        assert result
        whole = result["epoch"] == EPOCHS
        self.study.tell(
            self.live.pop(trial_id),
            result[SCORE] if whole else None,
            TrialState.COMPLETE if whole else TrialState.PRUNED,
        )

    def save(self, checkpoint_path: str) -> None: ...

    def restore(self, checkpoint_path: str) -> None: ...


class _Pruner:
    """Optuna's pruner in the place of a scheduler of Tune's."""

    def __init__(self, searcher: _OptunaAlone):
        self._searcher = searcher

    def on_trial_add(self, controller: Any, trial: Trial) -> None: ...

    def on_trial_complete(self, controller: Any, trial: Trial, result: dict[str, Any]) -> None: ...

    def on_trial_result(self, controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        optuna_trial = self._searcher.live[trial.trial_id]
        optuna_trial.report(result[SCORE], result["epoch"])
        return TrialScheduler.STOP if optuna_trial.should_prune() else TrialScheduler.CONTINUE


def _pair(name: str, seed: int) -> tuple[Searcher, Any]:
    if name == "Optuna and its median pruner":
        alone = _OptunaAlone(seed)
        return alone, _Pruner(alone)
    if name == STOCK:
        return stock(seed), _scheduler("asha")
    if name == DEFAULT:
        return ours("tpe", seed, presets=["model-1", "model-2", "model-3"]), _scheduler("asha")
    kind, _, scheduler = name.partition(" + ")
    return ours(kind, seed), _scheduler(scheduler or "none")


DEFAULT, STOCK = "ours by default", "stock OptunaSearch + asha"
"""Ours tries the log's presets first, which is half the way already: `tpe + asha` is the same without them."""
NAMES = (
    "random",
    "grid",
    "tpe",
    "tpe + asha",
    "tpe + hyperband",
    "tpe + median",
    DEFAULT,
    STOCK,
    "Optuna and its median pruner",
)


def epochs_needed(table: Table, name: str, seed: int) -> int:
    """Return how many epochs a search spends until its incumbent is near the table's best; the whole grid's at most."""
    searcher, scheduler = _pair(name, seed)
    replay = run(table, searcher, scheduler, random.Random(seed), until_reached=True)
    return min(replay.reached or TRIALS * EPOCHS, TRIALS * EPOCHS)


def confirmation(
    table: Table, seed: int, trials: int = SEARCH_TRIALS, top: int = TOP, seeds: int = SEEDS
) -> dict[str, Any]:
    """Search by default, confirm the finalists, and hold the winner against the truth."""
    replay = run(table, ours("tpe", seed, trials), _scheduler("asha"), random.Random(seed), until_reached=False)
    finalists = [config for _, config in sorted(replay.complete, key=lambda one: one[0])][:top]
    rng = random.Random(seed + 1_000_000)
    scores = {
        config: [rng.gauss(table.truth[config], table.noise[config]) for _ in range(seeds)] for config in finalists
    }
    estimates = {config: mean(values) for config, values in scores.items()}
    winner = min(finalists, key=lambda config: estimates[config].value)
    estimate, truth = estimates[winner], table.truth[winner]
    assert estimate.low is not None and estimate.high is not None
    return {
        "among_best": winner in table.near,
        "unconfirmed_among_best": finalists[0] in table.near,
        "covered": estimate.low <= truth <= estimate.high,
        "search_score_too_good": truth - sorted(replay.complete, key=lambda one: one[0])[0][0],
    }


def replay(replays: int) -> dict[str, Any]:
    """Return the figures of all searchers over replays with different seeds."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    table = Table.read()
    needed = {name: [epochs_needed(table, name, seed) for seed in range(replays)] for name in NAMES}
    means = {name: statistics.fmean(values) for name, values in needed.items()}
    confirmed = [confirmation(table, seed) for seed in range(replays * 4)]
    shares = {name: statistics.fmean(one[name] for one in confirmed) for name in confirmed[0]}
    return {
        "configurations": len(table.truth),
        "among_the_best": len(table.near),
        "noise": table.step,
        "whole_grid": TRIALS * EPOCHS,
        "epochs": means,
        "median_epochs": {name: statistics.median(values) for name, values in needed.items()},
        "of_whole_grid": [means[name] / (TRIALS * EPOCHS) for name in (DEFAULT, "tpe + asha")],
        "of_random": [means[name] / means["random"] for name in (DEFAULT, "tpe + asha")],
        "of_stock": [means[name] / means[STOCK] for name in (DEFAULT, "tpe + asha")],
        "confirmed": shares,
    }


def scale(asks: Sequence[int] = (100, 1_000, 10_000), in_flight: int = 256) -> dict[str, Any]:
    """Seconds a suggestion after so many trials, with so many in flight, and the memory that they take."""
    import psutil

    rng = random.Random(0)
    space = parse_space(
        {
            "mse_weight": {"low": 0.1, "high": 10.0, "log": True},
            "dropout": {"low": 0.0, "high": 0.6},
            "activation": {"choices": GRID["activation"]},
            "skip": {"choices": GRID["skip"]},
        },
        with_recipe(PRESETS["model-2"], "photos"),
    )
    sampler = Sampler(space, "tpe", ["minimize"], 0, max(asks))
    live: list[dict[str, Any]] = []
    rest = psutil.Process().memory_info().rss
    found: dict[str, Any] = {}
    taken: list[float] = []
    for number in range(1, max(asks) + 1):
        begun = time.perf_counter()
        live.append(sampler.draw())
        taken.append(time.perf_counter() - begun)
        if len(live) >= in_flight:
            point, score = live.pop(rng.randrange(len(live))), rng.random()
            sampler.tell(point, [score] if score < 0.3 else None, {epoch: score for epoch in (1, 2, 3)})
        if number in asks:
            grown = psutil.Process().memory_info().rss - rest
            found[str(number)] = {"seconds": statistics.median(taken[-50:]), "megabytes": grown / 1e6}
    return found
