"""A Python of its own for a test: what it imports, and from where, does not depend on what was imported before."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def output_of(
    *words: str, folder: Path | None = None, environment: Mapping[str, str] | None = None, timeout_seconds: float = 120
) -> str:
    """Run Python and return what it writes; an exit code other than 0 fails the test.

    Args:
        words: after the interpreter's name, as in `"-c", CODE`.
        folder: that it runs in; None for the current one.
        environment: all of its variables; None for those of this process.
        timeout_seconds: after which it is killed.
    """
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=dict(os.environ if environment is None else environment),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=timeout_seconds,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
