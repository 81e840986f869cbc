"""Reading and writing of .npz files that contain plain arrays only, safe for files from strangers."""

import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from huetune.data_tools.common.errors import CheckpointError, first_line

MAX_ARRAYS = 1000
"""The largest number of arrays in a file. A model has about 100."""
PLAIN_DTYPE_KINDS = "biufU"
"""NumPy's kinds of Booleans, numbers and text: the types without references to Python objects."""


def write(path: Path, arrays: Mapping[str, NDArray]) -> None:
    """Write arrays to an uncompressed .npz file.

    Args:
        path: of the file.
        arrays: by name.

    Raises:
        OSError: the file cannot be written.
    """
    np.savez(path, **arrays)  # type: ignore[arg-type]  # for mypy, an array could be passed as the flag allow_pickle


def read(
    path: Path, dtypes: Sequence[DTypeLike] | None = (np.float32,), remedy: str = "export the model again"
) -> dict[str, NDArray[Any]]:
    """Read the arrays of an uncompressed .npz file, and check that they are plain and have the declared sizes.

    `numpy.load` allocates whatever size a header declares, decompresses without a limit, and returns the last of two
    arrays with the same name. This function never needs more memory than the file has bytes.

    Args:
        path: of the file. The caller has checked that its size is acceptable.
        dtypes: allowed types of the arrays; None for all types of `PLAIN_DTYPE_KINDS`.
        remedy: what the error tells the user to do.

    Returns:
        The arrays by name.

    Raises:
        CheckpointError: the file does not exist, is damaged, or contains anything else.
    """
    try:
        with zipfile.ZipFile(path) as file:
            members = file.infolist()
            if len({member.filename for member in members}) != len(members) or len(members) > MAX_ARRAYS:
                raise ValueError(f"{len(members)} arrays, more than {MAX_ARRAYS} or with equal names")
            if sum(member.file_size for member in members) > path.stat().st_size:
                raise ValueError("the declared size of its arrays is larger than the file")
            return {member.filename.removesuffix(".npy"): _array(file, member, dtypes) for member in members}
    except FileNotFoundError:
        raise CheckpointError(f"{str(path)!r}: does not exist; {remedy}") from None
    except Exception as error:  # zipfile and NumPy's header reader raise many types, also TokenError and TypeError
        raise CheckpointError(f"{str(path)!r}: damaged ({first_line(error)[:200]}); {remedy}") from None


def _array(file: zipfile.ZipFile, member: zipfile.ZipInfo, dtypes: Sequence[DTypeLike] | None) -> NDArray[Any]:
    """Read one array.

    Raises:
        ValueError: it is compressed, or its type or size is wrong.
    """
    if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
        raise ValueError(f"{member.filename!r} is compressed; huetune writes uncompressed arrays")
    with file.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran_order, dtype = readers[version](stream)
        plain = dtype.kind in PLAIN_DTYPE_KINDS
        if not (plain if dtypes is None else dtype in [np.dtype(allowed) for allowed in dtypes]):
            raise ValueError(f"{member.filename!r} has the type {dtype}, which is not allowed")
        if math.prod(shape) * dtype.itemsize != member.file_size - stream.tell():
            raise ValueError(f"{member.filename!r} declares the shape {shape}, which does not match its size")
        array = np.frombuffer(stream.read(), dtype)
    return array.reshape(shape, order="F" if fortran_order else "C")
