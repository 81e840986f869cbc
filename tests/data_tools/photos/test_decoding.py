"""Decoding of photo files: the outcome of each kind of file, of damage, of bombs and of odd names."""

import io
import os
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from huetune.data_tools.common.errors import PhotoError
from huetune.data_tools.photos import dataset, decoding
from huetune.data_tools.photos.dataset import load, read_photo, read_square
from huetune.data_tools.photos.decoding import MAX_PIXELS
from huetune.data_tools.photos.discovery import find_photos

RED = (208, 48, 32)
WHITE = (255, 255, 255)
GRAY = (127, 127, 127)

Picture = NDArray[np.uint8]
Row = tuple[str, Callable[[Path], Any], "Picture | str", int]
"""Name of the file, function that makes it, expected photo or reason for skipping, largest error of a pixel."""


def filled(mode: str, color: Any) -> Image.Image:
    return Image.new(mode, (40, 30), color)


def plain(color: tuple[int, int, int], height: int = 30, width: int = 40) -> Picture:
    return np.broadcast_to(np.array(color, np.uint8), (height, width, 3))


def palette(transparent: bool) -> Image.Image:
    image = Image.new("P", (40, 30), 1)
    image.putpalette([0, 0, 255, *RED])
    if transparent:
        image.info["transparency"] = 1
    return image


def wide(value: int) -> Image.Image:
    return Image.fromarray(np.full((30, 40), value, np.uint16))


