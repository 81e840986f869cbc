"""The folder of a training by `huetune train`: its best epoch's checkpoint, its log, and what it continues from."""

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
class Training:
    """A training after one of its epochs.

    Attributes:
        best: the checkpoint of the best epoch so far.
        epochs: the metrics of each epoch, in order, as `Trainer.epoch` returns them.
        state: `Trainer.state` after the last of them.
    """

    best: Checkpoint
    epochs: Sequence[Mapping[str, Any]]
    state: Mapping[str, np.ndarray]


def save(folder: Path, training: Training, vae: "keras.Model | None" = None) -> None:
    """Write a training, whole or not at all.

    Checkpoint, log and state are replaced at once, so that a process that is killed leaves all three of one epoch.

    Args:
        folder: made here, its parents too; what is there of an earlier epoch is replaced.
        training: after its last epoch.
        vae: the trained `Network.vae` where the last epoch is the best; None keeps the weights in the folder.

    Raises:
        OSError: the disk would not take it.
    """
    with atomic_folder(folder) as draft:
        write_checkpoint(draft, training.best, vae)
        if vae is None:
            shutil.copy2(folder / WEIGHTS_FILE, draft / WEIGHTS_FILE)
        (draft / EPOCH_LOG_FILE).write_text(json.dumps(list(training.epochs), indent=2) + "\n", encoding="utf-8")
        training_state.write_state(draft, training.state)


def load(folder: Path) -> Training:
    """Return the training in a folder.

    Raises:
        CheckpointError: the folder is damaged, or holds no model.
        StorageError: the model in it has no training state.
    """
    best, epochs = read_checkpoint(folder), read_epoch_log(folder)
    if not (folder / STATE_FILE).is_file():
        raise StorageError(
            f"{str(folder)!r}: has no training state ({STATE_FILE}), which huetune train keeps since this "
            "version; train from the start again, with another --out"
        )
    counts = best.origin.get("epochs"), best.photos.get("training"), best.photos.get("validation")
    said = {"chroma_mse", "source", "fingerprint"} <= {*best.metrics, *best.origin, *best.photos}
    if best.metrics not in epochs or not said or {*map(type, counts)} != {int}:
        raise CheckpointError(
            f"{str(folder)!r}: damaged (it does not say how it was trained); train from the start again"
        )
    return Training(best, epochs, training_state.read_state(folder))


@contextlib.contextmanager
def held(folder: Path, remedy: str = "choose another folder") -> Iterator[None]:
    """Have no other process train in a folder, and remove the drafts of processes that were killed there.

    Args:
        folder: of the training.
        remedy: for whoever finds another process at it.

    Raises:
        StorageError: another process trains in it.
    """
    with exclusive(folder, remedy):
        remove_drafts(folder, (SETTINGS_FILE, WEIGHTS_FILE, EPOCH_LOG_FILE, STATE_FILE, SUMS_FILE))
        yield


def check_new(folder: Path, source: Source) -> None:
    """Refuse a folder in which no training can be started.

    Args:
        folder: for the training.
        source: of its photos.

    Raises:
        StorageError: see `require_new`.
    """
    try:
        require_new(folder)
    except StorageError:
        if not is_begun(folder):
            raise
        raise StorageError(
            f"{str(folder)!r}: holds a training already; continue it with: {resumed_by(folder, source)}; or choose "
            f"another --out"
        ) from None


def check_begun(folder: Path) -> None:
    """Refuse a folder in which no training can be continued.

    Raises:
        StorageError: there is none, or the folder could not be replaced.
    """
    recover(folder)
    if not os.path.isfile(folder / SETTINGS_FILE):  # unlike a Path, it takes a name of any length
        raise StorageError(
            f"{str(folder)!r}: has no training to resume; name its folder with --out, or start one without --resume"
        )
    if folder.samefile(os.curdir):
        raise StorageError(
            f"{str(folder)!r}: is the folder that you are in, which each epoch replaces; change to another folder"
        )


def is_begun(folder: Path) -> bool:
    """Return whether a training is in a folder, with all that it continues from."""
    return os.path.isfile(folder / STATE_FILE)


def resumed_by(folder: Path, source: Source) -> str:
    """Return the command line that continues a training.

    Args:
        folder: of the training.
        source: of its photos. One in a bucket is named: no bucket is read because a folder names it.
    """
    place = location_of(source.folder) if source.folder else ""
    photos = f" --photos {shlex.quote(place)}" if place.startswith(SCHEME) else ""
    return f"{program_name()} train --resume --out {shlex.quote(str(folder))}{photos}"
