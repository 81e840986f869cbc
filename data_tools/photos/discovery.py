"""Discovery of the photo files below a folder, by suffix and by content."""

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle
from pathlib import Path

from huetune.data_tools.common.errors import PhotoError, did_you_mean
from huetune.data_tools.common.plural import counted
from huetune.data_tools.photos.file_types import (
    PHOTO,
    READABLE,
    SUFFIXES,
    SUFFIXES_OF_READER_1,
    kind_of,
    read_head,
    skipped_kinds,
)
from huetune.data_tools.photos.versions import READER_VERSION

MAX_CLASSES_SHOWN = 20
"""Classes that `class_counts` lists; of more classes it gives only the smallest and the largest count."""


def find_photos(
    folder: Path,
    classes: Sequence[str] = (),
    limit: int | None = None,
    *,
    seed: int | None = None,
    reader_version: int = READER_VERSION,
    by_content: bool = True,
    others: Counter[str] | None = None,
) -> list[Path]:
    """Return the photo files below a folder, ordered by name.

    Args:
        folder: read with all its subfolders, as by `walk_photos`.
        classes: if given, only photos whose own folder has one of these names (`flowers/<class>/*.jpg`).
        limit: largest number of photos.
        seed: draws the photos if there are more than `limit`, see `sample_photos`; None takes the first.
        reader_version: an earlier version finds the photos of an earlier run as that run did.
        by_content: also look into files without the suffix of a photo.
        others: counts files of other kinds, see `file_types.kind_of`.

    Raises:
        PhotoError: the folder or a class does not exist, or there are no photos.
    """
    check_classes(folder, classes)
    others = Counter() if others is None else others
    paths = list(walk_photos(folder, classes, reader_version=reader_version, by_content=by_content, others=others))
    if not paths:
        raise no_photos_error(folder, others)
    if limit is None or seed is None:
        return paths[:limit]
    return sample_photos(paths, folder, limit, seed)


def sample_photos(paths: Sequence[Path], folder: Path, count: int, seed: int) -> list[Path]:
    """Draw photos evenly from the classes, in the order of `paths`. A class with fewer photos gives all of them.

    The result depends only on the seed and on the names below the folder, so it is the same on every machine.

    Args:
        paths: photo files below `folder`.
        folder: common parent of the photos.
        count: number of photos to draw.
        seed: another seed draws other photos.
    """

    def sort_key(name: str) -> bytes:
        return hashlib.sha256(os.fsencode(f"{seed}:{normalized(name)}")).digest()

    classes: dict[str, list[tuple[bytes, Path]]] = {}
    for path in paths:
        name = path.relative_to(folder).as_posix()
        classes.setdefault(normalized(path.parent.name), []).append((sort_key(name), path))
    queues = [iter(sorted(classes[name])) for name in sorted(classes, key=sort_key)]
    chosen: set[Path] = set()
    for queue in cycle(queues):
        if len(chosen) == min(count, len(paths)):
            break
        if drawn := next(queue, None):
            chosen.add(drawn[1])
    return [path for path in paths if path in chosen]


def class_counts(names: Iterable[str]) -> str:
    """Describe how many photos each class has, as in "roses 2, tulips 1"; empty for fewer than two classes."""
    counts = Counter(normalized(Path(name).parent.name) for name in names)
    if len(counts) < 2:
        return ""
    if len(counts) > MAX_CLASSES_SHOWN:
        return f"{len(counts)} classes, {min(counts.values())} to {max(counts.values())} photos each"
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def normalized(name: str) -> str:
    """Return a name in NFC, because macOS may store é as two code points."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def no_photos_error(folder: Path, others: Counter[str]) -> PhotoError:
    """Return the error for a folder without photos, which describes the other files in it."""
    skipped = "; ".join(["", *skipped_kinds(others)])
    files = counted(others.total(), "file")
    return PhotoError(f"no photos in {str(folder)!r}: looked for {READABLE} in {files}{skipped}")


def check_classes(folder: Path, classes: Sequence[str]) -> None:
    """Check that the folder exists and has photos of each class.

    Raises:
        PhotoError: the folder does not exist, or has no photos of a class.
    """
    if not os.path.isdir(folder):
        raise PhotoError(f"no photos: {str(folder)!r} is not a folder")
    folders = {path.parent.name for path in walk_photos(folder)} if classes else set()
    if folders and (missing := missing_class(classes, folders)):
        remedy = did_you_mean(missing, sorted(folders), "it has")
        raise PhotoError(f"no photos of class {missing!r} in {str(folder)!r}: {remedy}")


def missing_class(classes: Iterable[str], folders: Iterable[str]) -> str | None:
    """Return the first class without a folder of its name, None if every class has one."""
    missing = set(map(normalized, classes)) - set(map(normalized, folders))
    return min(missing, default=None)


def walk_photos(
    folder: Path,
    classes: Sequence[str] = (),
    *,
    reader_version: int = READER_VERSION,
    by_content: bool = True,
    others: Counter[str] | None = None,
) -> Iterator[Path]:
    """Yield the photo files below a folder in order, with the names of one folder in memory at a time.

    Files with the suffix of a photo are yielded whatever they contain, and so are folders that cannot be listed: the
    reader then reports why they are skipped. Files with another suffix are yielded if their first bytes are those of a
    photo. Hidden files, and files in hidden folders, which are caches and version histories, are found by suffix only.
    Links to folders are not followed.

    Args:
        folder: read with all its subfolders.
        classes: if given, only photos whose own folder has one of these names.
        reader_version: version 1 has fewer suffixes and does not look into files.
        by_content: also look into files without the suffix of a photo.
        others: counts the other files by their kind while they are passed.
    """
    suffixes, by_content = (SUFFIXES, by_content) if reader_version > 1 else (SUFFIXES_OF_READER_1, False)
    others = Counter() if others is None else others
    wanted_classes = set(map(normalized, classes))
    order = (lambda name: (normalized(name), name)) if reader_version > 1 else None
    stack: list[Iterator[Path]] = [iter([folder])]
    folders_to_list = {folder}
    while stack:
        path = next(stack[-1], None)
        if path is None:
            stack.pop()
        elif path not in folders_to_list:
            yield path
        else:
            folders_to_list.discard(path)
            hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
            wanted = not wanted_classes or normalized(path.name) in wanted_classes
            try:
                files, folders = _list_folder(path, suffixes, others if by_content and wanted and not hidden else None)
            except OSError:
                yield path
                continue
            files = files if wanted else []
            folders_to_list |= {path / name for name in folders}
            stack.append(map(path.__truediv__, sorted(files + folders, key=order)))


def _list_folder(folder: Path, suffixes: frozenset[str], others: Counter[str] | None) -> tuple[list[str], list[str]]:
    """Return the names of photos and of folders in a folder. With `others`, look into files and count the rest."""
    files, folders = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            elif os.path.splitext(entry.name)[1].lower() in suffixes:
                files.append(entry.name)
            elif others is not None and not entry.name.startswith(".") and _is_file(entry):
                kind = kind_of(entry.name, read_head(entry.path))
                if kind == PHOTO:
                    files.append(entry.name)
                else:
                    others[kind] += 1
    return files, folders


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # such as a link to itself
        return False
