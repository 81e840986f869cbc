"""Who searches: of two that want to write a run, one does."""

import contextlib
import fcntl
import getpass
import json
import os
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from huetune.data_tools.common.errors import StorageError
from huetune.data_tools.storage import bucket_lease
from huetune.data_tools.storage.bucket_cache import bucket_of

LOCK = "lock"
PATIENCE = 1.0
"""Seconds to try: whoever only asks for the holder holds the lock for a moment."""


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a run, so that no other process writes it, on no other machine either.

    The system lets go of the lock when the process ends, however that ends: nothing stale is ever left. On NFS it holds
    for all machines from version 4 on; a run in a bucket is leased there, too.

    Args:
        folder: of the run.

    Raises:
        StorageError: another process holds it.
    """
    descriptor = _locked(folder / LOCK)
    try:
        bucket = bucket_of(folder)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        about = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "user": _user(),
            "since": since,
            "lease": bucket_lease.OWN,
        }
        # Who held the lock here before has ended, whatever the bucket says.
        ended = _about(descriptor).get("lease")
        with bucket_lease.leased(bucket, about, ended) if bucket else contextlib.nullcontext():
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(about).encode(), 0)
            yield
    finally:
        os.close(descriptor)


def _locked(path: Path) -> int:
    """Open and lock a file that is still there under its name: another process may have taken the run away."""
    end = time.monotonic() + PATIENCE
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if _taken(descriptor, fcntl.LOCK_EX):
                with contextlib.suppress(FileNotFoundError):
                    if os.fstat(descriptor).st_ino == path.stat().st_ino:
                        return descriptor
            elif time.monotonic() > end:
                by = bucket_lease.words(_about(descriptor))
                raise StorageError(
                    f"run {path.parent.name!r} is in the hands of {by}; wait for it, or end that process"
                )
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        time.sleep(0.05)


def holder(folder: Path) -> str | None:
    """Return in words who holds a run; None where nobody does."""
    bucket = bucket_of(folder)
    return holder_here(folder) or (bucket_lease.holder(bucket) if bucket else None)


def holder_here(folder: Path) -> str | None:
    """Return in words which process of this machine, or of one that shares the folder, holds a run."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return None if _taken(descriptor, fcntl.LOCK_SH) else bucket_lease.words(_about(descriptor))
    finally:
        os.close(descriptor)


def _taken(descriptor: int, kind: int) -> bool:
    # Not filelock, whose locks are all exclusive: of two processes that ask at once who searches, each would take the
    # other for it. Nor does it notice a lock file that was moved away with its run.
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _about(descriptor: int) -> dict[str, Any]:
    try:
        about = json.loads(os.pread(descriptor, 1000, 0))
    except ValueError:
        return {}
    return about if isinstance(about, dict) else {}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's nameless user
        return str(os.getuid())
