"""A trained model on disk: weights, and all that is needed to build it, judge it and trust it."""

import json
import math
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

import numpy as np

from huetune.data_tools.common.errors import CheckpointError, first_line
from huetune.data_tools.photos.color import PATCH_SIDE, PHOTO_SIDE
from huetune.data_tools.photos.source import MAX_SCENES
from huetune.data_tools.photos.versions import PREPARATION_VERSION
from huetune.data_tools.storage.atomic import atomic_folder, recover
from huetune.data_tools.storage.checksums import STATE_FILE, SUMS_FILE, check_files, check_sums, sha256_of
from huetune.model import npz
from huetune.model.config import Config

if TYPE_CHECKING:
    from huetune.data_tools.common.keras_backend import keras
    from huetune.model.colorizer import Colorizer
    from huetune.model.network import Network

SCHEMA = 2
"""Of what a trial keeps; 1 had no sums."""
EXPORTED = 3
"""Of what left its run: with a card, a probe, and what it takes to use the model without knowing the program."""
SETTINGS, WEIGHTS, CARD, PROBE = "settings.json", "weights.npz", "README.md", "probe.npz"
FILES = {1: {SETTINGS, WEIGHTS}, 2: {SETTINGS, WEIGHTS, SUMS_FILE}, 3: {SETTINGS, WEIGHTS, SUMS_FILE, CARD, PROBE}}
"""Of each schema, all of them."""
LOG = "log.json"
"""The figures of each epoch of its training, which only `huetune train` keeps here: a search's are in its study. So it
keeps its training state, as STATE."""
MAX_CACHED_SETS = 2**26
"""Characters of the settings; they have 2,000 and 32 a photo."""
PREPARATION = {
    "version": PREPARATION_VERSION,
    "side": PHOTO_SIDE,
    "box": PATCH_SIDE,
    "luma": "ITU-R BT.601, 0 to 1",
    "chroma": "for each box the mean of saturation x (cos hue, sin hue), saturation = (max - min) / 255",
}
"""What the pixels of a photo, in sRGB, become before a model sees them: an export that says otherwise is refused."""
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
            `seen`: what the first two are known again by, see `Split.seen`; `order`, see `Split.order`. An older
            huetune kept neither, and a search keeps the order in its manifest.
        origin: what it was trained for: `run`, `trial` and `objective` of a search, `preset` where it has a name,
            `based_on` where it has settings of its own beside a preset's. Without a search also the `epochs` asked for,
            `begun`, ISO 8601 in UTC (of an older huetune in local time without an offset), and how its photos are read
            again: `source`, and `first`, how many of them it learned from, None where the seed decides.
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
    with atomic_folder(folder) as draft:
        write(draft, checkpoint, vae)


def write(draft: Path, checkpoint: Checkpoint, vae: "keras.Model | None") -> None:
    """Write the files of a checkpoint.

    Args:
        draft: a folder, sealed afterwards.
        checkpoint: what goes beside the weights.
        vae: the trained `Network.vae`; None leaves the weights to the caller.

    Raises:
        OSError: the disk would not take it.
    """
    if vae is not None:
        npz.write(draft / WEIGHTS, {weight.path: weight.numpy() for weight in vae.trainable_weights})
    _write_settings(draft, {"schema": SCHEMA, **asdict(checkpoint)})


def export(checkpoint: Path, draft: Path, metric: Mapping[str, Any], card: str) -> None:
    """Write a model as it leaves its run.

    Args:
        checkpoint: folder of the model; one that cannot be trusted goes nowhere.
        draft: an empty folder, sealed afterwards.
        metric: what is known of how good it is.
        card: what people read.

    Raises:
        CheckpointError: the model is damaged.
        OSError: the disk would not take it.
    """
    from huetune.model import self_test

    known, colorizer = load(checkpoint)
    (draft / WEIGHTS).write_bytes((checkpoint / WEIGHTS).read_bytes())
    (draft / CARD).write_text(card, encoding="utf-8")
    self_test.write(draft / PROBE, colorizer)
    files = {name: {"bytes": (draft / name).stat().st_size, "sha256": sha256_of(draft / name)} for name in _SEALED}
    about = {"preparation": PREPARATION, "metric": dict(metric), "files": files}
    _write_settings(draft, {"schema": EXPORTED, **asdict(known), **about})


_SEALED = (WEIGHTS, CARD, PROBE)


