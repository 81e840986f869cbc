"""A machine of their own for the tests, moved to when this is imported: nothing of whoever runs them decides a test."""

import atexit
import os
import re
import shutil
import tempfile

SETTINGS = re.compile(
    r"(AWS|CLICOLOR|HUETUNE|KERAS|MLFLOW|OPTUNA|RAY|TF|TTY|TUNE|XDG)_.*|PG[A-Z]+|(NO|FORCE|CLI)_?COLOR|COLUMNS|LINES"
    r"|PYTHON(PATH|OPTIMIZE|SAFEPATH|WARNINGS|UTF8|IOENCODING)"
)
"""Variables by which whoever runs the tests sets up huetune or a part of it."""
MACHINE = "_TESTED_ON"
"""Names the folder that stands for a machine of its own: pytest's workers have their parent's."""


def _move_to_another_machine() -> None:
    """Leave the home, the temporary files, the Ray clusters and the settings of whoever runs the tests alone."""
    if MACHINE not in os.environ:
        for name in filter(SETTINGS.fullmatch, list(os.environ)):
            del os.environ[name]
        # pytest keeps its own folders where it always does: they are looked at when a test has failed.
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
        # Short, for Ray has sockets there; and PostgreSQL's user must get through.
        os.environ[MACHINE] = tempfile.mkdtemp(prefix="huet-", dir="/tmp")
        os.chmod(os.environ[MACHINE], 0o711)
        atexit.register(shutil.rmtree, os.environ[MACHINE], ignore_errors=True)
        for name in ("HOME", "TMPDIR"):
            os.environ[name] = f"{os.environ[MACHINE]}/{name[0]}"
            os.mkdir(os.environ[name])
            os.chmod(os.environ[name], 0o711)
    tempfile.tempdir = os.environ["TMPDIR"]


_move_to_another_machine()
