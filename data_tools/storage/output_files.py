"""Files that a command writes into a folder of the user's choice, and the record of which files are huetune's.

The folder may hold other files. A file is huetune's if the record lists it with the SHA-256 that it still has; only
such files are replaced or removed. If another file has a name, the new file gets a number.
"""

import contextlib
import filecmp
import hashlib
import itertools
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from types import TracebackType

from huetune.data_tools.common.errors import StorageError, UserError
from huetune.data_tools.storage.atomic import atomic_write, flush_to_disk
from huetune.data_tools.storage.bucket_cache import location_of, pull, push, remove
from huetune.data_tools.storage.checksums import sha256_of

RECORD_FILE = ".huetune.json"
"""The record: a file in the folder that lists, by command, the names of the written files with their SHA-256."""

PHOTOS_FOLDER = "photos"
"""Folder of the test photos that an experiment log shows."""

_Files = set[tuple[str, str]]
"""Pairs of a file's path relative to the folder, with slashes, and its SHA-256 in hexadecimal."""


class OutputFolder:
    """Context manager for a folder that a command fills: all files are put in place when the `with` block ends.

    Until then, and if the block fails, the folder stays as it was. At the end, files that the same command wrote
    before and did not write again are removed, unless they were changed since.

    Args:
        folder: Folder to fill. It is created if it is missing.
        command: Name of the command whose files may be replaced, as `evaluate`.

    Raises:
        StorageError: The record is damaged, or another program created a file of the same name in the meantime.
        OSError: The disk refuses a write.
    """

    def __init__(self, folder: Path, command: str):
        self._folder, self._command = folder, command
        self._sums: dict[str, str | None] = {}

    def __enter__(self) -> "OutputFolder":
        self._known = _by_name(_read_record(self._folder))
        self._new = not self._folder.exists()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._drafts = Path(tempfile.mkdtemp(prefix=".huetune-", dir=self._folder))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if error is None:
                self._write_files()
        finally:
            shutil.rmtree(self._drafts, ignore_errors=True)
            if error is not None and self._new:
                with contextlib.suppress(OSError):  # another program created a file in it
                    self._folder.rmdir()

    def reserve_name(self, wanted: str) -> str:
        """Reserve a name for a file: the wanted name, or if it is taken, the name with a number.

        Args:
            wanted: Path relative to the folder, with slashes.

        Raises:
            StorageError: A parent folder of the file cannot be created because a file has its name.
        """
        name = next(name for name in numbered_names(wanted) if name not in self._sums and self._is_free(name))
        self._sums[name] = None
        return name

    def add(self, wanted: str, content: bytes) -> str:
        """Add a file and return its name. A file of the same wanted name and content is added only once.

        Args:
            wanted: Path relative to the folder, with slashes; see `reserve_name`.
            content: Complete content of the file.
        """
        sha256 = hashlib.sha256(content).hexdigest()
        taken = itertools.takewhile(lambda name: name in self._sums, numbered_names(wanted))
        same = next((name for name in taken if self._sums[name] == sha256), None)
        return same or self.add_as(self.reserve_name(wanted), content)

    def add_as(self, name: str, content: bytes) -> str:
        """Add a file under a name from `reserve_name`, and return the name."""
        self._sums[name] = sha256 = hashlib.sha256(content).hexdigest()
        (self._drafts / sha256).write_bytes(content)
        return name

    def _is_free(self, name: str) -> bool:
        path = self._folder / name
        for folder in itertools.takewhile(lambda folder: folder != self._folder, path.parents):
            if os.path.lexists(folder) and not folder.is_dir():
                raise StorageError(f"{str(folder)!r}: is a file where a folder is needed; choose another --out")
        pull(path)
        return not os.path.lexists(path) or _is_unchanged(path, self._known.get(name, set()))

    def _write_files(self) -> None:
        written = [(name, sha256) for name, sha256 in self._sums.items() if sha256]
        files = _read_record(self._folder)
        before = files.get(self._command, set())
        # Before any file is written: an interrupted command leaves no file that is not recorded.
        _write_record(self._folder, {**files, self._command: before | set(written)})
        for name, sha256 in written:
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not self._is_free(name):
                raise StorageError(
                    f"{str(path)!r}: was written by another program in the meantime; run the command again"
                )
            atomic_write(path, (self._drafts / sha256).read_bytes())
            push(path)
        others = set().union(*(some for command, some in files.items() if command != self._command))
        for name, sha256 in before - others:
            path = self._folder / name
            if name in self._sums:
                continue
            pull(path)
            if _is_unchanged(path, {sha256}):
                remove(path)
                with contextlib.suppress(OSError):  # not empty
                    path.parent.rmdir()
        _write_record(self._folder, {**files, self._command: set(written)})


def write_new(wanted: Path, save: Callable[[Path], object]) -> Path:
    """Write a file without replacing another one: if the name is taken, it gets a number.

    Args:
        wanted: Path of the file. Its folder must exist.
        save: Writes the content to the path that it is passed.

    Returns:
        The path of the written file, or of an existing file with one of these names and the same content.
    """
    draft = wanted.with_name(f".huetune-{uuid.uuid4().hex[:8]}")
    try:
        save(draft)
        flush_to_disk(draft)
        for name in numbered_names(wanted.name):
            path = wanted.with_name(name)
            try:
                _rename_new(draft, path)
                return path
            except FileExistsError:
                if path.is_file() and filecmp.cmp(draft, path, shallow=False):
                    return path
        raise AssertionError("unreachable: numbered_names is infinite")
    finally:
        draft.unlink(missing_ok=True)


