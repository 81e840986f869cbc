"""Color profiles of images, and conversion to sRGB.

A colorizer learns and compares colors, so a photo in Display P3 or Adobe RGB must not be read as a pale one in sRGB.
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
"""Colors inside of the sRGB gamut stay exact, which training and metrics need; others are clipped to its border. The
perceptual intent would shift all colors, differently for each profile with tables."""
FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.NOCACHE
"""With black point compensation the darkest ink of a CMYK profile becomes black, as in Photoshop. Without lcms's
one-pixel cache, threads can share a transform."""
MAX_EQUAL_STEPS = 2
"""Levels of 255 by which a profile may change a channel and still count as sRGB, so that pixels stay unchanged.

The sRGB profiles of HP, Google, Apple and Facebook round their curves to within 2; gamma 2.2 differs by up to 6.
"""
MAX_CACHED_TRANSFORMS = 32
"""Cached transforms. Each camera or phone has one profile."""
GAMMA_TOLERANCE = 0.05
"""Relative difference from 1 / 2.2 within which a PNG's gamma means sRGB, as in libpng. The PNG specification tells
writers of sRGB to store 1 / 2.2."""
CHROMATICITY_TOLERANCE = 0.002
"""Difference in x or y within which a PNG's primaries count as those of sRGB."""
MAX_CHUNKS = 1000
"""PNG chunks or AVIF boxes that are searched in a file."""

Chromaticities = tuple[float, ...]
"""x and y of white, red, green and blue: 8 numbers."""

_D65 = (0.3127, 0.329)
SRGB: Chromaticities = (*_D65, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
ADOBE_RGB: Chromaticities = (*_D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
ADOBE_GAMMA = 563 / 256
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
"""IEC 61966-2-1 as the five numbers of ICC's parametric curve 3; a curve of one number is a gamma."""

_SPACES = {"RGB": b"RGB ", "GRAY": b"GRAY", "CMYK": b"CMYK", "LAB": b"Lab "}
# Codes of ITU-T H.273, which PNG's cICP and AVIF's nclx contain. 2 is "unspecified".
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
# The transfer curves of video (1, 6, 14, 15) are read as that of sRGB, as browsers do.
_CURVES = {**dict.fromkeys((1, 2, 6, 13, 14, 15), SRGB_CURVE), 4: (2.2,), 5: (2.8,), 8: (1.0,)}
_HDR = {16: "PQ", 18: "HLG"}


class UnsupportedPixelsError(ValueError):
    """Pixels that cannot be converted to 8-bit sRGB without a choice, such as where white is."""


class HighDynamicRangeError(UnsupportedPixelsError):
    """Pixels of an HDR photo, whose white is far brighter than that of sRGB. Tone mapping would be a choice."""

    def __init__(self, curve: str):
        super().__init__(f"HDR ({curve}), which is brighter than sRGB can represent; save it as SDR first")


class ProfileError(ValueError):
    """A color profile that cannot be used."""


def profile_of(image: Image.Image, file: BinaryIO | None = None) -> bytes | None:
    """Return the ICC profile of an image, made from the color information in its file; None for sRGB or no information.

    In a PNG the cICP chunk has precedence over the ICC profile, then follow sRGB, gAMA and cHRM. In an AVIF the ICC
    profile has precedence over the nclx codes. A camera that saves Adobe RGB without a profile marks it in EXIF (R03).

    Args:
        image: image as Pillow opened it, not yet loaded or changed.
        file: file that it was opened from; None to open `image.filename`.

    Raises:
        ProfileError: the color information is invalid.
        HighDynamicRangeError: the image has the transfer curve PQ or HLG.
    """
    if image.mode == "LAB":
        return _lab_profile()  # Lab pixels have one meaning, whatever profile the file has
    gray = image.mode in ("1", "L", "LA", "I", "I;16", "I;16B")
    if image.format == "PNG" and (codes := _first(image, file, _png_chunks, b"cICP")):
        if len(codes) != 4 or codes[2:] != b"\0\1":
            raise ProfileError("its cICP chunk is invalid")
        return _coded(codes[0], codes[1], gray)
    if "icc_profile" in image.info:
        if profile := image.info["icc_profile"]:
            return profile
        if profile is None:  # Pillow's value for an incomplete profile
            raise ProfileError("it is incomplete")
    if image.format == "PNG" and "srgb" not in image.info:
        return _by_gamma(image.info.get("gamma"), image.info.get("chromaticity"), gray)
    if image.format == "AVIF" and (codes := _first(image, file, _avif_boxes, b"nclx")):
        return _coded(int.from_bytes(codes[:2]), int.from_bytes(codes[2:4]), gray)
    if image.format in ("JPEG", "MPO") and _is_adobe_rgb(image):
        return profile_bytes(ADOBE_RGB, (ADOBE_GAMMA,), gray)
    return None


def to_srgb(image: Image.Image, profile: bytes, side: int | None = None) -> Image.Image:
    """Convert an image to sRGB.

    Args:
        image: image of mode L, I;16, RGB, CMYK or LAB.
        profile: ICC profile. A profile for RGB also fits a gray image.
        side: pixels along each side to which the caller will shrink the image. A large image is then returned with
            three times that, because converting 12 megapixels takes half a second.

    Returns:
        The image itself if the profile is sRGB, otherwise an image of mode L or RGB.

    Raises:
        ProfileError: the profile is damaged, or for another kind of pixels.
    """
    space = _space(profile)
    if space == "RGB" and image.mode in ("L", "I;16"):
        image = eight_bits(image).convert("RGB")
    if space == "GRAY" and image.mode == "RGB" and image.convert("L").convert("RGB").tobytes() == image.tobytes():
        image = image.convert("L")  # WebP stores gray images as RGB
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
    """Return the chunk that marks the pixels of a PNG as sRGB, with 13 bytes instead of the 600 of a profile."""
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"sRGB", b"\0")
    return chunks


def eight_bits(image: Image.Image) -> Image.Image:
    """Convert a 16-bit gray image to 8 bits; leave other modes as they are. Pillow would clip values above 255."""
    if image.mode != "I;16":
        return image
    return Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))


