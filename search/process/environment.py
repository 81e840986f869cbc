"""What the command needs of the account and the interpreter under which it was started."""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from huetune.data_tools.storage.atomic import HOMELESS

_SWITCHES = re.compile(r"-[bBdEiIOPqsSuvx]+")
"""Python's own switches that take no value, alone or several in a word."""


def settle() -> None:
    """Make up for what libraries cannot do without: docstrings and a home."""
    if sys.flags.optimize > 1:
        _keep_docstrings()
    try:
        Path.home()
    except RuntimeError:  # a container's nameless user
        # Ray and Altair look for a home when they are imported, and the workers do so, too.
        os.environ["HOME"] = HOMELESS


def _keep_docstrings() -> None:
    """Start this command again with docstrings: Ray and Altair edit their own when they are imported."""
    # Of the words, `sys.argv` has the last ones.
    first = len(sys.orig_argv) - len(sys.argv) + 1
    python = [re.sub("O", "", word) if _SWITCHES.fullmatch(word) else word for word in sys.orig_argv[1:first]]
    restart([*(word for word in python if word != "-"), *sys.orig_argv[first:]], PYTHONOPTIMIZE="1")


def restart(words: Sequence[str], **variables: str) -> NoReturn:
    """Replace this process by the same Python with other words, and more variables in its environment."""
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *words], {**os.environ, **variables})
