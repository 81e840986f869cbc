"""The four views of the luma that the model sees around each box.

Each view is a window of 14 x 14 pixels on a zero-padded, evenly shrunk copy of the photo, and the windows of
neighboring boxes lie a whole number of pixels apart. So a photo's 196 contexts are never stored: four small shrunk
photos hold them all, and a window is a slice.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from huetune.data_tools.photos.color import PATCH_SIDE, PATCHES_PER_SIDE, PHOTO_SIDE

WINDOW_SIDE = 14
"""Pixels along each side of a context view."""


class View(NamedTuple):
    """How one of the four views is cut from a photo.

    Attributes:
        covers: pixels of the photo along each side that a window covers.
        factor: how many times the photo is shrunk.
        padding: zero pixels around the shrunk photo, so that the windows of the outermost boxes fit.
        stride: pixels from one box's window to the next, on the shrunk photo; 0 where all boxes share one window.
    """

    covers: int
    factor: int
    padding: int
    stride: int

    @property
    def side(self) -> int:
        """Pixels along each side of the shrunk, padded photo."""
        return PHOTO_SIDE // self.factor + 2 * self.padding


def _view(covers: int) -> View:
    factor = covers // WINDOW_SIDE
    if covers == PHOTO_SIDE:
        return View(covers, factor, padding=0, stride=0)
    return View(covers, factor, padding=(covers - PATCH_SIDE) // 2 // factor, stride=PATCH_SIDE // factor)


CONTEXT_WINDOWS = tuple(_view(covers) for covers in (112, 56, 28, 14))


def shrink(luma: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Return the padded, shrunk photos on which the context views are windows.

    Shrinking is bilinear sampling without antialiasing: at an even factor that is exactly the mean of the central
    2 x 2 pixels of each block.

    Args:
        luma: float32 [n, 112, 112], 0..1.

    Returns:
        One array a view: float32 [n, side, side] with sides 14, 40, 66 and 118, 0..1, 0 outside the photo.
    """
    photos = []
    for view in CONTEXT_WINDOWS:
        small = luma
        if view.factor > 1:
            center = slice(view.factor // 2 - 1, view.factor // 2 + 1)
            side = PHOTO_SIDE // view.factor
            blocks = luma.reshape(-1, side, view.factor, side, view.factor)
            small = blocks[:, :, center, :, center].mean(axis=(2, 4))
        photos.append(np.pad(small, [(0, 0), (view.padding,) * 2, (view.padding,) * 2]))
    return photos


def extract_windows(luma: NDArray[np.float32], boxes: NDArray[np.integer]) -> NDArray[np.float32]:
    """Return the contexts of single boxes.

    Args:
        luma: float32 [n, 112, 112], 0..1.
        boxes: integers [b], each photo x 196 + row x 14 + column.

    Returns:
        float32 [b, 4, 14, 14], 0..1; views 0 to 3 cover 112, 56, 28 and 14 pixels.
    """
    photo, box = np.divmod(boxes, PATCHES_PER_SIDE * PATCHES_PER_SIDE)
    needed, photo = np.unique(photo, return_inverse=True)
    row, column = np.divmod(box, PATCHES_PER_SIDE)
    windows = []
    for view, pixels in zip(CONTEXT_WINDOWS, shrink(luma[needed]), strict=True):
        cut = np.lib.stride_tricks.sliding_window_view(pixels, (WINDOW_SIDE, WINDOW_SIDE), axis=(1, 2))
        windows.append(cut[photo, row * view.stride, column * view.stride])
    return np.stack(windows, axis=1)


def positions(values: int) -> NDArray[np.float32]:
    """Return where each box of a photo lies.

    Args:
        values: 2 for (y, x); 7 for these and the distances to the corners (top left, top right, bottom left, bottom
            right) and to the center, each divided by the largest such distance.

    Returns:
        float32 [196, values], 0..1, boxes row by row; the first box is at (0, 0), the last at (1, 1).

    Raises:
        ValueError: `values` is neither 2 nor 7.
    """
    if values not in (2, 7):
        raise ValueError(f"positions have 2 or 7 values, received {values!r}")
    axis = np.linspace(0, 1, PATCHES_PER_SIDE)
    place = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    if values == 7:
        landmarks = np.array([(0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5)])
        distances = np.linalg.norm(place[:, None] - landmarks, axis=-1)
        place = np.concatenate([place, distances / distances.max(axis=0)], axis=1)
    return place.astype(np.float32)
