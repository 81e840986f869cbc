"""The four context windows of the luma that the model gets for each patch.

Each context window has 14 x 14 pixels of a zero-padded copy of the photo that is shrunk by an integer factor. The
windows of neighboring patches are a whole number of pixels apart, so the windows of a photo's 196 patches are never
stored: they are slices of four shrunk photos.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from huetune.data_tools.photos.color import PATCH_SIDE, PATCHES_PER_SIDE, PHOTO_SIDE

WINDOW_SIDE = 14
"""Pixels along each side of a context window."""


class ContextWindow(NamedTuple):
    """Geometry of one of the four context windows.

    Attributes:
        covers: pixels of the photo along each side that the window covers.
        factor: factor by which the photo is shrunk.
        padding: zero pixels on each side of the shrunk photo, so that the windows of the outermost patches fit.
        stride: pixels of the shrunk photo between the windows of neighboring patches; 0 if all share one window.
    """

    covers: int
    factor: int
    padding: int
    stride: int

    @property
    def side(self) -> int:
        """Pixels along each side of the shrunk, padded photo."""
        return PHOTO_SIDE // self.factor + 2 * self.padding


def _context_window(covers: int) -> ContextWindow:
    factor = covers // WINDOW_SIDE
    if covers == PHOTO_SIDE:
        return ContextWindow(covers, factor, padding=0, stride=0)
    return ContextWindow(covers, factor, padding=(covers - PATCH_SIDE) // 2 // factor, stride=PATCH_SIDE // factor)


CONTEXT_WINDOWS = tuple(_context_window(covers) for covers in (112, 56, 28, 14))


def shrink(luma: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Return the shrunk, padded photos of which the context windows are slices.

    Photos are shrunk by bilinear sampling without antialiasing. For an even factor that is exactly the mean of the
    central 2 x 2 pixels of each block.

    Args:
        luma: float32 [n, 112, 112], 0..1.

    Returns:
        One array per context window: float32 [n, side, side] with sides 14, 40, 66 and 118, 0..1, 0 outside of the
        photo.
    """
    photos = []
    for window in CONTEXT_WINDOWS:
        small = luma
        if window.factor > 1:
            center = slice(window.factor // 2 - 1, window.factor // 2 + 1)
            side = PHOTO_SIDE // window.factor
            blocks = luma.reshape(-1, side, window.factor, side, window.factor)
            small = blocks[:, :, center, :, center].mean(axis=(2, 4))
        photos.append(np.pad(small, [(0, 0), (window.padding,) * 2, (window.padding,) * 2]))
    return photos


def extract_windows(luma: NDArray[np.float32], patches: NDArray[np.integer]) -> NDArray[np.float32]:
    """Return the context windows of single patches.

    Args:
        luma: float32 [n, 112, 112], 0..1.
        patches: integers [p], each photo x 196 + row x 14 + column.

    Returns:
        float32 [p, 4, 14, 14], 0..1; windows 0 to 3 cover 112, 56, 28 and 14 pixels.
    """
    photo, patch = np.divmod(patches, PATCHES_PER_SIDE * PATCHES_PER_SIDE)
    needed, photo = np.unique(photo, return_inverse=True)
    row, column = np.divmod(patch, PATCHES_PER_SIDE)
    windows = []
    for window, pixels in zip(CONTEXT_WINDOWS, shrink(luma[needed]), strict=True):
        slices = np.lib.stride_tricks.sliding_window_view(pixels, (WINDOW_SIDE, WINDOW_SIDE), axis=(1, 2))
        windows.append(slices[photo, row * window.stride, column * window.stride])
    return np.stack(windows, axis=1)


def positions(values: int) -> NDArray[np.float32]:
    """Return the positions of the patches of a photo.

    Args:
        values: 2 for (y, x); 7 for (y, x) and the distances to the corners (top left, top right, bottom left, bottom
            right) and to the center, each divided by the largest such distance.

    Returns:
        float32 [196, values], 0..1, patches row by row; the first patch is at (0, 0), the last at (1, 1).

    Raises:
        ValueError: `values` is neither 2 nor 7.
    """
    if values not in (2, 7):
        raise ValueError(f"positions have 2 or 7 values, received {values!r}")
    axis = np.linspace(0, 1, PATCHES_PER_SIDE)
    position = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    if values == 7:
        landmarks = np.array([(0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5)])
        distances = np.linalg.norm(position[:, None] - landmarks, axis=-1)
        position = np.concatenate([position, distances / distances.max(axis=0)], axis=1)
    return position.astype(np.float32)
