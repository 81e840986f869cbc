"""One small search after another, in one process and one storage: what is left after each, and does it grow?

    python -m tests.faults.soak MINUTES

As in a notebook that is left open, so what a search keeps of memory, descriptors and threads stays with the next.
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
"""In the environment of all that is started from here, so that it is found whatever became of its parents."""
WORDS = "search --garden 8 --trials 3 --epochs 2 --confirm none --quiet"
WARM = 3
"""Rounds after which all is imported and cached."""

RAYS = 1
"""Descriptors that Ray keeps of each `ray.init`, also where nothing but that and `ray.shutdown` is called."""


def soak(minutes: float, folder: Path) -> list[dict[str, Any]]:
    """Search until the time is over; return what was there after each search."""
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
            f"{WORDS} --name {name}",
            *(f"{verb} {name}" for verb in ("resume", "trials", "best", "report", "verify")),
        ]
        for words in verbs:
            with contextlib.redirect_stdout(io.StringIO()):
                code = cli([*words.split(), "--storage", str(folder / "runs")], "huetune", standalone_mode=False)
            if code:
                raise SystemExit(f"{words!r} ended with {code}")
        rounds.append({"seconds": time.monotonic() - begun, **_left(folder)})
        print(json.dumps(rounds[-1]), file=sys.stderr, flush=True)
    return rounds


def _left(folder: Path) -> dict[str, int]:
    """What there is now: of this process, of all that it started, and of files outside of the runs."""
    # What Python has only not yet collected is no leak.
    gc.collect()
    # Ray's helpers need a moment to see that it has ended.
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
    """Soak, and say what grew."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak")
    parser.add_argument("minutes", type=float)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak", dir="/tmp") as folder:
        rounds = soak(asked.minutes, Path(folder))
    warm = rounds[WARM:]
    if len(warm) < 2:
        sys.exit(f"only {len(rounds)} searches in {asked.minutes:g} minutes: too few to tell")
    slope = np.polyfit(range(len(warm)), [one["megabytes"] for one in warm], 1)[0]
    first, last = warm[0], warm[-1]
    allowed = {"threads": 2, "descriptors": len(warm) * RAYS, "processes": 0, "ports": 0, "files": 0}
    grown = [name for name, most in allowed.items() if last[name] > first[name] + most]
    print(json.dumps({"searches": len(rounds), "first": first, "last": last, "megabytes_a_search": round(slope, 2)}))
    print(f"grown: {', '.join(grown) or 'nothing'}")
    sys.exit(bool(grown))


if __name__ == "__main__":
    main()
