"""What `huetune list` says of a run, kept in the user's cache for as long as the run's study stays as it is."""

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

FILE = "summaries.json"
"""In the user's cache."""
FORMAT = 1
"""Of that file: raised whenever a summary of the same study says something else."""
MAX_SUMMARIES = 10_000
"""Runs whose summaries are kept, those that were listed last; 2 MB."""
SETTLED_SECONDS = 2.0
"""Age of a study's last change from which on another one surely shows in the file's times, whose steps are coarse."""


@dataclass(frozen=True)
class Summary:
    """How a search stands.

    Attributes:
        states: how many trials are in each state, in the order of the trial table.
        winner: the winner with its score; None without.
        front: how many trials are on the Pareto front.
    """

    states: dict[str, int]
    winner: str | None
    front: int


def summarized(runs: Iterable[Run]) -> Iterator[tuple[Run, Summary | UserError]]:
    """Yield each run with its summary, or with the reason why there is none.

    A study is read only if its file has changed since it was summarized: the study stays the truth.

    Args:
        runs: of searches.
    """
    known = _read()
    found: dict[str, Any] = {}
    for run in runs:
        key = str(run.folder)
        try:
            mark = _mark(run)
            summary = _kept(known.get(key), mark) or _summary(run)
        except UserError as error:
            yield run, error
            continue
        if mark and mark == _mark(run) and time.time() - mark["changed_ns"] / 1e9 > SETTLED_SECONDS:
            found[key] = {"study": mark, **asdict(summary)}
        yield run, summary
    if any(known.get(key) != one for key, one in found.items()):
        others = {key: one for key, one in known.items() if key not in found}
        _write(dict([*others.items(), *found.items()][-MAX_SUMMARIES:]))


def _summary(run: Run) -> Summary:
    from huetune.results.analysis.winner import winner_of
    from huetune.results.tables.trial_table import rows

    study, replicates = run.snapshot()
    table = rows(study, replicates)
    states = [row["state"] for row in table]
    won = winner_of(study, replicates)
    return Summary(
        states={state: states.count(state) for state in dict.fromkeys(states)},
        winner=str(won) if won else None,
        front=sum(bool(row["front"]) for row in table),
    )


def _mark(run: Run) -> dict[str, Any] | None:
    """What tells a run's study from the same one changed; None where a file's times do not tell."""
    manifest, path = run.manifest, run.folder / STUDY
    # A journal is of a process that is writing, or died at it.
    if manifest.get("study") or any(path.with_name(f"{path.name}-{name}").exists() for name in ("journal", "wal")):
        return None
    try:
        stat = path.stat()
    except OSError:
        return None
    # The time of the last change, unlike that of the last writing, cannot be set back.
    return {
        "name": run.study_name,
        "size": stat.st_size,
        "inode": stat.st_ino,
        "written_ns": stat.st_mtime_ns,
        "changed_ns": stat.st_ctime_ns,
    }


def _kept(record: Any, mark: dict[str, Any] | None) -> Summary | None:
    if not mark or not isinstance(record, dict) or record.get("study") != mark:
        return None
    try:
        summary = Summary(dict(record["states"]), record["winner"], int(record["front"]))
    except (KeyError, TypeError, ValueError):
        return None
    return summary if summary.winner is None or isinstance(summary.winner, str) else None


def _versions() -> str:
    return f"{FORMAT}, huetune {version('huetune')}"


def _read() -> dict[str, Any]:
    if home := cache_home():
        with contextlib.suppress(OSError, ValueError, RecursionError, TypeError, KeyError):
            content = json.loads((home / FILE).read_text(encoding="utf-8"))
            if content["versions"] == _versions():
                return dict(content["runs"])
    return {}


def _write(summaries: dict[str, Any]) -> None:
    """Keep summaries, whole or not at all. A disk that does not take them is no error: they can be made again."""
    if not (home := cache_home()):
        return
    with contextlib.suppress(OSError):
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f"{FILE}.", dir=home)
        draft = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump({"versions": _versions(), "runs": summaries}, file)
            draft.replace(home / FILE)
        finally:
            draft.unlink(missing_ok=True)
