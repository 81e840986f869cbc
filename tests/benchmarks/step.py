"""Measure a training step of the default recipe on one thread, and the first use of a structure in a worker.

Wall time is correct only on an idle machine; on a busy machine CPU time is the better measure.
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
WARM_UP_CONFIG = replace(DEFAULT, activation="tanh", skip=False)
"""It is trained first, so that what a process does only once is not measured."""


def step() -> dict[str, Any]:
    """Measure step and new structure for silu and relu with skip, in one process that runs alone."""
    return side_by_side(_measure, [(ACTIVATIONS,)])[0]


def _measure(activations: tuple[str, ...]) -> dict[str, Any]:
    trainer = _new_trainer()
    new_structure(trainer, WARM_UP_CONFIG)
    results: dict[str, Any] = {}
    for activation in activations:
        settings: dict[str, Any] = {"activation": activation}
        config = replace(DEFAULT, **settings)
        seconds = new_structure(trainer, config)
        times = {size: step_milliseconds(trainer, replace(config, batch_size=size)) for size in BATCH_SIZES}
        wall, cpu = ({size: medians[clock] for size, medians in times.items()} for clock in range(2))
        results[f"{activation}, skip"] = {
            "operations": operations(_new_trainer(), config),
            **cost_of(wall),
            "milliseconds": wall,
            "cpu": {**cost_of(cpu), "milliseconds": cpu},
            "new_structure_seconds": sum(seconds.values()),
            **seconds,
        }
    return results


def _new_trainer() -> Any:
    from huetune.model.trainer import Trainer

    scenes = prepare(garden(SCENES), [str(number) for number in range(SCENES)])
    # One epoch must have all timed steps with the largest batch, so the scenes are repeated.
    indices = np.arange((WARM_UP_STEPS + STEPS) * max(BATCH_SIZES)) % SCENES
    return Trainer(scenes.take(indices), scenes.take([0]))


def training_function(trainer: Any) -> Any:
    """Return the training step of the started structure, a `tf.function` with one signature."""
    return trainer._step.run


def new_structure(trainer: Any, config: Config) -> dict[str, float]:
    """Start a structure that is new to the trainer, and return the seconds of its start, trace and first run."""
    stamps = [time.perf_counter()]
    trainer.start(config, 0)
    stamps.append(time.perf_counter())
    training_function(trainer).get_concrete_function()
    stamps.append(time.perf_counter())
    first_step(trainer)
    stamps.append(time.perf_counter())
    return dict(zip(("start_seconds", "trace_seconds", "first_run_seconds"), np.diff(stamps).tolist(), strict=True))


def step_milliseconds(trainer: Any, config: Config) -> list[float]:
    """Return the median wall and CPU milliseconds of a step, including the conversion of photos into tensors."""
    trainer.start(config, 0)
    stamps = timed_steps(trainer, WARM_UP_STEPS + STEPS)
    return (np.median(np.diff(stamps[WARM_UP_STEPS - 1 :], axis=0), axis=0) * 1000).tolist()


def cost_of(milliseconds: Mapping[int, float]) -> dict[str, float]:
    """Return the fixed milliseconds of a step and those of each photo in it, fitted by least squares.

    Args:
        milliseconds: Duration of a step by the number of photos in it; two numbers or more.
    """
    photo, fixed = np.polyfit(list(milliseconds), list(milliseconds.values()), 1)
    return {"fixed_milliseconds": float(fixed), "photo_milliseconds": float(photo)}


def operations(trainer: Any, config: Config) -> int:
    """Return the number of operations in the graph of a configuration's training step."""
    trainer.start(config, 0)
    return len(training_function(trainer).get_concrete_function().graph.get_operations())
