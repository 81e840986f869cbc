"""Folders that are written to: whole or not at all, and so that damage shows."""

import contextlib
import glob
import hashlib
import os
import re
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from platformdirs.unix import Unix

from huetune.data_tools.common.errors import CheckpointError, StorageError

SUMS = "SHA256SUMS"
"""Written last. `sha256sum --check SHA256SUMS` in the folder says the same as `check_sums`."""
LARGEST = 2**28
"""Bytes of a file that is no state of a training: the largest model that there can be has half of it."""
STATE = "state.npz"
"""What a training goes on from, see `model.training_state`."""
MAX_STATE_BYTES = 2**30
"""Of that file: eight times the weights of the largest model."""
MOST = 100
"""Files in a folder."""
LOCK_TIMEOUT_SECONDS = 0.1
"""How long a lock is tried: long enough to open it again if its holder has just removed it."""
REPLACEMENT_WAIT_SECONDS = 1.0
"""How long a reader waits for a folder that another process is replacing: two renames take milliseconds."""


def require_empty(folder: Path) -> None:
    """Refuse a folder that holds something already: nothing of a user's is ever written over or mixed with.

    Raises:
        StorageError: it is there and not an empty folder, or cannot be made.
    """
    if os.path.exists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise StorageError(f"{str(folder)!r}: is not empty; choose a new folder")
    require_place(folder)


def require_new(folder: Path) -> None:
    """Refuse a folder that `sealed` could not make, or would have to take from under somebody's feet.

    Raises:
        StorageError: it is not empty, or is where nothing can be put in its place.
    """
    recover(folder)
    require_empty(folder)
    if folder.exists() and folder.samefile(os.curdir):
        raise StorageError(f"{str(folder)!r}: is the folder that you are in; choose a new one")
    if folder.is_symlink() or os.path.ismount(folder):
        raise StorageError(f"{str(folder)!r}: is a link or a disk of its own; name a new folder in it")
    place = next(place for place in folder.absolute().parents if place.is_dir())
    draft = _draft(place / folder.name)
    try:
        draft.mkdir()
        draft.rmdir()
    except OSError as error:
        raise StorageError(f"{str(folder)!r}: cannot be made anew ({error.strerror}); choose another folder") from None


