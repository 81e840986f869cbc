"""Run code in a new Python process, where nothing has been imported before."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

PRINT_IMPORTS = """
import json, resource, sys
sys.stdout.flush()
modules = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps([modules, resource.getrusage(resource.RUSAGE_SELF).ru_utime]), file=sys.stderr)
"""
"""Code that prints a line to standard error, which `parse_imports` reads."""
RUN_COMMAND = f"""
from huetune.search.cli.main import main
try:
    main()
finally:
{textwrap.indent(PRINT_IMPORTS.strip(), "    ")}
"""
"""Code that runs the command `huetune` with the arguments of the interpreter, then PRINT_IMPORTS."""


def parse_imports(line: str) -> tuple[set[str], float]:
    """Return the imported top-level modules and the CPU seconds that PRINT_IMPORTS has printed.

    Args:
        line: The printed line.
    """
    modules, cpu_seconds = json.loads(line)
    return set(modules), cpu_seconds


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
