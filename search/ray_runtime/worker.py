"""One trial: a configuration, trained on a worker that later trials reuse."""

import contextlib
import faulthandler
import math
import os
import random
import shutil
import socket
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from ray import tune

from huetune.data_tools.common.errors import CheckpointError, StorageError
from huetune.data_tools.photos.split import Split
from huetune.data_tools.storage.bucket_cache import bucket_path, local_path, pull, push, remove
from huetune.model.checkpoint import part_versions
from huetune.results.records.outcomes import FailureKind

if TYPE_CHECKING:
    from huetune.model.config import Config

SCORE = "score"
"""The key of a trial's best value so far, by which it is scheduled and ranked."""
FAILURE, STORAGE_ERROR, REFUSAL = "failure", "storage", "refused"
"""Keys of a last result: of a trial that failed, its FailureKind; with a message, what stops the search: the run cannot
be read or written, or this worker must not train."""


class Trial(tune.Trainable):
    """Trains a configuration, an epoch a step.

    The worker lives on from trial to trial, and with it TensorFlow, the photos and the traced training steps.
    """

    def setup(  # type: ignore[override]  # `with_parameters` adds its own by keyword
        self,
        config: dict[str, Any],
        split: Split,
        threads: int,
        run: str,
        folder: str,
        objective: str,
        timeout: float | None,
        versions: dict[str, str],
    ) -> None:
        """Prepare a worker, once, for its first trial.

        Args:
            config: of the first trial, as `StudySearcher.suggest` returns it.
            split: the photos, shared by all workers of a node.
            threads: that TensorFlow may use, 1 or more.
            run: folder of the run, absolute, or its URI.
            folder: in the run, for the checkpoints.
            objective: a key of `model.metrics.METRICS`.
            timeout: seconds that an epoch may take; None for as long as it takes.
            versions: of Python and the packages where the search was launched.
        """
        self._timeout, self._versions = timeout, versions
        self._refusal = _refusal(versions)
        if self._refusal:
            return
        with self._watched():
            take_devices(threads, ray.get_gpu_ids())

            from huetune.model.trainer import Trainer

            self._run, self._objective = local_path(run), objective
            self._folder = self._run / folder
            self._photos = {**split.summary, "seen": split.seen}
            self._trainer = Trainer(split.training, split.validation)
        self.reset_config(config)

    def reset_config(self, config: dict[str, Any]) -> bool:
        """Begin another trial on this worker, or go on with one that was left; True tells Tune that it can be done."""
        if self._refusal:
            return True
        from huetune.model.config import Config

        self._clear()
        self._number, self._seed, self._epochs = config["number"], config["seed"], config["epochs"]
        self._name = config.get("name")
        # A worker that was cut off may still write when another has taken its place: each has names of its own.
        self._mark = uuid.uuid4().hex[:6]
        # Reused workers would otherwise hand Python's and NumPy's global state from trial to trial.
        random.seed(self._seed)
        np.random.seed(self._seed % 2**32)
        self._log: list[dict[str, Any]] = []
        self._notes: list[str] = []
        wanted = Config.of(config["config"])
        self._unreachable: StorageError | None = None
        with self._watched():
            try:
                if not self._go_on(wanted, config.get("continues")):
                    self._trainer.start(wanted, self._seed)
            except StorageError as error:
                # No fault of the trial's: as for an epoch that cannot be written, `step` says so.
                self._unreachable = error
        # What a worker before this one told of it, or could not tell any more.
        self._untold = list(self._log)
        named = [self._run / figures["checkpoint"] for figures in self._log if "checkpoint" in figures]
        self._kept = [path for path in named if path.parent == self._own]
        return True

    def step(self) -> dict[str, Any]:
        """Train an epoch and score it; where it is the best so far, keep its weights before saying so."""
        if self._refusal:
            return _no_epoch({REFUSAL: self._refusal})
        from huetune.model.trainer import DivergedError

        try:
            if self._unreachable:
                raise self._unreachable
            with self._watched():
                if len(self._log) < self._epochs:
                    self._train()
        except DivergedError as error:
            # Reported, not raised: an exception would cost the worker, though nothing is wrong with it.
            return _no_epoch({FAILURE: FailureKind.DIVERGED, "detail": error.detail}, error.epoch)
        except OSError as error:
            reason = f"{str(error.filename or self._own)!r}: cannot be written ({error.strerror or error})"
            return _no_epoch({STORAGE_ERROR: reason})
        except StorageError as error:
            return _no_epoch({STORAGE_ERROR: str(error)})
        missed, self._untold = self._untold, []
        notes, self._notes = self._notes, []
        return {
            **self._log[-1],
            "missed": missed,
            "notes": notes,
            SCORE: self._best,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "done": len(self._log) >= self._epochs,
        }

    @property
    def _own(self) -> Path:
        return self._folder / f"{self._number:04}"

    @property
    def _best(self) -> float | None:
        from huetune.model.metrics import best_of

        return best_of(self._objective, (figures[self._objective] for figures in self._log), float)

    def _go_on(self, wanted: "Config", continues: int | None) -> bool:
        """Take up the newest snapshot that is whole: this trial's, or that of the trial which it continues."""
        from huetune.model import training_state

        folders = [self._own] if continues is None else [self._own, self._folder / f"{continues:04}"]
        for folder in folders:
            pull(folder, training_state.NAMES)
        for path in (path for folder in folders for path in training_state.newest(folder)):
            try:
                found = training_state.load(path)
                if (found.config, found.seed) != (wanted, self._seed):
                    raise CheckpointError(f"{str(path)!r}: is of another configuration or seed")
                self._trainer.go_on(wanted, self._seed, found.state)
            except (CheckpointError, ValueError, KeyError) as error:
                # Loudly: what was trained after it is trained again.
                self._notes.append(f"left aside {error}")
                continue
            self._log = list(map(dict, found.epochs))
            return True
        return False

    def _train(self) -> None:
        from huetune.model import training_state
        from huetune.model.metrics import better

        figures: dict[str, Any] = self._trainer.epoch()
        trainer = self._trainer
        if better(self._objective, figures[self._objective], self._best):
            figures["checkpoint"] = self._keep(figures)
        log = [*self._log, figures]
        path = self._own / f"after-{len(log):03}-{self._mark}"
        training_state.save(path, training_state.Snapshot(trainer.config, self._seed, log, trainer.state))
        push(path)
        self._log = log
        # The one before stays: should this one be damaged, there is one to fall back on.
        for old in training_state.newest(self._own)[2:]:
            remove(old)

    def _keep(self, figures: dict[str, Any]) -> str:
        from huetune.model.checkpoint import Checkpoint, save

        folder = self._own / f"epoch-{figures['epoch']:03}-{self._mark}"
        trainer = self._trainer
        number = {"replicate": self._number, "of": self._name} if self._name else {"trial": self._number}
        origin = {"run": self._run.name, **number, "objective": self._objective, "epochs": self._epochs}
        mean_chroma = tuple(map(float, trainer.mean_chroma))
        checkpoint = Checkpoint(trainer.config, self._seed, figures, mean_chroma, self._photos, origin, self._versions)
        save(folder, checkpoint, trainer.vae)
        push(folder)
        self._kept.append(folder)
        # The one before stays until the study surely names this one.
        while len(self._kept) > 2:
            remove(self._kept.pop(0))
        return str(folder.relative_to(self._run))

    def _clear(self) -> None:
        """Have nothing of the trial before stay on this machine that is in a bucket."""
        if hasattr(self, "_number") and bucket_path(self._run):
            shutil.rmtree(self._own, ignore_errors=True)

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """End this process if it gets stuck, wherever that is: Python's own threads might be stuck with it."""
        if self._timeout:
            faulthandler.dump_traceback_later(self._timeout, exit=True)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def _no_epoch(why: dict[str, str], epoch: int = 0) -> dict[str, Any]:
    """Return the last result of a trial, which is no finished epoch."""
    # NaN is what Tune's schedulers pass over; they insist on some score.
    return {**why, "done": True, SCORE: math.nan, "epoch": epoch}


