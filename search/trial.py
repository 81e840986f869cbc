"""One trial: a configuration, trained on a worker that later trials reuse."""

import math
import os
import random
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import tune

from data_tools.split import Split

BEST = "score"
"""The key of a trial's best value so far, by which it is scheduled and ranked."""


class Trial(tune.Trainable):
    """Trains a configuration, an epoch a step.

    The worker lives on from trial to trial, and with it TensorFlow, the photos and the traced training steps.
    """

    def setup(  # type: ignore[override]  # `with_parameters` adds its own by keyword
        self, config: dict[str, Any], split: Split, threads: int, run: str, folder: str, objective: str
    ) -> None:
        """Prepare a worker, once, for its first trial.

        Args:
            config: of the first trial, as `StudySearcher.suggest` returns it.
            split: the photos, shared by all workers of a node.
            threads: that TensorFlow may use, 1 or more.
            run: folder of the run, absolute.
            folder: in the run, for the checkpoints.
            objective: a key of `model.score.OBJECTIVES`.
        """
        take_devices(threads, ray.get_gpu_ids())

        from model.training import Trainer

        self._run, self._folder, self._objective = Path(run), folder, objective
        self._photos = split.summary
        self._trainer = Trainer(split.training, split.validation)
        self.reset_config(config)

    def reset_config(self, config: dict[str, Any]) -> bool:
        """Begin another trial on this worker; True tells Tune that this is possible."""
        from model.config import Config

        self._number, self._seed, self._epochs = config["number"], config["seed"], config["epochs"]
        self._name = config.get("name")
        # Reused workers would otherwise hand Python's and NumPy's global state from trial to trial.
        random.seed(self._seed)
        np.random.seed(self._seed % 2**32)
        self._trainer.start(Config.of(config["config"]), self._seed)
        self._best: float | None = None
        self._kept: list[Path] = []
        return True

    def step(self) -> dict[str, Any]:
        """Train an epoch and score it; where it is the best so far, keep its weights before saying so."""
        from model.training import DivergedError

        try:
            figures: dict[str, Any] = self._trainer.epoch()
        except DivergedError as error:
            # Reported, not raised: an exception would cost the worker, though nothing is wrong with it.
            # NaN is what Tune's schedulers pass over; they insist on some score.
            return {"error": str(error), "done": True, BEST: math.nan, "epoch": self._trainer.epochs}
        from model.score import better

        if better(self._objective, figures[self._objective], self._best):
            self._best = figures[self._objective]
            figures["checkpoint"] = self._keep(figures)
        return {
            **figures,
            BEST: self._best,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "done": figures["epoch"] >= self._epochs,
        }

    def _keep(self, figures: dict[str, Any]) -> str:
        from model.checkpoint import Checkpoint, save

        folder = self._run / self._folder / f"{self._number:04}" / f"epoch-{figures['epoch']:03}"
        trainer = self._trainer
        number = {"replicate": self._number, "of": self._name} if self._name else {"trial": self._number}
        origin = {"run": self._run.name, **number, "objective": self._objective}
        mean_chroma = tuple(map(float, trainer.mean_chroma))
        save(folder, Checkpoint(trainer.config, self._seed, figures, mean_chroma, self._photos, origin), trainer.vae)
        self._kept.append(folder)
        # The one before stays until the study surely names this one.
        while len(self._kept) > 2:
            shutil.rmtree(self._kept.pop(0), ignore_errors=True)
        return str(folder.relative_to(self._run))


def take_devices(threads: int, gpus: Sequence[int | str]) -> None:
    """Keep TensorFlow to what Ray gave this worker; only before TensorFlow has computed anything.

    Args:
        threads: 1 or more.
        gpus: those that Ray gave it, wholly or in part; Ray has hidden all others.
    """
    import tensorflow as tf

    # TensorFlow takes its threads from the machine, not from Ray: unless told first thing, each of n workers starts
    # as many threads as there are cores.
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if not gpus:
        # The others' trials share the cards; one on the CPU must not even open them, which takes memory on each.
        tf.config.set_visible_devices([], "GPU")
        return
    for device in tf.config.list_physical_devices("GPU"):
        # Or the first of the trials that share a card would take all of its memory.
        tf.config.experimental.set_memory_growth(device, True)
