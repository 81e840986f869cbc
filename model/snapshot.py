"""A training under way, on disk: all that it takes to go on from its last epoch."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.errors import CheckpointError
from data_tools.folder import check_sums, sealed
from model.config import Config

STATE, LOG = "state.npz", "log.json"
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
    with sealed(folder) as draft:
        np.savez(draft / STATE, **snapshot.state)  # type: ignore[arg-type]  # NumPy's annotation takes it for a flag
        (draft / LOG).write_text(json.dumps(log) + "\n", encoding="utf-8")


def load(folder: Path) -> Snapshot:
    """Return a snapshot.

    Raises:
        CheckpointError: it is damaged.
    """
    check_sums(folder)
    try:
        log = json.loads((folder / LOG).read_text(encoding="utf-8"))
        with np.load(folder / STATE, allow_pickle=False) as file:
            state = {name: file[name] for name in file.files}
        return Snapshot(Config.of(log["config"]), log["seed"], log["epochs"], state)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{str(folder)!r}: damaged ({error})") from None


def newest(folder: Path) -> list[Path]:
    """Return the snapshots of a trial's folder, that after the most epochs first."""
    return sorted(folder.glob(NAMES), key=order, reverse=True)


def order(path: Path) -> tuple[int, str]:
    """Return how far a snapshot is, to sort by."""
    return int(path.name.split("-")[1]), path.name
