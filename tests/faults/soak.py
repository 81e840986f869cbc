"""Runs small searches one after another in one process, and reports resources that grow.

    python -m tests.faults.soak MINUTES

In an open notebook, memory, descriptors and threads that a search does not release add up in the same way.
"""

import argparse
import contextlib
import gc
import io
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

MARK = "HUETUNE_SOAK"
"""Environment variable that marks all child processes, so that they are found even without their parents."""
SEARCH_COMMAND = "search --garden 8 --trials 3 --epochs 2 --confirm none --quiet"
WARM_UP_ROUNDS = 3
"""Rounds until everything is imported and cached."""

DESCRIPTORS_PER_RAY_INIT = 1
"""Descriptors that Ray itself leaks in each `ray.init`, even if only `ray.shutdown` follows."""


def soak(minutes: float, folder: Path) -> list[dict[str, Any]]:
    """Search until the time is over; return the resources in use after each search."""
    for name in ("TMPDIR", "RAY_TMPDIR", "HOME", "XDG_STATE_HOME", "HUETUNE_CACHE"):
        os.environ[name] = str(folder / name.lower())
        os.mkdir(os.environ[name])
    os.environ[MARK] = str(os.getpid())
    from huetune.search.cli.main import cli

    rounds: list[dict[str, Any]] = []
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        name, begun = f"soak-{len(rounds):04}", time.monotonic()
        verbs = [
            f"{SEARCH_COMMAND} --name {name}",
            *(f"{verb} {name}" for verb in ("resume", "trials", "best", "report", "verify")),
        ]
        for words in verbs:
            with contextlib.redirect_stdout(io.StringIO()):
                code = cli([*words.split(), "--storage", str(folder / "runs")], "huetune", standalone_mode=False)
            if code:
                raise SystemExit(f"{words!r} ended with {code}")
        rounds.append({"seconds": time.monotonic() - begun, **_resources(folder)})
        print(json.dumps(rounds[-1]), file=sys.stderr, flush=True)
    return rounds


def _resources(folder: Path) -> dict[str, int]:
    """Return the resources in use by this process and its children, and the number of files outside of the runs."""
    # Garbage that Python has not collected yet is not a leak.
    gc.collect()
    # Ray's helper processes end a moment later.
    _, others = psutil.wait_procs(_marked(), timeout=15)
    own = psutil.Process()
    listening = [one for process in [own, *others] for one in _sockets(process) if one.status == psutil.CONN_LISTEN]
    runs = folder / "runs"
    files = [path for path in folder.rglob("*") if runs not in path.parents or path.parent == runs]
    return {
        "megabytes": own.memory_info().rss // 2**20,
        "threads": own.num_threads(),
        "descriptors": own.num_fds(),
        "processes": len(others),
        "ports": len(listening),
        "files": len(files) - sum(1 for _ in runs.iterdir()),
        "shared_memory": len(os.listdir("/dev/shm")),
    }


def _marked() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(MARK) == str(os.getpid()):
                found.append(process)
    return found


def _sockets(process: psutil.Process) -> list[Any]:
    try:
        return process.net_connections("inet")
    except psutil.Error:
        return []


def main() -> None:
    """Run the searches, and print which resources grew."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak")
    parser.add_argument("minutes", type=float)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak", dir="/tmp") as folder:
        rounds = soak(options.minutes, Path(folder))
    warm = rounds[WARM_UP_ROUNDS:]
    if len(warm) < 2:
        sys.exit(f"only {len(rounds)} searches in {options.minutes:g} minutes: too few to tell")
    slope = np.polyfit(range(len(warm)), [one["megabytes"] for one in warm], 1)[0]
    first, last = warm[0], warm[-1]
    allowed = {
        "threads": 2,
        "descriptors": len(warm) * DESCRIPTORS_PER_RAY_INIT,
        "processes": 0,
        "ports": 0,
        "files": 0,
    }
    grown = [name for name, most in allowed.items() if last[name] > first[name] + most]
    print(json.dumps({"searches": len(rounds), "first": first, "last": last, "megabytes_a_search": round(slope, 2)}))
    print(f"grown: {', '.join(grown) or 'nothing'}")
    sys.exit(bool(grown))


if __name__ == "__main__":
    main()
