"""Near-duplicates: changed photos are recognized, and different photos are told apart."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from huetune.data_tools.datasets.synthetic_garden import garden
from huetune.data_tools.photos import near_duplicates
from huetune.data_tools.photos.dataset import load, prepare, read_photo, resize
from huetune.data_tools.photos.discovery import find_photos
from huetune.data_tools.photos.near_duplicates import (
    HASH_KINDS,
    MAX_DIFFERENT_BITS,
    MAX_DIFFERENT_CENTER_BITS,
    PerceptualHashes,
    from_text,
    group_near_duplicates,
    have_near_duplicate,
    to_text,
)
from huetune.data_tools.photos.split import split, split_first
from tests.allowed_skips import SHARED, skip_without


def recompressed(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=60)
    return Image.open(file).convert("RGB")


def cropped(image: Image.Image) -> Image.Image:
    width, height = image.size
    return image.crop((round(width * 0.02), round(height * 0.02), round(width * 0.98), round(height * 0.98)))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG of quality 60": recompressed,
    "half as large": lambda image: image.resize((image.width // 2, image.height // 2)),
    "20% brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "20% darker": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "2% cropped at every side": cropped,
    "cropped, brighter, half as large, JPEG of quality 60": lambda image: recompressed(
        ImageEnhance.Brightness(cropped(image)).enhance(1.15).resize((image.width // 2, image.height // 2))
    ),
}


@pytest.fixture(scope="module")
def roses() -> list[Image.Image]:
    skip_without("photos")
    return [Image.fromarray(read_photo(path)) for path in find_photos(SHARED, ["roses-train", "roses-test"])]


def hashes_of(images: list[Image.Image]) -> PerceptualHashes:
    return prepare(
        np.stack([resize(image) for image in images]), [str(number) for number in range(len(images))]
    ).perceptual_hashes


def distances(hashes: PerceptualHashes, others: PerceptualHashes) -> tuple[np.ndarray, np.ndarray]:
    """Return the Hamming distances of whole photos and of centers, int [n, m] each."""
    bits = np.bitwise_count(hashes[:, None] ^ others[None]).astype(int)
    return bits[..., 1:3].sum(axis=2), bits[..., 3:].sum(axis=2)


def test_only_the_three_known_pairs_of_roses_are_near_duplicates(roses):
    """Checked by eye: the two photos of each pair are the same picture, uploaded twice."""
    hashes = hashes_of(roses)
    whole, center = (sorted(bits[np.triu_indices(len(roses), 1)]) for bits in distances(hashes, hashes))
    assert whole[:3] == [0, 0, 2] and whole[3] >= MAX_DIFFERENT_BITS + 10
    assert center[2] <= 2 and center[3] > MAX_DIFFERENT_CENTER_BITS
    assert len(set(group_near_duplicates(hashes))) == 137


def passe_partout(image: np.ndarray) -> np.ndarray:
    framed = np.full_like(image, 255)
    framed[20:-20, 20:-20] = np.asarray(Image.fromarray(image).resize((72, 72)))
    return framed


def medallion(image: np.ndarray) -> np.ndarray:
    across = np.linspace(-1.25, 1.25, 112)
    return np.where((np.hypot(across, across[:, None]) < 1)[..., None], image, np.uint8(255))


@pytest.mark.parametrize("frame", [passe_partout, medallion])
def test_roses_in_equal_frames_are_no_near_duplicates(roses, frame):
    framed = np.stack([frame(resize(image)) for image in roses])
    hashes = prepare(framed, [str(number) for number in range(len(framed))]).perceptual_hashes
    assert len(set(group_near_duplicates(hashes[:, :3]))) < 137, "hashes of whole photos are dominated by the frame"
    assert len(set(group_near_duplicates(hashes))) == 137


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changed_roses_are_near_duplicates_of_originals(roses, change):
    hashes, changed = hashes_of(roses), hashes_of([change(image) for image in roses])
    whole, center = (np.diag(bits) for bits in distances(changed, hashes))
    assert whole.max() <= MAX_DIFFERENT_BITS and center.max() <= MAX_DIFFERENT_CENTER_BITS - 8
    assert have_near_duplicate(changed, hashes).all()


def test_garden_scenes_are_no_near_duplicates():
    scenes = prepare(garden(40), [str(number) for number in range(40)]).perceptual_hashes
    assert len(set(group_near_duplicates(scenes))) == 40
    assert not have_near_duplicate(
        prepare(garden(10, seed=9), [str(number) for number in range(10)]).perceptual_hashes, scenes
    ).any()


def test_flat_photos_are_grouped_by_pixels_only():
    flat = np.stack([np.full((112, 112, 3), value, np.uint8) for value in (10, 10, 11, 200)])
    numbers = group_near_duplicates(prepare(flat, "abcd").perceptual_hashes)
    assert numbers[0] == numbers[1] and len(set(numbers)) == 3


def test_center_without_contrast_is_not_compared(rng):
    """Even if the center of the other photo has contrast, because it is brighter."""
    photo = np.array(resize(Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))))
    photo[28:-28, 28:-28] = rng.normal(100, 1.8, (56, 56, 1)).round()
    brighter = (photo * 1.25).clip(0, 255).astype(np.uint8)
    hashes = prepare(np.stack([photo, brighter]), ["1", "2"]).perceptual_hashes
    assert not hashes[0, 3:].any() and hashes[1, 3:].any()
    assert have_near_duplicate(hashes[:1], hashes[1:]) and have_near_duplicate(hashes[1:], hashes[:1])


@pytest.mark.parametrize("block", [1, 3, 2048])
def test_group_near_duplicates_links_chains(block, monkeypatch):
    monkeypatch.setattr(near_duplicates, "_BLOCK", block)
    row = np.zeros((4, 5), np.uint64)
    row[:, 0] = range(4)
    row[:3, 1] = [0, (1 << MAX_DIFFERENT_BITS) - 1, (1 << 2 * MAX_DIFFERENT_BITS) - 1]
    row[3, 1:] = 2**64 - 1
    assert not have_near_duplicate(row[:1], row[2:]).any()
    numbers = group_near_duplicates(row)
    assert numbers[0] == numbers[1] == numbers[2] != numbers[3]
    assert group_near_duplicates(row[:0]).shape == (0,) and have_near_duplicate(row, row[:0]).tolist() == [False] * 4


def test_hashes_survive_text_round_trip(rng):
    for kind, numbers in HASH_KINDS.items():
        hashes = rng.integers(0, 2**64, (5, numbers), np.uint64)
        np.testing.assert_array_equal(from_text(to_text(hashes), kind), hashes)
        assert from_text("", kind).shape == (0, numbers)
    for text in ("?", "AAAA", "é"):
        with pytest.raises(ValueError):
            from_text(text)  # type: ignore[arg-type]


def test_hashes_of_older_kind_are_compared():
    hashes = prepare(garden(6), [str(number) for number in range(6)]).perceptual_hashes
    older = from_text(to_text(hashes[2:4, :3]), "dct-128")
    assert have_near_duplicate(hashes, older).tolist() == [False, False, True, True, False, False]


def test_split_keeps_near_duplicates_together(tmp_path):
    scenes = [Image.fromarray(scene) for scene in garden(12)]
    for number, scene in enumerate(scenes):
        scene.save(tmp_path / f"{number:02}.png")
        CHANGES["2% cropped at every side"](scene).save(tmp_path / f"{number:02} again.jpg", quality=60)
    photos, _ = load(find_photos(tmp_path))
    separated = 0
    for seed in range(20):
        parts = split(photos, seed)
        for part in (parts.training, parts.validation, parts.test):
            numbers = [Path(name).name[:2] for name in part.names]
            assert len(numbers) == 2 * len(set(numbers))
        by_pixels = split(photos, seed, hash_kind=None)
        separated += bool(
            have_near_duplicate(by_pixels.validation.perceptual_hashes, by_pixels.training.perceptual_hashes).any()
        )
    assert separated > 10, "comparing only pixels separates near-duplicates"
    learned = split_first(photos, 4)
    assert not have_near_duplicate(learned.validation.perceptual_hashes, learned.training.perceptual_hashes).any()
