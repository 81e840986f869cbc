"""The command in the background, and what it leaves, for tests that do it harm."""

import contextlib
import io
import os
import subprocess
import time

import psutil

from huetune.results.cli.verify_command import verify
from huetune.results.records.run import STUDY, Run
from tests.faults.chaos import HUETUNE, QUICK

NAME = "run"
ALONE = ("--cpus-per-trial", min(1.5, os.cpu_count() or 1))
"""Where two cores are all, one trial at a time, on one thread, and so only one worker that has to start."""


class Program:
    """The command in the background, with all that it began."""

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
            # Reading a study ten times a second would take a tenth of what the search is to have.
            if written != seen or written is None:
                if (self.storage / NAME / "manifest.json").exists() and condition(trials(self.storage)):
                    return
                seen = written
            time.sleep(0.1 if written else 0.5)
        self.process.kill()
        raise TimeoutError(f"not within {seconds} s; it said {self.process.communicate(timeout=60)[0]!r}")

    def end(self, seconds=200):
        """Return the exit code and all that was said, once nothing of it is left."""
        family = self.process.children(recursive=True) if self.process.is_running() else []
        said, _ = self.process.communicate(timeout=seconds)
        _, alive = psutil.wait_procs(family, timeout=15)
        assert not [process for process in alive if "Agent" not in " ".join(process.cmdline())]
        return self.process.returncode, said


def _written(storage):
    """When the study was last written to; None where it is in no file."""
    path = storage / NAME / STUDY
    return path.stat().st_mtime_ns if path.exists() else None


def search(trials=3, epochs=3, *words):
    return (
        *("search", *QUICK, "--name", NAME, "--trials", trials, "--epochs", epochs),
        *("--scheduler", "none", *words),
    )


def trials(storage):
    return Run(storage / NAME).study().get_trials(deepcopy=False)


def epochs(count):
    """Whether so many epochs are done in all."""
    return lambda trials: sum(len(trial.intermediate_values) for trial in trials) >= count


def states(storage):
    return {trial.state for trial in trials(storage)}


def verified(storage):
    # In this process, where all is imported. The best model is scored again in test_chaos.
    assert verify.callback
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = verify.callback(NAME, storage, quick=True)
    return code == 0, said.getvalue()


def assert_whole(storage):
    fine, said = verified(storage)
    assert fine and "not finished" not in said, said
