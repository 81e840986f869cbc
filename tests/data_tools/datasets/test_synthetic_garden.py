import numpy as np
import pytest
from numpy.typing import NDArray

from huetune.data_tools.datasets.synthetic_garden import garden, write_garden
from huetune.data_tools.photos.color import PATCH_SIDE, PATCHES_PER_SIDE, chroma, chroma_map, luma

TRAINING = 80
SKY, MEADOW, SOIL = 0, 8, PATCHES_PER_SIDE - 1  # rows of patches that have this material in nearly every scene


@pytest.fixture(scope="module")
def photos() -> NDArray[np.uint8]:
    return garden(100)


@pytest.fixture(scope="module")
def colors(photos: NDArray[np.uint8]) -> NDArray[np.float32]:
    return chroma_map(photos)


@pytest.fixture(scope="module")
def brightness(photos: NDArray[np.uint8]) -> NDArray[np.float32]:
    return box_means(luma(photos))


def box_means(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    return pixels.reshape(len(pixels), PATCHES_PER_SIDE, PATCH_SIDE, PATCHES_PER_SIDE, PATCH_SIDE).mean((2, 4))


def skill(truth: NDArray[np.float32], guess: NDArray[np.float32], one_color: NDArray[np.float32]) -> float:
    return float(1 - np.mean((truth - guess) ** 2) / np.mean((truth - one_color) ** 2))


def test_garden_scenes_are_distinct_rgb_photos(photos):
    assert photos.shape == (100, 112, 112, 3)
    assert photos.dtype == np.uint8
    assert len(np.unique(photos.reshape(100, -1), axis=0)) == 100


def test_garden_is_reproducible_and_begins_with_smaller_one(photos):
    np.testing.assert_array_equal(garden(3), photos[:3])
    np.testing.assert_array_equal(garden(2, seed=5), garden(3, seed=5)[:2])


def test_garden_with_other_seed_differs(photos):
    assert not any(np.array_equal(ours, other) for ours in photos[:4] for other in garden(4, seed=1))


@pytest.mark.parametrize("count", [0, -3])
def test_garden_without_scenes_raises(count):
    with pytest.raises(ValueError, match=f"^count must be at least 1, received {count}$"):
        garden(count)


@pytest.mark.parametrize(("row", "hue"), [(SKY, 212), (MEADOW, 100), (SOIL, 25)])
def test_garden_has_sky_meadow_and_soil_in_place(colors, row, hue):
    x, y = np.median(colors[:, row], axis=(0, 1))
    assert np.rad2deg(np.arctan2(y, x)) % 360 == pytest.approx(hue, abs=15)
    assert np.hypot(x, y) > 0.25


def test_garden_has_every_kind_of_flower(photos):
    x, y = np.moveaxis(chroma(photos[:TRAINING]), -1, 0)
    hue, saturation = np.rad2deg(np.arctan2(y, x)) % 360, np.hypot(x, y)
    for flower, (low, high) in {"rose": (338, 360), "sunflower": (42, 54), "bellflower": (242, 268)}.items():
        assert np.mean((saturation > 0.3) & (hue > low) & (hue < high)) > 0.005, flower
    daisies = (saturation < 0.12) & (luma(photos[:TRAINING]) > 0.5)
    assert np.mean(daisies[:, 24:64]) > 0.02


def test_garden_materials_share_brightness(brightness):
    darkest, brightest = np.quantile(brightness[:, [SKY, MEADOW, SOIL]], [0.1, 0.9], axis=(0, 2))
    assert darkest.max() < brightest.min() - 0.1


def test_garden_brightness_explains_little_of_color(brightness, colors):
    shade = np.digitize(brightness, np.linspace(0, 1, 17)[1:-1])
    one_color = colors[:TRAINING].mean((0, 1, 2))
    known = shade[:TRAINING]
    table = np.stack([colors[:TRAINING][known == k].mean(0) if (known == k).any() else one_color for k in range(16)])
    assert skill(colors[TRAINING:], table[shade[TRAINING:]], one_color) < 0.2


def test_garden_position_and_texture_explain_most_of_color(photos, brightness, colors):
    gray = luma(photos)
    upright = box_means(np.abs(np.diff(gray, axis=2, append=gray[:, :, -1:])))
    level = box_means(np.abs(np.diff(gray, axis=1, append=gray[:, -1:])))
    down = np.broadcast_to(np.linspace(-1, 1, PATCHES_PER_SIDE)[:, None], brightness.shape)
    clues = [down, brightness, np.log(upright + 0.01), np.log(level + 0.01)]
    products = [first * second for first in [*clues, down**2] for second in clues]
    features = np.stack([np.ones_like(down), *clues, *products], axis=-1)
    fit, *_ = np.linalg.lstsq(features[:TRAINING].reshape(-1, features.shape[-1]), colors[:TRAINING].reshape(-1, 2))
    assert skill(colors[TRAINING:], features[TRAINING:] @ fit, colors[:TRAINING].mean((0, 1, 2))) > 0.6


def test_write_garden_that_is_interrupted_leaves_no_folder(tmp_path):
    def two(numbers):
        for number in numbers:
            if number == 2:
                raise KeyboardInterrupt
            yield number

    with pytest.raises(KeyboardInterrupt):
        write_garden(3, tmp_path / "new", progress=two)
    assert not (tmp_path / "new").exists()
