"""The process that logs a running search to MLflow, so that a failure of MLflow cannot disturb the search."""

import contextlib
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from huetune.data_tools.common.errors import first_line
from huetune.data_tools.common.terminal import say, stderr
from huetune.results.records.run import Run, find_run
from huetune.search.process.environment import SAFE_PYTHON

FINISH_TIMEOUT_SECONDS = 60.0
"""The follower has this long to log the last trials after a search has ended."""
ABORT_TIMEOUT_SECONDS = 5.0
"""The follower has this long to end after a search has failed or was interrupted."""
FOLLOWER_CODE = "from huetune.search.process.mlflow_follower import follow; follow()"


@contextlib.contextmanager
def logged_to_mlflow(run: Run, uri: str | None, quiet: bool) -> Iterator[None]:
    """Log each trial that ends in this context to MLflow, by another process.

    If that fails, one line is printed when the context ends.

    Args:
        run: run of a search that is about to start; this process has locked it.
        uri: URI of MLflow; None to log nothing.
        quiet: print nothing.
    """
    if uri is None:
        yield
        return
    # Output of MLflow and its libraries is discarded. The reason why `follow` failed is passed in a file of its own.
    with tempfile.TemporaryFile() as reason_file:
        # A new session: Ctrl-C reaches only the search, which then releases the run, and `follow` ends with that.
        process = subprocess.Popen(
            [*SAFE_PYTHON, "-c", FOLLOWER_CODE, run.location, uri, str(reason_file.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[reason_file.fileno()],
            start_new_session=True,
        )
        completed = False
        try:
            yield
            completed = True
        finally:
            if not completed:
                process.terminate()
            timed_out = _wait(process, FINISH_TIMEOUT_SECONDS if completed else ABORT_TIMEOUT_SECONDS)
            if completed and process.returncode and not quiet:
                reason_file.seek(0)
                exit_code = f"its process ended with exit code {process.returncode}"
                reason = timed_out or reason_file.read().decode() or exit_code
                remedy = run.command("mlflow", f"--uri {shlex.quote(uri)}")
                say(f"not all trials are in MLflow ({reason}); log the rest with: {remedy}", "yellow", stderr)


def follow() -> None:
    """Log the trials of a run to MLflow until its search ends; the main function of the follower's process.

    Its arguments are the run's place, MLflow's URI, and the number of an open file for the reason of a failure.
    """
    place, uri, file = sys.argv[1:]
    try:
        from huetune.results.integrations.following import follow_search
        from huetune.results.integrations.mlflow import MLflowWriter

        run = find_run(place)
        study = run.study()
        writer = MLflowWriter(uri, run)
        writer.write(study)
        follow_search(run, study, writer.write)
    except Exception as error:
        os.write(int(file), first_line(error).encode(errors="backslashreplace"))
        sys.exit(1)


def _wait(process: subprocess.Popen, timeout_seconds: float) -> str | None:
    """Wait for the end of a process; if it takes too long, kill it and return that as a reason."""
    try:
        process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return f"it took longer than {timeout_seconds:.0f} s"
    return None
