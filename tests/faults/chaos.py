"""Kills a search at random moments, resumes it each time, and reports every result that was lost.

Start it with `make chaos N=100` or `python -m tests.faults.chaos 100`. The trials are small, but the search is real.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

from huetune.results.records.run import Run
from huetune.results.records.trial_record import digest

HUETUNE = str(Path(sys.executable).with_name("huetune"))
NAME = "chaos"
EPOCHS = 4
MINIMAL_OPTIONS = (
    *("--garden", "4", "--space", str(Path(__file__).with_name("space.toml"))),
    *("--warm-start", "none", "--confirm", "none"),
)
"""Options of the smallest search: three training photos, one validation photo, no test photo, no confirmation."""
VICTIMS = {"driver": 4, "worker": 4, "raylet": 1, "head": 1}
"""Relative frequency with which each kind of process is killed."""
PROCESS_NAMES = {"worker": "ray::ResourceTrainable", "raylet": "/raylet/raylet", "head": "/gcs/gcs_server"}
POLL_SECONDS = 0.5
"""Interval of reading the process list and the study, which takes 0.1 s of CPU time."""
END_TIMEOUT_SECONDS = 240.0
"""A driver that has not ended after this time plus a minute per trial hangs, which is a violation."""


class Chaos:
    """Runs a search and kills its processes.

    Args:
        storage: folder for the run.
        trials: number of trials of the search.
        seed: seeds the moments and victims.

    Attributes:
        kills: number of kills by victim.
        violations: a line for each lost result and each fault.
        to_training: seconds from each start of `resume` to its first new epoch.
    """

    def __init__(self, storage: Path, trials: int, seed: int):
        self.kills: Counter[str] = Counter()
        self.violations: list[str] = []
        self.to_training: list[float] = []
        self._storage, self._trials, self._rng = storage, trials, random.Random(seed)
        self._ended: dict[int, str] = {}
        self._family: set[psutil.Process] = set()
        self._rays: set[psutil.Process] = set()
        self._waited: tuple[float, int] | None = None

    def run(self, kills: int, pause: tuple[float, float]) -> float:
        """Search to the end and kill processes meanwhile.

        Args:
            kills: number of kills.
            pause: minimum and maximum seconds between two kills.

        Returns:
            The duration in seconds.
        """
        begun = time.monotonic()
        self._start()
        while sum(self.kills.values()) < kills:
            self._watch(self._rng.uniform(*pause))
            if self._driver.poll() is not None:
                break
            victim = self._rng.choices(list(VICTIMS), list(VICTIMS.values()))[0]
            self._kill(victim)
        output = self._end()
        if self._driver.returncode:
            self.violations.append(f"the last driver exited with {self._driver.returncode}: {output[-500:]!r}")
        seconds = time.monotonic() - begun
        self._compare()
        self._require_gone(self._rays, 75)
        verified = subprocess.run(
            [HUETUNE, "verify", NAME, "--storage", self._storage], capture_output=True, text=True, encoding="utf-8"
        )
        if verified.returncode or "not finished" in verified.stdout:
            self.violations += (verified.stdout + verified.stderr).splitlines()
        again = subprocess.run(
            [HUETUNE, "resume", NAME, "--storage", self._storage], capture_output=True, text=True, encoding="utf-8"
        )
        if again.returncode or "is finished, nothing was changed" not in again.stdout:
            self.violations.append(f"a finished search was continued: {again.stdout + again.stderr!r}")
        return seconds

    def _start(self) -> None:
        """Start or resume the search. A search that died before its manifest was written is started again."""
        described = (self._storage / NAME / "manifest.json").exists()
        words = [*MINIMAL_OPTIONS, "--epochs", EPOCHS, "--trials", self._trials, "--name", NAME]
        command = [HUETUNE, "resume", NAME] if described else [HUETUNE, "search", *map(str, words)]
        self._output_file = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the driver lives
        self._driver = psutil.Popen(
            [*command, "--storage", str(self._storage)], stdout=self._output_file, stderr=subprocess.STDOUT
        )
        self._waited = (time.monotonic(), self._epochs()) if described else None

    def _watch(self, seconds: float) -> None:
        """Wait, and note the first new epoch after a resume."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._driver.poll() is None:
            self._poll()
            time.sleep(POLL_SECONDS)

    def _poll(self) -> None:
        with_children = [self._driver, *self._driver.children(recursive=True)] if self._driver.is_running() else []
        self._family |= set(with_children)
        if self._waited and self._epochs() > self._waited[1]:
            self.to_training.append(time.monotonic() - self._waited[0])
            self._waited = None

    def _kill(self, victim: str) -> None:
        mark = PROCESS_NAMES.get(victim)
        # If the raylet dies while the driver registers with it, Ray ends the driver without a message.
        while mark and not self._alive("worker") and self._driver.poll() is None:
            self._watch(0.2)
        targets = self._alive(victim) if mark else [self._driver.pid]
        if self._driver.poll() is not None or not targets:
            return
        self._compare()
        os.kill(self._rng.choice(sorted(targets)), signal.SIGKILL)
        self.kills[victim] += 1
        if victim == "worker":
            return
        output = self._end()
        # Without its head or raylet the driver exits and names the command to continue.
        if victim != "driver" and (self._driver.returncode != 4 or "huetune resume" not in output):
            self.violations.append(f"the {victim} died: exit code {self._driver.returncode}, {output[-500:]!r}")
        self._start()

    def _alive(self, part: str) -> list[int]:
        self._poll()
        return [process.pid for process in self._family if _is(process, PROCESS_NAMES[part])]

    def _end(self) -> str:
        """Wait for the driver and its workers to end; return the output."""
        end = time.monotonic() + END_TIMEOUT_SECONDS + 60 * self._trials
        while self._driver.poll() is None and time.monotonic() < end:
            self._poll()
            time.sleep(POLL_SECONDS)
        if self._driver.poll() is None:
            self.violations.append("the driver hangs")
            self._driver.kill()
            self._driver.wait()
        self._require_gone({process for process in self._family if _is(process, PROCESS_NAMES["worker"])}, 15)
        self._rays |= self._family
        self._family.clear()
        self._output_file.seek(0)
        return self._output_file.read().decode(errors="replace")

    def _require_gone(self, processes: set[psutil.Process], seconds: float) -> None:
        # Processes of Ray that were just starting try for a minute to reach the dead head.
        end = time.monotonic() + seconds
        while (alive := [process for process in processes if _is(process, "")]) and time.monotonic() < end:
            time.sleep(0.2)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                self.violations.append(f"an orphan: {' '.join(process.cmdline())[:100]}")

    def _epochs(self) -> int:
        trials = self._read()
        return sum(len(trial.intermediate_values) for trial in trials)

    def _compare(self) -> None:
        """Check that all ended trials are still recorded unchanged."""
        now = {trial.number: digest(trial) for trial in self._read() if trial.state.is_finished()}
        self.violations += [
            f"trial {number} had ended and is {'changed' if number in now else 'missing'}"
            for number, before in self._ended.items()
            if now.get(number) != before
        ]
        self._ended |= now

    def _read(self) -> list:
        if not (self._storage / NAME / "manifest.json").exists():
            return []
        return Run(self._storage / NAME).study().get_trials(deepcopy=False)


