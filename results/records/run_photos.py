"""A run's photos: where they are now, and whether they are those of its search."""

import contextlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from huetune.data_tools.cli.data_commands import read_photos
from huetune.data_tools.cli.options import FOLDER_OR_BUCKET
from huetune.data_tools.common.errors import PhotoError, StorageError
from huetune.data_tools.common.terminal import say, stderr
from huetune.data_tools.photos.source import Source
from huetune.data_tools.storage.atomic import atomic_write
from huetune.data_tools.storage.bucket_cache import local_path, location_of, push

if TYPE_CHECKING:  # NumPy and Optuna take longer than a verb's help
    from huetune.data_tools.photos.split import Split
    from huetune.results.records.run import Run

PHOTO_LIST_FILE = "photos.json"
"""In a run: names and digests of its photos, so that those which differ later can be named."""
MOVED_PHOTOS_FILE = "photos-moved.json"
"""In a run: where its photos are since they were moved, once a user has said so."""
DIGEST_LETTERS = 16
"""Of a photo's digest: 64 bits tell the photos of a run apart."""

moved_option = click.option(
    "--photos",
    type=FOLDER_OR_BUCKET,
    help="Where the photos of the run are now, if they were moved; said once, it is remembered.",
)

_File = tuple[str, str]
"""A photo's name in its folder, and the first letters of its digest."""


def source_of(run: "Run", moved: Path | None = None) -> Source:
    """Return where a run's photos are.

    Args:
        run: of schema 2 or later.
        moved: the folder that they are in now; None for that which was said before, or else that of the search.

    Raises:
        StorageError: the record of where they were moved to is damaged.
    """
    source = Source.of(run.manifest["photos"]["source"])
    path = run.path(MOVED_PHOTOS_FILE)
    if moved is None and path.is_file():
        try:
            moved = local_path(json.loads(path.read_text(encoding="utf-8"))["folder"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise StorageError(f"{str(path)!r}: cannot be read ({error}); remove it, and pass --photos again") from None
    return source if moved is None else replace(source, folder=moved.absolute(), scenes=None)


def photos_of(run: "Run", quiet: bool, moved: Path | None = None) -> "Split":
    """Return the photos that a run was searched with, split as there.

    Args:
        run: of a search.
        quiet: show no progress.
        moved: the folder that they are in now, which later calls remember once its photos have proved to be the
            run's; None for that which was said before, or else that of the search.

    Raises:
        PhotoError: they are not there, or others.
        StorageError: the run does not say which; they are in a bucket that cannot be reached.
    """
    from huetune.data_tools.photos.near_duplicates import HASH_KINDS
    from huetune.data_tools.photos.split import may_be_in_test_split, split

    if run.manifest["schema"] < 2:
        raise StorageError(
            f"run {run.name!r} is of an older huetune, which did not record how to read its photos again"
        )
    record = run.manifest["photos"]
    source = source_of(run, moved)
    seed, near_copies = run.manifest["search"]["seed"], record.get("near_copies")
    if near_copies is not None and str(near_copies) not in HASH_KINDS:
        raise StorageError(f"run {run.name!r} is of a newer huetune, which split its photos by {near_copies!r}; update")
    remedy = f"if they were moved: {run.command('verify', '--quick --photos DIR')}"
    try:
        read = read_photos(source, quiet=quiet, wanted=partial(may_be_in_test_split, seed))
        parts = split(read, seed, hash_kind=near_copies)
    except PhotoError as error:
        raise PhotoError(f"{error}; {remedy}") from None
    if parts.fingerprint != record["fingerprint"]:
        raise PhotoError(
            f"{str(source)!r}: not the photos any more that run {run.name!r} was searched with"
            f"{_difference(_recorded(run), files_of(parts, source))}; restore them, or {remedy}"
        )
    # An older huetune did not record it.
    if record.get("order", parts.order) != parts.order:
        raise PhotoError(
            f"{str(source)!r}: the photos that run {run.name!r} was searched with, but in another order, in which a "
            f"seed gives other numbers{_renamed(_recorded(run), files_of(parts, source))}; name the files as they were"
        )
    if moved:
        _remember(run, source)
    return parts


def files_of(parts: "Split", source: Source) -> dict[str, list[_File]]:
    """Return the name and the digest of each photo by its part of the split, as `PHOTO_LIST_FILE` stores them."""
    root = f"{source.folder}/"
    return {
        part: [
            (name.removeprefix(root), digest[:DIGEST_LETTERS])
            for name, digest in zip(photos.names, photos.digests, strict=True)
        ]
        for part, photos in (("training", parts.training), ("validation", parts.validation), ("test", parts.test))
    }


def _recorded(run: "Run") -> dict[str, list[_File]]:
    """The photos of a run's search, as `files_of`; nothing of a run that did not record them."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        record = json.loads(run.path(PHOTO_LIST_FILE).read_text(encoding="utf-8"))
        return {part: [(str(name), str(digest)) for name, digest in files] for part, files in record.items()}
    return {}


def _difference(then: dict[str, list[_File]], now: dict[str, list[_File]]) -> str:
    """What differs, in words: how many photos of how many, and the first by its name."""
    before, here = ([file for part in parts.values() for file in part] for parts in (then, now))
    if not before:
        return ""
    missing = {name: "missing" for name, _ in _without(before, here)}
    new = {name: "new" for name, _ in _without(here, before)}
    each = {**missing, **new, **dict.fromkeys(missing.keys() & new.keys(), "changed")}
    if not each:
        return ""
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(each.values()).items()))
    first = min(each)
    return f": of {len(before)} photos {counts}; the first is {first!r} ({each[first]})"


def _without(some: Sequence[_File], others: Sequence[_File]) -> list[_File]:
    """Those of some whose photos the others lack; of equal photos that one whose name they lack."""
    there, known = Counter(digest for _, digest in others), set(others)
    left = []
    for file in sorted(some, key=lambda file: file not in known):
        if there[file[1]]:
            there[file[1]] -= 1
        else:
            left.append(file)
    return left


def _renamed(then: dict[str, list[_File]], now: dict[str, list[_File]]) -> str:
    """Which files have other names, in words."""
    before, here = ({file for part in parts.values() for file in part} for parts in (then, now))
    was = {digest: name for name, digest in before - here}
    names = sorted((name, was[digest]) for name, digest in here - before if digest in was)
    return f" ({len(names)} have other names: {names[0][0]!r} was {names[0][1]!r})" if names else ""


def _remember(run: "Run", source: Source) -> None:
    """Have later commands look for a run's photos there."""
    assert source.folder
    try:
        atomic_write(run.folder / MOVED_PHOTOS_FILE, json.dumps({"folder": location_of(source.folder)}).encode())
        push(run.folder / MOVED_PHOTOS_FILE)
    except (OSError, StorageError) as error:
        say(f"where the photos are cannot be recorded ({error}); pass --photos to each command", "yellow", stderr)
