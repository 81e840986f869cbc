"""TensorFlow and Keras with huetune's settings. All other modules import both from here.

When Keras is imported, it reads its backend, float type, image data format and epsilon from `keras.json` (in KERAS_HOME
or ~/.keras) and from environment variables. With other values than huetune's, a model has other weights or shapes, or
Keras cannot be imported at all. Therefore Keras is imported without these settings, and layers are built inside of
`own_settings`, because a notebook may have imported Keras before and changed its settings since.
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
"""Variables that Keras 3.15 reads when it is imported. The older Keras inside TensorFlow 2.21 reads KERAS_HOME, too."""


def _require_tensorflow_backend() -> None:
    """Raise a UserError if Keras was imported with another backend, which cannot be changed after the import."""
    backend = imported_backend()
    if backend and backend != "tensorflow":
        raise UserError(
            f"Keras was imported before huetune, with the backend {backend!r}; huetune needs 'tensorflow': "
            "restart Python and set KERAS_BACKEND=tensorflow before Keras is imported"
        )


@contextlib.contextmanager
def _without_machine_settings() -> Iterator[None]:
    """Hide Keras's settings file and environment variables during the import, and keep Keras from writing the file."""
    before = {name: os.environ.pop(name) for name in _KERAS_VARIABLES if name in os.environ}
    # The null device is not a folder: Keras finds no file in it, cannot create one, and continues without.
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
    """Apply huetune's settings of Keras while layers are built, and restore the process's settings afterwards.

    A layer keeps the settings that it was built with, so a model can be traced and used outside of the block.

    Args:
        dtype_policy: Name of the Keras dtype policy for the layers, as "mixed_bfloat16".
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
