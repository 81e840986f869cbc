"""The self-test of an export: an input and its expected output, which are compared when the export is loaded.

Checksums detect damaged files, but an edited file can get a new checksum. The self-test shows that these weights, with
this program and on this machine, give the expected colors. It detects weights that were swapped, and a TensorFlow that
computes other numbers. It does not prove who made the model: someone who changes the weights can write a new self-test.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from huetune.data_tools.common.errors import CheckpointError
from huetune.data_tools.common.keras_backend import tf
from huetune.data_tools.datasets.synthetic_garden import garden
from huetune.data_tools.photos.color import PATCHES_PER_SIDE, PHOTO_SIDE
from huetune.data_tools.photos.dataset import prepare
from huetune.model import npz
from huetune.model.colorizer import Colorizer
from huetune.model.network import LATENT

SAMPLES = 2
"""Number of latent vectors, and so of expected chroma maps, in a self-test."""
CHROMA_TOLERANCE = 1e-4
"""Largest accepted difference between the expected chroma and that of this machine, both -1..1. Measured: 6e-7 between
processors (oneDNN limited to SSE 4.1 or AVX2, or disabled) and numbers of threads; 0.06 after one more training step.
"""
EXPECTED_ARRAYS = {
    # The stored names: "grey" is the luma of one photo.
    "grey": ((1, PHOTO_SIDE, PHOTO_SIDE), np.dtype(np.uint8)),
    "latent": ((1, SAMPLES, LATENT), np.dtype(np.float32)),
    "chroma": ((1, SAMPLES, PATCHES_PER_SIDE, PATCHES_PER_SIDE, 2), np.dtype(np.float32)),
}


def write(path: Path, colorizer: Colorizer) -> None:
    """Write the self-test of a model.

    Its input is a scene of the synthetic garden, so that no private photo is exported. The latent vectors are stored,
    too, because another version of NumPy might draw others.

    Args:
        path: of the .npz file.
        colorizer: the model that gives the expected output.

    Raises:
        OSError: the file cannot be written.
    """
    gray = prepare(garden(1), ["probe"]).gray
    latent = np.random.default_rng(0).standard_normal(EXPECTED_ARRAYS["latent"][0], np.float32)
    with _full_float32():
        npz.write(path, {"grey": gray, "latent": latent, "chroma": colorizer.paint(gray, latent)})


@contextlib.contextmanager
def _full_float32() -> Iterator[None]:
    """Disable TensorFloat-32, in which a GPU drops 13 of the 23 mantissa bits of each factor."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


def check(path: Path, colorizer: Colorizer) -> None:
    """Check that a model gives the expected output of its self-test.

    Args:
        path: of the self-test in the folder of the model.
        colorizer: the model.

    Raises:
        CheckpointError: the output differs, or the self-test is damaged.
    """
    arrays = npz.read(path, (np.float32, np.uint8))
    if {name: (array.shape, array.dtype) for name, array in arrays.items()} != EXPECTED_ARRAYS:
        raise CheckpointError(f"{str(path)!r}: is not a self-test; export the model again")
    with _full_float32():
        chroma = colorizer.paint(arrays["grey"], arrays["latent"])
    difference = float(np.abs(chroma - arrays["chroma"]).max())
    # Written so that a difference of NaN fails, too.
    if not difference <= CHROMA_TOLERANCE:
        raise CheckpointError(
            f"{str(path.parent)!r}: its colors differ from those of its self-test by {difference:.2g}, more than "
            f"{CHROMA_TOLERANCE:g}; its weights are those of another model, or this machine computes other numbers; "
            f"export the model again"
        )
