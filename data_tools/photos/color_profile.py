"""What the numbers of a picture mean as colors: its color profile, and the same picture in sRGB.

A colorizer learns and compares colors, so a photo in Display P3 or Adobe RGB must not be taken for a pale one in sRGB.
"""

import contextlib
import functools
import io
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
"""Colors that sRGB has stay exactly as they are, which training and metrics need; the perceptual intent of a profile
with tables would shift them all, each profile in a way of its own. Others go to the border of sRGB."""
FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.NOCACHE
"""The darkest ink of a CMYK profile becomes black, as Photoshop does it. Without lcms's cache of one pixel threads can
share a transform."""
MAX_EQUAL_STEPS = 2
"""Steps of 255 by which a profile may change a channel and still counts as sRGB, so that the photo keeps its bits.

The sRGB profiles of HP, Google, Apple and Facebook round their curves to within 2; gamma 2.2 differs by up to 6.
"""
MAX_CACHED_TRANSFORMS = 32
"""Transforms that are kept: cameras and phones have one profile each."""
GAMMA_TOLERANCE = 0.05
"""Share by which a PNG's gamma may differ from 1 / 2.2 and stands for sRGB, as in libpng: that is what writers of sRGB
are told to say."""
CHROMATICITY_TOLERANCE = 0.002
"""Difference in x or y within which a PNG's primaries are those of sRGB."""
MAX_CHUNKS = 1000
"""PNG chunks, and boxes of an AVIF, that are looked through."""

Chromaticities = tuple[float, ...]
"""x and y of white, red, green and blue: 8 numbers."""