def _is(process: psutil.Process, mark: str) -> bool:
    try:
        # The process id may have been reused.
        alive = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        return alive and mark in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def main() -> None:
    """Kill N times, and compare with the same search without kills."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.chaos")
    parser.add_argument("kills", type=int)
    parser.add_argument("--trials", type=int, help="trials of the search  [default: 100 per kill]")
    parser.add_argument("--pause", type=float, nargs=2, default=(40.0, 80.0), help="seconds between two kills")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    trials = options.trials or 100 * options.kills
    with tempfile.TemporaryDirectory() as folder:
        chaos = Chaos(Path(folder, "chaos"), trials, options.seed)
        seconds = chaos.run(options.kills, options.pause)
        for line in chaos.violations:
            print(line)
        peace = Chaos(Path(folder, "peace"), trials, options.seed)
        undisturbed = peace.run(0, options.pause)
    report = {
        "kills": dict(chaos.kills),
        "violations": len(chaos.violations) + len(peace.violations),
        "seconds": seconds,
        "undisturbed": undisturbed,
        "times as long": seconds / undisturbed,
        "to training, median": statistics.median(chaos.to_training or [0]),
        "to training, most": max(chaos.to_training, default=0),
    }
    print(json.dumps(report, indent=2))
    sys.exit(bool(report["violations"]))


if __name__ == "__main__":
    main()
