"""All private parts of Keras that huetune uses, read from Keras 3.15.1.

It is here, and imports no Keras, for `data_tools.common.keras_backend` needs it while it imports Keras.
`PRIVATE` names each and what breaks without it. tests/data_tools/common/test_keras_compat.py looks for them in
the installed version.
"""

import os
import sys
from types import ModuleType

PRIVATE: dict[str, tuple[tuple[str, ...] | None, str]] = {
    "keras.src.backend.config.backend": ((), "a process whose Keras has another backend is refused in one line"),
    "keras.src.backend.config._KERAS_DIR": (None, "a notebook's downloads with Keras go where they always go"),
}
"""By name: its parameters, None where it has none to check, and what in huetune breaks without it."""


def imported_backend() -> str | None:
    """Return the backend of the Keras that this process has imported, or failed to import; None where it has not."""
    # An import that failed leaves this module behind, but not `keras` with its public `keras.config.backend`.
    config = sys.modules.get("keras.src.backend.config")
    return config.backend() if config else None


def restore_home(keras: ModuleType) -> None:
    """Have Keras keep data sets and weights in the user's folder again, if it was imported with none.

    Args:
        keras: the package, imported.
    """
    config = keras.src.backend.config
    if os.devnull == config._KERAS_DIR:
        config._KERAS_DIR = os.environ.get("KERAS_HOME", os.path.join(os.path.expanduser("~"), ".keras"))
