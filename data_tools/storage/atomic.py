"""Atomic writes: a folder or a file appears complete or not at all, even after a crash or a power failure."""

import contextlib
import glob
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from huetune.data_tools.common.errors import StorageError
from huetune.data_tools.storage.checksums import SUMS_FILE, is_whole, sha256_of

LOCK_TIMEOUT_SECONDS = 0.1
"""Long enough to open the lock file again if its owner has just deleted it."""
REPLACEMENT_WAIT_SECONDS = 1.0
"""How long a reader waits for another process to replace a folder: the two renames take milliseconds."""


def require_empty(folder: Path) -> None:
    """Check that a folder is missing or empty, so that no file of the user is overwritten.

    Raises:
        StorageError: The folder is not empty or cannot be written.
    """
    if os.path.exists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise StorageError(f"{str(folder)!r}: is not empty; choose a new folder")
    require_writable(folder)


def require_new(folder: Path) -> None:
    """Check that `atomic_folder` could create a folder, before any work is done for it.

    Raises:
        StorageError: The folder is not empty, or it cannot be replaced by renaming: it is the current folder, a link, a
            mount point, or in a folder where nothing can be created.
    """
    recover(folder)
    require_empty(folder)
    if folder.exists() and folder.samefile(os.curdir):
        raise StorageError(f"{str(folder)!r}: is the current folder; choose a new one")
    if folder.is_symlink() or os.path.ismount(folder):
        raise StorageError(f"{str(folder)!r}: is a link or a mount point; choose a new folder in it")
    parent = next(parent for parent in folder.absolute().parents if parent.is_dir())
    draft = _draft(parent / folder.name)
    try:
        draft.mkdir()
        draft.rmdir()
    except OSError as error:
        raise StorageError(f"{str(folder)!r}: cannot be created ({error.strerror}); choose another folder") from None


