"""Which photos a command may test models on: photos that exist, and that no model was trained or ranked with."""

from collections.abc import Iterable
from typing import Any

from huetune.data_tools.common.errors import PhotoError
from huetune.data_tools.common.terminal import say, stderr
from huetune.data_tools.photos.source import Source
from huetune.data_tools.storage.bucket_cache import bucket_path

MAX_LISTED_PHOTOS = 10


def check_local_photos(source: Source) -> None:
    """Refuse photos on this machine that are not there, before anything takes time; a bucket says so when it is read.

    Raises:
        PhotoError: they are not.
    """
    from huetune.data_tools.photos.discovery import check_classes

    if source.folder and not bucket_path(source.folder):
        check_classes(source.folder, ())


def find_seen_photos(models: Iterable[Any], photos: Any, remedy: str = "") -> Any:
    """Which of the photos the models have seen, bool [n]; those are listed.

    Raises:
        PhotoError: all of them.
    """
    from huetune.results.evaluation.leakage import seen_mask

    try:
        known = seen_mask(models, photos)
    except PhotoError as error:
        raise PhotoError(f"{error}{remedy}") from None
    names = [name for name, found in zip(photos.names, known, strict=True) if found]
    if names:
        why = "they have trained or ranked the model, or are near-duplicates of photos that have"
        say(f"skipped: {len(names)} of {len(photos)} photos; {why}", "yellow", stderr)
    for name in names[:MAX_LISTED_PHOTOS]:
        say(f"skipped: {name!r}", "yellow", stderr)
    if len(names) > MAX_LISTED_PHOTOS:
        say(f"skipped: and {len(names) - MAX_LISTED_PHOTOS} more", "yellow", stderr)
    return known
