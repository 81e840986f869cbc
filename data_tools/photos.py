"""Photos on disk become arrays: reading, checking and gathering them."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_tools import likeness
from data_tools.cache import Prepared, Refused, read_set, set_key, stacked, write_set
from data_tools.colour import SIDE, chroma_map, grey, luma_of
from data_tools.decoding import not_a_file, opened
from data_tools.errors import PhotoError
from data_tools.finding import find_photos as find_photos
from data_tools.finding import walk_photos as walk_photos
from data_tools.source import READING
from data_tools.suitability import why_unsuitable

MOST_KEPT = 20_000
"""Files of the largest set that is cached: 300 MB."""
AHEAD = 64
"""Files that are worked on before the first of them is asked for."""

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True)
class PhotoSet:
    """Photos as the model needs them, about 14 KB each.

    Attributes:
        names: where each photo came from.
        grey: uint8 [n, 112, 112], 0..255, the luma.
        chroma: float32 [n, 14, 14, 2], the chroma maps.
        digests: sha256 of each photo's decoded pixels, hexadecimal: equal photos have equal digests.
        notes: a line for each photo with which something was wrong that did not keep it from being used.
    """

    names: tuple[str, ...]
    grey: NDArray[np.uint8]
    chroma: NDArray[np.float32]
    digests: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def luma(self) -> NDArray[np.float32]:
        """float32 [n, 112, 112], 0..1."""
        return luma_of(self.grey)

    @property
    def marks(self) -> likeness.Marks:
        """What near copies of the photos are found by."""
        return likeness.marks(self.grey, self.digests)

    @property
    def fingerprint(self) -> str:
        """A sha256 over all photos, whatever their names or order."""
        return hashlib.sha256("".join(sorted(self.digests)).encode()).hexdigest()

    def take(self, indices: Sequence[int] | NDArray[np.integer]) -> "PhotoSet":
        """Return the photos at the given places, without notes."""
        names = tuple(self.names[index] for index in indices)
        digests = tuple(self.digests[index] for index in indices)
        chosen = np.asarray(indices, np.intp)
        return PhotoSet(names, self.grey[chosen], self.chroma[chosen], digests)


def prepare(photos: NDArray[np.uint8], names: Sequence[str]) -> PhotoSet:
    """Return photos that are in memory as a set.

    Args:
        photos: uint8 [n, 112, 112, 3], RGB in 0..255.
        names: n names.
    """
    return _gather(names, [_prepare_square(photo) for photo in photos])


def _prepare_square(square: NDArray[np.uint8]) -> Prepared:
    return Prepared(grey(square), chroma_map(square), hashlib.sha256(square.tobytes()).hexdigest())


def _gather(names: Sequence[str], photos: Sequence[Prepared]) -> PhotoSet:
    notes = tuple(f"{name!r}: {photo.note}" for name, photo in zip(names, photos, strict=True) if photo.note)
    return PhotoSet(tuple(names), *stacked(photos), tuple(photo.digest for photo in photos), notes)


def read_photo(path: Path) -> NDArray[np.uint8]:
    """Return a photo upright, at its own size, in sRGB.

    Args:
        path: JPEG, PNG, WebP, GIF (its first frame), BMP, TIFF, PPM or AVIF; any mode. Transparent pixels are laid on
            white, whatever colour they hide.

    Returns:
        uint8 [height, width, 3], RGB in 0..255.

    Raises:
        PhotoError: the file cannot be read as a photo.
    """
    with opened(path) as photo:
        return np.asarray(photo.image)


def read_square(path: Path, reading: int = READING) -> NDArray[np.uint8]:
    """Return a photo at the model's size: uint8 [112, 112, 3]; the rest as `read_photo`."""
    with opened(path, profiles=reading > 1, side=SIDE) as photo:
        return resize(photo.image)


