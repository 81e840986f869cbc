"""What a training step of the default recipe costs on one thread, and what a structure costs that a worker has not met.

Seconds are those of the wall clock, right on an idle machine alone; on a busy one the CPU's are less wrong.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from huetune.data_tools.datasets.synthetic_garden import garden
from huetune.data_tools.photos.dataset import prepare
from huetune.model.config import Config
from huetune.model.presets import PRESETS
from huetune.model.recipes import with_recipe
from tests.benchmarks.processes import first_step, side_by_side, timed_steps

BATCH_SIZES = 1, 2, 4, 8
WARM_UP_STEPS, STEPS = 5, 40
SCENES = 16
DEFAULT = with_recipe(PRESETS["model-2"], "photos")
ACTIVATIONS = "silu", "relu"
OTHER = replace(DEFAULT, activation="tanh", skip=False)
"""The structure that is met first: what a process does once is not counted for a new one."""


def step() -> dict[str, Any]:
    """Return for silu and relu, with skip, what a step and the structure cost; one process, alone on the machine."""
    return side_by_side(_measure, [(ACTIVATIONS,)])[0]


def _measure(activations: tuple[str, ...]) -> dict[str, Any]:
    trainer = _new_trainer()
    new_structure(trainer, OTHER)
    figures: dict[str, Any] = {}
    for activation in activations:
        settings: dict[str, Any] = {"activation": activation}
        config = replace(DEFAULT, **settings)
        seconds = new_structure(trainer, config)
        times = {size: step_milliseconds(trainer, replace(config, batch_size=size)) for size in BATCH_SIZES}
        wall, cpu = ({size: both[clock] for size, both in times.items()} for clock in range(2))
        figures[f"{activation}, skip"] = {
            "operations": operations(_new_trainer(), config),
            **cost_of(wall),
            "milliseconds": wall,
            "cpu": {**cost_of(cpu), "milliseconds": cpu},
            "new_structure_seconds": sum(seconds.values()),
            **seconds,
        }
    return figures


def _new_trainer() -> Any:
    from huetune.model.trainer import Trainer

    scenes = prepare(garden(SCENES), [str(number) for number in range(SCENES)])
    # One epoch is to have all steps that are timed, of the largest batch.
    places = np.arange((WARM_UP_STEPS + STEPS) * max(BATCH_SIZES)) % SCENES
    return Trainer(scenes.take(places), scenes.take([0]))


def training_function(trainer: Any) -> Any:
    """Return the traced step of the structure that was started, a `tf.function` with one signature."""
    return trainer._step.run


def new_structure(trainer: Any, config: Config) -> dict[str, float]:
    """Start a structure that the trainer has not met, and return the seconds of its start, trace and first run."""
    stamps = [time.perf_counter()]
    trainer.start(config, 0)
    stamps.append(time.perf_counter())
    training_function(trainer).get_concrete_function()
    stamps.append(time.perf_counter())
    first_step(trainer)
    stamps.append(time.perf_counter())
    return dict(zip(("start_seconds", "trace_seconds", "first_run_seconds"), np.diff(stamps).tolist(), strict=True))


def step_milliseconds(trainer: Any, config: Config) -> list[float]:
    """Return the medians of a step's milliseconds, wall and CPU, its photos' way into tensors counted."""
    trainer.start(config, 0)
    stamps = timed_steps(trainer, WARM_UP_STEPS + STEPS)
    return (np.median(np.diff(stamps[WARM_UP_STEPS - 1 :], axis=0), axis=0) * 1000).tolist()


def cost_of(milliseconds: Mapping[int, float]) -> dict[str, float]:
    """Return the fixed milliseconds of a step and those of each of its photos, by least squares.

    Args:
        milliseconds: of a step, by the photos in it; of two sizes at least.
    """
    photo, fixed = np.polyfit(list(milliseconds), list(milliseconds.values()), 1)
    return {"fixed_milliseconds": float(fixed), "photo_milliseconds": float(photo)}


def operations(trainer: Any, config: Config) -> int:
    """Return how many operations the graph of a configuration's step has."""
    trainer.start(config, 0)
    return len(training_function(trainer).get_concrete_function().graph.get_operations())
