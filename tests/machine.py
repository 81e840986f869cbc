"""Isolate the tests from the user's home, temporary files and settings, as soon as this module is imported."""

import atexit
import os
import re
import shutil
import tempfile

SETTINGS = re.compile(
    r"(AWS|CLICOLOR|HUETUNE|KERAS|MLFLOW|OPTUNA|RAY|TF|TTY|TUNE|XDG)_.*|PG[A-Z]+|(NO|FORCE|CLI)_?COLOR|COLUMNS|LINES"
    r"|PYTHON(PATH|OPTIMIZE|SAFEPATH|WARNINGS|UTF8|IOENCODING)"
)
"""Environment variables that configure huetune, its libraries or Python; the tests run without them."""
MACHINE_VARIABLE = "_TESTED_ON"
"""Environment variable with the folder of the isolated machine; pytest's workers inherit it."""


def _move_to_another_machine() -> None:
    """Replace the home and the folder for temporary files, and remove the user's settings from the environment."""
    if MACHINE_VARIABLE not in os.environ:
        for name in filter(SETTINGS.fullmatch, list(os.environ)):
            del os.environ[name]
        # pytest keeps its folders in the usual place, where users look for them after a failure.
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
        # A short path, because Ray's sockets are in it, and accessible to PostgreSQL's user.
        os.environ[MACHINE_VARIABLE] = tempfile.mkdtemp(prefix="huet-", dir="/tmp")
        os.chmod(os.environ[MACHINE_VARIABLE], 0o711)
        atexit.register(shutil.rmtree, os.environ[MACHINE_VARIABLE], ignore_errors=True)
        for name in ("HOME", "TMPDIR"):
            os.environ[name] = f"{os.environ[MACHINE_VARIABLE]}/{name[0]}"
            os.mkdir(os.environ[name])
            os.chmod(os.environ[name], 0o711)
    tempfile.tempdir = os.environ["TMPDIR"]


_move_to_another_machine()
