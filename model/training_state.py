"""A training under way, on disk: all that it takes to go on from its last epoch."""

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
NAMES = "after-*"
"""Of the folders of snapshots in the folder of a trial."""


@dataclass(frozen=True)
class Snapshot:
    """What is known of a training under way.

    Attributes:
        config: its settings.
        seed: that it was started with.
        epochs: the figures of each epoch so far, in order.
        state: `Trainer.state` after the last of them.
    """

    config: Config
    seed: int
    epochs: Sequence[Mapping[str, Any]]
    state: Mapping[str, np.ndarray]


def save(folder: Path, snapshot: Snapshot) -> None:
    """Write a snapshot, whole or not at all.

    Raises:
        OSError: the disk would not take it.
    """
    log = {"config": asdict(snapshot.config), "seed": snapshot.seed, "epochs": list(snapshot.epochs)}
    with atomic_folder(folder) as draft:
        write_state(draft, snapshot.state)
        (draft / LOG).write_text(json.dumps(log) + "\n", encoding="utf-8")


def load(folder: Path) -> Snapshot:
    """Return a snapshot.

    Raises:
        CheckpointError: it is damaged.
    """
    check_sums(folder)
    try:
        log = json.loads((folder / LOG).read_text(encoding="utf-8"))
        return Snapshot(Config.of(log["config"]), log["seed"], log["epochs"], read_state(folder))
    except CheckpointError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{str(folder)!r}: damaged ({error})") from None


def write_state(folder: Path, state: Mapping[str, np.ndarray]) -> None:
    """Write what a training goes on from.

    Args:
        folder: sealed afterwards.
        state: `Trainer.state`.

    Raises:
        OSError: the disk would not take it.
    """
    npz.write(folder / STATE_FILE, state)


def read_state(folder: Path) -> dict[str, np.ndarray]:
    """Return what a training goes on from, see `Trainer.resume`, from a folder whose sums were checked.

    Raises:
        CheckpointError: it is damaged, or holds something else.
    """
    return npz.read(folder / STATE_FILE, dtypes=None, remedy="train from the start again")


def newest(folder: Path) -> list[Path]:
    """Return the snapshots of a trial's folder, that after the most epochs first."""
    return sorted(folder.glob(NAMES), key=order, reverse=True)


def order(path: Path) -> tuple[int, str]:
    """Return how far a snapshot is, to sort by."""
    return int(path.name.split("-")[1]), path.name
