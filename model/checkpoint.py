"""A trained model on disk: weights, and all that is needed to build it, judge it and trust it."""

import json
import platform
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_tools.errors import CheckpointError
from data_tools.folder import check_sums, sealed
from model.config import Config

if TYPE_CHECKING:
    import keras

    from model.colorizer import Colorizer
    from model.network import Network

SCHEMA = 2
"""1 had no sums."""
SETTINGS = "settings.json"
WEIGHTS = "weights.npz"
LOG = "log.json"
"""The figures of each epoch of its training, which only `huetune train` keeps here: a search's are in its study."""
PARTS = ("huetune", "tensorflow", "keras", "numpy", "pillow")


@dataclass(frozen=True)
class Checkpoint:
    """What is known of a trained model besides its weights.

    Attributes:
        config: its settings.
        seed: that it was trained from.
        figures: of the epoch whose weights these are, as `Trainer.epoch` returns them.
        mean_chroma: float [2], of the training photos: the zero line's answer.
        photos: `training`, `validation` and `test`: counts; `fingerprint`: sha256 over the decoded pixels of all;
            `seen`: what the first two are known again by, see `Split.seen`; an older huetune did not keep it.
        origin: what it was trained for: `run`, `trial` and `objective` of a search, `preset` where it has a name.
            Without a search also the `epochs` asked for, `begun`, ISO 8601 in local time, and how its photos are read
            again: `source`, and `first`, how many of them it learnt from, None where the seed decides.
        versions: of Python and the packages that made it.
    """

    config: Config
    seed: int
    figures: Mapping[str, float]
    mean_chroma: tuple[float, ...]
    photos: Mapping[str, Any]
    origin: Mapping[str, Any]
    versions: Mapping[str, str] = field(default_factory=lambda: part_versions())


def part_versions(parts: Iterable[str] = PARTS) -> dict[str, str]:
    """Return the versions of Python and of packages, those that a model's numbers depend on unless told otherwise."""
    return {"python": platform.python_version(), **{part: version(part) for part in parts}}


def save(folder: Path, checkpoint: Checkpoint, vae: "keras.Model") -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        folder: made here, its parents too; an older checkpoint there is replaced.
        checkpoint: what goes beside the weights.
        vae: the trained `Network.vae`.

    Raises:
        OSError: the disk would not take it.
    """
    with sealed(folder) as draft:
        np.savez(draft / WEIGHTS, **{weight.path: weight.numpy() for weight in vae.trainable_weights})
        (draft / SETTINGS).write_text(json.dumps({"schema": SCHEMA, **asdict(checkpoint)}, indent=2) + "\n")


def keep_log(folder: Path, epochs: Sequence[Mapping[str, Any]]) -> None:
    """Put the figures of all epochs so far beside a checkpoint, whole or not at all; its best epoch may be an old one.

    Raises:
        OSError: the disk would not take it.
    """
    with sealed(folder) as draft:
        for name in (SETTINGS, WEIGHTS):
            shutil.copy2(folder / name, draft / name)
        (draft / LOG).write_text(json.dumps(list(epochs), indent=2) + "\n")


def log_of(folder: Path) -> list[dict[str, Any]]:
    """Return the figures of each epoch of a checkpoint's training, in order; empty where they are not kept beside it.

    Raises:
        CheckpointError: they are damaged.
    """
    try:
        return json.loads((folder / LOG).read_text())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{str(folder / LOG)!r}: damaged ({error})") from None


def read(folder: Path) -> Checkpoint:
    """Return what is known of a checkpoint, without TensorFlow.

    Raises:
        CheckpointError: it is not there, is damaged, or comes from a newer huetune.
    """
    path = folder / SETTINGS
    try:
        record = json.loads(path.read_text())
        schema = record.pop("schema")
        if schema not in (1, SCHEMA):
            raise CheckpointError(f"{str(folder)!r}: schema {schema!r}, this huetune reads {SCHEMA}; use a newer one")
        if schema > 1:
            check_sums(folder)
        config = Config.of(record.pop("config"))
        mean_chroma = tuple(float(value) for value in record.pop("mean_chroma"))
        return Checkpoint(config=config, mean_chroma=mean_chroma, **record)
    except FileNotFoundError:
        raise CheckpointError(f"{str(folder)!r}: not a checkpoint or export, it has no {SETTINGS}") from None
    except CheckpointError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{str(path)!r}: damaged ({error}); export the model again") from None


def load(folder: Path) -> tuple[Checkpoint, "Colorizer"]:
    """Return a checkpoint and its model, ready to colorize.

    Raises:
        CheckpointError: it is not there, is damaged, or its weights are another model's.
    """
    from model.colorizer import Colorizer

    checkpoint, network = load_network(folder)
    return checkpoint, Colorizer(network, checkpoint.config)


def load_network(folder: Path) -> tuple[Checkpoint, "Network"]:
    """Return a checkpoint and its Keras models.

    The layers are built from the checked settings and only numbers are read from the file: a stored Keras model can
    run code of whoever made it.

    Raises:
        CheckpointError: it is not there, is damaged, or its weights are another model's.
    """
    from model.network import build

    checkpoint = read(folder)
    network = build(checkpoint.config)
    _load_weights(folder / WEIGHTS, network.vae)
    return checkpoint, network


def _load_weights(path: Path, vae: "keras.Model") -> None:
    """Set every weight from a file that holds these and no others.

    Keras's own `load_weights` leaves a layer that the file does not know at its random values, with a warning.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            values = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise CheckpointError(f"{str(path)!r}: is not there; export the model again") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise CheckpointError(f"{str(path)!r}: damaged ({error}); export the model again") from None
    shapes = {name: value.shape for name, value in values.items()}
    if shapes != {weight.path: tuple(weight.shape) for weight in vae.trainable_weights}:
        raise CheckpointError(f"{str(path)!r}: holds the weights of another model than {SETTINGS} describes")
    for weight in vae.trainable_weights:
        weight.assign(values[weight.path])
