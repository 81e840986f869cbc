"""Measure huetune beside what a competent user would write without it (`peers.py`), in one run.

    python -m tests.benchmarks [NAME ...] [--seeds 3] [--photos DIR]

prints a line for each benchmark and writes all results to `bench.json`. Most results are ratios of two measurements on
this machine in one run, because seconds alone depend more on the machine than on the program.
"""

import argparse
import json
import logging
import math
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from huetune.data_tools.datasets.synthetic_garden import garden
from huetune.data_tools.photos.color import PHOTO_SIDE
from huetune.data_tools.photos.dataset import PhotoSet, load, prepare
from huetune.data_tools.photos.discovery import find_photos
from huetune.data_tools.photos.source import Source
from huetune.data_tools.photos.split import Split, split, split_first
from huetune.model.presets import PRESETS
from huetune.model.recipes import with_recipe
from huetune.results.records.trial_record import TrialRecord
from tests.benchmarks import (
    bookkeeping,
    packing,
    peers,
    ranks,
    replay,
    step,
    structure_runs,
    structures,
    table,
    training,
)
from tests.benchmarks.processes import SLOTS, first_step, one_thread, side_by_side

PEER = PRESETS["model-2"]
OURS = with_recipe(PEER, "photos")
SEARCH_WEIGHTS = [1.0 + index / 2 for index in range(12)]
SEARCH_EPOCHS = 4
PHOTO_COUNTS = 50, 100, 200, 400
NAMED_ONLY = "packing", "table", "structures", "ranks"
"""Benchmarks that run only when they are named, because they take hours or need a GPU."""
ROSES = Path(__file__).parents[3] / "shared" / "photos" / "roses-train"


def _turnaround(parts: Split) -> dict[str, float]:
    from huetune.model.trainer import Trainer

    begun = time.perf_counter()
    trainer = Trainer(parts.training.take(range(2)), parts.validation)
    trainer.start(OURS, 0)
    first_step(trainer)
    cold = time.perf_counter() - begun
    warm = []
    for seed in range(5):
        begun = time.perf_counter()
        trainer.start(replace(OURS, mse_weight=1.0 + seed), seed)
        first_step(trainer)
        warm.append(time.perf_counter() - begun)
    return {"cold": cold, "warm": statistics.median(warm)}


def turnaround(parts: Split, seeds: int) -> dict[str, Any]:
    """Measure the seconds from the end of a trial to the first step of the next one.

    A new ("cold") worker imports TensorFlow, builds the network and traces the step before its first step.
    """
    measured = side_by_side(_timed_turnaround, [(parts,) for _ in range(seeds)])
    cold = [result["cold"] + result["import"] for result in measured]
    warm = [result["warm"] for result in measured]
    return {
        "turnaround": statistics.median(cold) / statistics.median(warm),
        "cold_seconds": cold,
        "warm_seconds": warm,
    }


def _timed_turnaround(parts: Split) -> dict[str, float]:
    # The initializer of this process has imported TensorFlow, so the import is measured in another process.
    import subprocess
    import sys

    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import tensorflow"], check=True, capture_output=True)
    return {"import": time.perf_counter() - begun, **_turnaround(parts)}


def search(parts: Split, seeds: int) -> dict[str, Any]:
    """Measure the wall time of 12 trials of 4 epochs on 2 slots, without early stopping, including the start of Ray."""
    ours, overheads = zip(*(_our_search(parts, SEARCH_WEIGHTS, SEARCH_EPOCHS) for _ in range(seeds)), strict=True)
    theirs = []
    for _ in range(seeds):
        begun = time.perf_counter()
        configs = [replace(PEER, mse_weight=weight) for weight in SEARCH_WEIGHTS]
        peers.tune(parts.training, parts.validation, configs, SEARCH_EPOCHS, SLOTS)
        theirs.append(time.perf_counter() - begun)
    return {
        "search": statistics.median(theirs) / statistics.median(ours),
        "overhead": statistics.median(overheads),
        "overheads": overheads,
        "seconds": [ours, theirs],
    }


