"""The Ray worker that trains trials, one after another, an epoch per step."""

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
from huetune.model.checkpoint_format import package_versions
from huetune.results.records.outcomes import FailureKind
from huetune.search.tuning.trial_result import FAILURE, REFUSAL, SCORE, STORAGE_ERROR

if TYPE_CHECKING:
    from huetune.model.config import Config


class TrialWorker(tune.Trainable):
    """Trains a configuration, one epoch per step.

    Tune reuses the worker for later trials, which saves importing TensorFlow, loading photos and tracing.
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
        """Prepare a new worker and start its first trial.

        Args:
            config: the first trial, as `StudySearcher.suggest` returns it.
            split: the photos; the workers of a node share their memory.
            threads: number of TensorFlow threads, 1 or more.
            run: absolute folder of the run, or its URI.
            folder: folder in the run with the trials' files.
            objective: a key of `model.metrics.METRICS`.
            timeout: maximum seconds of an epoch; None for no limit.
            versions: versions of Python and the packages on the machine that launched the search.
        """
        self._timeout, self._versions = timeout, versions
        self._refusal = _refusal(versions)
        if self._refusal:
            return
        with self._timeout_guard():
            take_devices(threads, ray.get_gpu_ids())

            from huetune.model.trainer import Trainer

            self._run, self._objective = local_path(run), objective
            self._folder = self._run / folder
            self._photos = {**split.summary, "seen": split.seen}
            self._trainer = Trainer(split.training, split.validation)
        self.reset_config(config)

    def reset_config(self, config: dict[str, Any]) -> bool:
        """Start or resume another trial on this worker. Return True, which tells Tune that the worker can be reused."""
        if self._refusal:
            return True
        from huetune.model.config import Config

        self._clear_local_copies()
        self._number, self._seed, self._epochs = config["number"], config["seed"], config["epochs"]
        self._name = config.get("name")
        # A worker that lost its connection may still write after another has replaced it, so file names are unique.
        self._suffix = uuid.uuid4().hex[:6]
        # A reused worker must not carry Python's and NumPy's global state from trial to trial.
        random.seed(self._seed)
        np.random.seed(self._seed % 2**32)
        self._log: list[dict[str, Any]] = []
        self._notes: list[str] = []
        wanted = Config.of(config["config"])
        self._resume_error: StorageError | None = None
        with self._timeout_guard():
            try:
                if not self._resume(wanted, config.get("continues")):
                    self._trainer.start(wanted, self._seed)
            except StorageError as error:
                # The trial is not at fault; `step` reports the error as it does for an epoch that cannot be written.
                self._resume_error = error
        # A previous worker may have died before it reported its last epochs, so all of them are reported again.
        self._unreported = list(self._log)
        checkpoints = [self._run / metrics["checkpoint"] for metrics in self._log if "checkpoint" in metrics]
        self._checkpoints = [path for path in checkpoints if path.parent == self._own]
        return True

    def step(self) -> dict[str, Any]:
        """Train and score an epoch; if it is the best so far, save its weights before it is reported."""
        if self._refusal:
            return _final_result({REFUSAL: self._refusal})
        from huetune.model.trainer import DivergedError

        try:
            if self._resume_error:
                raise self._resume_error
            with self._timeout_guard():
                if len(self._log) < self._epochs:
                    self._train()
        except DivergedError as error:
            # Reported instead of raised, because an exception would end the worker, which can train other trials.
            return _final_result({FAILURE: FailureKind.DIVERGED, "detail": error.detail}, error.epoch)
        except OSError as error:
            reason = f"{str(error.filename or self._own)!r}: cannot be written ({error.strerror or error})"
            return _final_result({STORAGE_ERROR: reason})
        except StorageError as error:
            return _final_result({STORAGE_ERROR: str(error)})
        missed, self._unreported = self._unreported, []
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

        return best_of(self._objective, (metrics[self._objective] for metrics in self._log), float)

    def _resume(self, wanted: "Config", continues: int | None) -> bool:
        """Load the newest intact training state of the trial or of the one that it continues; False if none exists."""
        from huetune.model import training_state

        folders = [self._own] if continues is None else [self._own, self._folder / f"{continues:04}"]
        for folder in folders:
            pull(folder, training_state.FOLDER_PATTERN)
        for path in (path for folder in folders for path in training_state.newest(folder)):
            try:
                found = training_state.load(path)
                if (found.config, found.seed) != (wanted, self._seed):
                    raise CheckpointError(f"{str(path)!r}: is of another configuration or seed")
                self._trainer.resume(wanted, self._seed, found.state)
            except (CheckpointError, ValueError, KeyError) as error:
                # The epochs after an older training state are trained again; the user is warned.
                self._notes.append(f"skipped training state {error}")
                continue
            self._log = list(map(dict, found.epochs))
            return True
        return False

    def _train(self) -> None:
        """Train an epoch, save a checkpoint if it is the best, then the training state."""
        from huetune.model import training_state
        from huetune.model.metrics import better

        metrics: dict[str, Any] = self._trainer.epoch()
        trainer = self._trainer
        if better(self._objective, metrics[self._objective], self._best):
            metrics["checkpoint"] = self._save_checkpoint(metrics)
        log = [*self._log, metrics]
        path = self._own / f"after-{len(log):03}-{self._suffix}"
        training_state.save(path, training_state.TrainingState(trainer.config, self._seed, log, trainer.state))
        push(path)
        self._log = log
        # The previous training state is kept as a fallback in case this one is damaged.
        for old in training_state.newest(self._own)[2:]:
            remove(old)

    def _save_checkpoint(self, metrics: dict[str, Any]) -> str:
        """Save the weights of an epoch; return the folder, relative to the run."""
        from huetune.model.checkpoint import save_checkpoint
        from huetune.model.checkpoint_format import Checkpoint

        folder = self._own / f"epoch-{metrics['epoch']:03}-{self._suffix}"
        trainer = self._trainer
        number = {"replicate": self._number, "of": self._name} if self._name else {"trial": self._number}
        origin = {"run": self._run.name, **number, "objective": self._objective, "epochs": self._epochs}
        mean_chroma = tuple(map(float, trainer.mean_chroma))
        checkpoint = Checkpoint(trainer.config, self._seed, metrics, mean_chroma, self._photos, origin, self._versions)
        save_checkpoint(folder, checkpoint, trainer.vae)
        push(folder)
        self._checkpoints.append(folder)
        # The previous checkpoint is kept until the study has recorded this one.
        while len(self._checkpoints) > 2:
            remove(self._checkpoints.pop(0))
        return str(folder.relative_to(self._run))

    def _clear_local_copies(self) -> None:
        """Remove the local copies of the previous trial's files if the run is in a bucket."""
        if hasattr(self, "_number") and bucket_path(self._run):
            shutil.rmtree(self._own, ignore_errors=True)

    @contextlib.contextmanager
    def _timeout_guard(self) -> Iterator[None]:
        """End this process after the timeout. A Python thread could not, as it might hang with the rest."""
        if self._timeout:
            faulthandler.dump_traceback_later(self._timeout, exit=True)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def _final_result(reason: dict[str, str], epoch: int = 0) -> dict[str, Any]:
    """Return a final result without an epoch."""
    # Schedulers require a score, and ignore NaN.
    return {**reason, "done": True, SCORE: math.nan, "epoch": epoch}


