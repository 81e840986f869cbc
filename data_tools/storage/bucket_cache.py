"""Local copies of buckets, so that the rest of huetune works with paths and files only.

Each bucket has a folder on this machine, its mirror. The functions here also accept paths outside of all mirrors: such
a path is a plain one that needs no transfer.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from huetune.data_tools.storage.atomic import atomic_write, named_path
from huetune.data_tools.storage.checksums import SUMS_FILE
from huetune.data_tools.storage.object_store import SCHEME, BucketPath
from huetune.data_tools.storage.user_folders import user_folder

MARKER_FILE = ".bucket"
"""File in a mirror that holds the URI of its bucket."""
MAX_CONNECTIONS = 8
"""Number of files that are downloaded at the same time."""
Progress = Callable[[list], Iterable]


def mirrors_folder() -> Path:
    """Return the folder of all mirrors, below `user_folder("state")`.

    It is not in the cache, which a user may empty: while a search runs here, its study is in the mirror.
    """
    home = user_folder("state") or Path(tempfile.gettempdir(), f"huetune-{os.getuid()}")
    return (home / "mirrors").resolve()


def local_path(location: str | Path) -> Path:
    """Return the local path for a location: a path is itself, and an s3:// URI becomes a path in its bucket's mirror.

    Raises:
        UserError: The URI is not valid.
        OSError: The mirror cannot be created.
    """
    if isinstance(location, Path) or not location.startswith(SCHEME):
        return named_path(Path(location))
    bucket = BucketPath.of(location)
    name, _, key = bucket.path.partition("/")
    root = str(BucketPath(name, bucket.query))
    mirror = mirrors_folder() / f"{name}-{hashlib.sha256(root.encode()).hexdigest()[:12]}"
    if not (mirror / MARKER_FILE).is_file():
        mirror.mkdir(mode=0o700, parents=True, exist_ok=True)
        atomic_write(mirror / MARKER_FILE, f"{root}\n".encode())
    return mirror / key


def bucket_path(path: Path) -> BucketPath | None:
    """Return the path in a bucket that a path in a mirror stands for; None for a path outside of all mirrors."""
    if not path.is_absolute() or not path.is_relative_to(mirrors_folder()):
        return None
    name, *key = path.relative_to(mirrors_folder()).parts
    try:
        bucket = BucketPath.of((mirrors_folder() / name / MARKER_FILE).read_text(encoding="utf-8").rstrip("\n"))
    except FileNotFoundError:
        return None
    return bucket / "/".join(key) if key else bucket


def location_of(path: Path) -> str:
    """Return the location that a user knows: the s3:// URI for a path in a mirror, otherwise the path itself."""
    return str(bucket_path(path) or path)


def list_paths(folder: Path, pattern: str) -> list[Path]:
    """List the paths below a folder that match a pattern; for a folder in a mirror, those that the bucket has.

    Args:
        folder: Folder to search.
        pattern: Pattern as in `Path.glob`, without `**`: a path matches only if it has as many parts.

    Raises:
        StorageError: The store cannot be listed.
    """
    if not (bucket := bucket_path(folder)):
        return sorted(folder.glob(pattern))
    depth = len(Path(pattern).parts)
    keys = {Path(*Path(key).parts[:depth]) for key in bucket.list_objects()}
    return sorted(folder / key for key in keys if len(key.parts) == depth and key.match(pattern))


def push(path: Path, last: str = SUMS_FILE) -> None:
    """Upload a file or folder of a mirror to its bucket; other objects in the bucket stay.

    Args:
        path: Path in a mirror. For any other path nothing is done.
        last: Name of the file of a folder that is uploaded last. Its presence shows that the folder is complete.

    Raises:
        StorageError: The store refuses the upload. A folder may then be there in part, without its `last` file.
    """
    if not (bucket := bucket_path(path)):
        return
    if path.is_file():
        bucket.write(path.read_bytes())
        return
    existing = (file for file in path.rglob("*") if file.is_file() and file.name != MARKER_FILE)
    files = {file.relative_to(path).as_posix(): file for file in existing}
    for key in sorted(files, key=lambda key: (key == last, key)):
        (bucket / key).write(files[key].read_bytes())


def pull(
    path: Path,
    wanted: str | Callable[[str], bool] = "*",
    *,
    force: bool = False,
    delete_extra: bool = True,
    progress: Progress = iter,
) -> list[str]:
    """Download a file or folder of a mirror from its bucket; files that are up to date are not downloaded again.

    Args:
        path: Path in a mirror. For any other path nothing is done.
        wanted: Which files of a folder to download: a pattern for the first part of the key below the folder, or a
            function of this key. All other files are left as they are.
        force: Download files again even if they seem up to date.
        delete_extra: Delete wanted local files that are not in the bucket.
        progress: Wraps the list of downloads, for a progress bar.

    Returns:
        The keys of all objects below the path in the bucket, wanted or not.

    Raises:
        StorageError: The store cannot be read.
    """
    if not (bucket := bucket_path(path)):
        return []

    def is_wanted(key: str) -> bool:
        if callable(wanted):
            return wanted(key)
        return not key or Path(Path(key).parts[0]).match(wanted)

    objects = bucket.list_objects()
    stored = {key: about for key, about in objects.items() if is_wanted(key)}
    emptied: set[Path] = set()
    if delete_extra:
        existing = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        for file in existing:
            key = "" if file == path else file.relative_to(path).as_posix()
            if key not in stored and file.name != MARKER_FILE and is_wanted(key):
                file.unlink()
                emptied |= {folder for folder in file.parents if folder != path and folder.is_relative_to(path)}
    missing = [key for key, about in stored.items() if force or not _is_current(path / key, *about)]

    def download(key: str) -> None:
        file, modified_ns = path / key, stored[key].modified_ns
        with contextlib.suppress(FileNotFoundError):  # deleted after it was listed
            content = (bucket / key if key else bucket).read()
            file.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(file, content)
            os.utime(file, ns=(modified_ns, modified_ns))

    with ThreadPoolExecutor(MAX_CONNECTIONS) as threads:
        downloads = [threads.submit(download, key) for key in missing]
        try:
            for done in progress(downloads):
                done.result()
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
    if delete_extra and path.is_dir():
        for folder in sorted(emptied, reverse=True):
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()
    return list(objects)


def remove(path: Path) -> None:
    """Remove a file or folder if it exists, for a path in a mirror also from its bucket.

    Raises:
        StorageError: The store refuses it.
    """
    if bucket := bucket_path(path):
        bucket.remove()
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_current(file: Path, size_bytes: int, modified_ns: int) -> bool:
    try:
        found = file.stat()
    except FileNotFoundError:
        return False
    return (found.st_size, found.st_mtime_ns) == (size_bytes, modified_ns)
