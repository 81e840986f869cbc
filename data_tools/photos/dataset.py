"""Sets of photos as arrays, and their preparation from files on all cores."""

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
from huetune.data_tools.photos.prepared_cache import (
    CachedSets,
    Outcome,
    PreparedPhoto,
    SkippedPhoto,
    set_key,
    stack,
    write_set,
)
from huetune.data_tools.photos.suitability import why_unsuitable
from huetune.data_tools.photos.versions import READER_VERSION

MAX_CACHED_FILES = 20_000
"""Files of the largest set that is cached, which takes 300 MB."""
READ_AHEAD_FILES = 64
"""Files that are submitted to the thread pool before the result of the first is awaited."""
MAX_RGB_BYTES = 2**29
"""Size of the RGB pixels that a set keeps, so that these photos need not be decoded again: those of 14,000 photos."""

RgbFilter = Callable[[str, int], bool]
"""Takes the digest of a photo and the number of files; returns whether the photo's RGB pixels are kept."""

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True)
class PhotoSet:
    """Photos as the model needs them, about 14 KB each.

    Attributes:
        names: path or scene name of each photo.
        gray: uint8 [n, 112, 112], 0..255, the luma.
        chroma: float32 [n, 14, 14, 2], the chroma maps.
        digests: sha256 of each photo's decoded pixels, hexadecimal; equal photos have equal digests.
        notes: a line for each usable photo with a warning, such as a damaged color profile.
        rgb: RGB pixels, uint8 [112, 112, 3], by digest, of the photos whose pixels are kept. They are not pickled, so
            they are not sent to workers.
    """

    names: tuple[str, ...]
    gray: NDArray[np.uint8]
    chroma: NDArray[np.float32]
    digests: tuple[str, ...]
    notes: tuple[str, ...] = ()
    rgb: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "rgb": {}}

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
        """A sha256 over the pixels of all photos, independent of their names and order."""
        return hashlib.sha256("".join(sorted(self.digests)).encode()).hexdigest()

    def take(self, indices: Sequence[int] | NDArray[np.integer]) -> "PhotoSet":
        """Return the photos at the given indices, without notes."""
        names = tuple(self.names[index] for index in indices)
        digests = tuple(self.digests[index] for index in indices)
        chosen = np.asarray(indices, np.intp)
        rgb = {digest: self.rgb[digest] for digest in digests if digest in self.rgb}
        return PhotoSet(names, self.gray[chosen], self.chroma[chosen], digests, rgb=rgb)


class _RgbStore:
    """The RGB pixels of selected photos, up to `MAX_RGB_BYTES`.

    Args:
        keep_rgb: selects the photos; None for none.
        files: number of files that will be read.
    """

    def __init__(self, keep_rgb: RgbFilter | None, files: int):
        self._keep_rgb, self._files = keep_rgb, files
        self.pixels: dict[str, NDArray[np.uint8]] = {}

    def offer(self, digest: str, square: NDArray[np.uint8]) -> None:
        """Keep a photo, uint8 [112, 112, 3], if it is selected and fits."""
        fits = (len(self.pixels) + 1) * square.nbytes <= MAX_RGB_BYTES
        if self._keep_rgb and fits and self._keep_rgb(digest, self._files):
            self.pixels[digest] = square.copy()  # a view would keep the array that it is a part of in memory


def prepare(photos: NDArray[np.uint8], names: Sequence[str], keep_rgb: RgbFilter | None = None) -> PhotoSet:
    """Make a set of photos that are in memory.

    Args:
        photos: uint8 [n, 112, 112, 3], RGB in 0..255.
        names: n names.
        keep_rgb: selects the photos whose RGB pixels are kept; None for none.
    """
    rgb_store = _RgbStore(keep_rgb, len(photos))
    return _gather(names, [_prepare_square(photo, rgb_store) for photo in photos], rgb_store)


