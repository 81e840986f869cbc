"""A search that is logged to MLflow while it runs: by another process, so that nothing of it can hurt the search."""

import contextlib
import shlex
import subprocess
import tempfile
from collections.abc import Iterator

from data_tools.console import say, stderr
from results.run import Run
from search.enclosure import PYTHON

PATIENCE = 60.0
"""Seconds that the last trials may take to be logged when the search is over."""
MAIN = "from search.command import main; main()"


@contextlib.contextmanager
def tracked(run: Run, uri: str | None, quiet: bool) -> Iterator[None]:
    """Have another process log each trial at its end; whatever becomes of it is at most one line.

    Args:
        run: that is held and about to be searched.
        uri: of MLflow; None for no log.
        quiet: show no line.
    """
    if uri is None:
        yield
        return
    command = [*PYTHON, "-c", MAIN, "mlflow", run.place, "--uri", uri, "--follow"]
    with tempfile.TemporaryFile() as said:
        # A session of its own: Ctrl-C is for the search, which then lets go of the run, and this ends with it.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True
        )
        whole = False
        try:
            yield
            whole = True
        finally:
            if not whole:
                process.terminate()
            why = _ended(process, PATIENCE if whole else 5.0)
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines()
            if whole and process.returncode and not quiet:
                reason = why or (lines[-1].removeprefix("huetune: ") if lines else "no reason given")
                again = run.command("mlflow", f"--uri {shlex.quote(uri)}")
                say(f"not all trials are in MLflow ({reason}); log the rest with: {again}", "yellow", stderr)


def _ended(process: subprocess.Popen, patience: float) -> str | None:
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return f"it takes longer than {patience:.0f} s"
    return None
