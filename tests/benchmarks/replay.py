"""Searches replayed on the recorded table: real searchers and schedulers with a simulated clock.

    python -m tests.benchmarks replay [--replays 50]

A replay is a search of the table's grid by two or more workers. The metrics and the duration of each epoch are looked
up in the table; searcher and scheduler are the real code. Nothing is trained, so fifty searches with fifty seeds take
seconds. The loss weight is a range on a log scale, as in a real search, and is rounded to the nearest recorded weight.

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
from typing import Any

import optuna
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from huetune.model.presets import PRESETS
from huetune.model.recipes import with_recipe
from huetune.results.analysis.intervals import mean
from huetune.search.spec.space_parser import parse_space
from huetune.search.tuning.sampler import Sampler
from huetune.search.tuning.trial_result import SCORE
from tests.benchmarks.replayed_searches import (
    DEFAULT,
    OBJECTIVE,
    RAY_OPTUNA,
    SEARCH_NAMES,
    huetune_searcher,
    make_scheduler,
    searcher_and_scheduler,
)
from tests.benchmarks.table import EPOCHS, GRID, read_table

WORKERS = 2
TRIALS = math.prod(len(values) for values in GRID.values())
FINALISTS, REPLICATE_SEEDS = 3, 3
CONFIRMED_SEARCH_TRIALS = 30

Config = tuple[Any, ...]


@dataclass(frozen=True)
class Table:
    """The recorded curves.

    Attributes:
        curves: (seconds, chroma_mse) of each epoch, by configuration and seed.
        truth: the mean of its best epochs, by configuration.
        noise: their standard deviation, by configuration.
        near: the configurations within one `step` of the best one.
        step: the pooled noise of the best quarter of all configurations. Bad configurations are many times as noisy,
            so their noise does not limit how well good ones can be compared.
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
        """Return the recorded configuration that represents some settings."""
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
    """The progress of a search: its epochs, its complete trials, and when the best of them was near the optimum."""

    table: Table
    epochs: int = 0
    reached: int | None = None
    complete: list[tuple[float, Config]] = field(default_factory=list)

    def add_epoch(self, config: Config, score: float, complete: bool) -> None:
        """Count an epoch."""
        self.epochs += 1
        if complete:
            self.complete.append((score, config))
            if self.reached is None and min(self.complete)[1] in self.table.near:
                self.reached = self.epochs


@dataclass
class _Controller:
    """The part of Ray Tune's controller that schedulers use."""

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
    """Replay a search: call a searcher and a scheduler as Ray Tune does, without waiting.

    Args:
        table: the recorded curves, which trials report.
        searcher: suggests the trials.
        scheduler: stops trials early.
        rng: draws the recorded seed of each trial.
        until_reached: whether to end as soon as the best complete trial is near the optimum, and not only when the
            searcher has no more trials.
        workers: number of trials that run in parallel.
        clock: a list with the time in seconds, which is updated.
    """
    replay = Replay(table)
    clock = [0.0] if clock is None else clock
    names = (f"{number:08x}" for number in itertools.count())
    queue: list[tuple[float, str]] = []
    running: dict[str, tuple[Trial, Config, Iterator[tuple[int, tuple[float, float]]], list[float]]] = {}

    controller: Any = _Controller(running)

    def start() -> None:
        name = next(names)
        suggestion = searcher.suggest(name)
        if suggestion is None or suggestion == Searcher.FINISHED:
            return
        assert isinstance(suggestion, dict)
        config = table.cell(suggestion.get("config", suggestion))
        curve = table.curves[config][rng.randrange(len(table.curves[config]))]
        trial = Trial("replayed", trial_id=name, config=suggestion, stub=True)
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
        replay.add_epoch(config, min(scores), epoch == EPOCHS)
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


def epochs_needed(table: Table, name: str, seed: int) -> int:
    """Return the epochs until the best complete trial of a search is near the optimum, at most those of the grid."""
    searcher, scheduler = searcher_and_scheduler(name, seed)
    replay = run(table, searcher, scheduler, random.Random(seed), until_reached=True)
    return min(replay.reached or TRIALS * EPOCHS, TRIALS * EPOCHS)


def confirmation(
    table: Table, seed: int, trials: int = CONFIRMED_SEARCH_TRIALS, top: int = FINALISTS, seeds: int = REPLICATE_SEEDS
) -> dict[str, Any]:
    """Run a default search, confirm its finalists, and compare the winner with the truth."""
    replay = run(
        table, huetune_searcher("tpe", seed, trials), make_scheduler("asha"), random.Random(seed), until_reached=False
    )
    finalists = [config for _, config in sorted(replay.complete, key=lambda trial: trial[0])][:top]
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
        "search_score_too_good": truth - sorted(replay.complete, key=lambda trial: trial[0])[0][0],
    }


def replay(replays: int) -> dict[str, Any]:
    """Return the statistics of all searches over replays with different seeds."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    table = Table.read()
    needed = {name: [epochs_needed(table, name, seed) for seed in range(replays)] for name in SEARCH_NAMES}
    means = {name: statistics.fmean(values) for name, values in needed.items()}
    confirmed = [confirmation(table, seed) for seed in range(replays * 4)]
    shares = {name: statistics.fmean(outcome[name] for outcome in confirmed) for name in confirmed[0]}
    return {
        "configurations": len(table.truth),
        "among_the_best": len(table.near),
        "noise": table.step,
        "whole_grid": TRIALS * EPOCHS,
        "epochs": means,
        "median_epochs": {name: statistics.median(values) for name, values in needed.items()},
        "of_whole_grid": [means[name] / (TRIALS * EPOCHS) for name in (DEFAULT, "tpe + asha")],
        "of_random": [means[name] / means["random"] for name in (DEFAULT, "tpe + asha")],
        "of_stock": [means[name] / means[RAY_OPTUNA] for name in (DEFAULT, "tpe + asha")],
        "confirmed": shares,
    }


def scale(suggestions: Sequence[int] = (100, 1_000, 10_000), in_flight: int = 256) -> dict[str, Any]:
    """Measure the seconds and the memory that a suggestion takes after many trials.

    Args:
        suggestions: numbers of suggestions after which the measurements are taken.
        in_flight: number of running trials.
    """
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
    sampler = Sampler(space, "tpe", ["minimize"], 0, max(suggestions))
    running: list[dict[str, Any]] = []
    memory_before = psutil.Process().memory_info().rss
    results: dict[str, Any] = {}
    durations: list[float] = []
    for number in range(1, max(suggestions) + 1):
        begun = time.perf_counter()
        running.append(sampler.draw())
        durations.append(time.perf_counter() - begun)
        if len(running) >= in_flight:
            point, score = running.pop(rng.randrange(len(running))), rng.random()
            sampler.tell(point, [score] if score < 0.3 else None, {epoch: score for epoch in (1, 2, 3)})
        if number in suggestions:
            growth = psutil.Process().memory_info().rss - memory_before
            results[str(number)] = {"seconds": statistics.median(durations[-50:]), "megabytes": growth / 1e6}
    return results