def _prepare_square(square: NDArray[np.uint8], rgb_store: _RgbStore) -> PreparedPhoto:
    digest = hashlib.sha256(square.tobytes()).hexdigest()
    rgb_store.offer(digest, square)
    return PreparedPhoto(gray(square), chroma_map(square), digest)


def _gather(names: Sequence[str], photos: Sequence[PreparedPhoto], rgb_store: _RgbStore) -> PhotoSet:
    notes = tuple(f"{name!r}: {photo.note}" for name, photo in zip(names, photos, strict=True) if photo.note)
    digests = tuple(photo.digest for photo in photos)
    return PhotoSet(tuple(names), *stack(photos), digests, notes, rgb_store.pixels)


def read_photo(path: Path) -> NDArray[np.uint8]:
    """Read a photo at its full size, upright and in sRGB.

    Args:
        path: JPEG, PNG, WebP, GIF (its first frame), BMP, TIFF, PPM or AVIF in any mode. Transparent pixels are
            composited on white.

    Returns:
        uint8 [height, width, 3], RGB in 0..255.

    Raises:
        PhotoError: the file cannot be read as a photo.
    """
    with open_photo(path) as photo:
        return np.asarray(photo.image)


def read_square(path: Path, reader_version: int = READER_VERSION) -> NDArray[np.uint8]:
    """Read a photo at the model's size, uint8 [112, 112, 3]; otherwise like `read_photo`."""
    with open_photo(path, profiles=reader_version > 1, side=PHOTO_SIDE) as photo:
        return resize(photo.image)


def read_squares(
    paths: Sequence[Path], progress: Callable[[Iterable], Iterable] = iter, reader_version: int = READER_VERSION
) -> NDArray[np.uint8]:
    """Read photos at the model's size on all cores, uint8 [n, 112, 112, 3]; otherwise like `read_square`."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        squares = list(progress(pool.map(partial(read_square, reader_version=reader_version), paths)))
    return np.array(squares, np.uint8).reshape(-1, PHOTO_SIDE, PHOTO_SIDE, 3)


def check_readable(paths: Iterable[Path]) -> list[str]:
    """Decode photos without keeping them, so that an unreadable one is found before the others are processed.

    Returns:
        A line for each photo with a warning, such as a damaged color profile.

    Raises:
        PhotoError: a photo cannot be read; the first such.
    """
    notes = []
    for path in paths:
        with open_photo(path) as photo:
            if photo.note:
                notes.append(f"{str(path)!r}: {photo.note}")
    return notes


def resize(photo: Image.Image) -> NDArray[np.uint8]:
    """Resize an RGB photo to the model's size, uint8 [112, 112, 3]; one that is not square is stretched."""
    return np.asarray(photo.resize((PHOTO_SIDE, PHOTO_SIDE), Image.Resampling.LANCZOS, reducing_gap=3))


def load(
    paths: Sequence[Path],
    *,
    color_only: bool = True,
    progress: Callable[[Iterable], Iterable] = iter,
    cache: Path | None = None,
    reader_version: int = READER_VERSION,
    keep_rgb: RgbFilter | None = None,
) -> tuple[PhotoSet, list[str]]:
    """Read and prepare photos on all cores.

    Args:
        paths: files, as `find_photos` returns them.
        color_only: skip photos that no colors can be learned from, see `suitability.why_unsuitable`.
        progress: wraps the results as they come, to show progress.
        cache: folder of the cached sets; None to cache nothing.
        reader_version: an earlier version reads the photos of an earlier run as that run did.
        keep_rgb: selects the decoded photos whose RGB pixels are kept; None for none.

    Returns:
        The set, and a line with path and reason for each skipped file.
    """
    names, photos, skipped = [], [], []
    rgb_store = _RgbStore(keep_rgb, len(paths))
    prepared = _prepared(paths, progress, cache, reader_version, rgb_store)
    for path, outcome in _skip_unsuitable(prepared, color_only, reader_version):
        if isinstance(outcome, SkippedPhoto):
            skipped.append(f"{str(path)!r}: {outcome.reason}")
        else:
            names.append(str(path))
            photos.append(outcome)
    return _gather(names, photos, rgb_store), skipped


