"""Photos on disk become arrays: reading, checking and gathering them."""

import hashlib
import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from huetune.data_tools.common.errors import PhotoError
from huetune.data_tools.photos import near_duplicates
from huetune.data_tools.photos.color import PHOTO_SIDE, chroma_map, gray, gray_to_luma
from huetune.data_tools.photos.decoding import open_file, open_photo
from huetune.data_tools.photos.discovery import find_photos as find_photos
from huetune.data_tools.photos.discovery import walk_photos as walk_photos
from huetune.data_tools.photos.prepared_cache import (
    CachedSets,
    PreparedPhoto,
    SkippedPhoto,
    set_key,
    stacked,
    write_set,
)
from huetune.data_tools.photos.source import READING
from huetune.data_tools.photos.suitability import why_unsuitable

MAX_CACHED_FILES = 20_000
"""Files of the largest set that is cached: 300 MB."""
READ_AHEAD_FILES = 64
"""Files that are worked on before the first of them is asked for."""
MAX_COLOR_BYTES = 2**29
"""Size of the colors that are kept of a set, so that these photos need not be decoded again: of 14,000 photos."""

RgbFilter = Callable[[str, int], bool]
"""Whether the colors of a photo will be asked for: from its digest, and how many files there are."""

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True)
class PhotoSet:
    """Photos as the model needs them, about 14 KB each.

    Attributes:
        names: where each photo came from.
        gray: uint8 [n, 112, 112], 0..255, the luma.
        chroma: float32 [n, 14, 14, 2], the chroma maps.
        digests: sha256 of each photo's decoded pixels, hexadecimal: equal photos have equal digests.
        notes: a line for each photo with which something was wrong that did not keep it from being used.
        colors: by digest uint8 [112, 112, 3] of those photos whose colors were kept. They do not travel to workers.
    """

    names: tuple[str, ...]
    gray: NDArray[np.uint8]
    chroma: NDArray[np.float32]
    digests: tuple[str, ...]
    notes: tuple[str, ...] = ()
    colors: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "colors": {}}

    def __len__(self) -> int:
        return len(self.names)

    @property
    def luma(self) -> NDArray[np.float32]:
        """float32 [n, 112, 112], 0..1."""
        return gray_to_luma(self.gray)

    @property
    def perceptual_hashes(self) -> near_duplicates.PerceptualHashes:
        """uint64 [n, 5], by which near-duplicates are found."""
        return near_duplicates.perceptual_hashes(self.gray, self.digests)

    @property
    def fingerprint(self) -> str:
        """A sha256 over all photos, whatever their names or order."""
        return hashlib.sha256("".join(sorted(self.digests)).encode()).hexdigest()

    def take(self, indices: Sequence[int] | NDArray[np.integer]) -> "PhotoSet":
        """Return the photos at the given places, without notes."""
        names = tuple(self.names[index] for index in indices)
        digests = tuple(self.digests[index] for index in indices)
        chosen = np.asarray(indices, np.intp)
        colors = {digest: self.colors[digest] for digest in digests if digest in self.colors}
        return PhotoSet(names, self.gray[chosen], self.chroma[chosen], digests, colors=colors)


class _Colors:
    """Keeps the colors of wanted photos, as many as there is room for.

    Args:
        wanted: which.
        files: how many there are to read.
    """

    def __init__(self, wanted: RgbFilter | None, files: int):
        self._wanted, self._files = wanted, files
        self.squares: dict[str, NDArray[np.uint8]] = {}

    def add(self, digest: str, square: NDArray[np.uint8]) -> None:
        """Keep a photo, uint8 [112, 112, 3], if it is wanted."""
        room = (len(self.squares) + 1) * square.nbytes <= MAX_COLOR_BYTES
        if self._wanted and room and self._wanted(digest, self._files):
            self.squares[digest] = square.copy()  # a view would hold what it is a part of


