"""Who searches in a bucket: it knows no locks, so whoever holds a run says again and again that it does."""

import contextlib
import json
import math
import random
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from huetune.data_tools.common.errors import StorageError
from huetune.data_tools.common.terminal import local_time
from huetune.data_tools.storage.object_store import Bucket

FOLDER = "leases"
"""In a run: an object for each process that holds it or asks to."""
OWN = uuid.uuid4().hex
"""This process's."""
BEAT = 10.0
"""Seconds between two signs of life."""
SURE = 30.0
"""Seconds after its last sign of life that a process counts on its lease."""
DEAD = 60.0
"""Seconds after its last sign of life, by the store's clock, that others count a process as dead: more than `SURE`, for
a sign may be under way for a while."""
TRIES = 4
"""Of two that ask in one moment both give way, and ask again."""

_about: dict[Bucket, Mapping[str, Any]] = {}
_renewed: dict[Bucket, float] = {}
"""Of each run that this process holds: who it says that it is, and when it last did, by its own clock; minus infinity
once another has it."""
_lock = threading.Lock()
"""Held to compare and set `_renewed`, not while the store is asked."""


@contextlib.contextmanager
def leased(run: Bucket, about: Mapping[str, Any], dead: str | None = None) -> Iterator[None]:
    """Hold a run in a bucket, so that no other process writes it.

    Args:
        run: its place.
        about: who this process is: `host`, `pid`, `user` and `since`.
        dead: a lease whose process is known to have ended.

    Raises:
        StorageError: another process holds it, or the store cannot be written.
    """
    if dead:
        (run / FOLDER / dead).remove()
    for attempt in range(TRIES):
        _renewed[run] = _write(run, {**about, "asks": True})
        # Each writes before it looks: of two that want the run, at least one sees the other.
        other = _other(run)
        if other is None:
            break
        (run / FOLDER / OWN).remove()
        if not other.get("asks") or attempt == TRIES - 1:
            raise StorageError(
                f"run {run.name!r} is in the hands of {words(other)}; wait for it, or end that process, which counts "
                f"as dead {DEAD:g} s later"
            )
        time.sleep(random.uniform(0, attempt + 1))
    over = threading.Event()
    thread = threading.Thread(target=_beat, args=(run, over), daemon=True)
    _about[run] = about
    thread.start()
    try:
        _renewed[run] = _write(run, about)
        yield
    finally:
        over.set()
        thread.join()
        # What cannot be taken away now is dead in a minute.
        with contextlib.suppress(StorageError):
            (run / FOLDER / OWN).remove()


def check(run: Bucket) -> None:
    """Make sure that this process still holds a run.

    Raises:
        StorageError: it could give no sign of life for too long, and another holds it now or the store cannot be
            reached.
    """
    if time.monotonic() - _renewed[run] > SURE:
        # Asked for again, as in the beginning. What another may have done and left meanwhile shows in the study.
        # `_renewed` stays old until the answer is known: `_beat` writes nothing in between.
        began = _write(run, _about[run])
        other = _other(run)
        with _lock:
            _renewed[run] = -math.inf if other else began
        if other:
            (run / FOLDER / OWN).remove()
            raise StorageError(f"{str(run)!r}: was out of reach for {SURE:g} s; now {words(other)} has it")


def holder(run: Bucket) -> str | None:
    """Return in words which other process holds a run in a bucket; None where none does.

    Raises:
        StorageError: the store does not say.
    """
    other = _other(run)
    return words(other) if other else None


def words(about: Mapping[str, Any]) -> str:
    """Return in words who a process is."""
    try:
        return f"process {about['pid']} of {about['user']} on {about['host']}, since {local_time(str(about['since']))}"
    except KeyError:
        return "another process"


def _other(run: Bucket) -> dict[str, Any] | None:
    leases = (run / FOLDER).objects()
    # Whoever has a lease has just written it: that is what time the store has. Who only looks has its own clock.
    now = leases[OWN].time if OWN in leases else time.time_ns()
    for key in set(leases) - {OWN}:
        if (now - leases[key].time) / 1e9 < DEAD:
            with contextlib.suppress(FileNotFoundError, ValueError):
                return json.loads((run / FOLDER / key).read())
        elif OWN in leases:
            (run / FOLDER / key).remove()
    return None


def _write(run: Bucket, about: Mapping[str, Any]) -> float:
    """Give a sign of life; return when it was begun, by this process's clock."""
    began = time.monotonic()
    (run / FOLDER / OWN).write(json.dumps(about).encode())
    return began


def _beat(run: Bucket, over: threading.Event) -> None:
    while not over.wait(BEAT):
        # Once it is not sure any more another may hold the run: then it is silent until `check` has asked.
        before = _renewed[run]
        if time.monotonic() - before < SURE:
            with contextlib.suppress(StorageError):
                began = _write(run, _about[run])
                with _lock:
                    if _renewed[run] == before:
                        _renewed[run] = began
                    lost = _renewed[run] == -math.inf
                if lost:
                    # The write took so long that `check` has asked meanwhile: another holds the run.
                    (run / FOLDER / OWN).remove()
