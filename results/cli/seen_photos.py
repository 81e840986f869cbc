"""Checks of the photos that a command tests models on: they exist, and no model was trained or ranked with them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from huetune.data_tools.common.errors import PhotoError
from huetune.data_tools.common.terminal import say, stderr
from huetune.data_tools.photos.source import Source
from huetune.data_tools.storage.bucket_cache import bucket_path

if TYPE_CHECKING:  # these import NumPy and Optuna, which a command's help does not need
    import numpy as np
    from numpy.typing import NDArray

    from huetune.data_tools.photos.dataset import PhotoSet
    from huetune.model.checkpoint_format import Checkpoint

MAX_LISTED_PHOTOS = 10


def check_local_photos(source: Source) -> None:
    """Check that a folder of photos on this machine exists, before slow work starts.

    Folders in a bucket are not checked; they fail when they are read.

    Raises:
        PhotoError: the folder does not exist.
    """
    from huetune.data_tools.photos.discovery import check_classes

    if source.folder and not bucket_path(source.folder):
        check_classes(source.folder, ())


def find_seen_photos(models: Iterable["Checkpoint"], photos: "PhotoSet", remedy: str = "") -> "NDArray[np.bool_]":
    """Find the photos that models were trained or ranked with, and list them on stderr as skipped.

    Args:
        models: checkpoints to be tested.
        photos: n test photos.
        remedy: appended to the message of the error.

    Returns:
        A mask, bool [n].

    Raises:
        PhotoError: the models have seen all of the photos.
    """
    from huetune.results.evaluation.leakage import seen_mask

    try:
        seen = seen_mask(models, photos)
    except PhotoError as error:
        raise PhotoError(f"{error}{remedy}") from None
    names = [name for name, found in zip(photos.names, seen, strict=True) if found]
    if names:
        why = "the model was trained or ranked with them or with near-duplicates of them"
        say(f"skipped: {len(names)} of {len(photos)} photos; {why}", "yellow", stderr)
    for name in names[:MAX_LISTED_PHOTOS]:
        say(f"skipped: {name!r}", "yellow", stderr)
    if len(names) > MAX_LISTED_PHOTOS:
        say(f"skipped: and {len(names) - MAX_LISTED_PHOTOS} more", "yellow", stderr)
    return seen
