"""The folder of a training by `huetune train`: checkpoint of the best epoch, epoch log and training state."""

import contextlib
import json
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from huetune.data_tools.common.errors import CheckpointError, StorageError
from huetune.data_tools.common.terminal import program_name
from huetune.data_tools.photos.source import Source
from huetune.data_tools.storage.atomic import atomic_folder, exclusive, recover, remove_drafts, require_new
from huetune.data_tools.storage.bucket_cache import location_of
from huetune.data_tools.storage.checksums import STATE_FILE, SUMS_FILE
from huetune.data_tools.storage.object_store import SCHEME
from huetune.model import training_state
from huetune.model.checkpoint import read_checkpoint, read_epoch_log, write_checkpoint
from huetune.model.checkpoint_format import EPOCH_LOG_FILE, SETTINGS_FILE, WEIGHTS_FILE, Checkpoint

if TYPE_CHECKING:
    from huetune.data_tools.common.keras_backend import keras


@dataclass(frozen=True)
class SavedTraining:
    """A training after one of its epochs.

    Attributes:
        best: the checkpoint of the best epoch so far.
        epochs: the metrics of each epoch, in order, as `Trainer.epoch` returns them.
        state: `Trainer.state` after the last of them.
    """

    best: Checkpoint
    epochs: Sequence[Mapping[str, Any]]
    state: Mapping[str, np.ndarray]


def save_training(folder: Path, training: SavedTraining, vae: "keras.Model | None" = None) -> None:
    """Save a training atomically.

    Checkpoint, log and training state are replaced at once, so a killed process leaves all three of the same epoch.

    Args:
        folder: is created with its parents; an earlier epoch in it is replaced.
        training: after its last epoch.
        vae: the trained `Network.vae` if the last epoch is the best; None keeps the weights in the folder.

    Raises:
        OSError: a file cannot be written.
    """
    with atomic_folder(folder) as draft:
        write_checkpoint(draft, training.best, vae)
        if vae is None:
            shutil.copy2(folder / WEIGHTS_FILE, draft / WEIGHTS_FILE)
        (draft / EPOCH_LOG_FILE).write_text(json.dumps(list(training.epochs), indent=2) + "\n", encoding="utf-8")
        training_state.write_state(draft, training.state)


def load_training(folder: Path) -> SavedTraining:
    """Return the training in a folder.

    Args:
        folder: of the training.

    Raises:
        CheckpointError: the folder is damaged, or has no model.
        StorageError: its model has no training state.
    """
    best, epochs = read_checkpoint(folder), read_epoch_log(folder)
    if not (folder / STATE_FILE).is_file():
        raise StorageError(
            f"{str(folder)!r}: has no training state ({STATE_FILE}): it is an export, or an older huetune trained it; "
            f"train from the start again, with another --out"
        )
    counts = best.origin.get("epochs"), best.photos.get("training"), best.photos.get("validation")
    described = {"chroma_mse", "source", "fingerprint"} <= {*best.metrics, *best.origin, *best.photos}
    if best.metrics not in epochs or not described or {*map(type, counts)} != {int}:
        raise CheckpointError(
            f"{str(folder)!r}: damaged (the record of its training is incomplete); train from the start again"
        )
    return SavedTraining(best, epochs, training_state.read_state(folder))


@contextlib.contextmanager
def lock_training(folder: Path, remedy: str = "choose another folder") -> Iterator[None]:
    """Lock a folder for training, and remove the drafts of killed processes in it.

    Args:
        folder: of the training.
        remedy: what the error tells the user to do.

    Raises:
        StorageError: another process trains in the folder.
    """
    with exclusive(folder, remedy):
        remove_drafts(folder, (SETTINGS_FILE, WEIGHTS_FILE, EPOCH_LOG_FILE, STATE_FILE, SUMS_FILE))
        yield


def require_no_training(folder: Path, source: Source) -> None:
    """Check that a new training can start in a folder.

    Args:
        folder: for the training.
        source: of its photos.

    Raises:
        StorageError: the folder has a training, or see `require_new`.
    """
    try:
        require_new(folder)
    except StorageError:
        if not has_training_state(folder):
            raise
        raise StorageError(
            f"{str(folder)!r}: already contains a training; continue it with: {resume_command(folder, source)}; or "
            f"choose another --out"
        ) from None


def require_training(folder: Path) -> None:
    """Check that a folder has a training that can be resumed.

    Raises:
        StorageError: it has none, or it is the current folder, which cannot be replaced.
    """
    recover(folder)
    if not os.path.isfile(folder / SETTINGS_FILE):  # a Path raises for a very long name
        raise StorageError(
            f"{str(folder)!r}: has no training to resume; name its folder with --out, or start one without --resume"
        )
    if folder.samefile(os.curdir):
        raise StorageError(
            f"{str(folder)!r}: is the current folder, which each epoch would replace; change to another folder"
        )


def has_training_state(folder: Path) -> bool:
    """Return whether a folder has a training with its training state."""
    return os.path.isfile(folder / STATE_FILE)


def resume_command(folder: Path, source: Source) -> str:
    """Return the command line that resumes a training.

    Args:
        folder: of the training.
        source: of its photos. If they are in a bucket, the command names it with --photos, because a bucket that only
            the folder's files name is not read.
    """
    location = location_of(source.folder) if source.folder else ""
    photos = f" --photos {shlex.quote(location)}" if location.startswith(SCHEME) else ""
    return f"{program_name()} train --resume --out {shlex.quote(str(folder))}{photos}"
