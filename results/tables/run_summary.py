"""The summaries of runs that `huetune list` shows, cached for as long as the study of a run does not change."""

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from huetune.data_tools.common.errors import UserError
from huetune.data_tools.storage.user_folders import cache_home
from huetune.results.records.run import STUDY, Run

CACHE_FILE = "summaries.json"
"""File in the user's cache folder."""
CACHE_VERSION = 2
"""Version of the cached summaries; to be incremented when the summary of an unchanged study changes."""
MAX_SUMMARIES = 10_000
"""Number of cached summaries, those of the runs that were listed last; 10,000 take 2 MB."""
SETTLED_SECONDS = 2.0
"""Age of the last change of a study above which its summary is cached. File times have a coarse resolution, so another
change within this time might not be visible."""


@dataclass(frozen=True)
class RunSummary:
    """The state of a search.

    Attributes:
        states: number of trials in each state, in the order of the trial table.
        winner: the winner with its score, as text; None if there is no winner.
        front: number of trials on the Pareto front.
    """

    states: dict[str, int]
    winner: str | None
    front: int


def summarize_runs(runs: Iterable[Run]) -> Iterator[tuple[Run, RunSummary | UserError]]:
    """Yield each run with its summary, or with the error that prevents one.

    A study is read only if its file has changed since its summary was cached.

    Args:
        runs: runs of searches.
    """
    known = _read()
    found: dict[str, Any] = {}
    for run in runs:
        key = str(run.folder)
        try:
            fingerprint = _fingerprint(run)
            summary = _cached_summary(known.get(key), fingerprint) or _summary(run)
        except UserError as error:
            yield run, error
            continue
        if (
            fingerprint
            and fingerprint == _fingerprint(run)
            and time.time() - fingerprint["changed_ns"] / 1e9 > SETTLED_SECONDS
        ):
            found[key] = {"study": fingerprint, **asdict(summary)}
        yield run, summary
    if any(known.get(key) != one for key, one in found.items()):
        others = {key: one for key, one in known.items() if key not in found}
        _write(dict([*others.items(), *found.items()][-MAX_SUMMARIES:]))


def _summary(run: Run) -> RunSummary:
    from huetune.results.analysis.winner import winner_of
    from huetune.results.tables.trial_table import rows

    study, replicates = run.snapshot()
    table = rows(study, replicates)
    states = [row["state"] for row in table]
    won = winner_of(study, replicates)
    return RunSummary(
        states={state: states.count(state) for state in dict.fromkeys(states)},
        winner=str(won) if won else None,
        front=sum(bool(row["front"]) for row in table),
    )


def _fingerprint(run: Run) -> dict[str, Any] | None:
    """Return a fingerprint that changes with a run's study; None if the study is not in a file or is being written."""
    manifest, path = run.manifest, run.folder / STUDY
    # A journal belongs to a process that is writing, or that died while it was writing.
    if manifest.get("study") or any(path.with_name(f"{path.name}-{name}").exists() for name in ("journal", "wal")):
        return None
    try:
        stat = path.stat()
    except OSError:
        return None
    # The change time, unlike the modification time, cannot be set back.
    return {
        "name": run.study_name,
        "size": stat.st_size,
        "inode": stat.st_ino,
        "written_ns": stat.st_mtime_ns,
        "changed_ns": stat.st_ctime_ns,
    }


def _cached_summary(record: Any, fingerprint: dict[str, Any] | None) -> RunSummary | None:
    if not fingerprint or not isinstance(record, dict) or record.get("study") != fingerprint:
        return None
    try:
        summary = RunSummary(dict(record["states"]), record["winner"], int(record["front"]))
    except (KeyError, TypeError, ValueError):
        return None
    return summary if summary.winner is None or isinstance(summary.winner, str) else None


def _cache_version() -> str:
    return f"{CACHE_VERSION}, huetune {version('huetune')}"


def _read() -> dict[str, Any]:
    if home := cache_home():
        with contextlib.suppress(OSError, ValueError, RecursionError, TypeError, KeyError):
            content = json.loads((home / CACHE_FILE).read_text(encoding="utf-8"))
            if content["versions"] == _cache_version():
                return dict(content["runs"])
    return {}


def _write(summaries: dict[str, Any]) -> None:
    """Write the cache atomically. Failing to write it is not an error, because summaries can be made again."""
    if not (home := cache_home()):
        return
    with contextlib.suppress(OSError):
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f"{CACHE_FILE}.", dir=home)
        draft = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump({"versions": _cache_version(), "runs": summaries}, file)
            draft.replace(home / CACHE_FILE)
        finally:
            draft.unlink(missing_ok=True)
