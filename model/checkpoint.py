"""Saving and loading checkpoints and exports of trained models."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from huetune.data_tools.common.errors import CheckpointError, first_line
from huetune.data_tools.storage.atomic import atomic_folder
from huetune.data_tools.storage.checksums import sha256_of
from huetune.model import npz
from huetune.model.checkpoint_format import (
    CHECKPOINT_SCHEMA,
    EPOCH_LOG_FILE,
    EXPORT_LISTED_FILES,
    EXPORT_SCHEMA,
    MODEL_CARD_FILE,
    PREPARATION,
    SELF_TEST_FILE,
    SETTINGS_FILE,
    WEIGHTS_FILE,
    Checkpoint,
)
from huetune.model.checkpoint_validation import short_values, validated_checkpoint
from huetune.model.config import Config

if TYPE_CHECKING:
    from huetune.data_tools.common.keras_backend import keras
    from huetune.model.colorizer import Colorizer
    from huetune.model.network import Network


def save_checkpoint(folder: Path, checkpoint: Checkpoint, vae: "keras.Model") -> None:
    """Save a checkpoint atomically.

    Args:
        folder: is created with its parents; an older checkpoint in it is replaced.
        checkpoint: settings of the model and how it was trained.
        vae: the trained `Network.vae`.

    Raises:
        OSError: a file cannot be written.
    """
    with atomic_folder(folder) as draft:
        write_checkpoint(draft, checkpoint, vae)


def write_checkpoint(draft: Path, checkpoint: Checkpoint, vae: "keras.Model | None") -> None:
    """Write the files of a checkpoint into a draft of `atomic_folder`.

    Args:
        draft: an empty folder.
        checkpoint: settings of the model and how it was trained.
        vae: the trained `Network.vae`; None if the caller writes the weights.

    Raises:
        OSError: a file cannot be written.
    """
    if vae is not None:
        npz.write(draft / WEIGHTS_FILE, {weight.path: weight.numpy() for weight in vae.trainable_weights})
    _write_settings(draft, {"schema": CHECKPOINT_SCHEMA, **checkpoint.record})


def write_export(checkpoint: Path, draft: Path, metric: Mapping[str, Any], card: str) -> None:
    """Write the files of an export into a draft of `atomic_folder`.

    Args:
        checkpoint: folder of the model to export.
        draft: an empty folder.
        metric: the confirmed score of the model and what belongs to it: short strings and numbers.
        card: Markdown of the model card.

    Raises:
        CheckpointError: the model is damaged.
        OSError: a file cannot be written.
    """
    from huetune.model import self_test

    loaded, colorizer = load_colorizer(checkpoint)
    (draft / WEIGHTS_FILE).write_bytes((checkpoint / WEIGHTS_FILE).read_bytes())
    (draft / MODEL_CARD_FILE).write_text(card, encoding="utf-8")
    self_test.write(draft / SELF_TEST_FILE, colorizer)
    files = {
        name: {"bytes": (draft / name).stat().st_size, "sha256": sha256_of(draft / name)}
        for name in EXPORT_LISTED_FILES
    }
    export_settings = {"preparation": PREPARATION, "metric": dict(metric), "files": files}
    _write_settings(draft, {"schema": EXPORT_SCHEMA, **loaded.record, **export_settings})


def _write_settings(folder: Path, record: Mapping[str, Any]) -> None:
    (folder / SETTINGS_FILE).write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_epoch_log(folder: Path) -> list[dict[str, Any]]:
    """Return the metrics of each epoch that `huetune train` logged beside a checkpoint, in order.

    Returns:
        An empty list if the folder has no log.

    Raises:
        CheckpointError: the log is damaged.
    """
    try:
        epochs = json.loads((folder / EPOCH_LOG_FILE).read_text(encoding="utf-8"))
        if not isinstance(epochs, list):
            raise ValueError("it must hold a list of epochs")
        numbers = [short_values("epoch", epoch).get("epoch") for epoch in epochs]
        if numbers != list(range(1, len(epochs) + 1)):
            raise ValueError("its epochs must be numbered from 1 on")
        return epochs
    except FileNotFoundError:
        return []
    except (OSError, ValueError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{str(folder / EPOCH_LOG_FILE)!r}: damaged ({first_line(error)[:200]})") from None


def read_checkpoint(folder: Path) -> Checkpoint:
    """Return the settings of a checkpoint or an export, without its weights and without TensorFlow.

    The files are validated, because the folder may be damaged or hostile.

    Raises:
        CheckpointError: the folder is missing, damaged, or written by a newer version.
        StorageError: replacing the folder was interrupted, see `data_tools.storage.atomic.recover`.
    """
    return validated_checkpoint(folder)[1]


def load_colorizer(
    folder: Path, built: "dict[tuple[Any, ...], tuple[Network, Colorizer]] | None" = None
) -> tuple[Checkpoint, "Colorizer"]:
    """Return a checkpoint or an export, and its model, ready to colorize.

    The layers are built from the validated settings, and only arrays are read from the file, because a saved Keras
    model can contain code. The self-test of an export is run.

    Args:
        folder: of the model.
        built: a cache of models by their `Config.structure`, which is extended. Building and tracing a model takes a
            second. A cached model gets the weights of this folder, so colorizers returned for it before use them, too.

    Raises:
        CheckpointError: the folder is missing or damaged, its weights are those of another model, or its self-test
            fails.
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
    if schema == EXPORT_SCHEMA:
        from huetune.model import self_test

        self_test.check(folder / SELF_TEST_FILE, colorizer)
    return checkpoint, colorizer


def load_network(folder: Path) -> tuple[Checkpoint, "Network"]:
    """Return a checkpoint or an export, and its Keras models; the self-test of an export is not run.

    Raises:
        CheckpointError: the folder is missing or damaged, or its weights are those of another model.
    """
    from huetune.model.network import build

    return _load(folder, build)[1:]


def _load(folder: Path, network_of: "Callable[[Config], Network]") -> tuple[int, Checkpoint, "Network"]:
    schema, checkpoint = validated_checkpoint(folder)
    weights = npz.read(folder / WEIGHTS_FILE)
    network = network_of(checkpoint.config)
    _set_weights(folder / WEIGHTS_FILE, weights, network.vae)
    return schema, checkpoint, network


def _set_weights(path: Path, values: Mapping[str, np.ndarray], vae: "keras.Model") -> None:
    """Set all weights of a model, from arrays that must be exactly those of its layers.

    Keras's `load_weights` only warns of a layer that the file lacks, and leaves its random weights.
    """
    shapes = {name: value.shape for name, value in values.items()}
    if shapes != {weight.path: tuple(weight.shape) for weight in vae.trainable_weights}:
        raise CheckpointError(
            f"{str(path)!r}: holds the weights of another model than {SETTINGS_FILE} describes; export the model again"
        )
    if not all(np.isfinite(value).all() for value in values.values()):
        raise CheckpointError(f"{str(path)!r}: holds a weight that is not a finite number; use another model")
    for weight in vae.trainable_weights:
        weight.assign(values[weight.path])
