"""Conversion of photos to luma and chroma maps, and back.

Hue is never averaged, smoothed or compared as an angle, because an angle jumps from 360 to 0 degrees in the middle of
red. It is always the direction of the vector (s cos h, s sin h), which is continuous there.
"""

import numpy as np
from numpy.typing import NDArray

PHOTO_SIDE = 112
"""Pixels along each side of a photo."""
PATCH_SIDE = 8
"""Pixels along each side of a patch."""
PATCHES_PER_SIDE = PHOTO_SIDE // PATCH_SIDE
"""Patches along each side of a photo."""

LUMA_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of R, G and B in the luma, from ITU-R BT.601."""
SMOOTHING_SIGMA = 2.0
"""Standard deviation, in pixels, of the Gaussian that smooths the borders between patches."""


def luma(photo: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the luma (ITU-R BT.601) of photos.

    Args:
        photo: uint8 [..., 3], RGB in 0..255.

    Returns:
        float32 [...], 0..1.
    """
    return (photo.astype(np.float32) @ LUMA_WEIGHTS) / np.float32(255)


def gray(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the luma of photos, rounded to the 256 levels of a gray photo.

    The model gets luma only in these levels, so it predicts the same for a color photo and for its gray copy.

    Args:
        photo: uint8 [..., 3], RGB in 0..255.

    Returns:
        uint8 [...], 0..255.
    """
    return np.rint(luma(photo) * 255).astype(np.uint8)


def gray_to_luma(gray: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Convert gray levels to luma: uint8 [...], 0..255, to float32 [...], 0..1."""
    return gray.astype(np.float32) / np.float32(255)


def chroma(photo: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the color of each pixel as a vector of hue and saturation.

    Args:
        photo: uint8 [..., 3], RGB in 0..255.

    Returns:
        float32 [..., 2], (s cos h, s sin h), inside the unit disc: h is HSV's hue angle (red 0, green 120, blue 240
        degrees) and s = (max(R, G, B) - min(R, G, B)) / 255.
    """
    red, green, blue = (photo[..., channel].astype(np.float32) for channel in range(3))
    largest = np.maximum(np.maximum(red, green), blue)
    saturation = largest - np.minimum(np.minimum(red, green), blue)
    # Hue in sixths of the circle, times the saturation. Where two channels are largest, both formulas agree.
    sixths = np.asarray(red - green + 4 * saturation)
    np.copyto(sixths, blue - red + 2 * saturation, where=largest == green)
    np.copyto(sixths, green - blue, where=largest == red)
    angle = sixths * np.float32(np.pi / 3) / np.maximum(saturation, 1)
    saturation = saturation * np.float32(1 / 255)
    return np.stack([saturation * np.cos(angle), saturation * np.sin(angle)], axis=-1)


def chroma_map(photo: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the mean color vector of each patch.

    Args:
        photo: uint8 [..., 112, 112, 3], RGB in 0..255.

    Returns:
        float32 [..., 14, 14, 2], inside the unit disc.
    """
    if photo.ndim > 3:
        # One photo at a time, because its planes then stay in the processor's cache: that is most of the speed.
        maps = [chroma_map(one) for one in photo]
        return np.stack(maps) if maps else np.empty((0, PATCHES_PER_SIDE, PATCHES_PER_SIDE, 2), np.float32)
    pixels = chroma(photo).reshape(PATCHES_PER_SIDE, PATCH_SIDE, PATCHES_PER_SIDE, PATCH_SIDE * 2)
    columns = pixels.sum(axis=1).reshape(PATCHES_PER_SIDE, PATCHES_PER_SIDE, PATCH_SIDE, 2)
    return columns.sum(axis=2) / np.float32(PATCH_SIDE * PATCH_SIDE)


def upsample_chroma(chroma_map: NDArray[np.float32]) -> NDArray[np.float32]:
    """Upsample a chroma map to the pixels of a photo and smooth the borders between patches.

    Args:
        chroma_map: float32 [..., 14, 14, 2].

    Returns:
        float32 [..., 112, 112, 2], inside the unit disc if `chroma_map` is.
    """
    # Imported here, because SciPy would delay the start of commands that do not paint.
    from scipy.ndimage import gaussian_filter

    pixels = np.repeat(np.repeat(chroma_map, PATCH_SIDE, axis=-3), PATCH_SIDE, axis=-2)
    return gaussian_filter(pixels, SMOOTHING_SIGMA, axes=(-3, -2), mode="nearest")


def paint(luma: NDArray[np.float32], chroma: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Combine luma and chroma into RGB without changing the luma.

    A color outside of the sRGB gamut at its luma (there is no bright saturated blue) becomes less saturated at the same
    hue. So the luma, which is known, is never changed to fit the color, which is predicted.

    Args:
        luma: float32 [...], 0..1.
        chroma: float32 [..., 2], (s cos h, s sin h).

    Returns:
        uint8 [..., 3], RGB in 0..255, whose luma equals `luma` up to the rounding of three channels.
    """
    saturation = np.linalg.norm(chroma, axis=-1)
    sixths = np.arctan2(chroma[..., 1], chroma[..., 0]) * np.float32(3 / np.pi) % 6
    channels = [np.abs(sixths - 3) - 1, 2 - np.abs(sixths - 2), 2 - np.abs(sixths - 4)]
    color = np.clip(np.stack(channels, axis=-1), 0, 1) * saturation[..., None]
    difference = color - (color @ LUMA_WEIGHTS)[..., None]

    level = np.clip(luma, 0, 1)[..., None]
    headroom = np.where(difference > 0, 1 - level, level)
    scale = np.min(headroom / np.maximum(np.abs(difference), 1e-6), axis=-1, keepdims=True)
    rgb = level + difference * np.minimum(scale, 1)
    return np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8)
