"""TensorFlow and Keras, with huetune's own settings. All other modules import both from here.

Keras reads `keras.json` (in KERAS_HOME or ~/.keras) and several variables when it is imported: its backend, its float
type, its image data format and its epsilon are those of the machine. With other ones than huetune's, a model has other
weights or other shapes, or Keras cannot be imported at all. So Keras is imported without them, and layers are built
under `own_settings`, for a notebook may have imported Keras first and changed it since.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from huetune.data_tools.common.errors import UserError
from huetune.data_tools.common.keras_compat import imported_backend, restore_home

__all__ = ["keras", "own_settings", "tf"]

FLOATX, IMAGE_DATA_FORMAT, EPSILON = "float32", "channels_last", 1e-7

_KERAS_VARIABLES = (
    "KERAS_BACKEND",
    "KERAS_HOME",
    "KERAS_MAX_EPOCHS",
    "KERAS_MAX_STEPS_PER_EPOCH",
    "KERAS_NNX_ENABLED",
)
"""What Keras 3.15 reads when it is imported. TensorFlow 2.21 contains an older Keras, which reads KERAS_HOME too."""


def _require_tensorflow_backend() -> None:
    """Refuse a process whose Keras computes with something else: a backend cannot be changed after the import."""
    backend = imported_backend()
    if backend and backend != "tensorflow":
        raise UserError(
            f"Keras was imported before huetune, with the backend {backend!r}; huetune needs 'tensorflow': "
            "restart Python and set KERAS_BACKEND=tensorflow before Keras is imported"
        )


@contextlib.contextmanager
def _without_machine_settings() -> Iterator[None]:
    """Have Keras find neither its file nor its variables while it is imported. The file is not written, either."""
    before = {name: os.environ.pop(name) for name in _KERAS_VARIABLES if name in os.environ}
    # The null device is no folder: no file is found in it and none can be made, and Keras goes on without.
    os.environ |= {"KERAS_HOME": os.devnull, "KERAS_BACKEND": "tensorflow"}
    try:
        yield
    finally:
        del os.environ["KERAS_HOME"], os.environ["KERAS_BACKEND"]
        os.environ |= before


_require_tensorflow_backend()
with _without_machine_settings():
    import keras
    import tensorflow as tf
restore_home(keras)


@contextlib.contextmanager
def own_settings(dtype_policy: str = FLOATX) -> Iterator[None]:
    """Build layers with huetune's settings; afterwards the process has its own again.

    A layer keeps what it was built with: a model may be traced and used outside of this.

    Args:
        dtype_policy: name of the Keras policy by which the layers compute.
    """
    config = keras.config
    before = config.floatx(), config.image_data_format(), config.epsilon(), config.dtype_policy()
    _set(FLOATX, IMAGE_DATA_FORMAT, EPSILON, dtype_policy)
    try:
        yield
    finally:
        _set(*before)


def _set(floatx: str, image_data_format: str, epsilon: float, dtype_policy: Any) -> None:
    keras.config.set_floatx(floatx)
    keras.config.set_image_data_format(image_data_format)
    keras.config.set_epsilon(epsilon)
    keras.config.set_dtype_policy(dtype_policy)
