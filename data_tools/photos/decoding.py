"""Files become pictures in RGB: sizes and memory are limited, damage is told in a line, pixels come as they look."""

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
from huetune.data_tools.photos.color_profile import ProfileError, eight_bits, profile_of, to_srgb
from huetune.data_tools.photos.file_types import FORMATS, HEAD_BYTES, OTHER, PHOTO, kind_of, remedy

ROOM = 64
"""Bytes of memory that there are to be for each pixel that is decoded; the worst kind takes 22."""
MAX_PIXELS = 50_000_000
"""Pixels of the largest photo that is decoded."""
MAX_BUFFERED_BYTES = 2**25
"""Size of the largest file that is held in memory while it is decoded: phones make photos of 2 to 15 MB."""

# Pillow warns without saying of which file; what matters is said here in a line of our own.
warnings.filterwarnings("ignore", module=r"PIL\.")


class DecodedPhoto(NamedTuple):
    """A picture as it looks.

    Attributes:
        image: RGB, in sRGB, upright.
        size: its width and height in the file, in pixels.
        note: what was wrong and did no great harm, such as a damaged color profile; mostly empty.
    """

    image: Image.Image
    size: tuple[int, int]
    note: str


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """Open a photo's file to read; one that is not too large is read at once, so that its bytes stay as they are.

    Raises:
        PhotoError: it cannot be read.
    """
    where = repr(str(path))
    if reason := not_a_file(path):
        raise PhotoError(f"{where}: {reason}")
    with contextlib.ExitStack() as stack:
        try:
            # Without a buffer of Python's, which would not notice when a decoder in C has read on.
            file: BinaryIO = stack.enter_context(path.open("rb", buffering=0))
            if os.fstat(file.fileno()).st_size <= MAX_BUFFERED_BYTES:
                file = io.BytesIO(file.read())
        except (OSError, MemoryError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or first_line(error)
            raise PhotoError(f"{where}: cannot be read ({reason})") from None
        yield file


@contextlib.contextmanager
def open_photo(
    path: Path, *, file: BinaryIO | None = None, profiles: bool = True, side: int | None = None
) -> Iterator[DecodedPhoto]:
    """Decode a file. Its pixels count as memory in use until the context is left.

    Args:
        path: of a kind in `data_tools.photos.file_types.FORMATS`.
        file: that file, where `open_file` has opened it; left open.
        profiles: convert to sRGB; without, pixels are taken as they are, see `data_tools.photos.source.READING`.
        side: the pixels along each side that it will be shrunk to, see `to_srgb`.

    Raises:
        PhotoError: the file cannot be read as a photo.
    """
    if file is None:
        with open_file(path) as own, open_photo(path, file=own, profiles=profiles, side=side) as photo:
            yield photo
        return
    where = repr(str(path))
    try:
        file.seek(0)
        with Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                size = f"{image.width} x {image.height} pixels"
                raise PhotoError(f"{where}: {size} are more than {MAX_PIXELS:,}; shrink it first")
            with _room().taken(image.width * image.height):
                yield decode(image, file=file, profiles=profiles, side=side)
    except PhotoError:
        raise
    except Image.UnidentifiedImageError:
        file.seek(0)
        kind = kind_of(path.name, file.read(HEAD_BYTES))
        if kind in (PHOTO, OTHER):
            raise PhotoError(f"{where}: not a picture of a kind that is read here") from None
        raise PhotoError(f"{where}: {kind} is not read; {remedy(kind)} it to JPEG or PNG") from None
    except Image.DecompressionBombError:
        raise PhotoError(f"{where}: more than {MAX_PIXELS:,} pixels; shrink it first") from None
    except Exception as error:  # a damaged file makes Pillow raise nearly anything: RuntimeError, struct.error ...
        reason = (isinstance(error, OSError) and error.strerror) or first_line(error)
        raise PhotoError(f"{where}: cannot be read ({reason})") from None


def not_a_file(path: Path) -> str | None:
    """Return why a path does not lead to a plain file, None where it does: a named pipe would never open."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            return None
        if stat.S_ISDIR(mode):
            os.scandir(path).close()
    except PermissionError as error:
        return f"cannot be read ({error.strerror})"
    except (OSError, ValueError):  # a name that is too long, a loop of links, a null character
        pass
    return "is not there, or not a file"


def decode(
    image: Image.Image, *, file: BinaryIO | None = None, profiles: bool = True, side: int | None = None
) -> DecodedPhoto:
    """Return a picture of Pillow as it looks; for `profiles` and `side` see `opened`, for `file` see `profile_of`.

    Transparent pixels are laid on white, whatever color they hide.

    Raises:
        ValueError: its pixels have no meaning as a photo.
    """
    profile, note = None, ""
    if profiles:
        try:
            profile = profile_of(image, file)
        except ProfileError as error:
            note = _note(error)
    size = image.size
    image, alpha = _without_alpha(_upright(image))
    # Shrunk apart, hidden colors would shine through at the edges.
    side = None if alpha else side
    try:
        if profile:
            image = to_srgb(image, profile, side)
    except ProfileError as error:
        note = _note(error)
    image = _as(eight_bits(image), "RGB")
    if alpha:
        image.putalpha(alpha)
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return DecodedPhoto(image, size, note)


def _note(error: ProfileError) -> str:
    return f"its color profile cannot be used ({error}); its colors are taken for sRGB"


def _without_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """A picture of a mode that `to_srgb` takes, and its alpha channel."""
    if image.mode == "F":
        raise ValueError("floating point pixels have no known white; save it as 8 or 16 bits")
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


class _Room:
    """Pixels that may be in memory at once: with many cores the photos of a phone would not fit in a small container.

    Args:
        pixels: at most; one photo may have as many as it likes.
    """

    def __init__(self, pixels: int):
        self._most = self._free = pixels
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        """Wait until there is room, and have it."""
        pixels = min(pixels, self._most)
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
def _room() -> _Room:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # "max"
            memory = min(memory, int(Path(limit).read_text(encoding="utf-8")))
    return _Room(memory // ROOM)


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF's orientation."""


def _upright(image: Image.Image) -> Image.Image:
    """Turn a picture as its EXIF says; `ImageOps.exif_transpose` also writes that anew, and fails at any odd entry."""
    image.load()  # a TIFF turns itself, and forgets how it lay
    turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation))  # type: ignore[arg-type]  # anything may be there
    return image if turn is None else image.transpose(turn)
