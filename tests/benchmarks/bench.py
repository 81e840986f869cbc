"""Measure huetune against what a competent user would write without it (`peers.py`), in one run.

    python -m tests.benchmarks [NAME ...] [--seeds 3] [--photos DIR]

prints a line a figure and writes all to `bench.json`. Every figure is a ratio of two things measured here, side by
side, on this machine: seconds alone say more of the machine than of the program.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


from data_tools.garden import garden
from data_tools.photos import find_photos, load, prepare
from data_tools.split import Split, first, split
from model.config import PRESETS, batched
from tests.benchmarks import peers

SLOTS = 2
PEER = PRESETS["model-2"]
OURS = batched(PEER, "photos")
PEER_EPOCHS, OUR_EPOCHS = 5, 40


def _one_thread() -> None:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def _side_by_side(work: Callable, tasks: list[tuple]) -> list[Any]:
    """Run tasks in fresh processes, two at a time: as trials run on two slots."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(SLOTS, context, initializer=_one_thread, max_tasks_per_child=1) as pool:
        return list(pool.map(work, *zip(*tasks, strict=True)))


def _peer_curve(parts: Split, seed: int) -> list[dict]:
    curve: list[dict] = []
    peers.fit(parts.training, parts.validation, PEER, seed, PEER_EPOCHS, curve.append)
    return curve


def _our_curve(parts: Split, seed: int, target: float) -> list[dict]:
    from model.training import Trainer

    trainer = Trainer(parts.training, parts.validation)
    begun = time.perf_counter()
    trainer.start(OURS, seed)
    seconds = time.perf_counter() - begun
    curve: list[dict] = []
    while not curve or (curve[-1]["chroma_mse"] > target and len(curve) < OUR_EPOCHS):
        figures = trainer.epoch()
        seconds += figures["train_seconds"]
        curve.append({"epoch": figures["epoch"], "seconds": seconds, "chroma_mse": figures["chroma_mse"]})
    return curve


def training(parts: Split, seeds: int) -> dict[str, Any]:
    """Seconds until the peer's best held-out error, and boxes a second; start-up and tracing counted on both sides."""
    theirs = _side_by_side(_peer_curve, [(parts, seed) for seed in range(seeds)])
    best = [min(curve, key=lambda epoch: epoch["chroma_mse"]) for curve in theirs]
    tasks = [(parts, seed, epoch["chroma_mse"]) for seed, epoch in enumerate(best)]
    ours = _side_by_side(_our_curve, tasks)
    reached = [curve[-1]["chroma_mse"] <= epoch["chroma_mse"] for curve, epoch in zip(ours, best, strict=True)]
    ratios = [epoch["seconds"] / curve[-1]["seconds"] for curve, epoch in zip(ours, best, strict=True)]
    boxes = len(parts.training) * 196
    rates = [[_rate(curve, boxes) for curve in curves] for curves in (ours, theirs)]
    return {
        "training": statistics.median(ratios),
        "training_spread": [min(ratios), max(ratios)],
        "training_reached": sum(reached),
        "seeds": seeds,
        "throughput": statistics.median(rates[0]) / statistics.median(rates[1]),
        "boxes_a_second": [statistics.median(some) for some in rates],
        "curves": {"ours": ours, "peer": theirs},
    }


def _rate(curve: list[dict], boxes: int) -> float:
    """Boxes a second from the second epoch on, when all is traced; of a single epoch, that one."""
    if len(curve) < 2:
        return boxes / curve[0]["seconds"]
    return boxes * (len(curve) - 1) / (curve[-1]["seconds"] - curve[0]["seconds"])


def _turnaround(parts: Split) -> dict[str, float]:
    from model.training import Trainer

    begun = time.perf_counter()
    trainer = Trainer(parts.training.take(range(2)), parts.validation)
    trainer.start(OURS, 0)
    _first_step(trainer)
    cold = time.perf_counter() - begun
    warm = []
    for seed in range(5):
        begun = time.perf_counter()
        trainer.start(replace(OURS, mse_weight=1.0 + seed), seed)
        _first_step(trainer)
        warm.append(time.perf_counter() - begun)
    return {"cold": cold, "warm": statistics.median(warm)}


def _first_step(trainer: Any) -> None:
    batch = next(trainer._batches())
    trainer._step.run(*trainer._tensors(batch))


