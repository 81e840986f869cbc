"""Measure trials an hour on one GPU, by the number of parallel trials and by arithmetic.

Only training and validation are measured, in processes that share the GPU as Ray's workers do.
"""

import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from huetune.data_tools.photos.split import Split
from huetune.model.presets import PRESETS
from huetune.model.recipes import with_recipe

PARALLEL_TRIALS = 1, 2, 4, 8, 16
EPOCHS_PER_TRIAL = 9
MEASURED_SECONDS = 6.0
START_TIMEOUT_SECONDS = 600.0
"""After this time without all processes ready, one has failed, and the others stop waiting."""
ARITHMETICS = {
    "float32": (False, False),
    "float32, compiled": (True, False),
    "bfloat16": (False, True),
    "bfloat16, compiled": (True, True),
}
"""By name: whether XLA compiles the step, and whether layers compute in bfloat16 (Keras's mixed precision)."""


def packing(parts: Split) -> dict[str, Any]:
    """Measure how many trials of nine epochs one GPU trains an hour, with 1 to 16 in parallel, in each arithmetic."""
    return {name: _measure(parts, *settings) for name, settings in ARITHMETICS.items()}


def _measure(parts: Split, compiled: bool, bfloat16: bool) -> dict[str, Any]:
    context, workers = multiprocessing.get_context("spawn"), max(PARALLEL_TRIALS)
    with context.Manager() as manager, ProcessPoolExecutor(workers, context) as pool:
        barrier = manager.Barrier(workers, timeout=START_TIMEOUT_SECONDS)
        tasks = [pool.submit(_work, parts, worker, compiled, bfloat16, barrier) for worker in range(workers)]
        measured = [task.result() for task in tasks]
    rates = [sum(counts) for counts in zip(*(rates for _, rates, _ in measured), strict=True)]
    results = {
        "trials_an_hour": {
            count: round(rate * 3600 / EPOCHS_PER_TRIAL) for count, rate in zip(PARALLEL_TRIALS, rates, strict=True)
        },
        "seconds_to_first_epoch": max(first for first, _, _ in measured),
        "megabytes_a_trial": max(peak for _, _, peak in measured) / 2**20,
    }
    print(f"{compiled=} {bfloat16=}: {results}", flush=True)
    return results


def _work(parts: Split, worker: int, compiled: bool, bfloat16: bool, barrier: Any) -> tuple[float, list[float], int]:
    """Return seconds to the end of the first epoch, epochs a second by number of trials, and bytes of GPU memory."""
    begun = time.perf_counter()

    from huetune.search.ray_runtime.worker import take_devices

    take_devices(1, [0])

    from huetune.data_tools.common.keras_backend import tf
    from huetune.model.trainer import Trainer

    policy = "mixed_bfloat16" if bfloat16 else "float32"
    trainer = Trainer(parts.training, parts.validation, compiled, policy)
    trainer.start(with_recipe(PRESETS["model-2"], "photos"), worker)
    trainer.epoch()
    first = time.perf_counter() - begun
    rates = list(_rates(trainer, worker, barrier))
    gpus = tf.config.list_logical_devices("GPU")
    return first, rates, tf.config.experimental.get_memory_info("GPU:0")["peak"] if gpus else 0


def _rates(trainer: Any, worker: int, barrier: Any) -> Iterator[float]:
    """Yield epochs a second for each number of parallel trials; 0 while this worker waits for the others."""
    for count in PARALLEL_TRIALS:
        barrier.wait()
        started, epochs = time.perf_counter(), 0
        while worker < count and time.perf_counter() - started < MEASURED_SECONDS:
            trainer.epoch()
            epochs += 1
        yield epochs / (time.perf_counter() - started)
