"""A photo and what a model makes of it: whoever loads the model elsewhere makes sure that it still does.

Sums say that a file is as it was sealed; whoever changes a file can seal it anew. A probe says that these weights, with
this program, on this machine, give these colors. It knows weights that were swapped, and a TensorFlow that computes
something else. It does not know who made the model: whoever can change the weights on purpose can make a probe, too.
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
TOLERANCE = 1e-4
"""Between the same chroma, of -1 to 1, on two machines. Measured: 6e-7 between processors (oneDNN held to SSE 4.1, to
AVX2 or switched off) and numbers of threads; 0.06 after one more step of training."""
SHAPES = {
    "grey": ((1, PHOTO_SIDE, PHOTO_SIDE), np.dtype(np.uint8)),
    "latent": ((1, SAMPLES, LATENT), np.dtype(np.float32)),
    "chroma": ((1, SAMPLES, PATCHES_PER_SIDE, PATCHES_PER_SIDE, 2), np.dtype(np.float32)),
}


def write(path: Path, colorizer: Colorizer) -> None:
    """Write a probe: a scene of the garden, for nobody's photo is to leave with a model.

    The latent vectors are in it, too: another NumPy might draw others.

    Raises:
        OSError: the disk would not take it.
    """
    gray = prepare(garden(1), ["probe"]).gray
    latent = np.random.default_rng(0).standard_normal(SHAPES["latent"][0], np.float32)
    with _whole_floats():
        npz.write(path, {"grey": gray, "latent": latent, "chroma": colorizer.paint(gray, latent)})


@contextlib.contextmanager
def _whole_floats() -> Iterator[None]:
    """Have a GPU compute as a processor does: by itself it leaves 13 of the 23 bits of each factor away."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


def check(path: Path, colorizer: Colorizer) -> None:
    """Make sure that a model makes of its probe what it made when it was exported.

    Raises:
        CheckpointError: it does not, or the probe is damaged.
    """
    probe = npz.read(path, (np.float32, np.uint8))
    shapes = {name: (array.shape, array.dtype) for name, array in probe.items()}
    if shapes != SHAPES:
        raise CheckpointError(f"{str(path)!r}: is no probe; export the model again")
    with _whole_floats():
        painted = colorizer.paint(probe["grey"], probe["latent"])
    apart = float(np.abs(painted - probe["chroma"]).max())
    if not apart <= TOLERANCE:
        raise CheckpointError(
            f"{str(path.parent)!r}: its weights do not give the colors that its probe says, {apart:.2g} apart; they "
            f"are another model's, or this machine computes otherwise: export the model again"
        )