def _our_search(parts: Split, weights: Sequence[float], epochs: int) -> tuple[float, float]:
    """Return wall seconds, and the time of workers after their first trials over that of training and validation."""
    from rich.console import Console

    from huetune.search.session.runner import launch
    from huetune.search.spec.search_spec import Search
    from huetune.search.spec.space import Space
    from huetune.search.spec.space_parser import parse_space

    space: Space = parse_space({"mse_weight": {"choices": list(weights)}}, OURS)
    with tempfile.TemporaryDirectory() as storage:
        spec = Search(
            "bench",
            Path(storage),
            space,
            trials=len(weights),
            epochs=epochs,
            searcher="grid",
            scheduler="none",
            warm_start=(),
        )
        begun = time.perf_counter()
        run = launch(spec, parts, Console(), source=Source(), quiet=True)
        seconds = time.perf_counter() - begun
        trials_by_worker: dict[int, list[Any]] = {}
        for trial in run.study().trials:
            end = trial.datetime_complete.timestamp() if trial.datetime_complete else math.nan
            trials_by_worker.setdefault(trial.user_attrs["pid"], []).append((end, trial))
        wall = busy = 0.0
        for trials in trials_by_worker.values():
            (first_end, _), *others = sorted(trials, key=lambda trial: trial[0])
            wall += max([first_end, *(end for end, _ in others)]) - first_end
            busy += sum(epoch["seconds"] for _, trial in others for epoch in TrialRecord.of(trial).epochs)
    return seconds, wall / busy


def preparing(parts: Split, seeds: int) -> dict[str, Any]:
    """Measure photos a second from pixels to chroma maps, beside a loop over pixels."""
    photos = garden(100)
    ours = []
    for _ in range(3):
        begun = time.perf_counter()
        prepare(photos, [""] * 100)
        ours.append((time.perf_counter() - begun) / 100)
    begun = time.perf_counter()
    for photo in photos[:3]:
        peers.prepare_by_loop(photo)
    return {"prepare": (time.perf_counter() - begun) / 3 / statistics.median(ours)}


def colorizing(parts: Split, seeds: int) -> dict[str, Any]:
    """Measure 20 photos with 5 samples each, beside one model call for each patch and sample (timed on one photo)."""
    from huetune.model.colorizer import Colorizer
    from huetune.model.network import build

    network = build(PEER)
    colorizer = Colorizer(network, PEER)
    photos = prepare(garden(20), [""] * 20)
    colorizer.draw(photos.gray, 5, 0)
    ours = []
    for _ in range(3):
        begun = time.perf_counter()
        colorizer.draw(photos.gray, 5, 0)
        ours.append(time.perf_counter() - begun)
    begun = time.perf_counter()
    peers.colorize_by_loop(network, PEER, photos.luma[:1], 1)
    theirs = (time.perf_counter() - begun) * 20 * 5
    return {"colorize": theirs / statistics.median(ours), "seconds": [statistics.median(ours), theirs]}


def memory(parts: Split, seeds: int) -> dict[str, Any]:
    """Measure how many bytes a photo adds to the peak memory of a worker, between 1,000 and 5,000 photos.

    Photos that Ray shares between processes are included, except in `of_its_own`.
    """
    import ray

    peaks: dict[int, list[dict[str, int]]] = {}
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        for count in (1000, 5000):
            noise = np.random.default_rng(0).integers(0, 256, (count, PHOTO_SIDE, PHOTO_SIDE, 3), np.uint8)
            shared = ray.put(split(prepare(noise, [f"flowers/rose/{index:08}.jpg" for index in range(count)]), 0))
            del noise
            peaks[count] = [ray.get(ray.remote(max_calls=1)(_peak).remote(shared)) for _ in range(seeds)]
    finally:
        ray.shutdown()
    grown = [(after["peak"] - before["peak"]) / 4000 for before, after in zip(*peaks.values(), strict=True)]
    own = [(after["own"] - before["own"]) / 4000 for before, after in zip(*peaks.values(), strict=True)]
    return {
        "memory": statistics.median(grown),
        "of_its_own": statistics.median(own),
        "spread": [min(grown), max(grown)],
    }


def _peak(parts: Split) -> dict[str, int]:
    """Return the peak memory of a worker that has read all photos as an epoch does, and trained on a few."""
    import psutil

    from huetune.model.trainer import Trainer

    one_thread()
    trainer = Trainer(parts.training, parts.validation)
    trainer.start(OURS, 0)
    for number, batch in enumerate(trainer._batches()):
        tensors = trainer._tensors(batch)
        if number < 20:
            trainer._step.run(*tensors)
    trainer.draw()
    memory = psutil.Process().memory_info()
    return {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "own": memory.rss - memory.shared}