def turnaround(parts: Split, seeds: int) -> dict[str, Any]:
    """From one trial's end to the next one's first step; a cold worker imports TensorFlow, builds and traces before."""
    results = _side_by_side(_timed_turnaround, [(parts,) for _ in range(seeds)])
    cold = [result["cold"] + result["import"] for result in results]
    warm = [result["warm"] for result in results]
    return {
        "turnaround": statistics.median(cold) / statistics.median(warm),
        "cold_seconds": cold,
        "warm_seconds": warm,
    }


def _timed_turnaround(parts: Split) -> dict[str, float]:
    # This process has TensorFlow already, from its initializer: what that cost is measured in one of its own.
    import subprocess
    import sys

    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import tensorflow"], check=True, capture_output=True)
    return {"import": time.perf_counter() - begun, **_turnaround(parts)}


def search(parts: Split, seeds: int) -> dict[str, Any]:
    """Wall time of 12 trials of 4 epochs, 2 slots, no early stopping, Ray's start and the workers' counted."""
    from rich.console import Console

    from results.trials import rows
    from search.launch import Search, launch
    from search.space import Space, parse

    weights = [1.0 + index / 2 for index in range(12)]
    space: Space = parse({"mse_weight": {"choices": weights}}, OURS)
    with tempfile.TemporaryDirectory() as storage:
        asked = Search(
            "bench", Path(storage), space, 12, 4, searcher="grid", scheduler="none", warm_start=(), cpus_per_trial=1.0
        )
        begun = time.perf_counter()
        run, _ = launch(asked, parts, Console(), source="bench", quiet=True)
        ours = time.perf_counter() - begun
        busy = sum(row["seconds"] for row in rows(run.study()))
    begun = time.perf_counter()
    peers.tune(parts.training, parts.validation, [replace(PEER, mse_weight=weight) for weight in weights], 4, SLOTS)
    theirs = time.perf_counter() - begun
    return {"search": theirs / ours, "seconds": [ours, theirs], "trial_seconds": busy}


def preparing(parts: Split, seeds: int) -> dict[str, Any]:
    """Photos a second from pixels to chroma map, against a loop over pixels."""
    photos = garden(100)
    ours = []
    for _ in range(3):
        begun = time.perf_counter()
        prepare(photos, [""] * 100)
        ours.append((time.perf_counter() - begun) / 100)
    begun = time.perf_counter()
    for photo in photos[:3]:
        peers.prepare_slowly(photo)
    return {"prepare": (time.perf_counter() - begun) / 3 / statistics.median(ours)}


def colorizing(parts: Split, seeds: int) -> dict[str, Any]:
    """20 photos x 5 samples, against a model call a box and sample (timed on a part of one photo)."""
    from model.colorizer import Colorizer
    from model.network import build

    network = build(PEER)
    colorizer = Colorizer(network, PEER)
    luma = prepare(garden(20), [""] * 20).luma
    colorizer.draw(luma, 5, 0)
    ours = []
    for _ in range(3):
        begun = time.perf_counter()
        colorizer.draw(luma, 5, 0)
        ours.append(time.perf_counter() - begun)
    begun = time.perf_counter()
    peers.colorize_slowly(network, PEER, luma[:1], 1)
    theirs = (time.perf_counter() - begun) * 20 * 5
    return {"colorize": theirs / statistics.median(ours), "seconds": [statistics.median(ours), theirs]}


def _sets(photos: Path | None) -> dict[str, Split]:
    sets = {"garden": first(prepare(garden(125), [str(index) for index in range(125)]), 100)}
    if photos:
        sets["roses"] = first(load(find_photos(photos))[0], 100)
    return sets


def main() -> None:
    """Run the benchmarks that were named, or all."""
    names: dict[str, Callable[[Split, int], dict[str, Any]]] = {
        "training": training,
        "turnaround": turnaround,
        "search": search,
        "prepare": preparing,
        "colorize": colorizing,
    }
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("names", nargs="*", choices=[[], *names], metavar="NAME", help=", ".join(names))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--photos", type=Path, help="real photos to train on besides the garden")
    asked = parser.parse_args()
    small = split(prepare(garden(57), [str(index) for index in range(57)]), 0)
    figures: dict[str, Any] = {}
    for name in asked.names or names:
        sets = _sets(asked.photos) if name == "training" else {"": small}
        for source, parts in sets.items():
            label = f"{name} {source}".strip()
            figures[label] = names[name](parts, asked.seeds)
            shown = {key: value for key, value in figures[label].items() if key != "curves"}
            print(f"{label}: {json.dumps(shown, default=float)}", flush=True)
            Path("bench.json").write_text(json.dumps(figures, indent=2, default=float) + "\n")
