"""Photos on disk become arrays: finding, reading and checking them."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from data_tools.cache import Prepared, Refused, read_set, set_key, stacked, write_set
from data_tools.colour import SIDE, chroma_map, grey, luma_of
from data_tools.errors import PhotoError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif"})
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
"""Pillow's decoders that a photo may reach; naming them keeps files from the rarer, less tested ones."""
LARGEST = 50_000_000
"""Pixels of the largest photo that is decoded."""
FAINTEST = 0.02
"""Length of the strongest chroma vector of a photo that counts as grey."""


@dataclass(frozen=True)
class PhotoSet:
    """Photos as the model needs them, about 14 KB each.

    Attributes:
        names: where each photo came from.
        grey: uint8 [n, 112, 112], 0..255, the luma.
        chroma: float32 [n, 14, 14, 2], the chroma maps.
        digests: sha256 of each photo's decoded pixels, hexadecimal: equal photos have equal digests.
    """

    names: tuple[str, ...]
    grey: NDArray[np.uint8]
    chroma: NDArray[np.float32]
    digests: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def luma(self) -> NDArray[np.float32]:
        """float32 [n, 112, 112], 0..1."""
        return luma_of(self.grey)

    @property
    def fingerprint(self) -> str:
        """A sha256 over all photos, whatever their names or order."""
        return hashlib.sha256("".join(sorted(self.digests)).encode()).hexdigest()

    def take(self, indices: Sequence[int] | NDArray[np.integer]) -> "PhotoSet":
        """Return the photos at the given places."""
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
    return PhotoSet(tuple(names), *stacked(photos), tuple(photo.digest for photo in photos))


def find_photos(folder: Path, classes: Sequence[str] = ()) -> list[Path]:
    """Return the photo files below a folder, by name.

    Args:
        folder: searched through all its subfolders, links to folders left aside.
        classes: where given, only photos whose own folder has one of these names (`flowers/<class>/*.jpg`).

    Raises:
        PhotoError: no such folder, no such class, or no photo in it.
    """
    if not folder.is_dir():
        raise PhotoError(f"no photos: {str(folder)!r} is not a folder")
    paths, folders = [], set()
    for parent, _, files in os.walk(folder):
        name = Path(parent).name
        photos = [Path(parent, file) for file in files if Path(file).suffix.lower() in SUFFIXES]
        photos = [path for path in photos if _is_file(path)]
        if photos:
            folders.add(name)
        if not classes or name in classes:
            paths += photos
    missing = sorted(set(classes) - folders) if folders else []
    if missing:
        raise PhotoError(f"no photos of class {missing[0]!r} in {str(folder)!r}: it has {', '.join(sorted(folders))}")
    if not paths:
        raise PhotoError(f"no photos in {str(folder)!r}: looked for {' '.join(sorted(SUFFIXES))}")
    return sorted(paths)


def _is_file(path: Path) -> bool:
    """Whether a path leads to a plain file: opening a named pipe would wait for ever."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def read_photo(path: Path) -> NDArray[np.uint8]:
    """Return a photo upright, at its own size.

    Args:
        path: JPEG, PNG, WebP, GIF (its first frame), BMP, TIFF, PPM or AVIF; any mode. Transparent pixels are laid on
            white, whatever colour they hide.

    Returns:
        uint8 [height, width, 3], RGB in 0..255.

    Raises:
        PhotoError: the file cannot be read as a photo.
    """
    return np.asarray(_open(path))


def read_square(path: Path) -> NDArray[np.uint8]:
    """Return a photo at the model's size: uint8 [112, 112, 3]; the rest as `read_photo`."""
    return resize(_open(path))


