"""Buckets as folders: each has a mirror on this machine, in which files are files.

Where a function here is given a path in no mirror, it is in a plain folder that all see, and there is nothing to do.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from huetune.data_tools.storage.atomic import SUMS, by_name, own_folder, replace
from huetune.data_tools.storage.object_store import SCHEME, Bucket

MARKER = ".bucket"
"""Names the bucket, in its mirror."""
CONNECTIONS = 8
"""At once, to get many files."""
Progress = Callable[[list], Iterable]


def root() -> Path:
    """Return where mirrors are: in `$XDG_STATE_HOME/huetune`, or else in `~/.local/state/huetune`.

    Of a search that runs here, the study in the mirror is the one that is written: a cache could be emptied.
    """
    home = own_folder("state") or Path(tempfile.gettempdir(), f"huetune-{os.getuid()}")
    return (home / "mirrors").resolve()


def path_of(place: str | Path) -> Path:
    """Return where a place is on this machine: a path is itself, what is in a bucket is in the bucket's mirror.

    Raises:
        UserError: a URI that is none.
        OSError: the mirror cannot be made.
    """
    if isinstance(place, Path) or not place.startswith(SCHEME):
        return by_name(Path(place))
    bucket = Bucket.of(place)
    name, _, key = bucket.path.partition("/")
    whole = str(Bucket(name, bucket.query))
    mirror = root() / f"{name}-{hashlib.sha256(whole.encode()).hexdigest()[:12]}"
    if not (mirror / MARKER).is_file():
        mirror.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace(mirror / MARKER, f"{whole}\n".encode())
    return mirror / key


def bucket_of(path: Path) -> Bucket | None:
    """Return the place in a bucket that a path in a mirror is of; None for a path that is in no mirror."""
    if not path.is_absolute() or not path.is_relative_to(root()):
        return None
    name, *key = path.relative_to(root()).parts
    try:
        bucket = Bucket.of((root() / name / MARKER).read_text(encoding="utf-8").rstrip("\n"))
    except FileNotFoundError:
        return None
    return bucket / "/".join(key) if key else bucket


def place_of(path: Path) -> str:
    """Return what a path is called on all machines: the URI of what is in a bucket, or else the path itself."""
    return str(bucket_of(path) or path)


def listed(folder: Path, pattern: str) -> list[Path]:
    """Return what beneath a folder matches a pattern with as many parts; of a folder in a mirror, as the bucket has it.

    Raises:
        StorageError: the store does not say.
    """
    if not (bucket := bucket_of(folder)):
        return sorted(folder.glob(pattern))
    keys = {Path(*Path(key).parts[: len(Path(pattern).parts)]) for key in bucket.objects()}
    return sorted(folder / key for key in keys if len(key.parts) == len(Path(pattern).parts) and key.match(pattern))


def push(path: Path, last: str = SUMS) -> None:
    """Put a file or folder of a mirror into its bucket; what else the bucket has there stays.

    Args:
        path: in a mirror, or else nothing is done.
        last: of a folder, the file that says that all the others are there.

    Raises:
        StorageError: the store does not take it; a folder may be there in part, without what says that it is whole.
    """
    if not (bucket := bucket_of(path)):
        return
    if path.is_file():
        bucket.write(path.read_bytes())
        return
    there = (file for file in path.rglob("*") if file.is_file() and file.name != MARKER)
    files = {file.relative_to(path).as_posix(): file for file in there}
    for key in sorted(files, key=lambda key: (key == last, key)):
        (bucket / key).write(files[key].read_bytes())


def pull(
    path: Path,
    keep: str | Callable[[str], bool] = "*",
    *,
    anew: bool = False,
    exact: bool = True,
    progress: Progress = iter,
) -> list[str]:
    """Have a file or folder of a mirror be as it is in the bucket; what is there already is not fetched again.

    Args:
        path: in a mirror, or else nothing is done.
        keep: of a folder, a pattern for the names right in it that are wanted, or what says of a key beneath it
            whether it is; others are let be.
        anew: fetch again what seems to be there already.
        exact: take away here what is not in the bucket.
        progress: wraps the files to fetch.

    Returns:
        All keys that the bucket has beneath, wanted or not.

    Raises:
        StorageError: the store does not give it.
    """
    if not (bucket := bucket_of(path)):
        return []

    def wanted(key: str) -> bool:
        if callable(keep):
            return keep(key)
        return not key or Path(Path(key).parts[0]).match(keep)

    objects = bucket.objects()
    stored = {key: about for key, about in objects.items() if wanted(key)}
    left: set[Path] = set()
    if exact:
        there = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        for file in there:
            key = "" if file == path else file.relative_to(path).as_posix()
            if key not in stored and file.name != MARKER and wanted(key):
                file.unlink()
                left |= {folder for folder in file.parents if folder != path and folder.is_relative_to(path)}
    missing = [key for key, about in stored.items() if anew or not _same(path / key, *about)]

    def fetch(key: str) -> None:
        file, time = path / key, stored[key].time
        with contextlib.suppress(FileNotFoundError):  # removed since it was listed
            content = (bucket / key if key else bucket).read()
            file.parent.mkdir(parents=True, exist_ok=True)
            replace(file, content)
            os.utime(file, ns=(time, time))

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        fetched = [threads.submit(fetch, key) for key in missing]
        try:
            for done in progress(fetched):
                done.result()
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
    if exact and path.is_dir():
        for folder in sorted(left, reverse=True):
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()
    return list(objects)


def remove(path: Path) -> None:
    """Take away a file or folder, of a mirror in its bucket too; none there is no error.

    Raises:
        StorageError: the store does not do it.
    """
    if bucket := bucket_of(path):
        bucket.remove()
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _same(file: Path, size: int, time: int) -> bool:
    try:
        there = file.stat()
    except FileNotFoundError:
        return False
    return (there.st_size, there.st_mtime_ns) == (size, time)