@functools.cache
def _lab_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def _space(profile: bytes) -> str:
    """Return the color space of a profile, a key of `_SPACES`."""
    space = next((name for name, signature in _SPACES.items() if profile[16:20] == signature), None)
    if not space or profile[12:16] not in (b"mntr", b"scnr", b"prtr", b"spac"):
        raise ProfileError("it is damaged, or not for images")
    return space


def _opened(profile: bytes) -> ImageCms.ImageCmsProfile:
    try:
        return ImageCms.ImageCmsProfile(io.BytesIO(profile))
    except OSError:
        raise ProfileError("it is damaged") from None


@functools.lru_cache(MAX_CACHED_TRANSFORMS)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the transform from a mode to sRGB; None if it would change nothing."""
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
    """Return the sRGB level of each gray level, uint8 [256] or [65536]; None if they are equal."""
    steps = np.arange(256, dtype=np.uint8) if mode == "L" else np.arange(65536, dtype=np.uint16)
    # For linear gray, the optimized curve of lcms is wrong by up to 10 levels of 255, the other by 0.5.
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
    """Return the profile for a PNG's gAMA and cHRM, either of which may be missing; None for sRGB."""
    curve: tuple[float, ...] = SRGB_CURVE
    if gamma is not None:
        if not 0.1 <= gamma <= 10:
            raise ProfileError("its gAMA chunk is invalid")
        curve = SRGB_CURVE if abs(gamma * 2.2 - 1) <= GAMMA_TOLERANCE else (1 / gamma,)
    where = SRGB if chromaticities is None else tuple(chromaticities)
    if len(where) == 8 and np.abs(np.subtract(where, SRGB)).max() <= CHROMATICITY_TOLERANCE:
        where = SRGB
    return None if (curve, where) == (SRGB_CURVE, SRGB) else profile_bytes(where, curve, gray)