def _refusal(versions: dict[str, str]) -> str | None:
    """Return why a worker must not train: other package versions compute other numbers. None if it may."""
    # huetune itself is sent to the workers.
    here = package_versions({part for part in versions if part not in ("python", "huetune")})
    different = [f"{part} {here[part]}, not {versions[part]}" for part in here if here[part] != versions[part]]
    if different:
        remedy = "install the same versions there, as in requirements.lock"
        return f"the worker on {socket.gethostname()!r} has {', '.join(different)}; {remedy}"
    return None


def take_devices(threads: int, gpus: Sequence[int | str]) -> None:
    """Restrict TensorFlow to the CPUs and GPUs that Ray assigned; call it before TensorFlow is used.

    Args:
        threads: number of threads, 1 or more.
        gpus: ids of the GPUs that Ray assigned, wholly or in part; Ray hides all others.
    """
    from huetune.data_tools.common.keras_backend import tf

    # By default each worker's TensorFlow starts as many threads as the machine has cores.
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if not gpus:
        # A trial on the CPU must not open the GPUs, which takes memory on each.
        tf.config.set_visible_devices([], "GPU")
        return
    # TensorFloat-32 rounds products to 10 bits, so that a model would score differently on other devices.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    for device in tf.config.list_physical_devices("GPU"):
        # Otherwise the first of the trials that share a GPU would take all of its memory.
        tf.config.experimental.set_memory_growth(device, True)
