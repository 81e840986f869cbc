"""Processes of one thread each, as trials run in slots: what is measured is measured in these."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from typing import Any

SLOTS = 2


def one_thread() -> None:
    """Have TensorFlow compute in one thread. Call it in a new process, before anything is computed."""
    from data_tools.backend import tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def side_by_side(work: Callable, tasks: list[tuple]) -> list[Any]:
    """Run tasks in fresh processes, two at a time: as trials run on two slots."""
    return list(as_they_end(work, tasks))


def as_they_end(work: Callable, tasks: list[tuple]) -> Iterator[Any]:
    """Yield the results of `side_by_side`, in the order of the tasks."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(SLOTS, context, initializer=one_thread, max_tasks_per_child=1) as pool:
        yield from pool.map(work, *zip(*tasks, strict=True))


class _StepDone(Exception):  # noqa: N818
    """Ends an epoch after its first step."""


def first_step(trainer: Any) -> None:
    """Train the first step of an epoch and no more: a new structure is traced by it. Call `start` afterwards."""

    def stop(done: int, boxes: int) -> None:
        raise _StepDone

    with suppress(_StepDone):
        trainer.epoch(stop)