def _write_settings(folder: Path, record: Mapping[str, Any]) -> None:
    (folder / SETTINGS).write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def log_of(folder: Path) -> list[dict[str, Any]]:
    """Return the figures of each epoch of a checkpoint's training, in order; empty where they are not kept beside it.

    Raises:
        CheckpointError: they are damaged.
    """
    try:
        epochs = json.loads((folder / LOG).read_text(encoding="utf-8"))
        if not isinstance(epochs, list) or [_plain("epoch", one).get("epoch") for one in epochs] != _counted(epochs):
            raise ValueError("no list of epochs")
        return epochs
    except FileNotFoundError:
        return []
    except (OSError, ValueError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{str(folder / LOG)!r}: damaged ({first_line(error)[:200]})") from None


def _counted(epochs: list[Any]) -> list[int]:
    return list(range(1, len(epochs) + 1))


def read(folder: Path) -> Checkpoint:
    """Return what is known of a checkpoint or an export, without TensorFlow.

    Nothing in the folder is believed: it may be damaged, or made by somebody who wants to do harm.

    Raises:
        CheckpointError: it is not there, is damaged, or comes from a newer huetune.
        StorageError: replacing it was interrupted, see `data_tools.storage.atomic.recover`.
    """
    return _read(folder)[1]


def _read(folder: Path) -> tuple[int, Checkpoint]:
    path = folder / SETTINGS
    recover(folder)
    try:
        check_files(folder)
        record = _record(path)
        schema = record.pop("schema")
        if type(schema) is not int or schema not in FILES:
            readable = f"{1} to {max(FILES)}"
            raise CheckpointError(
                f"{str(folder)!r}: schema {str(schema)[:20]!r}, this huetune reads {readable}; use a newer one"
            )
        if schema > 1:
            check_sums(folder, unlisted=(LOG,))
        there = {file.name for file in folder.iterdir()}
        besides = {LOG, STATE_FILE} if schema == SCHEMA else {LOG}
        if schema > 1 and there - besides != FILES[schema]:
            raise CheckpointError(
                f"{str(folder)!r}: holds other files than a model has: {', '.join(sorted(FILES[schema]))}"
            )
        if schema == EXPORTED:
            _check_about(folder, record)
        return schema, _checkpoint(record)
    except FileNotFoundError:
        raise CheckpointError(f"{str(folder)!r}: not a checkpoint or export, it has no {SETTINGS}") from None
    except CheckpointError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise CheckpointError(f"{str(path)!r}: damaged ({first_line(error)[:200]}); export the model again") from None


def _record(path: Path) -> dict[str, Any]:
    """What a JSON file says, without what JSON has no words for and Python's reader takes: NaN, a name twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a name is there twice")
        return dict(pairs)

    def refused(word: str) -> None:
        raise ValueError(f"{word} is no number")

    if path.stat().st_size > MAX_CACHED_SETS:
        raise ValueError(f"{path.stat().st_size} bytes long")
    record = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=once, parse_constant=refused)
    if not isinstance(record, dict):
        raise ValueError("no object")
    return record


def _check_about(folder: Path, record: dict[str, Any]) -> None:
    """Look at what only an export says."""
    preparation, files = record.pop("preparation"), record.pop("files")
    _plain("metric", record.pop("metric"))
    if preparation != PREPARATION:
        raise CheckpointError(f"{str(folder)!r}: its photos are prepared in another way than here; use its own huetune")
    for name in _SEALED:
        about = files.pop(name)
        if about != {"bytes": (folder / name).stat().st_size, "sha256": sha256_of(folder / name)}:
            raise CheckpointError(f"{str(folder / name)!r}: damaged, it is not what {SETTINGS} says")
    if files:
        raise ValueError("files of which nothing is known")


def _checkpoint(record: dict[str, Any]) -> Checkpoint:
    config = Config.of(_plain("config", record.pop("config")))
    seed, mean_chroma = record.pop("seed"), record.pop("mean_chroma")
    if type(seed) is not int or not 0 <= seed < 2**63:
        raise ValueError("seed is no seed")
    if len(mean_chroma) != 2 or not all(type(value) is float and abs(value) <= 1 for value in mean_chroma):
        raise ValueError("mean_chroma is no color")
    seen, source = record["photos"].pop("seen", None), record["origin"].pop("source", None)
    about = {name: _plain(name, record.pop(name)) for name in ("figures", "photos", "origin", "versions")}
    if record:
        raise ValueError(f"{next(iter(record))!r} is unknown")
    if seen is not None:
        if not isinstance(seen, dict) or not all(isinstance(word, str) for word in seen.values()):
            raise ValueError("seen is no list of marks")
        about["photos"]["seen"] = seen
    if source is not None:
        learned = about["origin"]["first"]
        if learned is not None and (type(learned) is not int or learned < 1):
            raise ValueError("first is no number of photos")
        about["origin"]["source"] = _source(source)
    return Checkpoint(config=config, seed=seed, mean_chroma=tuple(mean_chroma), **about)


def _source(record: Any) -> dict[str, Any]:
    """Where the photos of a training were, which `huetune train` keeps."""
    kinds = {"folder": (str, NoneType), "scenes": (int, NoneType), "limit": (int, NoneType), "classes": (list,)}
    # An older huetune did not record how it read them.
    fits = isinstance(record, dict) and record.keys() - {"reading", "seed"} == kinds.keys()
    if not fits or not all(isinstance(record[name], kinds[name]) for name in kinds):
        raise ValueError("source says not where photos are")
    if not all(isinstance(name, str) for name in record["classes"]):
        raise ValueError("source has a class that is no word")
    scenes, limit = record["scenes"], record["limit"]
    if any(isinstance(number, bool) for number in (scenes, limit)) or (scenes and record["folder"]):
        raise ValueError("source says not where photos are")
    if (scenes is not None and not 2 <= scenes <= MAX_SCENES) or (limit is not None and limit < 1):
        raise ValueError("source has a number of photos that cannot be")
    if type(record.get("reading", 1)) is not int or type(record.get("seed")) not in (int, NoneType):
        raise ValueError("source says not how photos were read")
    return record


def _plain(name: str, values: Any) -> dict[str, Any]:
    """Return a few words, numbers and nothing more, fit to be printed."""
    if not isinstance(values, dict) or len(values) > 100:
        raise ValueError(f"{name} is no short list of values")
    for key, value in values.items():
        for part in (key, value):
            fits = len(part) <= 200 and part.isprintable() if isinstance(part, str) else part is None or _number(part)
            if not fits:
                raise ValueError(f"{name} has a value that is no short word or number")
    return values


def _number(value: Any) -> bool:
    return isinstance(value, (bool, int, float)) and math.isfinite(value)


def load(
    folder: Path, built: "dict[tuple[Any, ...], tuple[Network, Colorizer]] | None" = None
) -> tuple[Checkpoint, "Colorizer"]:
    """Return a checkpoint or an export and its model, ready to colorize.

    The layers are built from the checked settings and only numbers are read from the file: a stored Keras model can
    run code of whoever made it. Of an export the probe is run, too.

    Args:
        folder: of the model.
        built: models by their `Config.structure`, for the next call. To build and trace one takes a second; where there
            is one of the structure it gets these weights, and whoever still has its colorizer has another model.

    Raises:
        CheckpointError: it is not there, is damaged, or its weights are another model's.
    """
    from huetune.model.colorizer import Colorizer
    from huetune.model.network import build

    models = {} if built is None else built

    def network_of(config: Config) -> "Network":
        if config.structure not in models:
            network = build(config)
            models[config.structure] = network, Colorizer(network, config)
        return models[config.structure][0]

    schema, checkpoint, _ = _load(folder, network_of)
    colorizer = models[checkpoint.config.structure][1]
    if schema == EXPORTED:
        from huetune.model import self_test

        self_test.check(folder / PROBE, colorizer)
    return checkpoint, colorizer


def load_network(folder: Path) -> tuple[Checkpoint, "Network"]:
    """Return a checkpoint or an export and its Keras models, loaded as by `load`, but for the probe.

    Raises:
        CheckpointError: it is not there, is damaged, or its weights are another model's.
    """
    from huetune.model.network import build

    return _load(folder, build)[1:]


def _load(folder: Path, network_of: "Callable[[Config], Network]") -> tuple[int, Checkpoint, "Network"]:
    schema, checkpoint = _read(folder)
    weights = npz.read(folder / WEIGHTS)
    network = network_of(checkpoint.config)
    _set_weights(folder / WEIGHTS, weights, network.vae)
    return schema, checkpoint, network


def _set_weights(path: Path, values: Mapping[str, np.ndarray], vae: "keras.Model") -> None:
    """Set every weight from a file that holds these and no others.

    Keras's own `load_weights` leaves a layer that the file does not know at its random values, with a warning.
    """
    shapes = {name: value.shape for name, value in values.items()}
    if shapes != {weight.path: tuple(weight.shape) for weight in vae.trainable_weights}:
        raise CheckpointError(f"{str(path)!r}: holds the weights of another model than {SETTINGS} describes")
    if not all(np.isfinite(value).all() for value in values.values()):
        raise CheckpointError(f"{str(path)!r}: holds a weight that is no finite number; take another model")
    for weight in vae.trainable_weights:
        weight.assign(values[weight.path])
