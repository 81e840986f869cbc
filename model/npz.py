"""Arrays on disk: numbers, and nothing else that a file could hold."""

import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from huetune.data_tools.common.errors import CheckpointError, first_line

MAX_ARRAYS = 1000
"""The largest number of arrays in a file; a model has 100."""
PLAIN_KINDS = "biufU"
"""NumPy's kinds of truth values, numbers and text: what holds no reference to anything else."""


def write(path: Path, arrays: Mapping[str, NDArray]) -> None:
    """Write arrays as an .npz, uncompressed.

    Raises:
        OSError: the disk would not take it.
    """
    np.savez(path, **arrays)  # type: ignore[arg-type]  # NumPy's annotation takes one for a flag


def read(
    path: Path, dtypes: Sequence[DTypeLike] | None = (np.float32,), remedy: str = "export the model again"
) -> dict[str, NDArray[Any]]:
    """Return the arrays of an .npz that holds plain numbers, each once and as large as it says.

    NumPy's own reader makes room for whatever size a header declares, decompresses without end, and lets the last of
    two arrays of a name win. This one never needs more memory than the file has bytes.

    Args:
        path: of a file whose size was looked at.
        dtypes: that an array may have; None for all of PLAIN_KINDS.
        remedy: for whoever has a file that is something else.

    Raises:
        CheckpointError: it is something else.
    """
    try:
        with zipfile.ZipFile(path) as file:
            members = file.infolist()
            if len({member.filename for member in members}) != len(members) or len(members) > MAX_ARRAYS:
                raise ValueError(f"{len(members)} arrays, some of one name or too many")
            if sum(member.file_size for member in members) > path.stat().st_size:
                raise ValueError("it says that it holds more than it has bytes")
            return {member.filename.removesuffix(".npy"): _array(file, member, dtypes) for member in members}
    except FileNotFoundError:
        raise CheckpointError(f"{str(path)!r}: is not there; {remedy}") from None
    except Exception as error:  # zipfile and NumPy's reader of headers raise nearly anything, TokenError and TypeError
        raise CheckpointError(f"{str(path)!r}: damaged ({first_line(error)[:200]}); {remedy}") from None


def _array(file: zipfile.ZipFile, member: zipfile.ZipInfo, dtypes: Sequence[DTypeLike] | None) -> NDArray[Any]:
    if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
        raise ValueError(f"{member.filename!r} is compressed, which huetune never does")
    with file.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = header[version](stream)
        plain = dtype.kind in PLAIN_KINDS
        if not (plain if dtypes is None else dtype in [np.dtype(allowed) for allowed in dtypes]):
            raise ValueError(f"{member.filename!r} is of {dtype}")
        if math.prod(shape) * dtype.itemsize != member.file_size - stream.tell():
            raise ValueError(f"{member.filename!r} says that it has shape {shape}, which is not what it holds")
        array = np.frombuffer(stream.read(), dtype)
    return array.reshape(shape, order="F" if fortran else "C")
