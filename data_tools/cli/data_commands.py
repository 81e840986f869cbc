"""Verbs of photos, and the options by which every verb is told which photos."""

import shlex
from array import array
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from huetune.data_tools.cli.options import (
    FOLDER,
    FOLDER_OR_BUCKET,
    TEXT,
    combine_options,
    count_from,
    seed_option,
    split_list,
)
from huetune.data_tools.common.errors import PhotoError
from huetune.data_tools.common.terminal import progress_bar, say, stderr
from huetune.data_tools.photos.source import DEFAULT_SCENES, MAX_SCENES, Source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from huetune.data_tools.photos.dataset import PhotoSet, RgbFilter

photo_options = combine_options(
    click.option(
        "--photos", type=FOLDER_OR_BUCKET, help="Folder of photos or s3://..., searched through its subfolders."
    ),
    click.option(
        "--garden",
        type=click.IntRange(2, MAX_SCENES),
        help=f"Scenes of the built-in garden instead.  [default: {DEFAULT_SCENES}]",
    ),
    click.option("--classes", type=TEXT, help="Only these subfolders of --photos, as in roses,tulips."),
    click.option("--strict", is_flag=True, help="Stop at the first photo that cannot be used."),
)


def read_photos(
    source: Source, strict: bool = False, quiet: bool = False, wanted: "RgbFilter | None" = None
) -> "PhotoSet":
    """Return the photos of a source, and tell which files of it are skipped.

    Args:
        source: of the photos.
        strict: stop at the first photo that cannot be used.
        quiet: show no progress, and do not tell which files are skipped.
        wanted: which colors will be asked for, see `Source.read`.

    Raises:
        PhotoError: none can be used, or with `strict` one cannot.
    """
    photos, left_out = source.read(partial(progress_bar, quiet=quiet), wanted)
    if left_out and strict:
        raise PhotoError(left_out[0])
    if not quiet:
        _tell("skipped", left_out)
        _tell("note", photos.notes)
    if not len(photos):
        raise PhotoError(f"{str(source)!r}: none of its photos can be used")
    return photos


def every_photo(digest: str, files: int) -> bool:
    """Say that the colors of all photos will be asked for, see `Source.read`."""
    return True


def _tell(what: str, lines: Sequence[str], most: int = 10) -> None:
    for line in lines[:most]:
        say(f"{what}: {line}", "yellow", stderr)
    if len(lines) > most:
        rest = f"{len(lines) - most} more, {len(lines)} in all"
        say(f"{what}: {rest}; see `huetune data check`", "yellow", stderr)


@click.group()
def data() -> None:
    """Make, fetch and check photos."""


@data.command()
@click.option("--count", type=count_from(1), default=DEFAULT_SCENES, show_default=True)
@click.option("--out", type=FOLDER, required=True, help="New folder for the scenes.")
@seed_option
def garden(count: int, out: Path, seed: int) -> None:
    """Write scenes of the built-in garden as PNG files.

    Example: huetune data garden --count 100 --out garden
    """
    from huetune.data_tools.datasets.synthetic_garden import write_garden

    write_garden(count, out, seed, progress=progress_bar("planting", count))
    say(f"{count} scenes in {out}")


@data.command()
@click.argument("folder", type=FOLDER)
@click.option("--classes", type=TEXT, help="Only these subfolders, as in roses,tulips.")
def check(folder: Path, classes: str | None) -> None:
    """Say which photos of a folder would be used, and why not the rest.

    Example: huetune data check flowers --classes roses
    """
    from huetune.data_tools.photos import discovery
    from huetune.data_tools.photos.file_types import OTHER, skipped_kinds

    wanted = split_list(classes)
    discovery.check_classes(folder, wanted)

    import numpy as np

    from huetune.data_tools.photos import dataset as photos
    from huetune.data_tools.photos import near_duplicates
    from huetune.data_tools.photos.prepared_cache import SkippedPhoto, default_cache_folder

    others = Counter[str]()
    count, paths = 0, list[Path]()
    for path in discovery.walk_photos(folder, wanted, others=others):
        count += 1
        if count <= photos.MAX_CACHED_FILES:
            paths.append(path)
    if not count:
        raise discovery.no_photos_error(folder, others)
    # Of a million files nothing is kept but this; their names are found again.
    pixels, marks, names = array("Q"), array("Q"), list[Path]()
    for path, outcome in photos.outcomes(
        paths if count <= photos.MAX_CACHED_FILES else discovery.walk_photos(folder, wanted),
        progress=progress_bar("reading photos", count),
        cache=default_cache_folder(),
    ):
        if isinstance(outcome, SkippedPhoto):
            say(f"skipped: {str(path)!r}: {outcome.reason}", "yellow")
        else:
            if outcome.note:
                say(f"note: {str(path)!r}: {outcome.note}", "yellow")
            pixels.append(int(outcome.digest[:16], 16))
            if count <= photos.MAX_CACHED_FILES:
                marks.extend(near_duplicates.perceptual_hashes(outcome.gray[None], [outcome.digest])[0].tolist())
                names.append(path)
    copies = len(pixels) - len(np.unique(pixels))
    near = _near_duplicates(names, np.array(marks, np.uint64).reshape(len(names), -1))
    for line in skipped_kinds(others):
        say(f"skipped: {line}", "yellow")
    found = f"{near} near-duplicates" if count <= photos.MAX_CACHED_FILES else "near-duplicates not looked for"
    found = f"{copies} of them copies, {found}"
    say(f"{count} files: {len(pixels)} photos to use, {found}; {count - len(pixels)} skipped")
    if others[OTHER]:
        files = "other file that is no photo" if others[OTHER] == 1 else "other files that are no photos"
        say(f"{others[OTHER]} {files}")


def _near_duplicates(names: Sequence[Path], marks: "NDArray[np.uint64]", most: int = 10) -> int:
    """Name the groups of photos that show one picture, copies aside; return how many photos repeat one before."""
    import numpy as np

    from huetune.data_tools.photos import near_duplicates

    if not names:
        return 0
    _, first = np.unique(marks[:, 0], return_index=True)
    first = np.sort(first)
    numbers = near_duplicates.group_near_duplicates(marks[first])
    groups: dict[int, list[Path]] = {}
    for place, number in zip(first.tolist(), numbers.tolist(), strict=True):
        groups.setdefault(number, []).append(names[place])
    several = [group for group in groups.values() if len(group) > 1]
    for group in several[:most]:
        rest = f" and {len(group) - 3} more" if len(group) > 3 else ""
        say(f"near-duplicates: {', '.join(repr(str(path)) for path in group[:3])}{rest}", "yellow")
    if len(several) > most:
        say(f"near-duplicates: and {len(several) - most} more groups", "yellow")
    return len(first) - len(groups)


@data.command()
@click.argument("name", type=click.Choice(["flowers"]))
@click.option("--out", type=FOLDER, default=Path("photos"), show_default=True, help="Folder for the photos.")
@click.option("--url", type=TEXT, help="Where to download from.  [default: TensorFlow's archive]")
@click.option("--sha256", type=TEXT, help="Checksum of the archive.  [default: that of TensorFlow's]")
def fetch(name: str, out: Path, url: str | None, sha256: str | None) -> None:
    """Download TensorFlow's 3,670 photos of flowers, CC BY, 218 MiB.

    Example: huetune data fetch flowers --out photos
    """
    from huetune.data_tools.datasets.tf_flowers import fetch_flowers

    folder = fetch_flowers(out, **{key: value for key, value in (("url", url), ("sha256", sha256)) if value})
    say(f"photos in {folder}; use them with --photos {shlex.quote(str(folder))}")