def read_squares(
    paths: Sequence[Path], progress: Callable[[Iterable], Iterable] = iter, reading: int = READING
) -> NDArray[np.uint8]:
    """Return photos at the model's size, read on all cores: uint8 [n, 112, 112, 3]; the rest as `read_square`."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        squares = list(progress(pool.map(partial(read_square, reading=reading), paths)))
    return np.array(squares, np.uint8).reshape(-1, SIDE, SIDE, 3)


def check_readable(paths: Iterable[Path]) -> list[str]:
    """Read photos without keeping them, so that a bad one is known before anything is made of the others.

    Returns:
        A line for each with which something is wrong that does not keep it from being used.

    Raises:
        PhotoError: the first that cannot be read.
    """
    notes = []
    for path in paths:
        with opened(path) as photo:
            if photo.note:
                notes.append(f"{str(path)!r}: {photo.note}")
    return notes


def resize(photo: Image.Image) -> NDArray[np.uint8]:
    """Return an RGB picture at the model's size, stretched where it is no square: uint8 [112, 112, 3]."""
    return np.asarray(photo.resize((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=3))


def load(
    paths: Sequence[Path],
    *,
    colour_only: bool = True,
    progress: Callable[[Iterable], Iterable] = iter,
    cache: Path | None = None,
    reading: int = READING,
) -> tuple[PhotoSet, list[str]]:
    """Read and prepare photos on all cores.

    Args:
        paths: files, as `find_photos` returns them.
        colour_only: skip what no colors can be learnt from: see `data_tools.suitability`.
        progress: wraps the results as they come, to show how far it is.
        cache: folder where prepared sets are kept, and found again by the bytes of their files; None for nowhere.
        reading: an older one, to read the photos of an older run as it did.

    Returns:
        The set, and one line for each file that is skipped and why.
    """
    names, photos, left_out = [], [], []
    for path, outcome in outcomes(paths, colour_only=colour_only, progress=progress, cache=cache, reading=reading):
        if isinstance(outcome, Refused):
            left_out.append(f"{str(path)!r}: {outcome.reason}")
        else:
            names.append(str(path))
            photos.append(outcome)
    return _gather(names, photos), left_out


def outcomes(
    paths: Iterable[Path],
    *,
    colour_only: bool = True,
    progress: Callable[[Iterable], Iterable] = iter,
    cache: Path | None = None,
    reading: int = READING,
) -> Iterator[tuple[Path, Prepared | Refused]]:
    """Yield for each file what it became, as `load` gathers it; unless they are kept, nothing stays in memory."""
    for path, outcome in _prepared(paths, progress, cache, reading):
        if colour_only and isinstance(outcome, Prepared) and (reason := why_unsuitable(outcome, reading)):
            outcome = Refused(reason)
        yield path, outcome


def _prepared(
    paths: Iterable[Path], progress: Callable[[Iterable], Iterable], cache: Path | None, reading: int
) -> Iterator[tuple[Path, Prepared | Refused]]:
    prepare_file = partial(_prepare_file, reading=reading)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        if cache is None or not isinstance(paths, Sequence) or len(paths) > MOST_KEPT:
            yield from progress(_in_order(pool, lambda path: (path, prepare_file(path)), paths))
            return
        key = set_key(_in_order(pool, _content, paths), reading)
        kept = read_set(cache, key, len(paths)) if key else None
        made = list(progress(_in_order(pool, prepare_file, paths) if kept is None else kept))
        if kept is None:
            # Once more, alone: beside others a decoder may have had too little memory, which not all of them call so.
            pairs = zip(paths, made, strict=True)
            made = [prepare_file(path) if isinstance(outcome, Refused) else outcome for path, outcome in pairs]
        # Hashed again: a file that was written to meanwhile would be kept under the bytes that it had before.
        if key and kept is None and set_key(_in_order(pool, _content, paths), reading) == key:
            write_set(cache, key, made)
    yield from zip(paths, made, strict=True)


def _in_order(pool: ThreadPoolExecutor, work: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[_Out]:
    """As `pool.map`, which however would take up all items before it gives the first result."""
    ahead: deque[Future[_Out]] = deque()
    for item in items:
        ahead.append(pool.submit(work, item))
        if len(ahead) == AHEAD:
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()


def _prepare_file(path: Path, reading: int) -> Prepared | Refused:
    try:
        with opened(path, profiles=reading > 1, side=SIDE) as photo:
            square = resize(photo.image)
        return _prepare_square(square)._replace(side=min(photo.size), note=photo.note)
    except PhotoError as error:
        cause = error.__context__
        passing = isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno is not None)
        return Refused(str(error).removeprefix(f"{str(path)!r}: "), lasting=not passing)


def _content(path: Path) -> bytes | None:
    """The sha256 of a file's bytes, read a little at a time; None where it cannot be read."""
    if not_a_file(path):
        return None
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return None
