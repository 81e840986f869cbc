"""Trials an hour on one card: how many side by side, and in which arithmetic. Wants a machine with a GPU.

Nothing but training and validation is measured, by processes that share the card as Ray's workers do.
"""

import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from huetune.data_tools.photos.split import Split
from huetune.model.presets import PRESETS
from huetune.model.recipes import with_recipe

TOGETHER = 1, 2, 4, 8, 16
EPOCHS = 9
"""Of what counts as a trial."""
SECONDS = 6.0
"""That each number of trials is watched for."""
PATIENCE = 600.0
"""Seconds for all to be ready; where one fails, none waits longer for it."""
WAYS = {
    "float32": (False, False),
    "float32, compiled": (True, False),
    "bfloat16": (False, True),
    "bfloat16, compiled": (True, True),
}
"""Whether XLA compiles the step, and whether layers compute in bfloat16 (Keras's mixed precision)."""


def packing(parts: Split) -> dict[str, Any]:
    """Trials of nine epochs an hour, with 1 to 16 of them on the card, in each arithmetic."""
    return {way: _measure(parts, *settings) for way, settings in WAYS.items()}


def _measure(parts: Split, compiled: bool, halved: bool) -> dict[str, Any]:
    context, workers = multiprocessing.get_context("spawn"), max(TOGETHER)
    with context.Manager() as manager, ProcessPoolExecutor(workers, context) as pool:
        barrier = manager.Barrier(workers, timeout=PATIENCE)
        tasks = [pool.submit(_work, parts, place, compiled, halved, barrier) for place in range(workers)]
        told = [task.result() for task in tasks]
    rates = [sum(counts) for counts in zip(*(rates for _, rates, _ in told), strict=True)]
    figures = {
        "trials_an_hour": {count: round(rate * 3600 / EPOCHS) for count, rate in zip(TOGETHER, rates, strict=True)},
        "seconds_to_first_epoch": max(first for first, _, _ in told),
        "megabytes_a_trial": max(peak for _, _, peak in told) / 2**20,
    }
    print(f"{compiled=} {halved=}: {figures}", flush=True)
    return figures


def _work(parts: Split, place: int, compiled: bool, halved: bool, barrier: Any) -> tuple[float, list[float], int]:
    """Return the seconds to the end of the first epoch, epochs a second in each company, and bytes on the card."""
    begun = time.perf_counter()

    from huetune.search.ray_runtime.worker import take_devices

    take_devices(1, [0])

    from huetune.data_tools.common.keras_backend import tf
    from huetune.model.trainer import Trainer

    policy = "mixed_bfloat16" if halved else "float32"
    trainer = Trainer(parts.training, parts.validation, compiled, policy)
    trainer.start(with_recipe(PRESETS["model-2"], "photos"), place)
    trainer.epoch()
    first = time.perf_counter() - begun
    rates = list(_rates(trainer, place, barrier))
    cards = tf.config.list_logical_devices("GPU")
    return first, rates, tf.config.experimental.get_memory_info("GPU:0")["peak"] if cards else 0


def _rates(trainer: Any, place: int, barrier: Any) -> Iterator[float]:
    for count in TOGETHER:
        barrier.wait()
        started, epochs = time.perf_counter(), 0
        while place < count and time.perf_counter() - started < SECONDS:
            trainer.epoch()
            epochs += 1
        yield epochs / (time.perf_counter() - started)
