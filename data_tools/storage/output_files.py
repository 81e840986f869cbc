"""Files that a command writes into a folder of the user's choice, and the record of those that are huetune's.

The folder may hold anything. A file is huetune's if the record names it with the sha256 that it still has; only such a
file is ever replaced or removed. Where a name is taken by any other file, the new one gets a number.
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
from huetune.data_tools.storage.atomic import flush, replace, sum_of
from huetune.data_tools.storage.bucket_cache import place_of, pull, push, remove

RECORD = ".huetune.json"
"""In the folder: of each command the names of the files that it wrote, each with its sha256."""

PHOTOS = "photos"
"""Folder of a log's test photos."""

_Files = set[tuple[str, str]]
"""Names from the folder on, and the sha256 of each."""


class Output:
    """A folder that a command fills in a `with` block. Its files are put in place together when the block ends.

    Until then, and where the block fails, everything in the folder is as it was. Files that the same command wrote here
    before and has not written again are then removed, unless somebody has changed them.

    Args:
        folder: made here if it is missing.
        command: whose files are replaced, as `evaluate`.

    Raises:
        StorageError: the record is damaged, or a file was put in the way meanwhile.
        OSError: the disk would not take it.
    """

    def __init__(self, folder: Path, command: str):
        self._folder, self._command = folder, command
        self._sums: dict[str, str | None] = {}

    def __enter__(self) -> "Output":
        self._known = _by_name(_read(self._folder))
        self._new = not self._folder.exists()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._drafts = Path(tempfile.mkdtemp(prefix=".huetune-", dir=self._folder))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            shutil.rmtree(self._drafts, ignore_errors=True)
            if error is not None and self._new:
                with contextlib.suppress(OSError):  # somebody has put something in it
                    self._folder.rmdir()

    def name(self, wanted: str) -> str:
        """Return the name that a file is going to have, which no other one gets: the wanted one, or one with a number.

        Args:
            wanted: from the folder on, with slashes.

        Raises:
            StorageError: what should be a folder in it is a file.
        """
        name = next(name for name in numbered(wanted) if name not in self._sums and self._free(name))
        self._sums[name] = None
        return name

    def add(self, wanted: str, content: bytes) -> str:
        """Have a file be written, and return its name. One of the same name and content is written once."""
        sha256 = hashlib.sha256(content).hexdigest()
        taken = itertools.takewhile(lambda name: name in self._sums, numbered(wanted))
        same = next((name for name in taken if self._sums[name] == sha256), None)
        return same or self.put(self.name(wanted), content)

    def put(self, name: str, content: bytes) -> str:
        """Have a file be written under a name that `name` gave."""
        self._sums[name] = sha256 = hashlib.sha256(content).hexdigest()
        (self._drafts / sha256).write_bytes(content)
        return name

    def _free(self, name: str) -> bool:
        path = self._folder / name
        for folder in itertools.takewhile(lambda folder: folder != self._folder, path.parents):
            if os.path.lexists(folder) and not folder.is_dir():
                raise StorageError(f"{str(folder)!r}: is a file, where a folder must be made; choose another --out")
        pull(path)
        return not os.path.lexists(path) or _is_whole(path, self._known.get(name, set()))

    def _finish(self) -> None:
        written = [(name, sha256) for name, sha256 in self._sums.items() if sha256]
        files = _read(self._folder)
        before = files.get(self._command, set())
        # Before any file: whoever is interrupted leaves no file that the record does not name.
        _write(self._folder, {**files, self._command: before | set(written)})
        for name, sha256 in written:
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not self._free(name):
                raise StorageError(f"{str(path)!r}: was written by another program meanwhile; run the command again")
            replace(path, (self._drafts / sha256).read_bytes())
            push(path)
        others = set().union(*(some for command, some in files.items() if command != self._command))
        for name, sha256 in before - others:
            path = self._folder / name
            if name in self._sums:
                continue
            pull(path)
            if _is_whole(path, {sha256}):
                remove(path)
                with contextlib.suppress(OSError):  # not empty
                    path.parent.rmdir()
        _write(self._folder, {**files, self._command: set(written)})


def write_new(wanted: Path, save: Callable[[Path], object]) -> Path:
    """Write a file and replace none: where the name is taken, it gets a number.

    Args:
        wanted: the file, in a folder that is there.
        save: writes the content to the path that it is given.

    Returns:
        The file written, or one that was there with a name of this kind and the very content.
    """
    draft = wanted.with_name(f".huetune-{uuid.uuid4().hex[:8]}")
    try:
        save(draft)
        flush(draft)
        for name in numbered(wanted.name):
            path = wanted.with_name(name)
            try:
                _put(draft, path)
                return path
            except FileExistsError:
                if path.is_file() and filecmp.cmp(draft, path, shallow=False):
                    return path
        raise AssertionError("numbers have no end")
    finally:
        draft.unlink(missing_ok=True)