@contextlib.contextmanager
def alone(folder: Path, remedy: str = "choose another folder") -> Iterator[None]:
    """Have no other process make the same folder meanwhile.

    Args:
        folder: to be made or replaced.
        remedy: for whoever finds another process at it.

    Raises:
        StorageError: one does.
    """
    path = folder.with_name(f".{folder.name}.lock")
    new = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    # Where the disk knows no locks this fails: the lock file alone would outlive a process that is killed.
    lock = FileLock(path, timeout=LOCK_TIMEOUT_SECONDS, poll_interval=0.01, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise StorageError(f"{str(folder)!r}: another process is making it; {remedy}") from None
    try:
        yield
    finally:
        # While it is locked: whoever has opened it meanwhile sees that it has no name, and makes a new one.
        path.unlink(missing_ok=True)
        lock.release()
        if new:
            with contextlib.suppress(OSError):  # what was made is in it
                path.parent.rmdir()


def by_name(path: Path) -> Path:
    """Return a path that ends in a name, which a draft or a neighbor of it can be called after: `.` has none."""
    return path if path.name not in ("", "..") else Path(os.path.abspath(path))


def require_place(folder: Path) -> None:
    """Refuse a folder that could not be made or written, before any work is done for it; nothing is left of the trial.

    Raises:
        StorageError: the disk would not take it, or it is in a sealed folder, which would be whole no more.
    """
    places = (folder.absolute(), *folder.absolute().parents)
    for place in places:
        if os.path.isfile(place / SUMS) and _is_whole(place):
            raise StorageError(
                f"{str(folder)!r}: {str(place)!r} is sealed, and with more in it would count as damaged; choose another"
            )
    try:
        for place in places:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.lstat(place)
                break
        # Permissions do not tell: the disk may be full, or no disk at all, as below /proc.
        with tempfile.TemporaryDirectory(dir=place):
            pass
    except OSError as error:
        raise StorageError(f"{str(folder)!r}: cannot be made ({error.strerror}); choose another folder") from None


@contextlib.contextmanager
def sealed(folder: Path) -> Iterator[Path]:
    """Yield a draft to fill; then it becomes the folder, with the sum of each of its files.

    All is flushed to the disk before the draft is renamed: whoever finds the folder finds all of it, even after the
    power failed.

    An older folder there is renamed aside until the draft is in its place, so that one whole version is left at every
    moment: `recover` finds it.

    Args:
        folder: made here, its parents too; an older one there is replaced. No other process may make it meanwhile: hold
            `alone`, or choose a name that nobody else has.

    Raises:
        OSError: the disk would not take it; what was there before is still there, and nothing is left of the draft.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _settle(folder)
    # With the permissions that the user's umask leaves: runs are shared, or not.
    draft = _draft(folder)
    draft.mkdir()
    try:
        yield draft
        files = sorted(path for path in draft.iterdir() if path.name != SUMS)
        (draft / SUMS).write_text("".join(f"{sum_of(path)}  {path.name}\n" for path in files), encoding="utf-8")
        for path in (*files, draft / SUMS, draft):
            flush(path)
        if folder.exists():
            folder.rename(_aside(folder))
        draft.rename(folder)
        flush(folder.parent)
    except BaseException:
        with contextlib.suppress(OSError):  # then whoever opens the folder next does it
            _settle(folder)
        shutil.rmtree(draft, ignore_errors=True)
        raise
    with contextlib.suppress(OSError):
        _settle(folder)


def recover(folder: Path) -> None:
    """Finish or undo what was interrupted while `sealed` replaced a folder; call it before the folder is read.

    Args:
        folder: it need not be there, nor be made by `sealed`.

    Raises:
        StorageError: its only version is aside, and cannot be renamed back or is just being replaced.
    """
    folder = Path(os.path.realpath(folder))
    aside = _aside(folder)
    end = time.monotonic() + REPLACEMENT_WAIT_SECONDS
    while os.path.isdir(aside):  # unlike a Path, it takes a name of any length
        try:
            with alone(folder):
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
    """Remove what processes that were killed while `sealed` filled a draft have left beside a folder.

    Args:
        folder: that this process alone makes: hold `alone`.
        names: of the files that a draft of it can have; a folder with others in it is somebody's own.
    """
    for path in folder.parent.glob(f".{glob.escape(folder.name)}-*"):
        drafted = re.fullmatch("[0-9a-f]{8}", path.name.removeprefix(f".{folder.name}-"))
        if drafted and path.is_dir() and not path.is_symlink() and {file.name for file in path.iterdir()} <= {*names}:
            shutil.rmtree(path, ignore_errors=True)


def _settle(folder: Path) -> None:
    """Have one version of a folder that this process alone makes: the new one if that is whole, or else the old one."""
    aside = _aside(folder)
    if not os.path.isdir(aside):
        return
    if not os.path.lexists(folder) or (folder.is_dir() and not os.listdir(folder)):
        aside.rename(folder)
        flush(folder.parent)
    elif _is_whole(folder):
        # Under another name first: what is aside is whole at every moment.
        shutil.rmtree(aside.rename(_draft(folder)), ignore_errors=True)


def _aside(folder: Path) -> Path:
    """Where the old version of a folder is while a new one takes its place."""
    return folder.parent / f".{folder.name}.old"


def check_files(folder: Path) -> None:
    """Make sure that a folder of unknown origin can be read: a few plain files.

    A link leads to a file that is none of its business, a pipe or a device never ends, a sparse file is read for hours.

    Raises:
        CheckpointError: there is something else in it.
    """
    try:
        entries = [path for path, _ in zip(folder.iterdir(), range(MOST + 1), strict=False)]
        for path in entries:
            about = path.lstat()
            if not stat.S_ISREG(about.st_mode):
                raise CheckpointError(f"{str(path)!r}: is no plain file, which is all that a model has")
            if about.st_size > (MAX_STATE_BYTES if path.name == STATE else LARGEST):
                raise CheckpointError(f"{str(path)!r}: has {about.st_size} bytes, more than any model")
    except OSError as error:
        raise CheckpointError(f"{str(folder)!r}: cannot be read ({error.strerror})") from None
    if len(entries) > MOST:
        raise CheckpointError(f"{str(folder)!r}: holds more than {MOST} files, which no model does")


def check_sums(folder: Path, besides: Collection[str] = ()) -> None:
    """Make sure that a folder is as it was sealed.

    Args:
        folder: as `sealed` made it.
        besides: names of files that may be there without a sum.

    Raises:
        CheckpointError: a file is missing, is another, or was never sealed.
    """
    try:
        if (folder / SUMS).stat().st_size > MOST * 400:
            raise CheckpointError(f"{str(folder / SUMS)!r}: is longer than the sums of {MOST} files")
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
        parts = [re.fullmatch(r"([0-9a-f]{64})  ([A-Za-z0-9_][A-Za-z0-9._-]*)", line) for line in lines]
        sums = {part[2]: part[1] for part in parts if part}
        if len(sums) != len(lines):
            # Names lead nowhere else, and each is there once.
            raise CheckpointError(f"{str(folder / SUMS)!r}: is no list of sums and names of files beside it")
        files = {path.name for path in folder.iterdir()} - {SUMS}
        if not set(sums) <= files or not files - set(sums) <= set(besides):
            raise CheckpointError(f"{str(folder)!r}: holds other files than its {SUMS} says")
        damaged = [name for name in sums if sum_of(folder / name) != sums[name]]
    except FileNotFoundError:
        raise CheckpointError(f"{str(folder)!r}: has no {SUMS}, so nobody knows whether it is whole") from None
    except CheckpointError:
        raise
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{str(folder)!r}: cannot be read ({error})") from None
    if damaged:
        raise CheckpointError(f"{str(folder / damaged[0])!r}: damaged, its sha256 is not that of {SUMS}")


def _is_whole(folder: Path) -> bool:
    try:
        check_files(folder)
        check_sums(folder)
    except CheckpointError:
        return False
    return True


HOMELESS = "/nonexistent"
"""The home of a user who has none, as Debian calls it."""


def own_folder(kind: Literal["cache", "state"]) -> Path | None:
    """Return huetune's own folder of a kind, by the XDG standard on every system; None for a user without a home.

    Args:
        kind: what the user may remove is the cache: `$XDG_CACHE_HOME/huetune`, or else `~/.cache/huetune`; what must
            last is the state: `$XDG_STATE_HOME/huetune`, or else `~/.local/state/huetune`.
    """
    folders = Unix("huetune")
    try:
        folder = folders.user_cache_path if kind == "cache" else folders.user_state_path
    except RuntimeError:  # a container's nameless user
        return None
    return None if folder.is_relative_to(HOMELESS) else folder


def cache_home() -> Path | None:
    """Return where things are kept that can be made again; None for nowhere, as with an empty HUETUNE_CACHE.

    It is the folder that HUETUNE_CACHE names, or else `$XDG_CACHE_HOME/huetune`, or else `~/.cache/huetune`.
    """
    chosen = os.environ.get("HUETUNE_CACHE")
    if chosen is not None:
        return Path(chosen) if chosen else None
    return own_folder("cache")


def sum_of(path: Path) -> str:
    """Return a file's sha256, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, and flush it to the disk.

    Raises:
        OSError: the disk would not take it; what was there before is still there.
    """
    draft = _draft(path)
    try:
        draft.write_bytes(content)
        flush(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    flush(path.parent)


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")


def flush(path: Path) -> None:
    """Have the disk take a file, or the names in a folder, before anything else is done."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
