"""The photos of a run: where they are now, and whether they are still those of its search."""

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

if TYPE_CHECKING:  # Importing NumPy and Optuna takes longer than showing the help of a command.
    from huetune.data_tools.photos.split import Split
    from huetune.results.records.run import Run

PHOTO_LIST_FILE = "photos.json"
"""File in a run with the names and digests of its photos, so that messages can name those that have changed."""
MOVED_PHOTOS_FILE = "photos-moved.json"
"""File in a run with the new folder of its photos, written when `--photos` names it."""
DIGEST_CHARACTERS = 16
"""Length of the stored part of a photo's digest: 64 bits distinguish the photos of a run."""

moved_option = click.option(
    "--photos",
    type=FOLDER_OR_BUCKET,
    help="New folder of the run's photos, if they were moved. The run records it.",
)

_File = tuple[str, str]
"""Name of a photo relative to its folder, and the beginning of its digest."""


def source_of(run: "Run", moved: Path | None = None) -> Source:
    """Return the source of a run's photos.

    Args:
        run: a run of schema 2 or later.
        moved: folder to which the photos were moved; None for the folder that an earlier call recorded, or else the
            folder of the search.

    Raises:
        StorageError: the record of the new folder is damaged.
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
    """Read the photos of a run's search and split them in the same way.

    Args:
        run: the run of a search.
        quiet: show no progress.
        moved: folder to which the photos were moved, which is recorded if its photos are those of the run; None for the
            folder that an earlier call recorded, or else the folder of the search.

    Raises:
        PhotoError: photos are missing, or are not those of the search.
        StorageError: the run does not record how its photos were read, or their bucket cannot be reached.
    """
    from huetune.data_tools.photos.near_duplicates import HASH_KINDS
    from huetune.data_tools.photos.split import may_be_in_test_split, split

    if run.manifest["schema"] < 2:
        raise StorageError(
            f"run {run.name!r} was made by an older version of huetune, which did not record how it read its photos; "
            "start a new search"
        )
    record = run.manifest["photos"]
    source = source_of(run, moved)
    seed, near_copies = run.manifest["search"]["seed"], record.get("near_copies")
    if near_copies is not None and str(near_copies) not in HASH_KINDS:
        raise StorageError(
            f"run {run.name!r} was made by a newer version of huetune, which split its photos by {near_copies!r}; "
            "update huetune"
        )
    remedy = f"if they were moved: {run.command('verify', '--quick --photos DIR')}"
    try:
        read = read_photos(source, quiet=quiet, keep_rgb=partial(may_be_in_test_split, seed))
        parts = split(read, seed, hash_kind=near_copies)
    except PhotoError as error:
        raise PhotoError(f"{error}; {remedy}") from None
    if parts.fingerprint != record["fingerprint"]:
        raise PhotoError(
            f"{str(source)!r}: no longer the photos that run {run.name!r} was searched with"
            f"{_difference(_recorded(run), files_of(parts, source))}; restore them, or {remedy}"
        )
    # Older versions did not record the order.
    if record.get("order", parts.order) != parts.order:
        raise PhotoError(
            f"{str(source)!r}: the photos that run {run.name!r} was searched with, but in another order, which changes "
            f"the results of a seed{_renamed(_recorded(run), files_of(parts, source))}; restore the names of the files"
        )
    if moved:
        _remember(run, source)
    return parts


def files_of(parts: "Split", source: Source) -> dict[str, list[_File]]:
    """Return the name and the digest of each photo by its part of the split, as `PHOTO_LIST_FILE` stores them."""
    root = f"{source.folder}/"
    return {
        part: [
            (name.removeprefix(root), digest[:DIGEST_CHARACTERS])
            for name, digest in zip(photos.names, photos.digests, strict=True)
        ]
        for part, photos in (("training", parts.training), ("validation", parts.validation), ("test", parts.test))
    }


def _recorded(run: "Run") -> dict[str, list[_File]]:
    """Return the photos of a run's search like `files_of`; empty for a run that did not record them."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        record = json.loads(run.path(PHOTO_LIST_FILE).read_text(encoding="utf-8"))
        return {part: [(str(name), str(digest)) for name, digest in files] for part, files in record.items()}
    return {}


def _difference(then: dict[str, list[_File]], now: dict[str, list[_File]]) -> str:
    """Return a text that counts the photos that differ and names the first one; empty if they are not recorded."""
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
    """Return the files whose photos are not among the others; of equal photos the one with an unknown name."""
    there, known = Counter(digest for _, digest in others), set(others)
    left = []
    for file in sorted(some, key=lambda file: file not in known):
        if there[file[1]]:
            there[file[1]] -= 1
        else:
            left.append(file)
    return left


def _renamed(then: dict[str, list[_File]], now: dict[str, list[_File]]) -> str:
    """Return a text that counts the renamed files and names the first one; empty if there are none."""
    before, here = ({file for part in parts.values() for file in part} for parts in (then, now))
    was = {digest: name for name, digest in before - here}
    names = sorted((name, was[digest]) for name, digest in here - before if digest in was)
    return f" ({len(names)} have other names: {names[0][0]!r} was {names[0][1]!r})" if names else ""


def _remember(run: "Run", source: Source) -> None:
    """Record the source of a run's photos for later commands."""
    assert source.folder
    try:
        atomic_write(run.folder / MOVED_PHOTOS_FILE, json.dumps({"folder": location_of(source.folder)}).encode())
        push(run.folder / MOVED_PHOTOS_FILE)
    except (OSError, StorageError) as error:
        say(
            f"the new folder of the photos cannot be recorded ({error}); pass --photos to each command",
            "yellow",
            stderr,
        )
