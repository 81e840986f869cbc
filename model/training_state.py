"""The training state of a trial on disk: everything needed to resume it after its last epoch, to the last bit."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from huetune.data_tools.common.errors import CheckpointError
from huetune.data_tools.storage.atomic import atomic_folder
from huetune.data_tools.storage.checksums import STATE_FILE as STATE_FILE
from huetune.data_tools.storage.checksums import check_sums
from huetune.model import npz
from huetune.model.config import Config

LOG = "log.json"
FOLDER_PATTERN = "after-*"
"""Glob pattern of the training states in the folder of a trial."""


@dataclass(frozen=True)
class TrainingState:
    """A training after one of its epochs.

    Attributes:
        config: its settings.
        seed: seed of the training.
        epochs: the metrics of each epoch so far, in order.
        state: `Trainer.state` after the last of them.
    """

    config: Config
    seed: int
    epochs: Sequence[Mapping[str, Any]]
    state: Mapping[str, np.ndarray]


def save(folder: Path, training: TrainingState) -> None:
    """Save a training state atomically.

    Raises:
        OSError: a file cannot be written.
    """
    log = {"config": asdict(training.config), "seed": training.seed, "epochs": list(training.epochs)}
    with atomic_folder(folder) as draft:
        write_state(draft, training.state)
        (draft / LOG).write_text(json.dumps(log) + "\n", encoding="utf-8")


def load(folder: Path) -> TrainingState:
    """Load a training state.

    Raises:
        CheckpointError: it is damaged.
    """
    check_sums(folder)
    try:
        log = json.loads((folder / LOG).read_text(encoding="utf-8"))
        return TrainingState(Config.of(log["config"]), log["seed"], log["epochs"], read_state(folder))
    except CheckpointError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{str(folder)!r}: damaged ({error})") from None


def write_state(folder: Path, state: Mapping[str, np.ndarray]) -> None:
    """Write the arrays of a training state.

    Args:
        folder: a draft of `atomic_folder`.
        state: `Trainer.state`.

    Raises:
        OSError: a file cannot be written.
    """
    npz.write(folder / STATE_FILE, state)


def read_state(folder: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a training state, for `Trainer.resume`, from a folder whose checksums were checked.

    Raises:
        CheckpointError: the file is damaged, or is not a training state.
    """
    return npz.read(folder / STATE_FILE, dtypes=None, remedy="train from the start again")


def newest(folder: Path) -> list[Path]:
    """Return the snapshots of a trial's folder, that after the most epochs first."""
    return sorted(folder.glob(FOLDER_PATTERN), key=order, reverse=True)


def order(path: Path) -> tuple[int, str]:
    """Return the sort key of a folder: the number of trained epochs, and its name."""
    return int(path.name.split("-")[1]), path.name