@contextlib.contextmanager
def exclusive(folder: Path, remedy: str = "choose another folder") -> Iterator[None]:
    """Lock a folder that is about to be created or replaced, so that no other process writes it at the same time.

    Args:
        folder: Folder to lock. It need not exist.
        remedy: What to do if another process has the lock; ends the error message.

    Raises:
        StorageError: Another process has the lock.
        OSError: The disk does not support locks.
    """
    path = folder.with_name(f".{folder.name}.lock")
    new = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    # No fallback to the mere existence of the lock file: it would stay behind when a process is killed.
    lock = FileLock(path, timeout=LOCK_TIMEOUT_SECONDS, poll_interval=0.01, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise StorageError(f"{str(folder)!r}: another process is writing it; {remedy}") from None
    try:
        yield
    finally:
        # Deleted before it is released: a process that has opened it in between notices and creates a new one.
        path.unlink(missing_ok=True)
        lock.release()
        if new:
            with contextlib.suppress(OSError):  # not empty: the new folder is in it
                path.parent.rmdir()


def named_path(path: Path) -> Path:
    """Return a path whose last part is a name, from which names of siblings can be made: `.` becomes absolute."""
    return path if path.name not in ("", "..") else Path(os.path.abspath(path))


def require_writable(folder: Path) -> None:
    """Check that a folder can be created or written, before any work is done for it. The check leaves no file behind.

    Raises:
        StorageError: The disk refuses it, or the folder is inside a folder with checksums, which would count as damaged
            with another file in it.
    """
    candidates = (folder.absolute(), *folder.absolute().parents)
    for parent in candidates:
        if os.path.isfile(parent / SUMS_FILE) and is_whole(parent):
            raise StorageError(
                f"{str(folder)!r}: {str(parent)!r} has checksums and would count as damaged with more files in it; "
                "choose another folder"
            )
    try:
        for existing in candidates:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.lstat(existing)
                break
        # Permission bits are not enough: the disk may be full, or the path may be in a pseudo file system as /proc.
        with tempfile.TemporaryDirectory(dir=existing):
            pass
    except OSError as error:
        raise StorageError(f"{str(folder)!r}: cannot be created ({error.strerror}); choose another folder") from None


@contextlib.contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty draft folder; when the block ends, it is renamed to `folder`, with a checksum for each file.

    All files are flushed to the disk before the rename, so a folder that exists is complete, even after a power
    failure. An older version of the folder is renamed aside until the new one is in place; if this is interrupted,
    `recover` restores it.

    Args:
        folder: Folder to create, with its parents, or to replace. No other process may write it at the same time: use
            `exclusive`, or a name that no other process uses.

    Raises:
        OSError: The disk refuses the write. The older version stays in place and the draft is removed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _settle(folder)
    # mkdir and not mkdtemp: the user's umask decides who can read the folder.
    draft = _draft(folder)
    draft.mkdir()
    try:
        yield draft
        files = sorted(path for path in draft.iterdir() if path.name != SUMS_FILE)
        sums = "".join(f"{sha256_of(path)}  {path.name}\n" for path in files)
        (draft / SUMS_FILE).write_text(sums, encoding="utf-8")
        for path in (*files, draft / SUMS_FILE, draft):
            flush_to_disk(path)
        if folder.exists():
            folder.rename(_aside(folder))
        draft.rename(folder)
        flush_to_disk(folder.parent)
    except BaseException:
        with contextlib.suppress(OSError):  # `recover` tries again when the folder is read
            _settle(folder)
        shutil.rmtree(draft, ignore_errors=True)
        raise
    with contextlib.suppress(OSError):
        _settle(folder)


def recover(folder: Path) -> None:
    """Finish or undo an interrupted replacement by `atomic_folder`. Call it before reading the folder.

    Args:
        folder: Any folder. It need not exist, nor be written by `atomic_folder`.

    Raises:
        StorageError: The only version is the one renamed aside, and it cannot be renamed back, or another process is
            replacing it.
    """
    folder = Path(os.path.realpath(folder))
    aside = _aside(folder)
    end = time.monotonic() + REPLACEMENT_WAIT_SECONDS
    while os.path.isdir(aside):  # unlike Path.is_dir, it accepts a name of any length
        try:
            with exclusive(folder):
                return _settle(folder)
        except (StorageError, OSError) as error:
            if os.path.lexists(folder):
                return
            if isinstance(error, OSError):
                raise StorageError(
                    f"{str(folder)!r}: replacing it was interrupted, and the old version cannot be renamed back "
                    f"({error.strerror}); rename {str(aside)!r} to it"
                ) from None
            if time.monotonic() > end:
                raise StorageError(f"{str(folder)!r}: another process is replacing it; try again") from None
            time.sleep(0.01)


def remove_drafts(folder: Path, names: Collection[str]) -> None:
    """Remove drafts of a folder that killed processes left beside it.

    Args:
        folder: Folder that `atomic_folder` writes; the caller has locked it with `exclusive`.
        names: Names of all files that a draft can have. A folder with any other file is not a draft and is kept.
    """
    for path in folder.parent.glob(f".{glob.escape(folder.name)}-*"):
        drafted = re.fullmatch("[0-9a-f]{8}", path.name.removeprefix(f".{folder.name}-"))
        if drafted and path.is_dir() and not path.is_symlink() and {file.name for file in path.iterdir()} <= {*names}:
            shutil.rmtree(path, ignore_errors=True)


def _settle(folder: Path) -> None:
    """Keep one version of a folder: the new one if it is undamaged, and otherwise the one that was renamed aside."""
    aside = _aside(folder)
    if not os.path.isdir(aside):
        return
    if not os.path.lexists(folder) or (folder.is_dir() and not os.listdir(folder)):
        aside.rename(folder)
        flush_to_disk(folder.parent)
    elif is_whole(folder):
        # Renamed before it is deleted: under the name of `_aside` there is never a part of a version.
        shutil.rmtree(aside.rename(_draft(folder)), ignore_errors=True)


def _aside(folder: Path) -> Path:
    """Return the path of the old version while a new one is being put in place."""
    return folder.parent / f".{folder.name}.old"


def atomic_write(path: Path, content: bytes) -> None:
    """Write a file completely or not at all, and flush it to the disk.

    Raises:
        OSError: The disk refuses the write. An older version of the file stays in place.
    """
    draft = _draft(path)
    try:
        draft.write_bytes(content)
        flush_to_disk(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    flush_to_disk(path.parent)


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")


def flush_to_disk(path: Path) -> None:
    """Flush a file, or the list of names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
