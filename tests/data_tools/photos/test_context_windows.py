"""Context windows, compared with a loop over pixels and with TensorFlow's bilinear resize."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from huetune.data_tools.photos.color import PATCHES_PER_SIDE, PHOTO_SIDE
from huetune.data_tools.photos.context_windows import extract_windows, positions, shrink

COVERS = (112, 56, 28, 14)
CORNERS = (0, 13, 182, 195)


def lumas(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(count).random((count, PHOTO_SIDE, PHOTO_SIDE), np.float32)


def reference_window(photo: NDArray[np.float32], patch: int, covers: int) -> list[list[float]]:
    """Return a window around the patch: 0 outside of the photo, else the mean of the central 2 x 2 of each block."""

    def pixel(y: int, x: int) -> float:
        return float(photo[y, x]) if 0 <= y < 112 and 0 <= x < 112 else 0.0

    row, column = patch // 14, patch % 14
    top, left = (0, 0) if covers == 112 else (row * 8 + 4 - covers // 2, column * 8 + 4 - covers // 2)
    block = covers // 14
    inner = [block // 2 - 1, block // 2] if block > 1 else [0]
    return [
        [
            sum(pixel(top + y * block + j, left + x * block + i) for j in inner for i in inner) / len(inner) ** 2
            for x in range(14)
        ]
        for y in range(14)
    ]


def test_extract_windows_matches_reference_loop() -> None:
    photo = lumas(1)
    found = extract_windows(photo, np.arange(196))
    assert found.shape == (196, 4, 14, 14)
    assert found.dtype == np.float32
    for patch in range(196):
        for window, covers in enumerate(COVERS):
            np.testing.assert_allclose(found[patch, window], reference_window(photo[0], patch, covers), atol=1e-6)


def test_extract_windows_matches_tensorflow_bilinear_resize() -> None:
    import tensorflow as tf

    photo = lumas(1)
    padded = np.pad(photo[0], 64)
    for patch in (0, 6, 90, 101, 195):
        found = extract_windows(photo, np.array([patch]))[0]
        center = [64 + 8 * (patch // 14) + 4, 64 + 8 * (patch % 14) + 4]
        for window, covers in enumerate(COVERS):
            y, x = (64, 64) if covers == 112 else (center[0] - covers // 2, center[1] - covers // 2)
            cut = padded[y : y + covers, x : x + covers, None]
            expected = tf.image.resize(cut, (14, 14), method="bilinear", antialias=False)[..., 0]
            np.testing.assert_allclose(found[window], expected, atol=1e-6)


def test_extract_windows_takes_patches_of_photos_in_any_order() -> None:
    photos = lumas(4)
    patches = np.array([3 * 196 + 17, 5, 196 + 195, 5, 3 * 196])
    found = extract_windows(photos, patches)
    for windows, patch in zip(found, patches, strict=True):
        photo, inside = patch // 196, patch % 196
        np.testing.assert_array_equal(windows, extract_windows(photos[photo : photo + 1], np.array([inside]))[0])


def test_widest_window_is_equal_for_all_patches() -> None:
    found = extract_windows(lumas(1), np.arange(196))[:, 0]
    assert (found == found[0]).all()
    assert found[0].min() > 0


@pytest.mark.parametrize(("window", "outside"), [(1, 6), (2, 5), (3, 3)])
def test_windows_are_zero_outside_of_photo(window: int, outside: int) -> None:
    white = np.ones((1, PHOTO_SIDE, PHOTO_SIDE), np.float32)
    first, *_, last = extract_windows(white, np.array(CORNERS))[:, window]
    inside = np.zeros((14, 14))
    inside[outside:, outside:] = 1
    np.testing.assert_array_equal(first, inside)
    np.testing.assert_array_equal(last, inside[::-1, ::-1])


def test_narrowest_window_has_its_patch_at_center() -> None:
    photo = lumas(1)
    found = extract_windows(photo, np.arange(196))[:, 3, 3:11, 3:11]
    patches = photo[0].reshape(14, 8, 14, 8).swapaxes(1, 2).reshape(196, 8, 8)
    np.testing.assert_array_equal(found, patches)


def test_shrink_returns_documented_sides() -> None:
    assert [photo.shape for photo in shrink(lumas(2))] == [(2, side, side) for side in (14, 40, 66, 118)]


def test_extract_windows_of_no_patches_is_empty() -> None:
    assert extract_windows(lumas(1), np.array([], np.intp)).shape == (0, 4, 14, 14)


def test_extract_windows_of_missing_photo_raises() -> None:
    with pytest.raises(IndexError):
        extract_windows(lumas(2), np.array([2 * 196]))


@pytest.mark.parametrize("values", [2, 7])
def test_positions_span_0_to_1(values: int) -> None:
    found = positions(values)
    assert found.shape == (196, values)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.max(axis=0), np.ones(values))
    np.testing.assert_array_equal(found[:, :2].min(axis=0), [0, 0])
    assert found.min() == 0


def test_positions_of_two_values_are_row_and_column() -> None:
    for patch, (y, x) in enumerate(positions(2)):
        assert y == pytest.approx(patch // 14 / 13)
        assert x == pytest.approx(patch % 14 / 13)


def test_positions_of_seven_values_add_distances() -> None:
    landmarks = [(0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5)]
    largest = [math.sqrt(2)] * 4 + [math.sqrt(0.5)]
    for patch, found in enumerate(positions(7)):
        position = (patch // 14 / 13, patch % 14 / 13)
        distances = [math.dist(position, landmark) / far for landmark, far in zip(landmarks, largest, strict=True)]
        np.testing.assert_allclose(found, [*position, *distances], atol=1e-6)


def test_positions_of_corners_have_exact_distances() -> None:
    side = math.sqrt(0.5)
    expected = [(0, side, side, 1, 1), (side, 0, 1, side, 1), (side, 1, 0, side, 1), (1, side, side, 0, 1)]
    np.testing.assert_allclose(positions(7)[list(CORNERS), 2:], expected, atol=1e-6)


def test_positions_mirror_with_photo() -> None:
    grid = positions(7).reshape(PATCHES_PER_SIDE, PATCHES_PER_SIDE, 7)
    left_to_right = [3, 2, 5, 4, 6]
    top_to_bottom = [4, 5, 2, 3, 6]
    np.testing.assert_allclose(grid[:, ::-1, 2:], grid[..., left_to_right], atol=1e-6)
    np.testing.assert_allclose(grid[::-1, :, 2:], grid[..., top_to_bottom], atol=1e-6)


@pytest.mark.parametrize("values", [0, 1, 3, 6, 8, -2, None])
def test_positions_of_other_counts_raise(values: int) -> None:
    with pytest.raises(ValueError, match=f"2 or 7 values, received {values!r}"):
        positions(values)
