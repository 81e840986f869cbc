"""Run code in a new Python process, where nothing has been imported before."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def output_of(
    *arguments: str,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_seconds: float = 120,
) -> str:
    """Run Python and return its standard output; an exit code other than 0 fails the test.

    Args:
        arguments: Arguments of the interpreter, as `"-c", CODE`.
        folder: Folder to run in; by default the current one.
        environment: All environment variables; by default those of this process.
        timeout_seconds: Time after which the process is killed.
    """
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=dict(os.environ if environment is None else environment),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=timeout_seconds,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
