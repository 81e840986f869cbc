"""Prepares the environment that Ray and Altair need when they are imported, and restarts Python if necessary."""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from huetune.data_tools.storage.user_folders import NONEXISTENT_HOME

SAFE_PYTHON = (sys.executable, "-P")
"""Starts a child Python without the current folder on its `sys.path`, where a user's `model.py` or `random.py` would be
imported instead of huetune's or Python's own module."""
_FLAGS_WITHOUT_VALUE = re.compile(r"-[bBdEiIOPqsSuvx]+")
"""Python's own options that take no value, one or several in a word."""


def prepare() -> None:
    """Make sure that docstrings and a home folder exist, which libraries need when they are imported."""
    if sys.flags.optimize > 1:
        _restart_with_docstrings()
    try:
        Path.home()
    except RuntimeError:  # a container's user without an entry in /etc/passwd
        # Ray and Altair look for the home when they are imported, in the workers, too.
        os.environ["HOME"] = NONEXISTENT_HOME


def _restart_with_docstrings() -> None:
    """Restart this command without `-OO`: Ray and Altair edit their own docstrings when they are imported."""
    # The last words of the original command line are those of `sys.argv`; what is before them belongs to Python.
    first = len(sys.orig_argv) - len(sys.argv) + 1
    python = [
        re.sub("O", "", word) if _FLAGS_WITHOUT_VALUE.fullmatch(word) else word for word in sys.orig_argv[1:first]
    ]
    restart([*(word for word in python if word != "-"), *sys.orig_argv[first:]], PYTHONOPTIMIZE="1")


def restart(arguments: Sequence[str], **variables: str) -> NoReturn:
    """Replace this process by the same Python interpreter.

    Args:
        arguments: arguments of the interpreter.
        variables: variables to add to the environment.
    """
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *arguments], {**os.environ, **variables})
