"""The lock of a run: one process at a time may write it.

The lock is a `flock` on a file in the run's folder. A run in a bucket also has a lease there, see `bucket_lease`.
"""

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
from huetune.data_tools.storage.bucket_cache import bucket_path

LOCK_FILE = "lock"
LOCK_TIMEOUT_SECONDS = 1.0
"""How long to retry: a process that asks for the holder has a shared lock for a moment."""
MAX_DETAILS_BYTES = 1000


@contextlib.contextmanager
def lock_run(folder: Path) -> Iterator[None]:
    """Lock a run, so that no other process writes it, on this machine or any other.

    The operating system releases the lock when the process ends, however it ends, so no stale lock is left. On NFS the
    lock holds for all machines since version 4.

    Args:
        folder: Folder of the run; one in the local copy of a bucket is also leased in the bucket.

    Raises:
        StorageError: Another process has locked the run.
    """
    descriptor = _lock(folder / LOCK_FILE)
    try:
        bucket = bucket_path(folder)
        details = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "user": _user(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "lease": bucket_lease.LEASE_ID,
        }
        # The process that had this lock before has ended, even if its lease in the bucket has not expired yet.
        ended = _details(descriptor).get("lease")
        with bucket_lease.lease_run(bucket, details, ended) if bucket else contextlib.nullcontext():
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(details).encode(), 0)
            yield
    finally:
        os.close(descriptor)


def _lock(path: Path) -> int:
    """Open and lock a file; try again if another process moved it away, with its run, before it was locked."""
    end = time.monotonic() + LOCK_TIMEOUT_SECONDS
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if _flock(descriptor, fcntl.LOCK_EX):
                with contextlib.suppress(FileNotFoundError):
                    if os.fstat(descriptor).st_ino == path.stat().st_ino:
                        return descriptor
            elif time.monotonic() > end:
                by = bucket_lease.describe_holder(_details(descriptor))
                raise StorageError(f"run {path.parent.name!r} is locked by {by}; wait for it or stop that process")
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        time.sleep(0.05)


def lock_holder(folder: Path) -> str | None:
    """Describe the process that has locked a run; None if there is none.

    Raises:
        StorageError: The object store of the run does not answer.
    """
    bucket = bucket_path(folder)
    return local_lock_holder(folder) or (bucket_lease.lease_holder(bucket) if bucket else None)


def local_lock_holder(folder: Path) -> str | None:
    """Describe the process that has locked a run's folder, on this machine or one that shares the folder."""
    try:
        descriptor = os.open(folder / LOCK_FILE, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return None if _flock(descriptor, fcntl.LOCK_SH) else bucket_lease.describe_holder(_details(descriptor))
    finally:
        os.close(descriptor)


def _flock(descriptor: int, kind: int) -> bool:
    """Try to lock a file; return whether it worked."""
    # filelock has exclusive locks only: of two processes that ask for the holder at the same time, each would take the
    # other for it. It does not notice either that a lock file was moved away with its run.
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _details(descriptor: int) -> dict[str, Any]:
    """Return what the process that locked the file wrote into it; empty if it is damaged."""
    try:
        details = json.loads(os.pread(descriptor, MAX_DETAILS_BYTES, 0))
    except ValueError:
        return {}
    return details if isinstance(details, dict) else {}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the user of a container may have no entry in its password file
        return str(os.getuid())
