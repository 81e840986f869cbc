"""Validation of checkpoints and exports, which may be damaged or hostile, without TensorFlow."""

import json
import math
from pathlib import Path
from types import NoneType
from typing import Any

from huetune.data_tools.common.errors import CheckpointError, first_line
from huetune.data_tools.photos.source import MAX_SCENES
from huetune.data_tools.storage.atomic import recover
from huetune.data_tools.storage.checksums import STATE_FILE, check_files, check_sums, sha256_of
from huetune.model.checkpoint_format import (
    CHECKPOINT_SCHEMA,
    EPOCH_LOG_FILE,
    EXPORT_LISTED_FILES,
    EXPORT_SCHEMA,
    FILES_BY_SCHEMA,
    PREPARATION,
    SETTINGS_FILE,
    Checkpoint,
)
from huetune.model.config import Config

MAX_SETTINGS_BYTES = 2**26
"""Limit of the size of the settings, which have about 2,000 bytes and 32 more for each photo."""
MAX_VALUES = 100
MAX_TEXT_LENGTH = 200


def validated_checkpoint(folder: Path) -> tuple[int, Checkpoint]:
    """Return the schema and the validated settings of a checkpoint or an export.

    Raises:
        CheckpointError: the folder is missing, damaged, or written by a newer version.
        StorageError: replacing the folder was interrupted, see `data_tools.storage.atomic.recover`.
    """
    path = folder / SETTINGS_FILE
    recover(folder)
    try:
        check_files(folder)
        record = read_json_object(path)
        schema = record.pop("schema")
        if type(schema) is not int or schema not in FILES_BY_SCHEMA:
            supported = f"1 to {max(FILES_BY_SCHEMA)}"
            raise CheckpointError(
                f"{str(folder)!r}: has schema {str(schema)[:20]!r}, but this huetune reads schemas {supported}; use a "
                f"newer huetune"
            )
        if schema > 1:
            check_sums(folder, unlisted=(EPOCH_LOG_FILE,))
            _check_file_names(folder, schema)
        if schema == EXPORT_SCHEMA:
            _check_export(folder, record)
        return schema, _checkpoint(record)
    except FileNotFoundError:
        raise CheckpointError(f"{str(folder)!r}: not a checkpoint or export, it has no {SETTINGS_FILE}") from None
    except CheckpointError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise CheckpointError(f"{str(path)!r}: damaged ({first_line(error)[:200]}); export the model again") from None


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Unlike `json.load`, this function rejects NaN, infinite numbers, duplicate keys and very large files.

    Raises:
        ValueError: the file is too large, or does not hold an object of valid JSON.
        OSError: the file cannot be read.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a key is duplicated")
        return dict(pairs)

    def reject(constant: str) -> None:
        raise ValueError(f"{constant} is not a JSON number")

    if (size := path.stat().st_size) > MAX_SETTINGS_BYTES:
        raise ValueError(f"it has {size} bytes, more than {MAX_SETTINGS_BYTES}")
    record = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique, parse_constant=reject)
    if not isinstance(record, dict):
        raise ValueError("it must hold a JSON object")
    return record


def short_values(name: str, values: Any) -> dict[str, Any]:
    """Return a mapping if it holds only a few short printable strings, finite numbers and None.

    Args:
        name: of the mapping, for the error.
        values: a mapping of unknown origin.

    Raises:
        ValueError: it holds anything else.
    """
    if not isinstance(values, dict) or len(values) > MAX_VALUES:
        raise ValueError(f"{name} must be a mapping of up to {MAX_VALUES} values")
    for item in (*values, *values.values()):
        if isinstance(item, str):
            valid = len(item) <= MAX_TEXT_LENGTH and item.isprintable()
        else:
            valid = item is None or (isinstance(item, (bool, int, float)) and math.isfinite(item))
        if not valid:
            raise ValueError(f"{name} must hold only short strings and finite numbers")
    return values


def _check_file_names(folder: Path, schema: int) -> None:
    optional = {EPOCH_LOG_FILE, STATE_FILE} if schema == CHECKPOINT_SCHEMA else {EPOCH_LOG_FILE}
    if {file.name for file in folder.iterdir()} - optional != FILES_BY_SCHEMA[schema]:
        expected = ", ".join(sorted(FILES_BY_SCHEMA[schema]))
        raise CheckpointError(f"{str(folder)!r}: holds other files than the files of a model: {expected}")


def _check_export(folder: Path, record: dict[str, Any]) -> None:
    """Check, and remove from the record, the settings that only an export has."""
    preparation, files = record.pop("preparation"), record.pop("files")
    short_values("metric", record.pop("metric"))
    if preparation != PREPARATION:
        raise CheckpointError(
            f"{str(folder)!r}: its photos were prepared differently; use the version of huetune that exported it"
        )
    for name in EXPORT_LISTED_FILES:
        expected = {"bytes": (folder / name).stat().st_size, "sha256": sha256_of(folder / name)}
        if files.pop(name) != expected:
            raise CheckpointError(
                f"{str(folder / name)!r}: damaged, its size or SHA-256 is not the one in {SETTINGS_FILE}"
            )
    if files:
        raise ValueError("it lists unknown files")


def _checkpoint(record: dict[str, Any]) -> Checkpoint:
    config = Config.of(short_values("config", record.pop("config")))
    seed, mean_chroma = record.pop("seed"), record.pop("mean_chroma")
    if type(seed) is not int or not 0 <= seed < 2**63:
        raise ValueError("seed must be a whole number from 0 to 2^63 - 1")
    if len(mean_chroma) != 2 or not all(type(value) is float and abs(value) <= 1 for value in mean_chroma):
        raise ValueError("mean_chroma must be two numbers from -1 to 1")
    seen, source = record["photos"].pop("seen", None), record["origin"].pop("source", None)
    metrics = short_values("figures", record.pop("figures"))
    photos, origin, versions = (short_values(name, record.pop(name)) for name in ("photos", "origin", "versions"))
    if record:
        raise ValueError(f"{next(iter(record))!r} is unknown")
    if seen is not None:
        if not isinstance(seen, dict) or not all(isinstance(value, str) for value in seen.values()):
            raise ValueError("seen must map names to strings")
        photos["seen"] = seen
    if source is not None:
        first = origin["first"]
        if first is not None and (type(first) is not int or first < 1):
            raise ValueError("first must be a number of photos, or null")
        origin["source"] = _photo_source(source)
    return Checkpoint(config, seed, metrics, tuple(mean_chroma), photos, origin, versions)


def _photo_source(record: Any) -> dict[str, Any]:
    """Return the record of a `Source`, as `huetune train` stores it."""
    types = {"folder": (str, NoneType), "scenes": (int, NoneType), "limit": (int, NoneType), "classes": (list,)}
    # Older versions did not store "reading" and "seed".
    valid = isinstance(record, dict) and record.keys() - {"reading", "seed"} == types.keys()
    if not valid or not all(isinstance(record[name], types[name]) for name in types):
        raise ValueError("source does not describe where the photos are")
    if not all(isinstance(name, str) for name in record["classes"]):
        raise ValueError("source has a class that is not a string")
    scenes, limit = record["scenes"], record["limit"]
    if any(isinstance(number, bool) for number in (scenes, limit)) or (scenes and record["folder"]):
        raise ValueError("source does not describe where the photos are")
    if (scenes is not None and not 2 <= scenes <= MAX_SCENES) or (limit is not None and limit < 1):
        raise ValueError("source has an impossible number of photos")
    if type(record.get("reading", 1)) is not int or type(record.get("seed")) not in (int, NoneType):
        raise ValueError("source does not describe how the photos were read")
    return record
