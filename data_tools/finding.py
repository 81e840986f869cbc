"""Which files below a folder are photos, by what is in them."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from data_tools.errors import PhotoError
from data_tools.kinds import PHOTO, READABLE, SUFFIXES, SUFFIXES_1, head_of, kind_of, skipped_kinds
from data_tools.source import READING


def find_photos(
    folder: Path,
    classes: Sequence[str] = (),
    limit: int | None = None,
    *,
    reading: int = READING,
    by_content: bool = True,
    others: Counter[str] | None = None,
) -> list[Path]:
    """Return the photo files below a folder, by name.

    Args:
        folder: searched through all its subfolders, as `walk_photos` does.
        classes: where given, only photos whose own folder has one of these names (`flowers/<class>/*.jpg`).
        limit: only the first so many.
        reading: an older one, to find the photos of an older run as it did.
        by_content: look into files whose ending says nothing.
        others: counts files of other kinds, see `data_tools.kinds.kind_of`.

    Raises:
        PhotoError: no such folder, no such class, or no photo in it.
    """
    check_classes(folder, classes)
    others = Counter() if others is None else others
    found = walk_photos(folder, classes, reading=reading, by_content=by_content, others=others)
    paths = list(islice(found, limit))
    if not paths:
        raise nothing_found(folder, others)
    return paths


def nothing_found(folder: Path, others: Counter[str]) -> PhotoError:
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
    missing = sorted(set(classes) - folders) if folders else []
    if missing:
        raise PhotoError(f"no photos of class {missing[0]!r} in {str(folder)!r}: it has {', '.join(sorted(folders))}")


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
    suffixes, by_content = (SUFFIXES, by_content) if reading > 1 else (SUFFIXES_1, False)
    others = Counter() if others is None else others
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
            wanted = not classes or path.name in classes
            try:
                files, folders = _listed(path, suffixes, others if by_content and wanted and not hidden else None)
            except OSError:
                yield path
                continue
            files = files if wanted else []
            inner |= {path / name for name in folders}
            waiting.append(map(path.__truediv__, sorted(files + folders)))


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
                kind = kind_of(entry.name, head_of(entry.path))
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
