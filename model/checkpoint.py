"""A trained model on disk: weights, and all that is needed to build it, judge it and trust it."""

import json
import os
import platform
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_tools.errors import CheckpointError
from model.config import Config

if TYPE_CHECKING:
    import keras

    from model.colorizer import Colorizer

SCHEMA = 1
SETTINGS = "settings.json"
WEIGHTS = "model.weights.h5"
PARTS = ("huetune", "tensorflow", "keras", "numpy", "pillow")


@dataclass(frozen=True)
class Checkpoint:
    """What is known of a trained model besides its weights.

    Attributes:
        config: its settings.
        seed: that it was trained from.
        figures: of the epoch whose weights these are, as `Trainer.epoch` returns them.
        mean_chroma: float [2], of the training photos: the zero line's answer.
        photos: `training`, `validation` and `test`: counts; `fingerprint`: sha256 over the decoded pixels of all.
        origin: what it was trained for: `run`, `trial` and `objective` of a search, `preset` where it has a name.
        versions: of Python and the packages that made it.
    """

    config: Config
    seed: int
    figures: Mapping[str, float]
    mean_chroma: tuple[float, ...]
    photos: Mapping[str, Any]
    origin: Mapping[str, Any]
    versions: Mapping[str, str] = field(default_factory=lambda: part_versions())


def part_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a model's numbers depend on."""
    return {"python": platform.python_version(), **{part: version(part) for part in PARTS}}


def save(folder: Path, checkpoint: Checkpoint, vae: "keras.Model") -> None:
    """Write a checkpoint, whole or not at all.

    It is written beside its place, flushed to the disk and only then renamed: whoever finds the folder can load it.

    Args:
        folder: made here, its parents too; an older checkpoint there is replaced.
        checkpoint: what goes beside the weights.
        vae: the trained `Network.vae`.

    Raises:
        OSError: the disk would not take it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        vae.save_weights(draft / WEIGHTS)
        (draft / SETTINGS).write_text(json.dumps({"schema": SCHEMA, **asdict(checkpoint)}, indent=2) + "\n")
        for path in (draft / WEIGHTS, draft / SETTINGS, draft):
            _flush(path)
        draft.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    _flush(folder.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(folder: Path) -> Checkpoint:
    """Return what is known of a checkpoint, without TensorFlow.

    Raises:
        CheckpointError: it is not there, is damaged, or comes from a newer huetune.
    """
    path = folder / SETTINGS
    try:
        record = json.loads(path.read_text())
        schema = record.pop("schema")
        if schema != SCHEMA:
            raise CheckpointError(f"{str(folder)!r}: schema {schema!r}, this huetune reads {SCHEMA}; use a newer one")
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

    The layers are built from the checked settings and only numbers are read from the file: a stored Keras model can
    run code of whoever made it.

    Raises:
        CheckpointError: it is not there, is damaged, or its weights are another model's.
    """
    from model.colorizer import Colorizer
    from model.network import build

    checkpoint = read(folder)
    network = build(checkpoint.config)
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise CheckpointError(f"{str(folder)!r}: it has no {WEIGHTS}; export the model again")
    try:
        network.vae.load_weights(weights)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{str(weights)!r}: damaged or of another model ({reason})") from None
    return checkpoint, Colorizer(network, checkpoint.config)