def outcomes(
    paths: Iterable[Path],
    *,
    color_only: bool = True,
    progress: Callable[[Iterable], Iterable] = iter,
    cache: Path | None = None,
    reader_version: int = READER_VERSION,
) -> Iterator[tuple[Path, Outcome]]:
    """Yield what each file became; for the arguments see `load`. Photos that are not cached do not stay in memory."""
    prepared = _prepared(paths, progress, cache, reader_version, _RgbStore(None, 0))
    return _skip_unsuitable(prepared, color_only, reader_version)


def _skip_unsuitable(
    prepared: Iterable[tuple[Path, Outcome]], color_only: bool, reader_version: int
) -> Iterator[tuple[Path, Outcome]]:
    for path, outcome in prepared:
        if color_only and isinstance(outcome, PreparedPhoto) and (reason := why_unsuitable(outcome, reader_version)):
            outcome = SkippedPhoto(reason)
        yield path, outcome


def _prepared(
    paths: Iterable[Path],
    progress: Callable[[Iterable], Iterable],
    cache: Path | None,
    reader_version: int,
    rgb_store: _RgbStore,
) -> Iterator[tuple[Path, Outcome]]:
    """Yield what each file became, in order, from the cache or decoded on all cores; then cache the set."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        if cache is None or not isinstance(paths, Sequence) or len(paths) > MAX_CACHED_FILES:
            prepare_file = partial(_prepare_file, reader_version=reader_version, rgb_store=rgb_store)
            yield from progress(_in_order(pool, lambda path: (path, prepare_file(path)[1]), paths))
            return
        cached = CachedSets(cache, reader_version, len(paths))
        prepare_file = partial(_prepare_file, reader_version=reader_version, rgb_store=rgb_store, cached=cached)
        results = list(progress(_in_order(pool, prepare_file, paths)))
    for index, (content, outcome) in enumerate(results):
        if isinstance(outcome, SkippedPhoto) and not (content and cached.outcome(content)):
            # Try once more, alone: with other threads a decoder may lack memory, which not every decoder reports so.
            results[index] = prepare_file(paths[index])
    contents = [content for content, _ in results if content]
    if len(contents) == len(results):
        key = set_key(contents, reader_version)
        if not cached.mark_used(key):
            write_set(cache, key, contents, [outcome for _, outcome in results])
    for path, (_, outcome) in zip(paths, results, strict=True):
        yield path, outcome


def _in_order(pool: ThreadPoolExecutor, work: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[_Out]:
    """Map like `pool.map`, but take at most `READ_AHEAD_FILES` items before the first result is used."""
    ahead: deque[Future[_Out]] = deque()
    for item in items:
        ahead.append(pool.submit(work, item))
        if len(ahead) == READ_AHEAD_FILES:
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()


def _prepare_file(
    path: Path, *, reader_version: int, rgb_store: _RgbStore, cached: CachedSets | None = None
) -> tuple[bytes | None, Outcome]:
    """Return the sha256 of a file, None if it cannot be read or nothing is cached, and what the file became."""
    content = None
    try:
        with open_file(path) as file:
            if cached:
                content = _sha256_of(file)
                if outcome := cached.outcome(content):
                    return content, outcome
            with open_photo(path, file=file, profiles=reader_version > 1, side=PHOTO_SIDE) as photo:
                square = resize(photo.image)
            # A file that is not buffered in memory may have changed while it was decoded.
            if content and not isinstance(file, io.BytesIO) and _sha256_of(file) != content:
                content = None
        return content, _prepare_square(square, rgb_store)._replace(side=min(photo.size), note=photo.note)
    except PhotoError as error:
        cause = error.__context__
        temporary = isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno is not None)
        return content, SkippedPhoto(str(error).removeprefix(f"{str(path)!r}: "), permanent=not temporary)


def _sha256_of(file: BinaryIO) -> bytes:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").digest()  # type: ignore[arg-type]  # a BinaryIO that can be read into