def noise(size: tuple[int, int] = (48, 40)) -> Image.Image:
    width, height = size
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def encoded(kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    noise().save(file, kind, **options)
    return file.getvalue()


FRAMES: dict[str, Any] = {"save_all": True, "append_images": [filled("RGB", "blue"), filled("RGB", "lime")]}


def saved(name: str, image: Image.Image, color: tuple[int, int, int], **options: Any) -> Row:
    """Return the row of a file that Pillow writes and that is read as one color."""
    lossy = name.endswith((".jpg", ".webp", ".avif"))
    return name, lambda path: image.save(path, **options), plain(color), 5 if lossy else 0


def refused(reason: str, data: bytes, name: str = "rose.jpg") -> Row:
    return name, lambda path: path.write_bytes(data), reason, 0


NO_FILE = "no such file, or not a regular file; replace or remove it"


def no_file(make: Callable[[Path], Any], reason: str = NO_FILE) -> Row:
    return "rose.jpg", make, reason, 0


def half(kind: str) -> bytes:
    data = encoded(kind)
    return data[: len(data) // 2]


def flipped(kind: str, position: float) -> bytes:
    data = bytearray(encoded(kind))
    data[int(len(data) * position)] ^= 0x10
    return bytes(data)


def without_pixels() -> bytes:
    data = encoded("AVIF")
    start = data.index(b"mdat") + 4
    return data[:start] + bytes(len(data) - start)


def in_floating_point() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((30, 40), 0.5, np.float32)).save(file, "TIFF")
    return file.getvalue()


def with_invalid_exif() -> bytes:
    """Return a JPEG whose EXIF width is a text, so that Pillow cannot write the EXIF data again."""
    exif = with_orientation(6)
    exif[0x010E] = "a rose"
    data = encoded("JPEG", exif=exif)
    assert data.count(b"\x01\x0e\0\2") == 1
    return data.replace(b"\x01\x0e\0\2", b"\x01\0\0\2")


def with_orientation(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def png_of_black(side: int) -> bytes:
    """Return a complete black PNG with one bit per pixel, which is small on disk."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)

    packer = zlib.compressobj(9)
    line = bytes(1 + (side + 7) // 8)
    pixels = b"".join(packer.compress(line) for _ in range(side)) + packer.flush()
    head = side.to_bytes(4) * 2 + bytes([1, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


CORNERS = np.zeros((32, 48, 3), np.uint8)
CORNERS[:16, :16], CORNERS[:16, 16:], CORNERS[16:, :16] = (200, 0, 0), (0, 200, 0), (0, 0, 200)

# Sides that the first row and the first column of the stored image show, from the EXIF standard.
ORIENTATIONS: dict[int, tuple[str, Callable[[Picture], Picture]]] = {
    1: ("top left", lambda up: up),
    2: ("top right", lambda up: up[:, ::-1]),
    3: ("bottom right", lambda up: up[::-1, ::-1]),
    4: ("bottom left", lambda up: up[::-1]),
    5: ("left top", lambda up: up.swapaxes(0, 1)),
    6: ("right top", lambda up: up[:, ::-1].swapaxes(0, 1)),
    7: ("right bottom", lambda up: up[::-1, ::-1].swapaxes(0, 1)),
    8: ("left bottom", lambda up: up[::-1].swapaxes(0, 1)),
}


def turned(suffix: str, orientation: int) -> Row:
    stored = Image.fromarray(np.ascontiguousarray(ORIENTATIONS[orientation][1](CORNERS)))
    exif = with_orientation(orientation)
    return f"a.{suffix}", lambda path: stored.save(path, exif=exif, quality=95), CORNERS, 30


NO_PICTURE = "its content is not JPEG, PNG, WebP, GIF, BMP, TIFF, PPM or AVIF; convert or remove it"

ROWS: dict[str, Row] = {
    # Kinds
    "JPEG": saved("a.jpg", filled("RGB", RED), RED),
    "JPEG of two pictures": saved("a.jpg", filled("RGB", RED), RED, format="MPO", **FRAMES),
    "JPEG of one channel": saved("a.jpg", filled("L", 90), (90, 90, 90)),
    "JPEG in CMYK": saved("a.jpg", filled("CMYK", (47, 207, 223, 0)), RED),
    "PNG": saved("a.png", filled("RGB", RED), RED),
    "PNG under another name": saved("a.jpg", filled("RGB", RED), RED, format="PNG"),
    "PNG, palette": saved("a.png", palette(transparent=False), RED),
    "PNG, palette, transparent": saved("a.png", palette(transparent=True), WHITE),
    "PNG, opaque": saved("a.png", filled("RGBA", (*RED, 255)), RED),
    "PNG, hidden color": saved("a.png", filled("RGBA", (*RED, 0)), WHITE),
    "PNG, half transparent": saved("a.png", filled("RGBA", (0, 0, 0, 128)), GRAY),
    "PNG, one color is transparent": saved("a.png", filled("RGB", RED), WHITE, transparency=RED),
    "PNG, gray": saved("a.png", filled("L", 90), (90, 90, 90)),
    "PNG, gray, opaque": saved("a.png", filled("LA", (90, 255)), (90, 90, 90)),
    "PNG, gray, hidden": saved("a.png", filled("LA", (90, 0)), WHITE),
    "PNG, one bit": saved("a.png", filled("1", 1), WHITE),
    "PNG, 16 bits": saved("a.png", wide(127 * 257), GRAY),
    "PNG, 16 bits, white": saved("a.png", wide(65535), WHITE),
    "PNG, 16 bits, dark": saved("a.png", wide(257), (1, 1, 1)),
    "PNG, animated": saved("a.png", filled("RGB", RED), RED, **FRAMES),
    "TIFF": saved("a.tif", filled("RGB", RED), RED),
    "TIFF, packed": saved("a.tiff", filled("RGB", RED), RED, compression="tiff_lzw"),
    "TIFF, CMYK": saved("a.tif", filled("CMYK", (47, 207, 223, 0)), RED),
    "TIFF, 16 bits": saved("a.tif", wide(127 * 257), GRAY),
    "WebP": saved("a.webp", filled("RGB", RED), RED),
    "WebP, hidden color": saved("a.webp", filled("RGBA", (*RED, 0)), WHITE, lossless=True, exact=True),
    "WebP, animated": saved("a.webp", filled("RGB", RED), RED, **FRAMES),
    "GIF": saved("a.gif", filled("RGB", RED), RED),
    "GIF, animated: its first frame": saved("a.gif", filled("RGB", RED), RED, **FRAMES),
    "BMP": saved("a.bmp", filled("RGB", RED), RED),
    "PPM": saved("a.ppm", filled("RGB", RED), RED),
    "PGM, 16 bits": saved("a.pgm", wide(127 * 257), GRAY),
    "AVIF": saved("a.avif", filled("RGB", RED), RED),
    **{
        f"{suffix}, begins {corner}": turned(suffix, orientation)
        for suffix in ("png", "tif", "webp", "jpg")
        for orientation, (corner, _) in ORIENTATIONS.items()
    },
    # Damage
    "JPEG, cut": refused(
        "cannot be decoded (image file is truncated (115 bytes not processed)); replace or remove it",
        half("JPEG"),
    ),
    "PNG, cut": refused("cannot be decoded (image file is truncated); replace or remove it", half("PNG")),
    "WebP, cut": refused(
        "cannot be decoded (could not create decoder object); replace or remove it",
        half("WEBP"),
    ),
    "TIFF, cut": refused(
        "cannot be decoded (image file is truncated (74 bytes not processed)); replace or remove it",
        half("TIFF"),
    ),
    "JPEG, a flipped bit in its pixels": (
        "a.jpg",
        lambda path: path.write_bytes(flipped("JPEG", 0.8)),
        plain(GRAY, 40, 48),
        255,
    ),
    "PNG, a flipped bit in its pixels": refused(
        "cannot be decoded (broken data stream when reading image file); replace or remove it",
        flipped("PNG", 0.5),
    ),
    "PNG, a flipped bit in its head": refused(NO_PICTURE, flipped("PNG", 0.004)),
    "AVIF without its pixels": refused(
        "cannot be decoded (Failed to decode frame 0: Decoding of color planes failed); replace or remove it",
        without_pixels(),
    ),
    "JPEG, strange camera data": (
        "a.jpg",
        lambda path: path.write_bytes(with_invalid_exif()),
        np.rot90(np.asarray(Image.open(io.BytesIO(encoded("JPEG")))), -1),
        0,
    ),
    "PPM with an escape sequence in its head": refused(
        r"cannot be decoded (invalid literal for int() with base 10: b'\x1b[31m7'); replace or remove it",
        b"P6 \x1b[31m7 7 255\n",
    ),
    # No photos
    "0 bytes": refused(NO_PICTURE, b""),
    "text": refused(NO_PICTURE, b"a rose is a rose is a rose\n" * 9),
    "PostScript": refused(NO_PICTURE, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
    "floating point": refused(
        "floating point pixels have no defined white; save it with 8 or 16 bits", in_floating_point()
    ),
    # Sizes
    "1 x 1": ("a.png", lambda path: Image.new("RGB", (1, 1), RED).save(path), plain(RED, 1, 1), 0),
    "1 x 5000": ("a.png", lambda path: Image.new("RGB", (1, 5000), RED).save(path), plain(RED, 5000, 1), 0),
    "8,000 x 7,000": refused("has 8000 x 7000 pixels, more than 50,000,000; shrink it first", b"P6 8000 7000 255\n"),
    "12,000 x 12,000": refused("has 12000 x 12000 pixels, more than 50,000,000; shrink it first", png_of_black(12_000)),
    "20,000 x 20,000": refused("has more than 50,000,000 pixels; shrink it first", png_of_black(20_000)),
    # No files
    "a link to itself": no_file(lambda path: path.symlink_to(path.name)),
    "a link to nowhere": no_file(lambda path: path.symlink_to("nowhere.jpg")),
    "a link to a folder": no_file(lambda path: path.symlink_to("..")),
    "a pipe": no_file(os.mkfifo),
}


@pytest.mark.parametrize(("name", "make", "expected", "tolerance"), ROWS.values(), ids=ROWS)
def test_load_reads_file_or_reports_reason(
    tmp_path: Path, name: str, make: Callable[[Path], Any], expected: Picture | str, tolerance: int
) -> None:
    path = tmp_path / name
    make(path)
    assert find_photos(tmp_path) == [path]
    if isinstance(expected, str):
        line = f"{str(path)!r}: {expected}"
        with pytest.raises(PhotoError) as caught:
            read_photo(path)
        assert str(caught.value) == line
        assert load([path]) == (AnyPhotoSetOf(0), [line])
        return
    photo = read_photo(path)
    assert (photo.shape, photo.dtype) == (expected.shape, np.uint8)
    # For an error of 30, a JPEG, only the centers of its 8 x 8 blocks are compared: edges blur between them.
    apart = np.abs(photo.astype(int) - expected)
    assert (apart[4::8, 4::8] if tolerance == 30 else apart).max() <= tolerance
    assert read_square(path).shape == (112, 112, 3)
    assert len(load([path], color_only=False)[0]) == 1


class AnyPhotoSetOf:
    """Equals any photo set of that size."""

    def __init__(self, count: int):
        self.count = count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, dataset.PhotoSet) and len(other) == self.count


def test_photo_of_50_million_pixels_is_read(tmp_path: Path) -> None:
    assert MAX_PIXELS == 50_000_000
    path = tmp_path / "a.png"
    Image.new("1", (1000, 10_000)).save(path)
    assert read_photo(path).shape == (10_000, 1000, 3)


def output_of_child(code: str, *words: object) -> str:
    """Return the output of a child process, which must print no warnings."""
    command = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True, timeout=60)
    assert done.stderr == ""
    return done.stdout


LOAD_AND_MEASURE = """
import resource, sys
from pathlib import Path
from huetune.data_tools.photos.dataset import load
rest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
photos, skipped = load([Path(word) for word in sys.argv[1:]])
print(len(photos), len(skipped), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - rest) // 1024)
"""


def test_decompression_bombs_are_refused_before_decoding(tmp_path: Path) -> None:
    """Decoded, the larger one would take 400 MB, and 1.2 GB as RGB."""
    for side in (12_000, 20_000):
        (tmp_path / f"{side}.png").write_bytes(png_of_black(side))
    read, refused, megabytes = map(int, output_of_child(LOAD_AND_MEASURE, *sorted(tmp_path.iterdir())).split())
    assert (read, refused) == (0, 2)
    assert megabytes < 200


LOAD_AS_NOBODY = """
import os, sys
from pathlib import Path
from PIL import Image
from huetune.data_tools.photos.dataset import load
from huetune.data_tools.photos.discovery import find_photos
Image.init()  # before the user changes, because other users may not be allowed to read the decoders
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
photos, skipped = load(find_photos(Path(sys.argv[1])))
print(*skipped, len(photos), sep="\\n")
"""


def test_load_reports_files_without_permission() -> None:
    with tempfile.TemporaryDirectory() as name:  # other users cannot enter pytest's own folders
        folder = Path(name)
        folder.chmod(0o755)
        for photo in ("1.png", "closed/2.png", "listed/3.png", "4.png"):
            (folder / photo).parent.mkdir(exist_ok=True)
            noise().save(folder / photo)
        for photo, mode in (("1.png", 0), ("closed", 0), ("listed", 0o744)):
            (folder / photo).chmod(mode)
        try:
            lines = output_of_child(LOAD_AS_NOBODY, folder).splitlines()
        finally:
            (folder / "closed").chmod(0o755)
    expected = [
        f"{str(folder / photo)!r}: cannot be read (Permission denied); make it readable or remove it"
        for photo in ("1.png", "closed", "listed/3.png")
    ]
    assert lines == [*expected, "1"]


NAMES = {
    "a line end": b"a\nskipped: nothing.jpg",
    "escape sequences": b"\x1b[2J\x1b]0;owned\x07\x1b[31mred.jpg",
    "a carriage return": b"a\rb.jpg",
    "another alphabet": "été 花 🌹.jpg".encode(),
    "letters that run backwards": "a\u202egnp.jpg".encode(),
    "no UTF-8": b"\xff\xfe\x80.jpg",
    "markup": b"[red]a[ or] <script>.jpg",
    "quotes": b'it\'s "it".jpg',
    "an option": b"--help.jpg",
    "255 bytes": b"a" * 251 + b".jpg",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_load_reads_photo_of_any_name(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    noise().save(path, "JPEG")
    assert find_photos(tmp_path) == [path]
    assert load([path])[0].names == (str(path),)
    path.write_bytes(b"no photo")
    _, (line,) = load([path])
    assert line.isprintable() and line == f"{str(path)!r}: {NO_PICTURE}"


def test_pixel_budget_bounds_pixels_decoded_at_once() -> None:
    budget, most, now, lock = decoding._PixelBudget(100), [0], [0], threading.Lock()

    def take(pixels: int) -> None:
        with budget.reserve(pixels):
            with lock:
                now[0] += pixels
                most[0] = max(most[0], now[0])
            time.sleep(0.01)
            with lock:
                now[0] -= pixels

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(take, [40, 30, 60, 100, 20, 50] * 4))
    assert 60 < most[0] <= 100 and now[0] == 0
    with budget.reserve(1000):
        pass
