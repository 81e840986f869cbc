"""Processes with one thread each, like the slots of a search, in which the benchmarks measure."""

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from typing import Any

SLOTS = 2


def one_thread() -> None:
    """Limit TensorFlow to one thread. Call this in a new process before anything is computed."""
    from huetune.data_tools.common.keras_backend import tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def side_by_side(work: Callable, tasks: list[tuple]) -> list[Any]:
    """Run tasks in fresh processes, two in parallel, like trials on two slots; return their results in order."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(SLOTS, context, initializer=one_thread, max_tasks_per_child=1) as pool:
        return list(pool.map(work, *zip(*tasks, strict=True)))


class _EnoughSteps(Exception):  # noqa: N818
    """Ends an epoch early."""


def first_step(trainer: Any) -> None:
    """Train only the first step of an epoch, which traces a new structure. Call `start` afterwards."""
    timed_steps(trainer, 1)


def timed_steps(trainer: Any, count: int) -> list[tuple[float, float]]:
    """Train only the first steps of an epoch; return when each ended, in wall seconds and in CPU seconds."""
    stamps: list[tuple[float, float]] = []

    def record_time(done: int, total: int) -> None:
        stamps.append((time.perf_counter(), time.process_time()))
        if len(stamps) == count:
            raise _EnoughSteps

    with suppress(_EnoughSteps):
        trainer.epoch(record_time)
    return stamps
