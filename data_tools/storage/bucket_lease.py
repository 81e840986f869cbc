"""Lock for runs on object storage: a lease renewed by heartbeats.

Object stores have no locks. Each process that wants to write a run puts an object into the run's folder `leases` and
renews it; a lease that has not been renewed for `EXPIRY_SECONDS` no longer counts.
"""

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
from huetune.data_tools.storage.object_store import BucketPath

LEASES_FOLDER = "leases"
"""Folder in a run, with one object for each process that has or requests the lease."""
LEASE_ID = uuid.uuid4().hex
"""Name of this process's lease."""
HEARTBEAT_SECONDS = 10.0
"""Interval at which a lease is renewed."""
LEASE_SECONDS = 30.0
"""How long after its last renewal a process may rely on its own lease without asking the store again."""
EXPIRY_SECONDS = 60.0
"""How long after its last renewal, by the store's clock, a lease of another process counts. It exceeds `LEASE_SECONDS`,
because a renewal may take a while to arrive."""
MAX_ATTEMPTS = 4
"""Two processes that request a lease at the same moment both withdraw and try again."""

_REQUESTED = "asks"
"""Stored key of a lease that is requested but not yet granted."""

_details: dict[BucketPath, Mapping[str, Any]] = {}
"""By run: the details of this process that its lease holds."""
_renewed: dict[BucketPath, float] = {}
"""By run: when this process last renewed its lease, by its own monotonic clock; minus infinity after another process
took the run over."""
_lock = threading.Lock()
"""Guards comparing and setting `_renewed`. It is not held during requests to the store."""


@contextlib.contextmanager
def lease_run(run: BucketPath, details: Mapping[str, Any], ended: str | None = None) -> Iterator[None]:
    """Lease a run in a bucket, so that no other process writes it.

    Args:
        run: Path of the run.
        details: This process: `host`, `pid`, `user` and `since`.
        ended: Name of a lease whose process is known to have ended.

    Raises:
        StorageError: Another process has the lease, or the store cannot be written.
    """
    if ended:
        (run / LEASES_FOLDER / ended).remove()
    for attempt in range(MAX_ATTEMPTS):
        _renewed[run] = _write(run, {**details, _REQUESTED: True})
        # Each process writes before it reads, so of two that request the lease at least one sees the other.
        other = _other_lease(run)
        if other is None:
            break
        (run / LEASES_FOLDER / LEASE_ID).remove()
        if not other.get(_REQUESTED) or attempt == MAX_ATTEMPTS - 1:
            raise StorageError(
                f"run {run.name!r} is locked by {describe_holder(other)}; wait for it or stop that process, whose "
                f"lease expires {EXPIRY_SECONDS:g} s later"
            )
        time.sleep(random.uniform(0, attempt + 1))
    over = threading.Event()
    thread = threading.Thread(target=_renew, args=(run, over), daemon=True)
    _details[run] = details
    thread.start()
    try:
        _renewed[run] = _write(run, details)
        yield
    finally:
        over.set()
        thread.join()
        # If it cannot be removed now, it expires.
        with contextlib.suppress(StorageError):
            (run / LEASES_FOLDER / LEASE_ID).remove()


def check_lease(run: BucketPath) -> None:
    """Check that this process still has the lease of a run.

    Raises:
        StorageError: The lease could not be renewed for too long, and another process has it now or the store cannot be
            reached.
    """
    if time.monotonic() - _renewed[run] > LEASE_SECONDS:
        # Requested as in the beginning. What another process may have written in the meantime is found in the study.
        # `_renewed` stays old until the answer is there, so that `_renew` does not write in between.
        began = _write(run, _details[run])
        other = _other_lease(run)
        with _lock:
            _renewed[run] = -math.inf if other else began
        if other:
            (run / LEASES_FOLDER / LEASE_ID).remove()
            raise StorageError(
                f"{str(run)!r}: could not be reached for {LEASE_SECONDS:g} s and is now locked by "
                f"{describe_holder(other)}"
            )


def lease_holder(run: BucketPath) -> str | None:
    """Describe the other process that has the lease of a run; None if there is none.

    Raises:
        StorageError: The store does not answer.
    """
    other = _other_lease(run)
    return describe_holder(other) if other else None


def describe_holder(details: Mapping[str, Any]) -> str:
    """Describe the process that has a lock or a lease, as `process 9418 (user ada) on host vm since ...`."""
    try:
        since = local_time(str(details["since"]))
        return f"process {details['pid']} (user {details['user']}) on host {details['host']} since {since}"
    except KeyError:
        return "another process"


def _other_lease(run: BucketPath) -> dict[str, Any] | None:
    """Return the details in another process's lease that has not expired."""
    leases = (run / LEASES_FOLDER).list_objects()
    # A process with a lease has just written it, so its time is the store's current time. A process that only looks has
    # its own clock.
    now_ns = leases[LEASE_ID].modified_ns if LEASE_ID in leases else time.time_ns()
    for key in set(leases) - {LEASE_ID}:
        if (now_ns - leases[key].modified_ns) / 1e9 < EXPIRY_SECONDS:
            with contextlib.suppress(FileNotFoundError, ValueError):
                return json.loads((run / LEASES_FOLDER / key).read())
        elif LEASE_ID in leases:
            (run / LEASES_FOLDER / key).remove()
    return None


def _write(run: BucketPath, details: Mapping[str, Any]) -> float:
    """Write this process's lease; return when the write began, by this process's monotonic clock."""
    began = time.monotonic()
    (run / LEASES_FOLDER / LEASE_ID).write(json.dumps(details).encode())
    return began


def _renew(run: BucketPath, over: threading.Event) -> None:
    """Renew the lease until `over` is set; the target of a thread."""
    while not over.wait(HEARTBEAT_SECONDS):
        # After LEASE_SECONDS another process may have the run: then nothing is written until `check_lease` has asked.
        before = _renewed[run]
        if time.monotonic() - before < LEASE_SECONDS:
            with contextlib.suppress(StorageError):
                began = _write(run, _details[run])
                with _lock:
                    if _renewed[run] == before:
                        _renewed[run] = began
                    lost = _renewed[run] == -math.inf
                if lost:
                    # During this slow write `check_lease` found that another process has the run.
                    (run / LEASES_FOLDER / LEASE_ID).remove()
