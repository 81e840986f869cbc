"""A photo is known again after what people do to it, and no other is taken for it."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from data_tools.garden import garden
from data_tools.likeness import NEAR, Marks, from_text, groups, known, to_text
from data_tools.photos import find_photos, load, prepare, read_photo, resize
from data_tools.split import first, split

ROSES = Path(__file__).parents[3] / "shared" / "photos"


def saved_again(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=60)
    return Image.open(file).convert("RGB")


def cut(image: Image.Image) -> Image.Image:
    width, height = image.size
    return image.crop((round(width * 0.02), round(height * 0.02), round(width * 0.98), round(height * 0.98)))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG of quality 60": saved_again,
    "half as large": lambda image: image.resize((image.width // 2, image.height // 2)),
    "20 % brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "20 % darker": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "2 % cut off at every side": cut,
    "cut, brighter, half as large, JPEG of quality 60": lambda image: saved_again(
        ImageEnhance.Brightness(cut(image)).enhance(1.15).resize((image.width // 2, image.height // 2))
    ),
}


@pytest.fixture(scope="module")
def roses() -> list[Image.Image]:
    if not ROSES.is_dir():
        pytest.skip(f"the roses are not at {ROSES}")
    return [Image.fromarray(read_photo(path)) for path in find_photos(ROSES)]


def marks(images: list[Image.Image]) -> Marks:
    return prepare(np.stack([resize(image) for image in images]), [str(number) for number in range(len(images))]).marks


def apart(some: Marks, others: Marks) -> np.ndarray:
    """Bits in which looks differ, int [n, m]."""
    return np.bitwise_count(some[:, None, 1:] ^ others[None, :, 1:]).sum(axis=2, dtype=int)


def test_of_140_roses_only_three_pairs_are_alike_which_are_the_same_photos(roses):
    """Uploaded twice each: looked at by hand."""
    looks = marks(roses)
    bits = apart(looks, looks)[np.triu_indices(len(roses), 1)]
    assert sorted(bits)[:3] == [0, 0, 2] and sorted(bits)[3] >= NEAR + 10
    assert len(set(groups(looks))) == 137


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_all_roses_are_known_again(roses, change):
    looks, again = marks(roses), marks([change(image) for image in roses])
    assert np.diag(apart(again, looks)).max() <= NEAR
    assert known(again, looks).all()


def test_no_scene_of_the_garden_is_taken_for_another():
    scenes = prepare(garden(40), [str(number) for number in range(40)]).marks
    assert len(set(groups(scenes))) == 40
    assert not known(prepare(garden(10, seed=9), [str(number) for number in range(10)]).marks, scenes).any()


def test_photos_without_anything_to_see_are_known_by_their_pixels_alone():
    flat = np.stack([np.full((112, 112, 3), value, np.uint8) for value in (10, 10, 11, 200)])
    numbers = groups(prepare(flat, "abcd").marks)
    assert numbers[0] == numbers[1] and len(set(numbers)) == 3


def test_what_looks_the_same_through_others_is_one():
    row = np.zeros((4, 3), np.uint64)
    row[:, 0] = range(4)
    row[:3, 1] = [0, (1 << NEAR) - 1, (1 << 2 * NEAR) - 1]
    row[3, 1:] = 2**64 - 1
    assert not known(row[:1], row[2:]).any()
    numbers = groups(row)
    assert numbers[0] == numbers[1] == numbers[2] != numbers[3]
    assert groups(row[:0]).shape == (0,) and known(row, row[:0]).tolist() == [False] * 4


def test_marks_are_kept_as_a_word(rng):
    some = rng.integers(0, 2**64, (5, 3), np.uint64)
    np.testing.assert_array_equal(from_text(to_text(some)), some)
    assert len(to_text(some)) == 5 * 32 and from_text("").shape == (0, 3)
    for word in ("?", "AAAA", "é"):
        with pytest.raises(ValueError):
            from_text(word)  # type: ignore[arg-type]


def test_near_copies_are_never_on_both_sides_of_a_split(tmp_path):
    scenes = [Image.fromarray(scene) for scene in garden(12)]
    for number, scene in enumerate(scenes):
        scene.save(tmp_path / f"{number:02}.png")
        CHANGES["2 % cut off at every side"](scene).save(tmp_path / f"{number:02} again.jpg", quality=60)
    photos, _ = load(find_photos(tmp_path))
    pixels_alone = 0
    for seed in range(20):
        parts = split(photos, seed)
        for part in (parts.training, parts.validation, parts.test):
            numbers = [Path(name).name[:2] for name in part.names]
            assert len(numbers) == 2 * len(set(numbers))
        by_pixels = split(photos, seed, near_copies=False)
        pixels_alone += bool(known(by_pixels.validation.marks, by_pixels.training.marks).any())
    assert pixels_alone > 10, "an older huetune's split would have had them apart"
    learnt = first(photos, 4)
    assert not known(learnt.validation.marks, learnt.training.marks).any()
