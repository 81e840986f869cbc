"""The commands `huetune data ...`, and the options and the function with which all commands read photos."""

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
from huetune.data_tools.common.plural import counted
from huetune.data_tools.common.terminal import progress_bar, say, stderr
from huetune.data_tools.photos.source import DEFAULT_SCENES, MAX_SCENES, Source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from huetune.data_tools.photos.dataset import PhotoSet, RgbFilter

photo_options = combine_options(
    click.option("--photos", type=FOLDER_OR_BUCKET, help="Folder of photos, including its subfolders, or s3://..."),
    click.option(
        "--garden",
        metavar="N",
        type=click.IntRange(2, MAX_SCENES),
        help=f"Use N scenes of the synthetic garden instead.  [default: {DEFAULT_SCENES}]",
    ),
    click.option("--classes", type=TEXT, help="Use only these subfolders of --photos, as in roses,tulips."),
    click.option("--strict", is_flag=True, help="Stop at the first photo that cannot be used."),
)


MAX_PRINTED_LINES = 10
"""How many skipped photos, notes or groups of near-duplicates a command names."""


def read_photos(
    source: Source, strict: bool = False, quiet: bool = False, keep_rgb: "RgbFilter | None" = None
) -> "PhotoSet":
    """Read the photos of a source and print which of them are skipped, with the reasons.

    Args:
        source: Where the photos are.
        strict: Stop at the first photo that cannot be used.
        quiet: Print neither a progress bar nor the skipped photos.
        keep_rgb: Selects the photos whose RGB pixels are needed later, see `Source.read`.

    Returns:
        All photos that can be used.

    Raises:
        PhotoError: No photo can be used, or with `strict`, at least one cannot.
    """
    photos, skipped = source.read(partial(progress_bar, quiet=quiet), keep_rgb)
    if skipped and strict:
        raise PhotoError(skipped[0])
    if not quiet:
        _print_some("skipped", skipped)
        _print_some("note", photos.notes)
    if not len(photos):
        raise PhotoError(f"{str(source)!r}: none of its photos can be used; see `huetune data check`")
    return photos


def every_photo(digest: str, files: int) -> bool:
    """Select all photos, as the filter of `read_photos` for commands that need the RGB pixels of each photo later."""
    return True


def _print_some(label: str, lines: Sequence[str]) -> None:
    """Print the first of some lines to standard error, and how many there are."""
    for line in lines[:MAX_PRINTED_LINES]:
        say(f"{label}: {line}", "yellow", stderr)
    if len(lines) > MAX_PRINTED_LINES:
        rest = f"{len(lines) - MAX_PRINTED_LINES} more, {len(lines)} in all"
        say(f"{label}: {rest}; see `huetune data check`", "yellow", stderr)


@click.group()
def data() -> None:
    """Create, download and check photos."""


@data.command()
@click.option("--count", type=count_from(1), default=DEFAULT_SCENES, show_default=True, help="Number of scenes.")
@click.option("--out", type=FOLDER, required=True, help="New folder for the scenes.")
@seed_option
def garden(count: int, out: Path, seed: int) -> None:
    """Write scenes of the synthetic garden as PNG files.

    Example: huetune data garden --count 100 --out garden
    """
    from huetune.data_tools.datasets.synthetic_garden import write_garden

    write_garden(count, out, seed, progress=progress_bar("drawing scenes", count))
    say(f"{counted(count, 'scene')} in {out}")


@data.command()
@click.argument("folder", type=FOLDER)
@click.option("--classes", type=TEXT, help="Check only these subfolders, as in roses,tulips.")
def check(folder: Path, classes: str | None) -> None:
    """List photos that would be skipped, with the reasons, and count the others.

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
    # With more files only these numbers are kept: the files are found again by walking the folder a second time.
    digests, hashes, names = array("Q"), array("Q"), list[Path]()
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
            digests.append(int(outcome.digest[:16], 16))
            if count <= photos.MAX_CACHED_FILES:
                hashes.extend(near_duplicates.perceptual_hashes(outcome.gray[None], [outcome.digest])[0].tolist())
                names.append(path)
    copies = counted(len(digests) - len(np.unique(digests)), "copy", "copies")
    repeated = _print_near_duplicates(names, np.array(hashes, np.uint64).reshape(len(names), -1))
    for line in skipped_kinds(others):
        say(f"skipped: {line}", "yellow")
    similar = counted(repeated, "near-duplicate") if count <= photos.MAX_CACHED_FILES else "near-duplicates not checked"
    usable = f"{counted(len(digests), 'usable photo')} ({copies}, {similar})"
    say(f"{counted(count, 'file')}: {usable}, {count - len(digests)} skipped")
    if others[OTHER]:
        say(f"{counted(others[OTHER], 'other file that is not a photo', 'other files that are not photos')}")


def _print_near_duplicates(names: Sequence[Path], hashes: "NDArray[np.uint64]") -> int:
    """Print the groups of near-duplicates, without exact copies.

    Args:
        names: The photos.
        hashes: Their perceptual hashes: uint64 [photos, hashes of a photo]. Copies have the same first hash.

    Returns:
        How many photos are near-duplicates of an earlier one.
    """
    import numpy as np

    from huetune.data_tools.photos import near_duplicates

    if not names:
        return 0
    _, first = np.unique(hashes[:, 0], return_index=True)
    first = np.sort(first)
    numbers = near_duplicates.group_near_duplicates(hashes[first])
    groups: dict[int, list[Path]] = {}
    for index, number in zip(first.tolist(), numbers.tolist(), strict=True):
        groups.setdefault(number, []).append(names[index])
    several = [group for group in groups.values() if len(group) > 1]
    for group in several[:MAX_PRINTED_LINES]:
        rest = f" and {len(group) - 3} more" if len(group) > 3 else ""
        say(f"near-duplicates: {', '.join(repr(str(path)) for path in group[:3])}{rest}", "yellow")
    if len(several) > MAX_PRINTED_LINES:
        say(f"near-duplicates: {counted(len(several) - MAX_PRINTED_LINES, 'more group')}", "yellow")
    return len(first) - len(groups)


@data.command()
@click.argument("name", type=click.Choice(["flowers"]))
@click.option("--out", type=FOLDER, default=Path("photos"), show_default=True, help="Folder for the photos.")
@click.option("--url", type=TEXT, help="URL of the archive.  [default: TensorFlow's archive]")
@click.option("--sha256", type=TEXT, help="SHA-256 of the archive.  [default: that of TensorFlow's archive]")
def fetch(name: str, out: Path, url: str | None, sha256: str | None) -> None:
    """Download TensorFlow's 3,670 photos of flowers (license CC BY, 218 MiB).

    Example: huetune data fetch flowers --out photos
    """
    from huetune.data_tools.datasets.tf_flowers import fetch_flowers

    folder = fetch_flowers(out, **{key: value for key, value in (("url", url), ("sha256", sha256)) if value})
    say(f"photos in {folder}; use them with --photos {shlex.quote(str(folder))}")