def _put(draft: Path, path: Path) -> None:
    """Give a file its name, unless another one has it: of two processes that want one name, one gets it."""
    try:
        os.link(draft, path)
    except FileExistsError:
        raise
    except OSError:  # a disk without hard links
        if os.path.lexists(path):
            raise FileExistsError(path) from None
        draft.rename(path)


def check_file(path: Path, mark: str = "") -> None:
    """Refuse a file that is not huetune's, or was changed since huetune wrote it; an empty one holds nothing to lose.

    Args:
        path: of the file to write.
        mark: a text near the beginning by which a file is known that an older huetune wrote without a record.

    Raises:
        StorageError: the file is somebody's.
    """
    if path.is_dir():
        raise StorageError(f"{str(path)!r}: cannot be written (Is a directory); choose another --out")
    pull(path)
    recorded = _by_name(_read(path.parent)).get(path.name, set())
    if not os.path.lexists(path) or _is_whole(path, recorded):
        return
    if path.is_file():
        with path.open(encoding="utf-8", errors="replace") as file:
            start = file.read(1000)
        if not start or (mark and mark in start and not recorded):
            return
    raise StorageError(
        f"{str(path)!r}: exists, and is not huetune's or was changed since huetune wrote it; choose another --out"
    )


def write_file(path: Path, content: bytes, command: str, mark: str = "") -> None:
    """Write a file under the very name that the user gave, whole or not at all, and record it as huetune's.

    Args:
        path: of the file; its folder is made.
        content: all of it.
        command: that writes it.
        mark: see `check_file`.

    Raises:
        StorageError: another file is there, see `check_file`.
    """
    check_file(path, mark)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Before the file: whoever is interrupted leaves none that the record does not name.
    record(path.parent, command, {**recorded(path.parent, command), path.name: hashlib.sha256(content).hexdigest()})
    replace(path, content)
    push(path)


def recorded(folder: Path, command: str) -> dict[str, str]:
    """Return the names of the files that a command wrote into a folder, and the sha256 of each."""
    return dict(_read(folder).get(command, ()))


def record(folder: Path, command: str, files: Mapping[str, str]) -> None:
    """Record the files that a command has written into a folder, in place of those that it had written before."""
    _write(folder, {**_read(folder), command: set(files.items())})


def require_apart(photos: Path, out: Path, *pictures: str) -> None:
    """Refuse an output folder among photos: the pictures that one command writes would be the photos of the next.

    Args:
        photos: folder that is searched for photos.
        out: folder of the output.
        pictures: folders in it that pictures are written to.

    Raises:
        UserError: it is among them, or they are in one of these folders.
    """
    source = photos.resolve()
    if out.resolve().is_relative_to(source):
        raise UserError(
            f"--out {place_of(out)!r}: is in the folder of photos {place_of(photos)!r}, so its pictures would be taken "
            "for photos; choose another --out"
        )
    for folder in pictures:
        if source.is_relative_to((out / folder).resolve()):
            raise UserError(
                f"--photos {place_of(photos)!r}: is where pictures would be written, in {place_of(out / folder)!r}; "
                "choose another --out"
            )


def numbered(name: str) -> Iterator[str]:
    """Yield a name, then the same with numbers: `a/b.png`, `a/b_2.png`, ..."""
    path = PurePosixPath(name)
    yield name
    for number in itertools.count(2):
        yield str(path.with_name(f"{path.stem}_{number}{path.suffix}"))


def _is_whole(path: Path, sums: set[str]) -> bool:
    """Whether a file is as huetune wrote it."""
    return bool(sums) and path.is_file() and not path.is_symlink() and sum_of(path) in sums


def _by_name(files: dict[str, _Files]) -> dict[str, set[str]]:
    """The sums that each file had, whichever command wrote it."""
    known: dict[str, set[str]] = {}
    for name, sha256 in itertools.chain.from_iterable(files.values()):
        known.setdefault(name, set()).add(sha256)
    return known


def _read(folder: Path) -> dict[str, _Files]:
    path = folder / RECORD
    pull(path)
    if not os.path.lexists(path):
        return {}
    try:
        if not path.is_file():
            raise ValueError("no file")
        content = json.loads(path.read_text(encoding="utf-8"))
        found = {str(command): {(str(name), str(sum_)) for name, sum_ in some} for command, some in content.items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise StorageError(
            f"{str(path)!r}: is damaged ({error}), so nobody knows which files huetune wrote; remove it, or choose "
            "another --out"
        ) from None
    # A record may come from anyone: a name leads to no file outside of the folder.
    return {command: {file for file in files if _inside(file[0])} for command, files in found.items()}


def _inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and bool(path.parts)


def _write(folder: Path, files: dict[str, _Files]) -> None:
    content = {command: sorted(some) for command, some in sorted(files.items()) if some}
    replace(folder / RECORD, (json.dumps(content, indent=1) + "\n").encode())
    push(folder / RECORD)
