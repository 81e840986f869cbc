"""Photos to luma and chroma maps, and back again.

Hue is never averaged, smoothed or compared as an angle: it jumps from 360 to 0 degrees in the middle of red. It always
travels as the vector (s cos h, s sin h), in which red is as smooth as any other color.
"""

import numpy as np
from numpy.typing import NDArray

PHOTO_SIDE = 112
"""Pixels along each side of a photo."""
PATCH_SIDE = 8
"""Pixels along each side of a box."""
PATCHES_PER_SIDE = PHOTO_SIDE // PATCH_SIDE
"""Boxes along each side of a photo."""

LUMA_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)
"""ITU-R BT.601, the weights that turn R, G, B into gray."""
SMOOTHING = 2.0
"""Standard deviation, in pixels, of the Gaussian that hides the borders between boxes."""


def luma(photo: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the grayscale of photos.

    Args:
        photo: uint8 [..., 3], RGB in 0..255.

    Returns:
        float32 [...], 0..1 (ITU-R BT.601).
    """
    return (photo.astype(np.float32) @ LUMA_WEIGHTS) / np.float32(255)


def gray(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the luma of photos in the 256 steps of a gray photo.

    The model sees a color photo only through these: it then predicts the same for a photo and for its gray copy.

    Args:
        photo: uint8 [..., 3], RGB in 0..255.

    Returns:
        uint8 [...], 0..255.
    """
    return np.rint(luma(photo) * 255).astype(np.uint8)


def gray_to_luma(gray: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the luma that 256 steps of gray stand for: uint8 [...] -> float32 [...], 0..1."""
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
    # Sixths of the circle, still times the saturation; where two channels are largest, both rows say the same.
    sixths = np.asarray(red - green + 4 * saturation)
    np.copyto(sixths, blue - red + 2 * saturation, where=largest == green)
    np.copyto(sixths, green - blue, where=largest == red)
    angle = sixths * np.float32(np.pi / 3) / np.maximum(saturation, 1)
    saturation = saturation * np.float32(1 / 255)
    return np.stack([saturation * np.cos(angle), saturation * np.sin(angle)], axis=-1)


def chroma_map(photo: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the mean color vector of each box.

    Args:
        photo: uint8 [..., 112, 112, 3], RGB in 0..255.

    Returns:
        float32 [..., 14, 14, 2], inside the unit disc.
    """
    if photo.ndim > 3:
        # A photo at a time: its planes stay in the processor's cache, and that is most of the speed.
        maps = [chroma_map(one) for one in photo]
        return np.stack(maps) if maps else np.empty((0, PATCHES_PER_SIDE, PATCHES_PER_SIDE, 2), np.float32)
    pixels = chroma(photo).reshape(PATCHES_PER_SIDE, PATCH_SIDE, PATCHES_PER_SIDE, PATCH_SIDE * 2)
    columns = pixels.sum(axis=1).reshape(PATCHES_PER_SIDE, PATCHES_PER_SIDE, PATCH_SIDE, 2)
    return columns.sum(axis=2) / np.float32(PATCH_SIDE * PATCH_SIDE)


def upsample_chroma(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Spread the color of each box over its pixels and smooth the borders between boxes, as vectors.

    Args:
        boxes: float32 [..., 14, 14, 2], a chroma map.

    Returns:
        float32 [..., 112, 112, 2], inside the unit disc where `boxes` is.
    """
    # Only painting needs it, and every start of the command would wait for it.
    from scipy.ndimage import gaussian_filter

    pixels = np.repeat(np.repeat(boxes, PATCH_SIDE, axis=-3), PATCH_SIDE, axis=-2)
    return gaussian_filter(pixels, SMOOTHING, axes=(-3, -2), mode="nearest")


def paint(luma: NDArray[np.float32], pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Lay colors on a grayscale without changing it.

    A color that its luma leaves no room for (a saturated blue that bright does not exist) is made paler at the same
    hue, so that the luma, which is known, is never bent to fit the color, which is guessed.

    Args:
        luma: float32 [...], 0..1.
        pixels: float32 [..., 2], (s cos h, s sin h).

    Returns:
        uint8 [..., 3], RGB in 0..255, whose luma is `luma` to within the rounding of three channels.
    """
    saturation = np.linalg.norm(pixels, axis=-1)
    sixths = np.arctan2(pixels[..., 1], pixels[..., 0]) * np.float32(3 / np.pi) % 6
    channels = [np.abs(sixths - 3) - 1, 2 - np.abs(sixths - 2), 2 - np.abs(sixths - 4)]
    color = np.clip(np.stack(channels, axis=-1), 0, 1) * saturation[..., None]
    difference = color - (color @ LUMA_WEIGHTS)[..., None]

    level = np.clip(luma, 0, 1)[..., None]
    room = np.where(difference > 0, 1 - level, level)
    scale = np.min(room / np.maximum(np.abs(difference), 1e-6), axis=-1, keepdims=True)
    rgb = level + difference * np.minimum(scale, 1)
    return np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8)