def linear(parts: Split, seeds: int) -> dict[str, Any]:
    """Measure milliseconds for each photo in an epoch: with 50 to 400 photos, and in four successive epochs.

    All are about the same if the time of an epoch is linear in the number of photos.
    """
    scenes = prepare(garden(400), [str(index) for index in range(400)])
    tasks = [(scenes.take(range(count)), parts.validation, 1) for count in PHOTO_COUNTS] * seeds
    measured = side_by_side(_milliseconds, tasks)
    by_count = {
        count: statistics.median(measured[run * len(PHOTO_COUNTS) + index][0] for run in range(seeds))
        for index, count in enumerate(PHOTO_COUNTS)
    }
    later = side_by_side(_milliseconds, [(scenes.take(range(50)), parts.validation, 4)] * seeds)
    by_epoch = [statistics.median(run[epoch] for run in later) for epoch in range(4)]
    both = [*by_count.values(), *by_epoch]
    return {"linear": max(both) / min(both), "milliseconds_a_photo": by_count, "epoch_by_epoch": by_epoch}


def _milliseconds(training: PhotoSet, validation: PhotoSet, epochs: int) -> list[float]:
    from huetune.model.trainer import Trainer

    trainer = Trainer(training, validation)
    trainer.start(OURS, 0)
    first_step(trainer)
    return [trainer.epoch()["train_seconds"] / len(training) * 1000 for _ in range(epochs)]


def _sets(photos: Path | None) -> dict[str, Split]:
    sets = {"garden 100": split_first(prepare(garden(125), [str(index) for index in range(125)]), 100)}
    if photos and photos.is_dir():
        sets[photos.name] = split_first(load(find_photos(photos))[0], 100)
    return sets


def _seeds(options: argparse.Namespace) -> dict[training.Structure, int]:
    """Return how many seeds of each structure of the default space are measured."""
    activations = options.activations or ranks.default_activations()
    skips = [structure_runs.SKIPS[skip] for skip in options.skips]
    chosen = [training.Structure(activation, skip) for activation in activations for skip in skips]
    seeds = {
        structure: options.seeds if structure == training.MAIN else options.structure_seeds for structure in chosen
    }
    if not any(seeds.values()):
        raise SystemExit("training: no structure is selected; raise --structure-seeds or select silu with skip")
    return seeds


def main() -> None:
    """Run the named benchmarks, or all but those of NAMED_ONLY."""
    benchmarks: dict[str, Callable[..., dict[str, Any]]] = {
        "training": lambda parts, seeds: training.training(parts, _seeds(options)),
        "turnaround": turnaround,
        "search": search,
        "prepare": preparing,
        "colorize": colorizing,
        "memory": memory,
        "linear": linear,
        "step": lambda parts, seeds: step.step(),
        "replay": lambda parts, seeds: replay.replay(options.replays),
        "scale": lambda parts, seeds: replay.scale(),
        "bookkeeping": lambda parts, seeds: bookkeeping.bookkeeping(parts),
        "packing": lambda parts, seeds: packing.packing(parts),
        "table": lambda parts, seeds: table.record(),
        "structures": lambda parts, seeds: structures.structures(options),
        "ranks": lambda parts, seeds: ranks.ranks(options),
    }
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("names", nargs="*", choices=[[], *benchmarks], metavar="NAME", help=", ".join(benchmarks))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--photos", type=Path, default=ROSES, help="real photos to train on besides the garden")
    parser.add_argument("--replays", type=int, default=50, help="replay: number of searches on the recorded table")
    parser.add_argument(
        "--structure-seeds", type=int, default=1, help="training: seeds of structures other than silu, skip"
    )
    structures.add_options(parser)
    options = parser.parse_args()
    small = split(prepare(garden(57), [str(index) for index in range(57)]), 0)
    results: dict[str, Any] = {}
    for name in options.names or [name for name in benchmarks if name not in NAMED_ONLY]:
        sets = _sets(options.photos) if name == "training" else {"": small}
        for source, parts in sets.items():
            label = f"{name} {source}".strip()
            results[label] = benchmarks[name](parts, options.seeds)
            shown = {key: value for key, value in results[label].items() if key != "curves"}
            print(f"{label}: {json.dumps(shown, default=float)}", flush=True)
            Path("bench.json").write_text(json.dumps(results, indent=2, default=float) + "\n", encoding="utf-8")