def prepare(photos: NDArray[np.uint8], names: Sequence[str], wanted: RgbFilter | None = None) -> PhotoSet:
    """Return photos that are in memory as a set.

    Args:
        photos: uint8 [n, 112, 112, 3], RGB in 0..255.
        names: n names.
        wanted: which colors to keep; None for none.
    """
    colors = _Colors(wanted, len(photos))
    return _gather(names, [_prepare_square(photo, colors) for photo in photos], colors)


def _prepare_square(square: NDArray[np.uint8], colors: _Colors) -> PreparedPhoto:
    digest = hashlib.sha256(square.tobytes()).hexdigest()
    colors.add(digest, square)
    return PreparedPhoto(gray(square), chroma_map(square), digest)


def _gather(names: Sequence[str], photos: Sequence[PreparedPhoto], colors: _Colors) -> PhotoSet:
    notes = tuple(f"{name!r}: {photo.note}" for name, photo in zip(names, photos, strict=True) if photo.note)
    digests = tuple(photo.digest for photo in photos)
    return PhotoSet(tuple(names), *stacked(photos), digests, notes, colors.squares)


def read_photo(path: Path) -> NDArray[np.uint8]:
    """Return a photo upright, at its own size, in sRGB.

    Args:
        path: JPEG, PNG, WebP, GIF (its first frame), BMP, TIFF, PPM or AVIF; any mode. Transparent pixels are laid on
            white, whatever color they hide.

    Returns:
        uint8 [height, width, 3], RGB in 0..255.

    Raises:
        PhotoError: the file cannot be read as a photo.
    """
    with open_photo(path) as photo:
        return np.asarray(photo.image)


def read_square(path: Path, reading: int = READING) -> NDArray[np.uint8]:
    """Return a photo at the model's size: uint8 [112, 112, 3]; the rest as `read_photo`."""
    with open_photo(path, profiles=reading > 1, side=PHOTO_SIDE) as photo:
        return resize(photo.image)


def read_squares(
    paths: Sequence[Path], progress: Callable[[Iterable], Iterable] = iter, reading: int = READING
) -> NDArray[np.uint8]:
    """Return photos at the model's size, read on all cores: uint8 [n, 112, 112, 3]; the rest as `read_square`."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        squares = list(progress(pool.map(partial(read_square, reading=reading), paths)))
    return np.array(squares, np.uint8).reshape(-1, PHOTO_SIDE, PHOTO_SIDE, 3)


def check_readable(paths: Iterable[Path]) -> list[str]:
    """Read photos without keeping them, so that a bad one is known before anything is made of the others.

    Returns:
        A line for each with which something is wrong that does not keep it from being used.

    Raises:
        PhotoError: the first that cannot be read.
    """
    notes = []
    for path in paths:
        with open_photo(path) as photo:
            if photo.note:
                notes.append(f"{str(path)!r}: {photo.note}")
    return notes


def resize(photo: Image.Image) -> NDArray[np.uint8]:
    """Return an RGB picture at the model's size, stretched where it is no square: uint8 [112, 112, 3]."""
    return np.asarray(photo.resize((PHOTO_SIDE, PHOTO_SIDE), Image.Resampling.LANCZOS, reducing_gap=3))


def load(
    paths: Sequence[Path],
    *,
    color_only: bool = True,
    progress: Callable[[Iterable], Iterable] = iter,
    cache: Path | None = None,
    reading: int = READING,
    wanted: RgbFilter | None = None,
) -> tuple[PhotoSet, list[str]]:
    """Read and prepare photos on all cores.

    Args:
        paths: files, as `find_photos` returns them.
        color_only: skip what no colors can be learned from: see `data_tools.photos.suitability`.
        progress: wraps the results as they come, to show how far it is.
        cache: folder where prepared sets are kept, and found again by the bytes of their files; None for nowhere.
        reading: an older one, to read the photos of an older run as it did.
        wanted: which colors to keep of the photos that are decoded; None for none.

    Returns:
        The set, and one line for each file that is skipped and why.
    """
    names, photos, left_out = [], [], []
    colors = _Colors(wanted, len(paths))
    for path, outcome in _suitable(_prepared(paths, progress, cache, reading, colors), color_only, reading):
        if isinstance(outcome, SkippedPhoto):
            left_out.append(f"{str(path)!r}: {outcome.reason}")
        else:
            names.append(str(path))
            photos.append(outcome)
    return _gather(names, photos, colors), left_out


