"""A search that is logged to MLflow while it runs: by another process, so that nothing of it can hurt the search."""

import contextlib
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from huetune.data_tools.common.errors import in_a_line
from huetune.data_tools.common.terminal import say, stderr
from huetune.results.records.run import Run, find_run
from huetune.search.ray_runtime.local_ray import PYTHON

PATIENCE = 60.0
"""Seconds that the last trials may take to be logged when the search is over."""
MAIN = "from huetune.search.process.mlflow_follower import follow; follow()"


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
    # What MLflow and its libraries print goes nowhere; why `follow` failed comes through a file of its own.
    with tempfile.TemporaryFile() as reason:
        # A session of its own: Ctrl-C is for the search, which then lets go of the run, and this ends with it.
        process = subprocess.Popen(
            [*PYTHON, "-c", MAIN, run.place, uri, str(reason.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[reason.fileno()],
            start_new_session=True,
        )
        whole = False
        try:
            yield
            whole = True
        finally:
            if not whole:
                process.terminate()
            why = _ended(process, PATIENCE if whole else 5.0)
            if whole and process.returncode and not quiet:
                reason.seek(0)
                why = why or reason.read().decode() or f"its process ended with exit code {process.returncode}"
                again = run.command("mlflow", f"--uri {shlex.quote(uri)}")
                say(f"not all trials are in MLflow ({why}); log the rest with: {again}", "yellow", stderr)


def follow() -> None:
    """Log the trials of a run to MLflow until its search ends; the process that `tracked` starts does nothing else.

    Its words are the place of the run, MLflow's URI, and the number of an open file for the reason of a failure.
    """
    place, uri, file = sys.argv[1:]
    try:
        from huetune.results.cli.integration_commands import until_ended
        from huetune.results.integrations.mlflow import Log

        run = find_run(place)
        study = run.study()
        log = Log(uri, run)
        log.write(study)
        until_ended(run, study, log.write)
    except Exception as error:
        os.write(int(file), in_a_line(error).encode(errors="backslashreplace"))
        sys.exit(1)


def _ended(process: subprocess.Popen, patience: float) -> str | None:
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return f"it takes longer than {patience:.0f} s"
    return None
