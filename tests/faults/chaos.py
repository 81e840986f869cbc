"""Kills a search again and again at random moments, goes on with it each time, and counts what was lost.

`make chaos N=100`, or `python -m tests.faults.chaos 100`. The trials are tiny, but all of it is real.
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
QUICK = (
    *("--garden", "4", "--space", str(Path(__file__).with_name("space.toml"))),
    *("--warm-start", "none", "--confirm", "none"),
)
"""Options of the smallest search that is one: three scenes to learn from, one to rank by, none for the end."""
VICTIMS = {"driver": 4, "worker": 4, "raylet": 1, "head": 1}
"""What is killed, and how often in ten times."""
PROCESSES = {"worker": "ray::ResourceTrainable", "raylet": "/raylet/raylet", "head": "/gcs/gcs_server"}
LOOK_SECONDS = 0.5
"""Between two looks at all processes and at the study: each takes a tenth of a second of a core."""
PATIENCE = 240.0
"""Seconds that the program has to end in; then it hangs, which is a violation."""


class Chaos:
    """One search, and those who kill it.

    Args:
        storage: folder for the run.
        trials: of the search.
        seed: of the moments and the victims.

    Attributes:
        kills: by victim.
        violations: a line for each thing that was lost or went wrong.
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
        """Search to the end, whatever is killed on the way.

        Args:
            kills: how many.
            pause: seconds between two kills, at least and at most.

        Returns:
            The seconds that it took.
        """
        begun = time.monotonic()
        self._start()
        while sum(self.kills.values()) < kills:
            self._watch(self._rng.uniform(*pause))
            if self._driver.poll() is not None:
                break
            victim = self._rng.choices(list(VICTIMS), list(VICTIMS.values()))[0]
            self._kill(victim)
        said = self._end()
        if self._driver.returncode:
            self.violations.append(f"the last one ended with {self._driver.returncode}: {said[-500:]!r}")
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
            self.violations.append(f"a finished search went on: {again.stdout + again.stderr!r}")
        return seconds

    def _start(self) -> None:
        """Begin, or go on; a search that died before it was described leaves its name free."""
        described = (self._storage / NAME / "manifest.json").exists()
        words = [*QUICK, "--epochs", EPOCHS, "--trials", self._trials, "--name", NAME]
        command = [HUETUNE, "resume", NAME] if described else [HUETUNE, "search", *map(str, words)]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # it lives as long as the driver
        self._driver = psutil.Popen(
            [*command, "--storage", str(self._storage)], stdout=self._said, stderr=subprocess.STDOUT
        )
        self._waited = (time.monotonic(), self._epochs()) if described else None

    def _watch(self, seconds: float) -> None:
        """Let some time pass, and note when the search gets on."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._driver.poll() is None:
            self._look()
            time.sleep(LOOK_SECONDS)

    def _look(self) -> None:
        with_children = [self._driver, *self._driver.children(recursive=True)] if self._driver.is_running() else []
        self._family |= set(with_children)
        if self._waited and self._epochs() > self._waited[1]:
            self.to_training.append(time.monotonic() - self._waited[0])
            self._waited = None

    def _kill(self, victim: str) -> None:
        mark = PROCESSES.get(victim)
        # While the driver still registers with its raylet, Ray ends it without a word when that dies.
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
        said = self._end()
        # Without its head or its raylet the driver gives up by itself, and says how to go on.
        if victim != "driver" and (self._driver.returncode != 4 or "huetune resume" not in said):
            self.violations.append(f"the {victim} died: exit code {self._driver.returncode}, {said[-500:]!r}")
        self._start()

    def _alive(self, part: str) -> list[int]:
        self._look()
        return [process.pid for process in self._family if _is(process, PROCESSES[part])]

    def _end(self) -> str:
        """Wait for the driver and all that it began; return what it said."""
        end = time.monotonic() + PATIENCE + 60 * self._trials
        while self._driver.poll() is None and time.monotonic() < end:
            self._look()
            time.sleep(LOOK_SECONDS)
        if self._driver.poll() is None:
            self.violations.append("it hangs")
            self._driver.kill()
            self._driver.wait()
        self._require_gone({process for process in self._family if _is(process, PROCESSES["worker"])}, 15)
        self._rays |= self._family
        self._family.clear()
        self._said.seek(0)
        return self._said.read().decode(errors="replace")

    def _require_gone(self, processes: set[psutil.Process], seconds: float) -> None:
        # Ray's own that were just starting find out late, and try for a minute to tell the head, which is dead too.
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
        """Whatever has ended once must be there, as it ended."""
        now = {trial.number: digest(trial) for trial in self._read() if trial.state.is_finished()}
        self.violations += [
            f"trial {number} had ended and is {'another' if number in now else 'missing'}"
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
        # A number may be another process's by now.
        alive = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        return alive and mark in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def main() -> None:
    """Kill N times, and compare with the same search left in peace."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.chaos")
    parser.add_argument("kills", type=int)
    parser.add_argument("--trials", type=int, help="of the search  [default: 100 a kill]")
    parser.add_argument("--pause", type=float, nargs=2, default=(40.0, 80.0), help="seconds between two kills")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    trials = asked.trials or 100 * asked.kills
    with tempfile.TemporaryDirectory() as folder:
        chaos = Chaos(Path(folder, "chaos"), trials, asked.seed)
        seconds = chaos.run(asked.kills, asked.pause)
        for line in chaos.violations:
            print(line)
        peace = Chaos(Path(folder, "peace"), trials, asked.seed)
        undisturbed = peace.run(0, asked.pause)
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
