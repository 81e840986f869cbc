"""Decoding of photo files to upright sRGB photos, with limits of size and memory and one line per damaged file."""

import contextlib
import functools
import io
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import ExifTags, Image

from huetune.data_tools.common.errors import PhotoError, first_line
from huetune.data_tools.photos.color_profile import (
    ProfileError,
    UnsupportedPixelsError,
    eight_bits,
    profile_of,
    to_srgb,
)
from huetune.data_tools.photos.file_types import FORMATS, HEAD_BYTES, OTHER, PHOTO, READABLE, kind_of, remedy

MEMORY_BYTES_PER_PIXEL = 64
"""Memory of the machine for each pixel that may be decoded at once. The most expensive format takes 22 bytes."""
MAX_PIXELS = 50_000_000
"""Pixels of the largest photo that is decoded."""
MAX_BUFFERED_BYTES = 2**25
"""Size of the largest file that is read into memory before it is decoded. Phones make photos of 2 to 15 MB."""

NOT_A_PHOTO = f"its content is not {READABLE}; convert or remove it"
"""Reason why a file is skipped that has the suffix of a photo."""

# Pillow's warnings do not name the file. Messages that matter are made here.
warnings.filterwarnings("ignore", module=r"PIL\.")


class DecodedPhoto(NamedTuple):
    """An upright photo in sRGB.

    Attributes:
        image: RGB, in sRGB, upright.
        size: width and height of the photo in its file, in pixels.
        note: warning about the file, such as a damaged color profile; empty if there is none.
    """

    image: Image.Image
    size: tuple[int, int]
    note: str


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading. Up to `MAX_BUFFERED_BYTES` are read at once, so that the content cannot change later.

    Raises:
        PhotoError: the file cannot be read.
    """
    where = repr(str(path))
    if reason := why_not_a_file(path):
        raise PhotoError(f"{where}: {reason}")
    with contextlib.ExitStack() as stack:
        try:
            # Unbuffered, because decoders in C read from the file descriptor past Python's buffer.
            file: BinaryIO = stack.enter_context(path.open("rb", buffering=0))
            if os.fstat(file.fileno()).st_size <= MAX_BUFFERED_BYTES:
                file = io.BytesIO(file.read())
        except (OSError, MemoryError) as error:
            raise PhotoError(f"{where}: {_reason(error)}") from None
        yield file


@contextlib.contextmanager
def open_photo(
    path: Path, *, file: BinaryIO | None = None, profiles: bool = True, side: int | None = None
) -> Iterator[DecodedPhoto]:
    """Decode a photo file. Waits while the photos that other threads have open take too much memory.

    Args:
        path: file in one of the formats `file_types.FORMATS`.
        file: the file if `open_file` has opened it; it is left open.
        profiles: convert to sRGB by the color profile; False takes the pixels as they are, as reader version 1 does.
        side: pixels along each side to which the caller will shrink the photo, see `to_srgb`.

    Raises:
        PhotoError: the file cannot be read as a photo.
    """
    if file is None:
        with open_file(path) as opened, open_photo(path, file=opened, profiles=profiles, side=side) as photo:
            yield photo
        return
    where = repr(str(path))
    try:
        file.seek(0)
        with Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                size = f"{image.width} x {image.height} pixels"
                raise PhotoError(f"{where}: has {size}, more than {MAX_PIXELS:,}; shrink it first")
            with _pixel_budget().reserve(image.width * image.height):
                yield decode(image, file=file, profiles=profiles, side=side)
    except PhotoError:
        raise
    except Image.UnidentifiedImageError:
        file.seek(0)
        kind = kind_of(path.name, file.read(HEAD_BYTES))
        if kind in (PHOTO, OTHER):
            raise PhotoError(f"{where}: {NOT_A_PHOTO}") from None
        raise PhotoError(f"{where}: {kind} is not supported; {remedy(kind)} it to JPEG or PNG") from None
    except Image.DecompressionBombError:
        raise PhotoError(f"{where}: has more than {MAX_PIXELS:,} pixels; shrink it first") from None
    except Exception as error:  # for damaged files Pillow raises many types: RuntimeError, struct.error ...
        raise PhotoError(f"{where}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """Return why a file cannot be read or decoded, and what to do."""
    if isinstance(error, UnsupportedPixelsError):
        return str(error)
    if isinstance(error, MemoryError):
        return "not enough memory to decode it; free some memory, or shrink it first"
    if isinstance(error, OSError) and error.strerror:
        remedy = "make it readable or remove it" if isinstance(error, PermissionError) else "try again"
        return f"cannot be read ({error.strerror}); {remedy}"
    return f"cannot be decoded ({first_line(error)}); replace or remove it"


def why_not_a_file(path: Path) -> str | None:
    """Return why a path is no regular file, None if it is one. Opening a named pipe would wait forever."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            return None
        if stat.S_ISDIR(mode):
            os.scandir(path).close()
    except PermissionError as error:
        return _reason(error)
    except (OSError, ValueError):  # a name that is too long, a loop of links, a null character
        pass
    return "no such file, or not a regular file; replace or remove it"


