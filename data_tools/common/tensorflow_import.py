"""Import TensorFlow without its startup messages."""

import importlib
import logging
import os
import tempfile


def import_tensorflow() -> None:
    """Import TensorFlow and Keras with standard error redirected: TensorFlow logs before its log level takes effect.

    If the import fails, what it printed is written to standard error.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryFile() as messages:
        terminal = os.dup(2)
        os.dup2(messages.fileno(), 2)
        try:
            importlib.import_module("huetune.data_tools.common.keras_backend")
            # TensorFlow takes several models, each traced once, for one model that is retraced too often, and warns.
            logging.getLogger("tensorflow").setLevel(logging.ERROR)
        except BaseException:
            messages.seek(0)
            os.write(terminal, messages.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
