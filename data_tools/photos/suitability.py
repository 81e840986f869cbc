"""Whether a photo can teach colors: it must be large enough, and its colors must not follow from its grays."""

import numpy as np
from numpy.typing import NDArray

from huetune.data_tools.photos.color import PATCH_SIDE, PATCHES_PER_SIDE
from huetune.data_tools.photos.prepared_cache import PreparedPhoto
from huetune.data_tools.photos.source import READING

MIN_SIDE = 32
"""Pixels of the shorter side of the smallest photo: tracking pixels and icons have 1 to 24.

The smallest of the 1,140 photos in shared/photos has 70; data sets such as CIFAR have 32.
"""
MIN_CHROMA = 0.02
"""Length of the strongest chroma vector of a photo in color; below it is gray."""
MIN_SPREAD = 2.0
"""Standard deviation, in steps of 255, of the luma of a photo; of one color for everything it is 0, as a JPEG below 1.

The flattest of the 1,140 photos has 17.
"""
MIN_RESIDUAL = 0.007
"""Root mean square of what is left of a photo's chroma map once its grays are known; below it is toned.

Measured on the 1,140 photos in shared/photos: five have 0.0026 to 0.0056, all of them in sepia (7165651120, 6783408274,
4746633946, 5156037859 and 850416050); a dandelion in grass comes next, with 0.0100. Of 285 of them that were toned and
saved as JPEG, the rules together find all faded, cyan and split-toned ones, 97 % of the yellowed, 92 % of those with a
touch of yellow, 82 % in two strong inks, 68 % in the usual sepia, which clips highlights, but 2 % on paper with stains.
Scenes of the synthetic garden have 0.10 and more.
"""
MAX_TONED_CHROMA = 0.6
"""Length of the strongest chroma vector up to which a photo may count as toned: a red rose that fills its photo has one
hue, too, and 0.73 or more. Toned photos have 0.02 to 0.3, in two strong inks up to 0.65."""
MIN_TONED_SHARE = 0.75
"""Share of the patches of a toned photo with at least half of `MIN_CHROMA`: a blue shirt on white has one hue, too, but
the white has none. The five above have 0.79 to 1."""
TONES = 12
"""Grays between which a toned photo's colors are interpolated."""

_POSITIONS = np.arange(256)[:, None] / 255 * (TONES - 1)
_WEIGHTS = np.maximum(0, 1 - np.abs(_POSITIONS - np.arange(TONES))).astype(np.float32)
"""How much of each tone is in each gray, float32 [256, TONES]."""
_PATCHES = np.arange(PATCHES_PER_SIDE * PATCHES_PER_SIDE).reshape(PATCHES_PER_SIDE, 1, PATCHES_PER_SIDE, 1)


def why_unsuitable(photo: PreparedPhoto, reading: int = READING) -> str | None:
    """Return the reason why a model cannot learn colors from a photo, None where it can.

    Args:
        photo: as read from a file.
        reading: 1 minded only that it was gray, see `data_tools.photos.source.READING`.
    """
    lengths = np.linalg.norm(photo.chroma, axis=-1)
    strongest = lengths.max()
    if strongest < MIN_CHROMA:
        return "gray, there is no color in it to learn from"
    if reading == 1:
        return None
    if photo.side < MIN_SIDE:
        return f"too small: its shorter side has {photo.side} pixels, fewer than {MIN_SIDE}"
    chroma = photo.chroma.reshape(-1, 2)
    if photo.gray.std() < MIN_SPREAD and np.linalg.norm(chroma - chroma.mean(axis=0), axis=-1).max() < MIN_CHROMA:
        return "one color all over, there is nothing in it to learn from"
    may_be_toned = strongest <= MAX_TONED_CHROMA and (lengths >= MIN_CHROMA / 2).mean() >= MIN_TONED_SHARE
    if may_be_toned and tone_residual(photo.gray, photo.chroma) < MIN_RESIDUAL:
        return "toned (sepia or yellowed), its colors say no more than its grays"
    return None


def tone_residual(gray: NDArray[np.uint8], chroma: NDArray[np.float32]) -> float:
    """Return how far the colors of a photo are from following from its grays, as they do in a toned one.

    In such a photo each gray has one color, so the chroma of a patch is the mean of the colors of its grays: linear in
    how much it has of each. The best such colors are fitted.

    Args:
        gray: uint8 [112, 112], the luma.
        chroma: float32 [14, 14, 2], the chroma map.

    Returns:
        Root mean square of the distance over all patches, as chroma: 0 to 1.
    """
    places = _PATCHES * 256 + gray.reshape(PATCHES_PER_SIDE, PATCH_SIDE, PATCHES_PER_SIDE, PATCH_SIDE)
    counts = np.bincount(places.ravel(), minlength=PATCHES_PER_SIDE * PATCHES_PER_SIDE * 256).reshape(-1, 256)
    tones = counts @ _WEIGHTS / PATCH_SIDE**2
    seen = chroma.reshape(-1, 2)
    colors, *_ = np.linalg.lstsq(tones, seen, rcond=None)
    return float(np.sqrt(np.square(seen - tones @ colors).sum(axis=1).mean()))
