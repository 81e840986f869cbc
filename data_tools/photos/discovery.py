"""Which files below a folder are photos, by what is in them."""

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle
from pathlib import Path

from huetune.data_tools.common.errors import PhotoError, did_you_mean
from huetune.data_tools.photos.file_types import (
    PHOTO,
    READABLE,
    SUFFIXES,
    SUFFIXES_OF_READER_1,
    kind_of,
    read_head,
    skipped_kinds,
)
from huetune.data_tools.photos.source import READING

MAX_CLASSES_SHOWN = 20
"""Classes that are counted in a line; of more, only the smallest and the largest."""


def find_photos(
    folder: Path,
    classes: Sequence[str] = (),
    limit: int | None = None,
    *,
    seed: int | None = None,
    reading: int = READING,
    by_content: bool = True,
    others: Counter[str] | None = None,
) -> list[Path]:
    """Return the photo files below a folder, by name.

    Args:
        folder: searched through all its subfolders, as `walk_photos` does.
        classes: where given, only photos whose own folder has one of these names (`flowers/<class>/*.jpg`).
        limit: only so many.
        seed: draws these, see `draw`; None takes the first.
        reading: an older one, to find the photos of an older run as it did.
        by_content: look into files whose ending says nothing.
        others: counts files of other kinds, see `data_tools.photos.file_types.kind_of`.

    Raises:
        PhotoError: no such folder, no such class, or no photo in it.
    """
    check_classes(folder, classes)
    others = Counter() if others is None else others
    found = walk_photos(folder, classes, reading=reading, by_content=by_content, others=others)
    paths = list(found)
    if not paths:
        raise no_photos_error(folder, others)
    if limit is None or seed is None:
        return paths[:limit]
    return sample_photos(paths, folder, limit, seed)


def sample_photos(paths: Sequence[Path], folder: Path, count: int, seed: int) -> list[Path]:
    """Return some of the photos, in their order, spread evenly over the classes: a class that has few gives all.

    Only the seed and the names below the folder decide, on all machines alike.

    Args:
        paths: below `folder`.
        folder: of all of them.
        count: how many, at most.
        seed: another seed, other photos.
    """

    def rank(name: str) -> bytes:
        return hashlib.sha256(os.fsencode(f"{seed}:{normalized(name)}")).digest()

    classes: dict[str, list[tuple[bytes, Path]]] = {}
    for path in paths:
        name = path.relative_to(folder).as_posix()
        classes.setdefault(normalized(path.parent.name), []).append((rank(name), path))
    waiting = [iter(sorted(classes[name])) for name in sorted(classes, key=rank)]
    chosen: set[Path] = set()
    for photos in cycle(range(len(waiting))):
        if len(chosen) == min(count, len(paths)):
            break
        if drawn := next(waiting[photos], None):
            chosen.add(drawn[1])
    return [path for path in paths if path in chosen]


def class_counts(names: Iterable[str]) -> str:
    """Return in words how many photos each class has, by the photos' paths; nothing where there is one class."""
    counts = Counter(normalized(Path(name).parent.name) for name in names)
    if len(counts) < 2:
        return ""
    if len(counts) > MAX_CLASSES_SHOWN:
        return f"{len(counts)} classes, {min(counts.values())} to {max(counts.values())} photos each"
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def normalized(name: str) -> str:
    """Return a name in NFC: a Mac may write é as two letters, and they are the same é."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def no_photos_error(folder: Path, others: Counter[str]) -> PhotoError:
    """Return the error for a folder in which there is no photo, with what there is."""
    skipped = "; ".join(["", *skipped_kinds(others)])
    return PhotoError(f"no photos in {str(folder)!r}: looked for {READABLE} in {others.total()} files{skipped}")


def check_classes(folder: Path, classes: Sequence[str]) -> None:
    """Make sure that there is such a folder, with photos of all these classes.

    Raises:
        PhotoError: there is none.
    """
    if not os.path.isdir(folder):
        raise PhotoError(f"no photos: {str(folder)!r} is not a folder")
    folders = {path.parent.name for path in walk_photos(folder)} if classes else set()
    if folders and (missing := missing_class(classes, folders)):
        known = did_you_mean(missing, sorted(folders), "it has")
        raise PhotoError(f"no photos of class {missing!r} in {str(folder)!r}: {known}")


def missing_class(classes: Iterable[str], folders: Iterable[str]) -> str | None:
    """Return the first of the classes that no folder is named after, None where there is none."""
    missing = set(map(normalized, classes)) - set(map(normalized, folders))
    return min(missing, default=None)


def walk_photos(
    folder: Path,
    classes: Sequence[str] = (),
    *,
    reading: int = READING,
    by_content: bool = True,
    others: Counter[str] | None = None,
) -> Iterator[Path]:
    """Yield the photos below a folder, in order, the names of one folder in memory at a time.

    What ends like a photo comes, whatever it is, and so does a folder that cannot be looked into: for whoever reads to
    say so. What ends otherwise comes if it begins like a photo; not in hidden folders, and no hidden file, for these
    are caches and histories. Links to folders are not followed.

    Args:
        folder: searched through all its subfolders.
        classes: only photos whose own folder has one of these names.
        reading: 1 goes by fewer endings, and by nothing else.
        by_content: look into files whose ending says nothing.
        others: counts what is passed by, as it goes.
    """
    suffixes, by_content = (SUFFIXES, by_content) if reading > 1 else (SUFFIXES_OF_READER_1, False)
    others = Counter() if others is None else others
    chosen = set(map(normalized, classes))
    order = (lambda name: (normalized(name), name)) if reading > 1 else None
    waiting: list[Iterator[Path]] = [iter([folder])]
    inner = {folder}
    while waiting:
        path = next(waiting[-1], None)
        if path is None:
            waiting.pop()
        elif path not in inner:
            yield path
        else:
            inner.discard(path)
            hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
            wanted = not chosen or normalized(path.name) in chosen
            try:
                files, folders = _listed(path, suffixes, others if by_content and wanted and not hidden else None)
            except OSError:
                yield path
                continue
            files = files if wanted else []
            inner |= {path / name for name in folders}
            waiting.append(map(path.__truediv__, sorted(files + folders, key=order)))


def _listed(folder: Path, suffixes: frozenset[str], others: Counter[str] | None) -> tuple[list[str], list[str]]:
    """The names in a folder that are of photos, and those of folders; other files are counted, or not looked into."""
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
    except OSError:  # a link to itself
        return False