def read_squares(paths: Sequence[Path], progress: Callable[[Iterable], Iterable] = iter) -> NDArray[np.uint8]:
    """Return photos at the model's size, read on all cores: uint8 [n, 112, 112, 3]; the rest as `read_square`."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        squares = list(progress(pool.map(read_square, paths)))
    return np.array(squares, np.uint8).reshape(-1, SIDE, SIDE, 3)


def check_readable(paths: Iterable[Path]) -> None:
    """Read photos without keeping them, so that a bad one is known before anything is made of the others.

    Raises:
        PhotoError: the first that cannot be read.
    """
    for path in paths:
        _open(path)


def resize(photo: Image.Image) -> NDArray[np.uint8]:
    """Return an RGB picture at the model's size, stretched where it is no square: uint8 [112, 112, 3]."""
    return np.asarray(photo.resize((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=3))


def _open(path: Path) -> Image.Image:
    where = repr(str(path))
    if not _is_file(path):
        raise PhotoError(f"{where}: is not there, or not a file")
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > LARGEST:
                size = f"{image.width} x {image.height} pixels"
                raise PhotoError(f"{where}: {size} are more than {LARGEST:,}; shrink it first")
            return _rgb(ImageOps.exif_transpose(image))
    except PhotoError:
        raise
    except Image.UnidentifiedImageError:
        raise PhotoError(f"{where}: not a picture of a kind that is read here") from None
    except Image.DecompressionBombError:
        raise PhotoError(f"{where}: more than {LARGEST:,} pixels; shrink it first") from None
    except Exception as error:  # a damaged file makes Pillow raise nearly anything: RuntimeError, struct.error ...
        raise PhotoError(f"{where}: cannot be read ({error})") from None


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # 16 bits a pixel: Pillow's own conversion clips everything above 255 to white.
        values = np.asarray(image)
        image = Image.fromarray(np.rint(np.clip(values, 0, 65535) / 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating point pixels have no known white; save it as 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def load(
    paths: Sequence[Path],
    *,
    colour_only: bool = True,
    progress: Callable[[Iterable], Iterable] = iter,
    cache: Path | None = None,
) -> tuple[PhotoSet, list[str]]:
    """Read and prepare photos on all cores.

    Args:
        paths: files, as `find_photos` returns them.
        colour_only: leave out grey photos, from which no colours can be learnt.
        progress: wraps the results as they come, to show how far it is.
        cache: folder where prepared sets are kept, and found again by the bytes of their files; None for nowhere.

    Returns:
        The set, and one line for each file that was left out and why.
    """
    names, photos, left_out = [], [], []
    for path, outcome in zip(paths, _prepare_files(paths, progress, cache), strict=True):
        if isinstance(outcome, Refused):
            left_out.append(f"{str(path)!r}: {outcome.reason}")
        elif colour_only and np.linalg.norm(outcome.chroma, axis=-1).max() < FAINTEST:
            left_out.append(f"{str(path)!r}: grey, there is no colour in it to learn from")
        else:
            names.append(str(path))
            photos.append(outcome)
    return _gather(names, photos), left_out


def _prepare_files(
    paths: Sequence[Path], progress: Callable[[Iterable], Iterable], cache: Path | None
) -> list[Prepared | Refused]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        key = set_key(pool.map(_content, paths)) if cache else None
        kept = read_set(cache, key, len(paths)) if cache and key else None
        outcomes = list(progress(pool.map(_prepare_file, paths) if kept is None else kept))
        # Hashed again: a file that was written to meanwhile would be kept under the bytes that it had before.
        if cache and key and kept is None and set_key(pool.map(_content, paths)) == key:
            write_set(cache, key, outcomes)
    return outcomes


def _prepare_file(path: Path) -> Prepared | Refused:
    try:
        return _prepare_square(read_square(path))
    except PhotoError as error:
        cause = error.__context__
        passing = isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno is not None)
        return Refused(str(error).removeprefix(f"{str(path)!r}: "), lasting=not passing)


def _content(path: Path) -> bytes | None:
    """The sha256 of a file's bytes, read a little at a time; None where it cannot be read."""
    if not _is_file(path):
        return None
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return None