def outcomes(
    paths: Iterable[Path],
    *,
    color_only: bool = True,
    progress: Callable[[Iterable], Iterable] = iter,
    cache: Path | None = None,
    reading: int = READING,
) -> Iterator[tuple[Path, PreparedPhoto | SkippedPhoto]]:
    """Yield for each file what it became, as `load` gathers it; unless they are kept, nothing stays in memory."""
    return _suitable(_prepared(paths, progress, cache, reading, _Colors(None, 0)), color_only, reading)


def _suitable(
    prepared: Iterable[tuple[Path, PreparedPhoto | SkippedPhoto]], color_only: bool, reading: int
) -> Iterator[tuple[Path, PreparedPhoto | SkippedPhoto]]:
    for path, outcome in prepared:
        if color_only and isinstance(outcome, PreparedPhoto) and (reason := why_unsuitable(outcome, reading)):
            outcome = SkippedPhoto(reason)
        yield path, outcome


def _prepared(
    paths: Iterable[Path],
    progress: Callable[[Iterable], Iterable],
    cache: Path | None,
    reading: int,
    colors: _Colors,
) -> Iterator[tuple[Path, PreparedPhoto | SkippedPhoto]]:
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        if cache is None or not isinstance(paths, Sequence) or len(paths) > MAX_CACHED_FILES:
            prepare_file = partial(_prepare_file, reading=reading, colors=colors)
            yield from progress(_in_order(pool, lambda path: (path, prepare_file(path)[1]), paths))
            return
        kept = CachedSets(cache, reading, len(paths))
        prepare_file = partial(_prepare_file, reading=reading, colors=colors, kept=kept)
        made = list(progress(_in_order(pool, prepare_file, paths)))
    for place, (content, outcome) in enumerate(made):
        if isinstance(outcome, SkippedPhoto) and not (content and kept.outcome(content)):
            # Once more, alone: beside others a decoder may have had too little memory, which not all of them call so.
            made[place] = prepare_file(paths[place])
    contents = [content for content, _ in made if content]
    if len(contents) == len(made):
        key = set_key(contents, reading)
        if not kept.use(key):
            write_set(cache, key, contents, [outcome for _, outcome in made])
    for path, (_, outcome) in zip(paths, made, strict=True):
        yield path, outcome


def _in_order(pool: ThreadPoolExecutor, work: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[_Out]:
    """As `pool.map`, which however would take up all items before it gives the first result."""
    ahead: deque[Future[_Out]] = deque()
    for item in items:
        ahead.append(pool.submit(work, item))
        if len(ahead) == READ_AHEAD_FILES:
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()


def _prepare_file(
    path: Path, *, reading: int, colors: _Colors, kept: CachedSets | None = None
) -> tuple[bytes | None, PreparedPhoto | SkippedPhoto]:
    """What a file became, and the sha256 of its bytes; None where these cannot be read, or nothing is to be kept."""
    content = None
    try:
        with open_file(path) as file:
            if kept:
                content = _sum_of(file)
                if outcome := kept.outcome(content):
                    return content, outcome
            with open_photo(path, file=file, profiles=reading > 1, side=PHOTO_SIDE) as photo:
                square = resize(photo.image)
            # A file that is too large for memory may have been written to meanwhile.
            if content and not isinstance(file, io.BytesIO) and _sum_of(file) != content:
                content = None
        return content, _prepare_square(square, colors)._replace(side=min(photo.size), note=photo.note)
    except PhotoError as error:
        cause = error.__context__
        passing = isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno is not None)
        return content, SkippedPhoto(str(error).removeprefix(f"{str(path)!r}: "), lasting=not passing)


def _sum_of(file: BinaryIO) -> bytes:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").digest()  # type: ignore[arg-type]  # a BinaryIO that can be read into
