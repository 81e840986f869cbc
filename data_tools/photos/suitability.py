"""Suitability of photos for learning colors: large enough, and with colors that do not follow from the luma."""

import numpy as np
from numpy.typing import NDArray

from huetune.data_tools.common.plural import counted
from huetune.data_tools.photos.color import PATCH_SIDE, PATCHES_PER_SIDE
from huetune.data_tools.photos.prepared_cache import PreparedPhoto
from huetune.data_tools.photos.versions import READER_VERSION

MIN_SIDE = 32
"""Minimum length in pixels of the shorter side of a photo. Tracking pixels and icons have 1 to 24.

The smallest of the 1,140 photos in shared/photos has 70; data sets such as CIFAR have 32.
"""
MIN_CHROMA = 0.02
"""Length of the longest chroma vector of a photo, below which the photo counts as gray."""
MIN_SPREAD = 2.0
"""Standard deviation of the luma, 0 to 255, below which a photo may count as one color all over.

One color has 0, and below 1 as a JPEG. The lowest of the 1,140 photos in shared/photos is 17.
"""
MIN_RESIDUAL = 0.007
"""Result of `tone_residual` below which a photo counts as toned.

Measured on the 1,140 photos in shared/photos: five have 0.0026 to 0.0056, all of them sepia (7165651120, 6783408274,
4746633946, 5156037859 and 850416050); a dandelion in grass comes next, with 0.0100. Of 285 of them that were toned and
saved as JPEG, the rules together find all faded, cyan and split-toned ones, 97% of the yellowed, 92% of those with a
touch of yellow, 82% in two strong inks, 68% in the usual sepia, which clips highlights, but 2% on paper with stains.
Scenes of the synthetic garden have 0.10 and more.
"""
MAX_TONED_CHROMA = 0.6
"""Length of the longest chroma vector up to which a photo may count as toned.

A red rose that fills its photo has one hue, too, but 0.73 or more. Toned photos have 0.02 to 0.3, in two strong inks up
to 0.65.
"""
MIN_TONED_SHARE = 0.75
"""Share of the patches with a chroma of at least half of `MIN_CHROMA`, below which a photo is not toned.

A blue shirt on white has one hue, too, but the white has none. The five sepia photos above have 0.79 to 1.
"""
TONE_COUNT = 12
"""Gray levels between which the colors of a toned photo are interpolated."""

_POSITIONS = np.arange(256)[:, None] / 255 * (TONE_COUNT - 1)
_WEIGHTS = np.maximum(0, 1 - np.abs(_POSITIONS - np.arange(TONE_COUNT))).astype(np.float32)
"""Weight of each tone in each gray level, float32 [256, TONE_COUNT]."""
_PATCHES = np.arange(PATCHES_PER_SIDE * PATCHES_PER_SIDE).reshape(PATCHES_PER_SIDE, 1, PATCHES_PER_SIDE, 1)


def why_unsuitable(photo: PreparedPhoto, reader_version: int = READER_VERSION) -> str | None:
    """Return why a model cannot learn colors from a photo, and what to do; None if it can.

    Args:
        photo: photo as read from a file.
        reader_version: version 1 checks only for gray photos, see `versions.READER_VERSION`.
    """
    lengths = np.linalg.norm(photo.chroma, axis=-1)
    longest = lengths.max()
    if longest < MIN_CHROMA:
        return "gray: there are no colors to learn; use a color version or remove it"
    if reader_version == 1:
        return None
    if photo.side < MIN_SIDE:
        pixels = counted(photo.side, "pixel")
        return f"too small: its shorter side has {pixels}, fewer than {MIN_SIDE}; use a larger version or remove it"
    chroma = photo.chroma.reshape(-1, 2)
    if photo.gray.std() < MIN_SPREAD and np.linalg.norm(chroma - chroma.mean(axis=0), axis=-1).max() < MIN_CHROMA:
        return "one color all over: there is nothing to learn; remove it"
    may_be_toned = longest <= MAX_TONED_CHROMA and (lengths >= MIN_CHROMA / 2).mean() >= MIN_TONED_SHARE
    if may_be_toned and tone_residual(photo.gray, photo.chroma) < MIN_RESIDUAL:
        return "toned (sepia or yellowed): its colors follow from its luma; use an untoned version or remove it"
    return None


def tone_residual(gray: NDArray[np.uint8], chroma: NDArray[np.float32]) -> float:
    """Return how much of a photo's chroma its luma does not explain, which is close to 0 for a toned photo.

    In a toned photo each gray level has one color, so the chroma of a patch is the mean of the colors of its gray
    levels. The colors are fitted by least squares.

    Args:
        gray: uint8 [112, 112], the luma.
        chroma: float32 [14, 14, 2], the chroma map.

    Returns:
        Root mean square over all patches of the distance between fitted and actual chroma, 0 to 1.
    """
    indices = _PATCHES * 256 + gray.reshape(PATCHES_PER_SIDE, PATCH_SIDE, PATCHES_PER_SIDE, PATCH_SIDE)
    counts = np.bincount(indices.ravel(), minlength=PATCHES_PER_SIDE * PATCHES_PER_SIDE * 256).reshape(-1, 256)
    tones = counts @ _WEIGHTS / PATCH_SIDE**2
    actual = chroma.reshape(-1, 2)
    colors, *_ = np.linalg.lstsq(tones, actual, rcond=None)
    return float(np.sqrt(np.square(actual - tones @ colors).sum(axis=1).mean()))
