"""All private parts of Keras that huetune uses, as of Keras 3.15.1.

The module does not import Keras, because `keras_backend` needs it before and during the import of Keras. `PRIVATE`
lists the private names and what breaks without them; tests/data_tools/common/test_keras_compat.py checks that the
installed version has them.
"""

import os
import sys
from types import ModuleType

PRIVATE: dict[str, tuple[tuple[str, ...] | None, str]] = {
    "keras.src.backend.config.backend": ((), "a process whose Keras has another backend is refused with one line"),
    "keras.src.backend.config._KERAS_DIR": (None, "downloads of Keras in a notebook go to the usual folder"),
}
"""Maps each name to its parameters, or None if they are not checked, and to what breaks in huetune without it."""


def imported_backend() -> str | None:
    """Return the backend of Keras if this process has imported it or tried to; otherwise None."""
    # A failed import leaves this module behind, but not `keras` with the public `keras.config.backend`.
    config = sys.modules.get("keras.src.backend.config")
    return config.backend() if config else None


def restore_home(keras: ModuleType) -> None:
    """Set Keras's folder for data sets and weights to the user's again, if Keras was imported without one.

    Args:
        keras: The imported package.
    """
    config = keras.src.backend.config
    if os.devnull == config._KERAS_DIR:
        config._KERAS_DIR = os.environ.get("KERAS_HOME", os.path.join(os.path.expanduser("~"), ".keras"))