_D65 = (0.3127, 0.329)
SRGB: Chromaticities = (*_D65, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
ADOBE_RGB: Chromaticities = (*_D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
ADOBE_GAMMA = 563 / 256
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
"""IEC 61966-2-1 as the five numbers of ICC's parametric curve 3; a curve of one number is a gamma."""

_SPACES = {"RGB": b"RGB ", "GRAY": b"GRAY", "CMYK": b"CMYK", "LAB": b"Lab "}
# ITU-T H.273: what PNG's cICP and AVIF's nclx say. 2 is "unspecified".
_PRIMARIES: dict[int, Chromaticities] = {
    1: SRGB,
    2: SRGB,
    4: (0.31, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.6, 0.15, 0.06),
    6: (*_D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    7: (*_D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    9: (*_D65, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    12: (*_D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
}
# A picture in a video's curve (1, 6, 14, 15) is shown with sRGB's, as browsers do.
_CURVES = {**dict.fromkeys((1, 2, 6, 13, 14, 15), SRGB_CURVE), 4: (2.2,), 5: (2.8,), 8: (1.0,)}
_HDR = {16: "PQ", 18: "HLG"}


class HighDynamicRangeError(ValueError):
    """Pixels whose white is far above that of sRGB: how to darken them is a choice, not a conversion."""

    def __init__(self, curve: str):
        super().__init__(f"it is HDR ({curve}), whose brightness sRGB has no room for; save it as SDR first")


class ProfileError(ValueError):
    """A color profile that cannot be used."""


def profile_of(image: Image.Image, file: BinaryIO | None = None) -> bytes | None:
    """Return the ICC profile of a picture, made of what its file says; None where that is sRGB or nothing.

    A PNG's cICP chunk comes before its ICC profile, then its sRGB chunk, then gAMA and cHRM; an AVIF's ICC profile
    before its codes. A camera that saves Adobe RGB without a profile says so in EXIF (R03).

    Args:
        image: as opened by Pillow, not loaded or changed.
        file: that it was opened from; None where its name leads there.

    Raises:
        ProfileError: what the file says makes no sense.
        HighDynamicRangeError: it is of a PQ or HLG picture.
    """
    if image.mode == "LAB":
        return _lab_profile()  # whatever the file says: Lab pixels have one meaning
    gray = image.mode in ("1", "L", "LA", "I", "I;16", "I;16B")
    if image.format == "PNG" and (codes := _first(image, file, _png_chunks, b"cICP")):
        if len(codes) != 4 or codes[2:] != b"\0\1":
            raise ProfileError("its cICP makes no sense")
        return _coded(codes[0], codes[1], gray)
    if "icc_profile" in image.info:
        if profile := image.info["icc_profile"]:
            return profile
        if profile is None:  # so Pillow says it
            raise ProfileError("it is incomplete")
    if image.format == "PNG" and "srgb" not in image.info:
        return _by_gamma(image.info.get("gamma"), image.info.get("chromaticity"), gray)
    if image.format == "AVIF" and (codes := _first(image, file, _avif_boxes, b"nclx")):
        return _coded(int.from_bytes(codes[:2]), int.from_bytes(codes[2:4]), gray)
    if image.format in ("JPEG", "MPO") and _is_adobe_rgb(image):
        return profile_bytes(ADOBE_RGB, (ADOBE_GAMMA,), gray)
    return None


def to_srgb(image: Image.Image, profile: bytes, side: int | None = None) -> Image.Image:
    """Return a picture's colors in sRGB.

    Args:
        image: of mode L, I;16, RGB, CMYK or LAB.
        profile: ICC. One for RGB fits a gray picture, too.
        side: where given, the pixels along each side that it will be shrunk to: a large picture then comes back at
            three times that, for to convert 12 megapixels takes half a second.

    Returns:
        The picture itself where the profile is sRGB, or else one of mode L or RGB.

    Raises:
        ProfileError: the profile is damaged, or of another kind of picture.
    """
    space = _space(profile)
    if space == "RGB" and image.mode in ("L", "I;16"):
        image = eight_bits(image).convert("RGB")
    if space == "GRAY" and image.mode == "RGB" and image.convert("L").convert("RGB").tobytes() == image.tobytes():
        image = image.convert("L")  # a WebP has no gray
    if {"L": "GRAY", "I;16": "GRAY"}.get(image.mode, image.mode.upper()) != space:
        raise ProfileError(f"it is for {space} pixels, not for {image.mode}")
    if space == "GRAY":
        curve = _gray_curve(profile, image.mode)
        return image if curve is None else Image.fromarray(curve[np.asarray(image)])
    if not (transform := _transform(profile, image.mode)):
        return image
    if side and min(image.size) >= 6 * side:
        image = image.resize((3 * side, 3 * side), Image.Resampling.BOX)
    return transform.apply(image)


def srgb_chunk() -> PngImagePlugin.PngInfo:
    """Return what tells viewers that a PNG's pixels are sRGB; 13 bytes, where a profile takes 600."""
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"sRGB", b"\0")
    return chunks


def eight_bits(image: Image.Image) -> Image.Image:
    """Return a gray picture of 16 bits a pixel in 8; another mode as it is. Pillow's own way makes 256 and up white."""
    if image.mode != "I;16":
        return image
    return Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))


@functools.cache
def _lab_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def _space(profile: bytes) -> str:
    """What pixels a profile is for, a key of `_SPACES`; a profile of links between profiles, say, is for none."""
    space = next((name for name, mark in _SPACES.items() if profile[16:20] == mark), None)
    if not space or profile[12:16] not in (b"mntr", b"scnr", b"prtr", b"spac"):
        raise ProfileError("it is damaged, or none of a picture")
    return space


def _opened(profile: bytes) -> ImageCms.ImageCmsProfile:
    try:
        return ImageCms.ImageCmsProfile(io.BytesIO(profile))
    except OSError:
        raise ProfileError("it is damaged") from None


@functools.lru_cache(MAX_CACHED_TRANSFORMS)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """What turns pixels of a mode into sRGB; None where that would change nothing."""
    transform = _made_transform(profile, mode, "RGB", FLAGS)
    if mode != "RGB":
        return transform
    axis = np.linspace(0, 255, 18).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(-1, 3)
    steps = np.concatenate([cube, np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=-1)])[None]
    made = np.asarray(transform.apply(Image.fromarray(steps)))
    return None if np.abs(made.astype(int) - steps).max() <= MAX_EQUAL_STEPS else transform


@functools.lru_cache(MAX_CACHED_TRANSFORMS)
def _gray_curve(profile: bytes, mode: str) -> NDArray[np.uint8] | None:
    """The step of sRGB for each gray, uint8 [256] or [65536]; None where that is the gray itself."""
    steps = np.arange(256, dtype=np.uint8) if mode == "L" else np.arange(65536, dtype=np.uint16)
    # lcms's own curve of a linear gray is wrong by up to 10 of 255; without its optimization by 0.5.
    transform = _made_transform(profile, mode, "L", FLAGS | ImageCms.Flags.NOOPTIMIZE)
    made = np.asarray(transform.apply(Image.fromarray(steps[None])))[0]
    unchanged = np.rint(steps / (steps[-1] / 255))
    return None if np.abs(made - unchanged).max() <= MAX_EQUAL_STEPS else made


def _made_transform(profile: bytes, mode: str, target: str, flags: ImageCms.Flags) -> ImageCms.ImageCmsTransform:
    srgb = _opened(profile_bytes(SRGB, SRGB_CURVE, gray=target == "L"))
    try:
        return ImageCms.ImageCmsTransform(_opened(profile), srgb, mode, target, INTENT, flags=flags)
    except (OSError, ValueError):
        raise ProfileError("it is damaged") from None


def _by_gamma(gamma: float | None, chromaticities: Sequence[float] | None, gray: bool) -> bytes | None:
    """The profile of a PNG's gAMA and cHRM, either of which may be missing; None for sRGB."""
    curve: tuple[float, ...] = SRGB_CURVE
    if gamma is not None:
        if not 0.1 <= gamma <= 10:
            raise ProfileError("its gAMA makes no sense")
        curve = SRGB_CURVE if abs(gamma * 2.2 - 1) <= GAMMA_TOLERANCE else (1 / gamma,)
    where = SRGB if chromaticities is None else tuple(chromaticities)
    if len(where) == 8 and np.abs(np.subtract(where, SRGB)).max() <= CHROMATICITY_TOLERANCE:
        where = SRGB
    return None if (curve, where) == (SRGB_CURVE, SRGB) else profile_bytes(where, curve, gray)


def _coded(primaries: int, transfer: int, gray: bool) -> bytes | None:
    """The profile of two codes of ITU-T H.273; None for sRGB."""
    if transfer in _HDR:
        raise HighDynamicRangeError(_HDR[transfer])
    if primaries not in _PRIMARIES or transfer not in _CURVES:
        raise ProfileError(f"its color codes {primaries} and {transfer} are unknown")
    where, curve = _PRIMARIES[primaries], _CURVES[transfer]
    return None if (where, curve) == (SRGB, SRGB_CURVE) else profile_bytes(where, curve, gray)


def _is_adobe_rgb(image: Image.Image) -> bool:
    try:
        return str(image.getexif().get_ifd(ExifTags.IFD.Interop).get(1)).startswith("R03")
    except Exception:  # damaged EXIF makes Pillow raise nearly anything
        return False


def _first(
    image: Image.Image,
    file: BinaryIO | None,
    parts_of: Callable[[BinaryIO], Iterator[tuple[bytes, bytes]]],
    name: bytes,
) -> bytes | None:
    """The first part of that name in a picture's file; None without, or where there is no file."""
    with contextlib.ExitStack() as stack:
        if file is None:
            if not (path := getattr(image, "filename", "")):
                return None
            file = stack.enter_context(Path(path).open("rb"))
        # Pillow reads on from where it stopped.
        stack.callback(file.seek, file.tell())
        return next((content for found, content in parts_of(file) if found == name), None)


def _png_chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """The small chunks before a PNG's pixels: Pillow drops cICP."""
    file.seek(8)
    for _ in range(MAX_CHUNKS):
        head = file.read(8)
        size, kind = int.from_bytes(head[:4]), head[4:]
        if len(head) < 8 or kind == b"IDAT":
            return
        if size <= 32:
            yield kind, file.read(size)
            file.seek(4, 1)
        else:
            file.seek(size + 4, 1)


def _avif_boxes(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """The color boxes of an AVIF, by their kind: Pillow knows the ICC profile alone."""
    file.seek(0)
    data = file.read()
    inside = {b"meta": 4, b"iprp": 0, b"ipco": 0}
    waiting = [(0, len(data))]
    for _ in range(MAX_CHUNKS):
        if not waiting:
            return
        start, end = waiting.pop()
        size, kind = int.from_bytes(data[start : start + 4]), data[start + 4 : start + 8]
        stop = start + size
        if start + 8 > end or size < 8 or stop > end:
            continue
        waiting.append((stop, end))
        if kind == b"colr":
            yield data[start + 8 : start + 12], data[start + 12 : stop]
        elif kind in inside:
            waiting.append((start + 8 + inside[kind], stop))


def profile_bytes(chromaticities: Chromaticities, curve: tuple[float, ...], gray: bool = False) -> bytes:
    """Return an ICC profile, version 4.

    Args:
        chromaticities: of white and the primaries; of no matter to a gray profile.
        curve: a gamma, or the five numbers of `SRGB_CURVE`.
        gray: of a picture of one channel.

    Raises:
        ProfileError: such primaries span no colors.
    """
    shape = b"para" + struct.pack(">4xHxx", 0 if len(curve) == 1 else 3) + _fixed(curve)
    parts = {b"wtpt": b"XYZ \0\0\0\0" + _fixed(_D50)}
    if gray:
        parts[b"kTRC"] = shape
    else:
        for name, column in zip("rgb", _colorants(chromaticities).T, strict=True):
            parts[f"{name}XYZ".encode()] = b"XYZ \0\0\0\0" + _fixed(column)
            parts[f"{name}TRC".encode()] = shape
    table, body = struct.pack(">I", len(parts)), b""
    for tag, part in parts.items():
        table += tag + struct.pack(">II", 132 + 12 * len(parts) + len(body), len(part))
        body += part.ljust(-len(part) % 4 + len(part), b"\0")
    head = struct.pack(
        ">II4s4s4s4s12x4s28x12s48x",
        128 + len(table) + len(body),
        0,
        b"\x04\x30\0\0",
        b"mntr",
        b"GRAY" if gray else b"RGB ",
        b"XYZ ",
        b"acsp",
        _fixed(_D50),
    )
    return head + table + body


_D50 = (0.9642, 1.0, 0.8249)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def _fixed(numbers: Sequence[float] | NDArray[np.floating]) -> bytes:
    return b"".join(struct.pack(">i", round(float(number) * 65536)) for number in numbers)


def _colorants(chromaticities: Chromaticities) -> NDArray[np.float64]:
    """The columns are X, Y, Z of red, green and blue as seen under D50, float64 [3, 3]."""
    with np.errstate(all="ignore"):
        try:
            x, y = np.array(chromaticities, np.float64).reshape(4, 2).T
            light, *primaries = np.stack([x / y, np.ones(4), (1 - x - y) / y], axis=1)
            columns = np.stack(primaries, axis=1)
            columns = columns * np.linalg.solve(columns, light)
            scale = (_BRADFORD @ _D50) / (_BRADFORD @ light)
            adapted = np.linalg.solve(_BRADFORD, scale[:, None] * (_BRADFORD @ columns))
        except (ValueError, np.linalg.LinAlgError):
            raise ProfileError("its primaries span no colors") from None
    if not (np.isfinite(adapted).all() and np.abs(adapted).max() < 10):
        raise ProfileError("its primaries span no colors")
    return adapted