def _rename_new(draft: Path, path: Path) -> None:
    """Rename a draft unless the name is taken. Of two processes that want the same name, only one gets it."""
    try:
        os.link(draft, path)
    except FileExistsError:
        raise
    except OSError:  # a disk without hard links
        if os.path.lexists(path):
            raise FileExistsError(path) from None
        draft.rename(path)


def require_replaceable(path: Path, legacy_marker: str = "") -> None:
    """Check that a path is free, or has an empty file or an unchanged file of huetune.

    Args:
        path: Path of the file to write.
        legacy_marker: Text near the beginning that identifies files of an older version, which kept no record.

    Raises:
        StorageError: The path has another file or a folder.
    """
    if path.is_dir():
        raise StorageError(f"{str(path)!r}: cannot be written (Is a directory); choose another --out")
    pull(path)
    recorded = _by_name(_read_record(path.parent)).get(path.name, set())
    if not os.path.lexists(path) or _is_unchanged(path, recorded):
        return
    if path.is_file():
        with path.open(encoding="utf-8", errors="replace") as file:
            start = file.read(1000)
        if not start or (legacy_marker and legacy_marker in start and not recorded):
            return
    raise StorageError(
        f"{str(path)!r}: exists, and is not huetune's or was changed since huetune wrote it; choose another --out"
    )


def write_file(path: Path, content: bytes, command: str, legacy_marker: str = "") -> None:
    """Write a file atomically under exactly the name that the user chose, and record it as huetune's.

    Args:
        path: Path of the file. Its folder is created.
        content: Complete content.
        command: Name of the command that writes it.
        legacy_marker: See `require_replaceable`.

    Raises:
        StorageError: Another file has the name, see `require_replaceable`.
    """
    require_replaceable(path, legacy_marker)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Before the file is written: an interrupted command leaves no file that is not recorded.
    files = recorded_files(path.parent, command)
    record_files(path.parent, command, {**files, path.name: hashlib.sha256(content).hexdigest()})
    atomic_write(path, content)
    push(path)


def recorded_files(folder: Path, command: str) -> dict[str, str]:
    """Return the files that a command wrote into a folder: their SHA-256 by their names."""
    return dict(_read_record(folder).get(command, ()))


def record_files(folder: Path, command: str, files: Mapping[str, str]) -> None:
    """Record the files that a command wrote into a folder, by name with their SHA-256, replacing its earlier record."""
    _write_record(folder, {**_read_record(folder), command: set(files.items())})


def require_outside_photos(photos: Path, out: Path, *subfolders: str) -> None:
    """Check that pictures are not written among photos, where the next command would read them as photos.

    Args:
        photos: Folder that is searched for photos.
        out: Output folder.
        subfolders: Names of folders in `out` that pictures are written to.

    Raises:
        UserError: The output folder is in the folder of photos, or the photos are in one of the subfolders.
    """
    source, shown = photos.resolve(), repr(location_of(photos))
    if out.resolve().is_relative_to(source):
        raise UserError(
            f"--out {location_of(out)!r}: is in the folder of photos {shown}, so its pictures would be read as photos; "
            "choose another --out"
        )
    for name in subfolders:
        if source.is_relative_to((out / name).resolve()):
            raise UserError(
                f"--photos {shown}: pictures would be written in it, to {location_of(out / name)!r}; "
                "choose another --out"
            )


def numbered_names(name: str) -> Iterator[str]:
    """Yield a name, then the same with numbers: `a/b.png`, `a/b_2.png`, ..."""
    path = PurePosixPath(name)
    yield name
    for number in itertools.count(2):
        yield str(path.with_name(f"{path.stem}_{number}{path.suffix}"))


def _is_unchanged(path: Path, sums: set[str]) -> bool:
    """Return whether a file is one that huetune wrote, unchanged."""
    return bool(sums) and path.is_file() and not path.is_symlink() and sha256_of(path) in sums


def _by_name(files: dict[str, _Files]) -> dict[str, set[str]]:
    """Return the recorded SHA-256 of each file by its name, whichever command wrote it."""
    known: dict[str, set[str]] = {}
    for name, sha256 in itertools.chain.from_iterable(files.values()):
        known.setdefault(name, set()).add(sha256)
    return known


def _read_record(folder: Path) -> dict[str, _Files]:
    path = folder / RECORD_FILE
    pull(path)
    if not os.path.lexists(path):
        return {}
    try:
        if not path.is_file():
            raise ValueError("not a regular file")
        content = json.loads(path.read_text(encoding="utf-8"))
        found = {str(command): {(str(name), str(sum_)) for name, sum_ in some} for command, some in content.items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise StorageError(
            f"{str(path)!r}: is damaged ({error}), so huetune cannot recognize its own files; remove it or "
            "choose another --out"
        ) from None
    # A record may come from a stranger: names must not lead out of the folder.
    return {command: {file for file in files if _is_relative(file[0])} for command, files in found.items()}


def _is_relative(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and bool(path.parts)


def _write_record(folder: Path, files: dict[str, _Files]) -> None:
    content = {command: sorted(some) for command, some in sorted(files.items()) if some}
    atomic_write(folder / RECORD_FILE, (json.dumps(content, indent=1) + "\n").encode())
    push(folder / RECORD_FILE)
