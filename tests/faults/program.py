"""Runs the command in the background and reads its run, for tests that inject faults."""

import contextlib
import io
import os
import subprocess
import time

import psutil

from huetune.results.cli.verify_command import verify
from huetune.results.records.run import STUDY, Run
from tests.faults.chaos import HUETUNE, MINIMAL_OPTIONS

NAME = "run"
ONE_SLOT = ("--cpus-per-trial", min(1.5, os.cpu_count() or 1))
"""Options that on two cores allow one trial at a time, so that only one worker has to start."""


class Program:
    """The command in the background, with its child processes."""

    def __init__(self, storage, *words, before=(), **environment):
        self.storage = storage
        command = [*before, HUETUNE, *map(str, words), "--storage", str(storage)]
        self.process = psutil.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            env={**os.environ, **environment},
        )

    def wait_for(self, condition, seconds=300):
        end, seen = time.monotonic() + seconds, None
        while time.monotonic() < end:
            assert self.process.poll() is None, self.process.stdout.read()
            written = _written(self.storage)
            # Reading the study ten times a second would take a tenth of the CPU time.
            if written != seen or written is None:
                if (self.storage / NAME / "manifest.json").exists() and condition(trials(self.storage)):
                    return
                seen = written
            time.sleep(0.1 if written else 0.5)
        self.process.kill()
        raise TimeoutError(f"not within {seconds} s; its output: {self.process.communicate(timeout=60)[0]!r}")

    def end(self, seconds=200):
        """Wait until the command and its children have ended; return the exit code and the output."""
        family = self.process.children(recursive=True) if self.process.is_running() else []
        output, _ = self.process.communicate(timeout=seconds)
        _, alive = psutil.wait_procs(family, timeout=15)
        assert not [process for process in alive if "Agent" not in " ".join(process.cmdline())]
        return self.process.returncode, output


def _written(storage):
    """Return when the study was last written; None if it is not a file."""
    path = storage / NAME / STUDY
    return path.stat().st_mtime_ns if path.exists() else None


def search(trials=3, epochs=3, *words):
    return (
        *("search", *MINIMAL_OPTIONS, "--name", NAME, "--trials", trials, "--epochs", epochs),
        *("--scheduler", "none", *words),
    )


def trials(storage):
    return Run(storage / NAME).study().get_trials(deepcopy=False)


def epochs(count):
    """Return a condition: the trials have so many epochs in total."""
    return lambda trials: sum(len(trial.intermediate_values) for trial in trials) >= count


def states(storage):
    return {trial.state for trial in trials(storage)}


def verified(storage):
    # In this process, where everything is imported. test_chaos also evaluates the best model again.
    assert verify.callback
    with contextlib.redirect_stdout(io.StringIO()) as output:
        code = verify.callback(NAME, storage, quick=True)
    return code == 0, output.getvalue()


def assert_verified(storage):
    fine, output = verified(storage)
    assert fine and "not finished" not in output, output