def _refusal(versions: dict[str, str]) -> str | None:
    """Why a worker must not train: with other packages its numbers are others."""
    # Our own code comes with the search.
    here = part_versions({part for part in versions if part not in ("python", "huetune")})
    apart = [f"{part} {here[part]}, not {versions[part]}" for part in here if here[part] != versions[part]]
    if apart:
        return f"the worker on {socket.gethostname()!r} has {', '.join(apart)}: install the same there, best the lock"
    return None


def take_devices(threads: int, gpus: Sequence[int | str]) -> None:
    """Keep TensorFlow to what Ray gave this worker; only before TensorFlow has computed anything.

    Args:
        threads: 1 or more.
        gpus: those that Ray gave it, wholly or in part; Ray has hidden all others.
    """
    from huetune.data_tools.common.keras_backend import tf

    # TensorFlow takes its threads from the machine, not from Ray: unless told first thing, each of n workers starts
    # as many threads as there are cores.
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if not gpus:
        # The others' trials share the cards; one on the CPU must not even open them, which takes memory on each.
        tf.config.set_visible_devices([], "GPU")
        return
    # Or products are rounded to 10 bits of fraction there, and nowhere else would a model score the same again.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    for device in tf.config.list_physical_devices("GPU"):
        # Or the first of the trials that share a card would take all of its memory.
        tf.config.experimental.set_memory_growth(device, True)
