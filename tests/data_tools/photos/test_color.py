"""Color conversion, compared with a loop over pixels, and round trips of every hue."""

import colorsys
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from huetune.data_tools.photos.color import (
    PATCH_SIDE,
    PATCHES_PER_SIDE,
    PHOTO_SIDE,
    chroma,
    chroma_map,
    gray,
    luma,
    paint,
    upsample_chroma,
)

CHANNEL = st.integers(0, 255)
COLOR = st.tuples(CHANNEL, CHANNEL, CHANNEL)


def plain(color: tuple[int, int, int]) -> NDArray[np.uint8]:
    return np.full((PHOTO_SIDE, PHOTO_SIDE, 3), color, np.uint8)


def noise(seed: int, *shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def hue(degrees: float, value: float = 1.0) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(degrees / 360 % 1, 1, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def vector(color: NDArray[np.uint8] | tuple[int, int, int]) -> tuple[float, float]:
    """Return the chroma (s cos h, s sin h) of one pixel by its definition."""
    red, green, blue = (int(value) / 255 for value in color)
    angle = 2 * math.pi * colorsys.rgb_to_hsv(red, green, blue)[0]
    saturation = max(red, green, blue) - min(red, green, blue)
    return saturation * math.cos(angle), saturation * math.sin(angle)


def recolored(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return paint(luma(photo), upsample_chroma(chroma_map(photo)))


def paint_pixel(level: float, wanted: tuple[float, float]) -> NDArray[np.uint8]:
    return paint(np.array(level, np.float32), np.array(wanted, np.float32))


def test_luma_is_weighted_sum_of_channels() -> None:
    photo = noise(0, 9, 7)
    expected = [[(0.299 * int(r) + 0.587 * int(g) + 0.114 * int(b)) / 255 for r, g, b in row] for row in photo]
    assert luma(photo).dtype == np.float32
    np.testing.assert_allclose(luma(photo), expected, atol=1e-6)


def test_gray_is_rounded_luma() -> None:
    photo = noise(1, 9, 7)
    expected = [[round(0.299 * int(r) + 0.587 * int(g) + 0.114 * int(b)) for r, g, b in row] for row in photo]
    assert gray(photo).dtype == np.uint8
    np.testing.assert_array_equal(gray(photo), expected)


def test_gray_of_gray_photo_is_unchanged() -> None:
    steps = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(gray(np.stack([steps] * 3, axis=-1)), steps)


def test_chroma_is_hue_and_saturation_of_each_pixel() -> None:
    photo = noise(2, 40, 40)
    photo[::3] = photo[::3] // 64 * 64  # ties between channels
    expected = [[vector(pixel) for pixel in row] for row in photo]
    np.testing.assert_allclose(chroma(photo), expected, atol=1e-6)


@pytest.mark.parametrize("degrees", range(0, 360, 15))
def test_chroma_of_pure_hues_is_on_unit_circle(degrees: int) -> None:
    angle = math.radians(degrees)
    found = chroma(np.array(hue(degrees), np.uint8))
    np.testing.assert_allclose(found, [math.cos(angle), math.sin(angle)], atol=0.005)


@pytest.mark.parametrize(
    ("color", "expected"),
    [((255, 0, 0), (1, 0)), ((0, 0, 0), (0, 0)), ((128, 128, 128), (0, 0)), ((255, 255, 255), (0, 0))],
    ids=["red", "black", "gray", "white"],
)
def test_chroma_map_of_known_colors(color: tuple[int, int, int], expected: tuple[int, int]) -> None:
    patches = chroma_map(plain(color))
    assert patches.shape == (14, 14, 2)
    assert patches.dtype == np.float32
    np.testing.assert_allclose(patches, np.broadcast_to(expected, (14, 14, 2)), atol=1e-6)


def test_chroma_map_is_mean_vector_of_each_patch() -> None:
    photo = noise(3, PHOTO_SIDE, PHOTO_SIDE)
    expected = np.zeros((14, 14, 2))
    for y in range(112):
        for x in range(112):
            expected[y // 8, x // 8] += np.array(vector(photo[y, x])) / 64
    np.testing.assert_allclose(chroma_map(photo), expected, atol=1e-5)


def test_color_functions_treat_batch_like_single_photos() -> None:
    photos = noise(4, 3, PHOTO_SIDE, PHOTO_SIDE)
    together = upsample_chroma(chroma_map(photos))
    for index, photo in enumerate(photos):
        np.testing.assert_allclose(together[index], upsample_chroma(chroma_map(photo)), atol=1e-6)
        np.testing.assert_array_equal(paint(luma(photos), together)[index], paint(luma(photo), together[index]))


@settings(deadline=None)
@given(st.lists(COLOR, min_size=1, max_size=64), st.integers(0, 2**32 - 1))
def test_chroma_map_stays_in_unit_disc(palette: list[tuple[int, int, int]], seed: int) -> None:
    picks = np.random.default_rng(seed).integers(0, len(palette), (PHOTO_SIDE, PHOTO_SIDE))
    patches = chroma_map(np.array(palette, np.uint8)[picks])
    assert np.linalg.norm(patches, axis=-1).max() <= 1 + 1e-5
    assert np.linalg.norm(upsample_chroma(patches), axis=-1).max() <= 1 + 1e-5


def test_upsample_chroma_keeps_saturated_patches_in_disc() -> None:
    angles = np.random.default_rng(5).uniform(0, 2 * np.pi, (PATCHES_PER_SIDE, PATCHES_PER_SIDE)).astype(np.float32)
    patches = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    assert np.linalg.norm(upsample_chroma(patches), axis=-1).max() <= 1 + 1e-5


def test_upsample_chroma_of_one_patch_reaches_only_neighbors() -> None:
    patches = np.zeros((PATCHES_PER_SIDE, PATCHES_PER_SIDE, 2), np.float32)
    patches[3, 9] = 0.6, -0.3
    pixels = upsample_chroma(patches)
    assert pixels.shape == (112, 112, 2)
    lit = np.abs(pixels).sum(axis=-1)
    assert np.unravel_index(lit.argmax(), lit.shape) in [(y, x) for y in (27, 28) for x in (75, 76)]
    assert lit[24 - PATCH_SIDE - 1 :: -1].max() == lit[32 + PATCH_SIDE :].max() == 0
    assert lit[:, 72 - PATCH_SIDE - 1 :: -1].max() == lit[:, 80 + PATCH_SIDE :].max() == 0
    np.testing.assert_allclose(pixels.sum(axis=(0, 1)), np.array([0.6, -0.3]) * PATCH_SIDE * PATCH_SIDE, rtol=1e-3)


def test_upsample_chroma_smooths_by_gaussian_of_two_pixels() -> None:
    patches = np.zeros((PATCHES_PER_SIDE, PATCHES_PER_SIDE, 2), np.float32)
    patches[:, 7:] = 1, 0
    edge = upsample_chroma(patches)[50, :, 0]
    # The edge lies between pixels 55 and 56: smoothed, it is the cumulative distribution of the Gaussian.
    expected = [(1 + math.erf((x - 55.5) / 2 / math.sqrt(2))) / 2 for x in range(112)]
    np.testing.assert_allclose(edge, expected, atol=0.01)


@settings(deadline=None)
@given(COLOR)
def test_photo_of_one_color_survives_round_trip(color: tuple[int, int, int]) -> None:
    photo = plain(color)
    difference = recolored(photo).astype(int) - photo
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("value", [0.3, 1.0])
def test_hue_wheel_survives_round_trip(value: float) -> None:
    wheel = np.array([[hue(360 * (14 * row + column) / 196, value) for column in range(14)] for row in range(14)])
    photo = wheel.repeat(8, axis=0).repeat(8, axis=1).astype(np.uint8)
    centers = recolored(photo)[4::8, 4::8].astype(int)
    # Neighboring patches differ by 1.8 degrees, rows by 26: at the borders only rows mix noticeably.
    found, expected = chroma(centers.astype(np.uint8)), chroma(wheel.astype(np.uint8))
    angles = np.arctan2(found[..., 1], found[..., 0]) - np.arctan2(expected[..., 1], expected[..., 0])
    assert np.abs((np.degrees(angles) + 180) % 360 - 180).max() < 10


def _check_red(photo: NDArray[np.uint8]) -> None:
    red, green, blue = np.moveaxis(recolored(photo).astype(int), -1, 0)
    assert (red - np.maximum(green, blue)).min() > 100


def test_reds_on_both_sides_of_0_degrees_in_a_patch_stay_red() -> None:
    stripes = np.arange(PHOTO_SIDE) % 2 == 0
    photo = np.where(stripes[:, None], hue(350, 0.8), hue(10, 0.8)).astype(np.uint8)
    photo = np.broadcast_to(photo, (PHOTO_SIDE, PHOTO_SIDE, 3))
    patches = chroma_map(photo)
    assert (patches[..., 0] > 0.7).all()
    assert np.abs(patches[..., 1]).max() < 0.01
    _check_red(photo)


def test_reds_on_both_sides_of_0_degrees_across_patches_stay_red() -> None:
    board = (np.add.outer(np.arange(PHOTO_SIDE) // PATCH_SIDE, np.arange(PHOTO_SIDE) // PATCH_SIDE) % 2 == 0)[..., None]
    photo = np.where(board, hue(350, 0.8), hue(10, 0.8)).astype(np.uint8)
    _check_red(photo)


@settings(deadline=None)
@given(COLOR, CHANNEL)
def test_paint_keeps_luma_for_any_color(color: tuple[int, int, int], level: int) -> None:
    """For any color at any luma, though most are out of gamut there."""
    painted = paint_pixel(level / 255, vector(color))
    assert painted.shape == (3,)
    assert abs(luma(painted) - level / 255) <= 0.51 / 255  # each channel is rounded by half a step at most


def test_paint_keeps_luma_of_photo() -> None:
    known = luma(noise(6, PHOTO_SIDE, PHOTO_SIDE))
    angles = np.random.default_rng(7).uniform(0, 2 * np.pi, (PATCHES_PER_SIDE, PATCHES_PER_SIDE)).astype(np.float32)
    painted = paint(known, upsample_chroma(np.stack([np.cos(angles), np.sin(angles)], axis=-1)))
    assert np.abs(luma(painted) - known).max() <= 1 / 255


@settings(deadline=None)
@given(COLOR, CHANNEL)
def test_paint_desaturates_out_of_gamut_color_at_same_hue(color: tuple[int, int, int], level: int) -> None:
    wanted = np.array(vector(color))
    found = chroma(paint_pixel(level / 255, vector(color)))
    length = np.hypot(*wanted)
    if length == 0:
        assert np.hypot(*found) == 0
        return
    along, across = wanted @ found / length, (wanted[0] * found[1] - wanted[1] * found[0]) / length
    rounding = 3 / 255
    assert -rounding <= along <= length + rounding
    assert abs(across) <= rounding


@settings(deadline=None)
@given(COLOR)
def test_paint_desaturates_no_more_than_needed(color: tuple[int, int, int]) -> None:
    """If a color is out of gamut, the result is on the border of the gamut: one channel is at its limit."""
    painted = paint_pixel(0.8, vector(color))
    full = np.hypot(*vector(color)) - np.hypot(*chroma(painted))
    assert full <= 3 / 255 or painted.max() == 255 or painted.min() == 0


def test_paint_leaves_black_and_white_uncolored() -> None:
    np.testing.assert_array_equal(paint_pixel(0, (1, 0)), [0, 0, 0])
    np.testing.assert_array_equal(paint_pixel(1, (1, 0)), [255, 255, 255])