def _coded(primaries: int, transfer: int, gray: bool) -> bytes | None:
    """Return the profile for codes of ITU-T H.273; None for sRGB."""
    if transfer in _HDR:
        raise HighDynamicRangeError(_HDR[transfer])
    if primaries not in _PRIMARIES or transfer not in _CURVES:
        raise ProfileError(f"its color codes {primaries} and {transfer} are unknown")
    where, curve = _PRIMARIES[primaries], _CURVES[transfer]
    return None if (where, curve) == (SRGB, SRGB_CURVE) else profile_bytes(where, curve, gray)


def _is_adobe_rgb(image: Image.Image) -> bool:
    try:
        return str(image.getexif().get_ifd(ExifTags.IFD.Interop).get(1)).startswith("R03")
    except Exception:  # for damaged EXIF data Pillow raises many types
        return False


def _first(
    image: Image.Image,
    file: BinaryIO | None,
    parts_of: Callable[[BinaryIO], Iterator[tuple[bytes, bytes]]],
    name: bytes,
) -> bytes | None:
    """Return the first part with that name in an image's file; None if there is none, or no file."""
    with contextlib.ExitStack() as stack:
        if file is None:
            if not (path := getattr(image, "filename", "")):
                return None
            file = stack.enter_context(Path(path).open("rb"))
        # Pillow continues to read where it stopped.
        stack.callback(file.seek, file.tell())
        return next((content for found, content in parts_of(file) if found == name), None)


def _png_chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Yield the small chunks before the pixels of a PNG. Pillow drops cICP."""
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
    """Yield type and content of the color boxes of an AVIF. Pillow reads only the ICC profile."""
    file.seek(0)
    data = file.read()
    header_bytes = {b"meta": 4, b"iprp": 0, b"ipco": 0}
    stack = [(0, len(data))]
    for _ in range(MAX_CHUNKS):
        if not stack:
            return
        start, end = stack.pop()
        size, kind = int.from_bytes(data[start : start + 4]), data[start + 4 : start + 8]
        stop = start + size
        if start + 8 > end or size < 8 or stop > end:
            continue
        stack.append((stop, end))
        if kind == b"colr":
            yield data[start + 8 : start + 12], data[start + 12 : stop]
        elif kind in header_bytes:
            stack.append((start + 8 + header_bytes[kind], stop))


def profile_bytes(chromaticities: Chromaticities, curve: tuple[float, ...], gray: bool = False) -> bytes:
    """Make an ICC profile, version 4.

    Args:
        chromaticities: chromaticities of white and the primaries; not used for a gray profile.
        curve: a gamma, or the five numbers of `SRGB_CURVE`.
        gray: make a profile for one channel.

    Raises:
        ProfileError: the primaries are degenerate.
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
    """Return X, Y, Z of red, green and blue, adapted to D50, as the columns of a float64 [3, 3] matrix."""
    with np.errstate(all="ignore"):
        try:
            x, y = np.array(chromaticities, np.float64).reshape(4, 2).T
            light, *primaries = np.stack([x / y, np.ones(4), (1 - x - y) / y], axis=1)
            columns = np.stack(primaries, axis=1)
            columns = columns * np.linalg.solve(columns, light)
            scale = (_BRADFORD @ _D50) / (_BRADFORD @ light)
            adapted = np.linalg.solve(_BRADFORD, scale[:, None] * (_BRADFORD @ columns))
        except (ValueError, np.linalg.LinAlgError):
            raise ProfileError("its primaries are degenerate") from None
    if not (np.isfinite(adapted).all() and np.abs(adapted).max() < 10):
        raise ProfileError("its primaries are degenerate")
    return adapted
