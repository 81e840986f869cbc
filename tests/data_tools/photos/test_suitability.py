"""What cannot teach colors is skipped with the reason; what can, is not, however few colors it has."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from huetune.data_tools.datasets.synthetic_garden import garden
from huetune.data_tools.photos.color import chroma_map, gray
from huetune.data_tools.photos.dataset import load, prepare, read_photo
from huetune.data_tools.photos.discovery import find_photos
from huetune.data_tools.photos.prepared_cache import PreparedPhoto
from huetune.data_tools.photos.source import Source
from huetune.data_tools.photos.suitability import MIN_SIDE, why_unsuitable
from tests.allowed_skips import SHARED, needs

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def scene() -> Image.Image:
    return Image.fromarray(garden(1)[0]).resize((240, 180), Image.Resampling.BICUBIC)


def tinted(image: Image.Image, dark: Any, light: Any, middle: Any = None) -> Image.Image:
    return ImageOps.colorize(image.convert("L"), dark, light, middle)


def usual_sepia(image: Image.Image) -> Image.Image:
    """Tone with the sepia matrix of most programs, darkened so that no highlights are clipped."""
    matrix = (0.393, 0.769, 0.189, 0, 0.349, 0.686, 0.168, 0, 0.272, 0.534, 0.131, 0)
    return image.point(lambda value: value * 0.7).convert("RGB", matrix)


def scanned(image: Image.Image) -> Image.Image:
    """Return gray ink on yellow paper, with the noise of a scanner."""
    rng = np.random.default_rng(0)
    level = np.asarray(image.convert("L"), np.float64)[..., None] / 255
    pixels = (
        (60, 50, 40)
        + level * (178, 170, 135)
        + rng.normal(0, 4, level.shape)
        + rng.normal(0, 1.5, (*level.shape[:2], 3))
    )
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def placeholder(image: Image.Image) -> Image.Image:
    return Image.new("RGB", image.size, (208, 48, 32))


TONED = "toned (sepia or yellowed): its colors follow from its luma; use an untoned version or remove it"


def too_small(pixels: str) -> str:
    return f"too small: its shorter side has {pixels}, fewer than 32; use a larger version or remove it"


FLAT = "one color all over: there is nothing to learn; remove it"

SKIPPED: dict[str, tuple[Callable[[Image.Image], Image.Image], str]] = {
    "tracking pixel": (
        lambda image: image.resize((1, 1)),
        too_small("1 pixel"),
    ),
    "icon": (
        lambda image: image.resize((16, 16)),
        too_small("16 pixels"),
    ),
    "banner": (
        lambda image: image.resize((400, 31)),
        too_small("31 pixels"),
    ),
    "placeholder": (placeholder, FLAT),
    "pale placeholder": (lambda image: Image.new("RGB", image.size, (230, 220, 200)), FLAT),
    "gray": (lambda image: image.convert("L"), "gray: there are no colors to learn; use a color version or remove it"),
    "sepia": (lambda image: tinted(image, (20, 10, 0), (255, 240, 200)), TONED),
    "usual sepia": (usual_sepia, TONED),
    "yellowed": (lambda image: tinted(image, "black", (255, 235, 180)), TONED),
    "yellowed scan": (scanned, TONED),
    "blueprint": (lambda image: tinted(image, (10, 30, 80), (235, 245, 255)), TONED),
    "split toning": (lambda image: tinted(image, (20, 30, 60), (255, 245, 210), (140, 128, 110)), TONED),
}


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize(("change", "reason"), SKIPPED.values(), ids=SKIPPED)
def test_load_skips_unsuitable_photo_with_reason(
    change: Callable, reason: str, suffix: str, scene: Image.Image, tmp_path: Path
) -> None:
    path = tmp_path / f"a.{suffix}"
    change(scene).save(path)
    for _ in range(2):  # the second time from the cache
        photos, skipped = load([path], cache=tmp_path / "cache")
        assert len(photos) == 0 and skipped == [f"{str(path)!r}: {reason}"]
    assert read_photo(path).ndim == 3, "an unsuitable photo can still be colorized"


def one_hue_on_white(image: Image.Image) -> Image.Image:
    """Return an object of one hue on white, like a shirt in a shop."""
    white = Image.new("RGB", image.size, "white")
    white.paste(tinted(image, (20, 30, 60), (90, 120, 200)), mask=disc(image.size))
    return white


def red_all_over(image: Image.Image) -> Image.Image:
    return tinted(image, (120, 0, 5), (255, 20, 40))


def in_fog(image: Image.Image) -> Image.Image:
    return Image.blend(image, Image.new("RGB", image.size, (200, 205, 212)), 0.75)


def one_colored_thing(image: Image.Image) -> Image.Image:
    gray = image.convert("L").convert("RGB")
    gray.paste(image, mask=disc(image.size))
    return gray


def disc(size: tuple[int, int]) -> Image.Image:
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).ellipse((60, 30, 180, 150), fill=255)
    return mask


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize(
    "change",
    [
        lambda image: image,
        one_hue_on_white,
        red_all_over,
        in_fog,
        one_colored_thing,
        lambda image: image.resize((32, 40)),
    ],
)
def test_photos_of_few_colors_are_suitable(change: Callable, suffix: str, scene: Image.Image, tmp_path: Path) -> None:
    change(scene).save(tmp_path / f"a.{suffix}")
    photos, skipped = load(find_photos(tmp_path))
    assert len(photos) == 1 and not skipped


def test_garden_scenes_are_suitable() -> None:
    for scene in garden(60, seed=3):
        assert why_unsuitable(PreparedPhoto(gray(scene), chroma_map(scene), "")) is None


@needs("photos")
def test_only_six_of_1140_real_photos_are_unsuitable() -> None:
    """Checked by eye: one is gray and five are sepia."""
    _, skipped = load(find_photos(SHARED))
    names = sorted(Path(line.partition("'")[2].partition("'")[0]).name.partition("_")[0] for line in skipped)
    assert names == ["4746633946", "5156037859", "5892908233", "6783408274", "7165651120", "850416050"]


@needs("photos")
def test_toned_real_photos_are_unsuitable() -> None:
    paths = find_photos(SHARED, ["roses-test"])
    for change in (scanned, SKIPPED["sepia"][0], SKIPPED["blueprint"][0], SKIPPED["split toning"][0]):
        for path in paths:
            file = io.BytesIO()
            change(Image.fromarray(read_photo(path))).save(file, "JPEG", quality=85)
            square = np.asarray(Image.open(file).resize((112, 112), Image.Resampling.LANCZOS))
            photo = prepare(square[None], ["a"])
            assert why_unsuitable(PreparedPhoto(photo.gray[0], photo.chroma[0], "")) == TONED, (path, change)


def test_source_of_reader_version_1_skips_only_gray_photos(scene: Image.Image, tmp_path: Path) -> None:
    for name, (change, _) in SKIPPED.items():
        change(scene).save(tmp_path / f"{name}.png")
    record = Source(tmp_path).record
    assert len(Source.of(record).read()[0]) == 0
    del record["reading"]
    assert len(Source.of(record).read()[0]) == len(SKIPPED) - 1
    assert MIN_SIDE == 32