def decode(
    image: Image.Image, *, file: BinaryIO | None = None, profiles: bool = True, side: int | None = None
) -> DecodedPhoto:
    """Turn a Pillow image upright and convert it to sRGB. Transparent pixels are composited on white.

    Args:
        image: image as Pillow opened it.
        file: file that it was opened from, see `profile_of`.
        profiles: see `open_photo`.
        side: see `open_photo`.

    Raises:
        UnsupportedPixelsError: the pixels cannot be converted to 8-bit sRGB, such as those of an HDR photo.
    """
    profile, note = None, ""
    if profiles:
        try:
            profile = profile_of(image, file)
        except ProfileError as error:
            note = _profile_note(error)
    size = image.size
    image, alpha = _without_alpha(_upright(image))
    # Shrunk before compositing, the hidden colors of transparent pixels would bleed into the edges.
    side = None if alpha else side
    try:
        if profile:
            image = to_srgb(image, profile, side)
    except ProfileError as error:
        note = _profile_note(error)
    image = _as(eight_bits(image), "RGB")
    if alpha:
        image.putalpha(alpha)
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return DecodedPhoto(image, size, note)


def _profile_note(error: ProfileError) -> str:
    return f"its color profile cannot be used ({error}); its colors are read as sRGB"


def _without_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Return the image in a mode that `to_srgb` accepts, and its alpha channel."""
    if image.mode == "F":
        raise UnsupportedPixelsError("floating point pixels have no defined white; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        return Image.fromarray(np.clip(np.asarray(image), 0, 65535).astype(np.uint16)), None
    gray = image.mode in ("1", "L", "LA", "La")
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        image = image.getchannel("R") if gray else image.convert("RGB")
    return _as(image, "L" if gray else image.mode if image.mode in ("CMYK", "LAB") else "RGB"), alpha


def _as(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)


class _PixelBudget:
    """Limits the pixels in memory: many cores decoding large photos at once would not fit in a small container.

    Args:
        pixels: largest number of pixels at once. A single larger photo waits for all of them and is then decoded.
    """

    def __init__(self, pixels: int):
        self._total = self._free = pixels
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def reserve(self, pixels: int) -> Iterator[None]:
        """Wait until the pixels are free, and reserve them inside of the context."""
        pixels = min(pixels, self._total)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= pixels)
            self._free -= pixels
        try:
            yield
        finally:
            with self._changed:
                self._free += pixels
                self._changed.notify_all()


@functools.cache
def _pixel_budget() -> _PixelBudget:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # the file holds "max" if there is no limit
            memory = min(memory, int(Path(limit).read_text(encoding="utf-8")))
    return _PixelBudget(memory // MEMORY_BYTES_PER_PIXEL)


_TRANSPOSE_BY_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Operation that turns a photo upright, by the orientation in its EXIF data."""


def _upright(image: Image.Image) -> Image.Image:
    """Turn an image upright. `ImageOps.exif_transpose` also rewrites the EXIF data, and fails at any invalid entry."""
    image.load()  # Pillow turns a TIFF while loading it, and removes the orientation
    operation = _TRANSPOSE_BY_ORIENTATION.get(image.getexif().get(ExifTags.Base.Orientation))  # type: ignore[arg-type]  # the value may have any type
    return image if operation is None else image.transpose(operation)
