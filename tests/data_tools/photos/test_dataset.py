"""Photo sets, and loading them from files. What each kind of file becomes is tested in test_decoding.py."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from huetune.data_tools.common.errors import PhotoError
from huetune.data_tools.photos import dataset as photos
from huetune.data_tools.photos import decoding
from huetune.data_tools.photos.color import chroma_map, gray
from huetune.data_tools.photos.dataset import (
    READ_AHEAD_FILES,
    PhotoSet,
    check_readable,
    load,
    outcomes,
    prepare,
    read_square,
    read_squares,
    resize,
)
from huetune.data_tools.photos.discovery import find_photos, walk_photos
from huetune.data_tools.photos.prepared_cache import PreparedPhoto
from tests.allowed_skips import SHARED, needs

RED = (208, 48, 32)


def filled(mode: str, color: Any) -> Image.Image:
    return Image.new(mode, (40, 30), color)


def noise(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    width, height = size
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def photo_set(count: int, copies: int = 0) -> PhotoSet:
    photos = np.random.default_rng(0).integers(0, 256, (count, 112, 112, 3), np.uint8)
    photos = np.concatenate([photos, photos[:copies]])
    return prepare(photos, [f"photo {index}" for index in range(len(photos))])


def test_read_square_stretches_photo_that_is_not_square(tmp_path: Path) -> None:
    halves = np.zeros((50, 400, 3), np.uint8)
    halves[:, 200:] = RED
    Image.fromarray(halves).save(tmp_path / "a.png")
    square = read_square(tmp_path / "a.png").astype(int)
    assert square.shape == (112, 112, 3)
    assert square[:, :50].max() <= 8
    assert np.abs(square[:, 62:] - RED).max() <= 8


def test_read_square_keeps_pixels_of_photo_of_model_size(tmp_path: Path) -> None:
    image = noise(0, (112, 112))
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_square(tmp_path / "a.png"), np.asarray(image))


def test_load_keeps_order_and_reports_skipped_files(tmp_path: Path) -> None:
    for index in (3, 1, 2):
        noise(index).save(tmp_path / f"{index}.png")
    noise(0).convert("L").save(tmp_path / "0 gray.png")
    (tmp_path / "4 empty.jpg").write_bytes(b"")
    paths = find_photos(tmp_path)
    photos, skipped = load(paths)
    assert photos.names == tuple(str(tmp_path / f"{index}.png") for index in (1, 2, 3))
    assert skipped == [
        f"{str(tmp_path / '0 gray.png')!r}: gray: there are no colors to learn; use a color version or remove it",
        f"{str(tmp_path / '4 empty.jpg')!r}: {decoding.NOT_A_PHOTO}",
    ]
    squares = np.stack([resize(noise(index)) for index in (1, 2, 3)])
    np.testing.assert_array_equal(photos.gray, gray(squares))
    np.testing.assert_array_equal(photos.chroma, chroma_map(squares))
    assert photos.digests == tuple(hashlib.sha256(square.tobytes()).hexdigest() for square in squares)


def test_read_squares_keeps_order(tmp_path: Path) -> None:
    paths = [tmp_path / f"{index}.png" for index in (3, 1, 2)]
    for index, path in enumerate(paths):
        noise(index).save(path)
    squares = read_squares(paths)
    for index, square in enumerate(squares):
        np.testing.assert_array_equal(square, resize(noise(index)))
    assert read_squares([]).shape == (0, 112, 112, 3)
    with pytest.raises(PhotoError, match=r"no\.png': no such file"):
        read_squares([*paths, tmp_path / "no.png"])


def test_load_progress_counts_each_file_once(tmp_path: Path) -> None:
    noise(1).save(tmp_path / "1.png")
    (tmp_path / "2.png").write_bytes(b"")
    counted = []

    def count(results: Iterable) -> Iterator:
        for result in results:
            counted.append(result)
            yield result

    load(find_photos(tmp_path), progress=count)
    assert len(counted) == 2


def test_load_of_no_usable_photos_is_empty(tmp_path: Path) -> None:
    filled("L", 90).save(tmp_path / "a.png")
    photos, skipped = load(find_photos(tmp_path))
    assert len(photos) == 0
    assert len(skipped) == 1
    assert photos.gray.shape == (0, 112, 112)
    assert photos.chroma.shape == (0, 14, 14, 2)


def test_check_readable_names_first_unreadable_file(tmp_path: Path) -> None:
    noise(0).save(tmp_path / "1.png")
    check_readable([tmp_path / "1.png"])
    (tmp_path / "2.jpg").write_bytes(b"half a photo")
    (tmp_path / "3.jpg").write_bytes(b"")
    with pytest.raises(PhotoError, match=r"2\.jpg"):
        check_readable(find_photos(tmp_path))


def test_photo_and_its_gray_copy_have_equal_luma(tmp_path: Path) -> None:
    """The channels are multiples of 8, because Pillow rounds some values between two gray levels differently."""
    pixels = np.random.default_rng(0).integers(0, 32, (112, 112, 3), np.uint8) * 8
    Image.fromarray(pixels).save(tmp_path / "1 color.png")
    Image.fromarray(pixels).convert("L").save(tmp_path / "2 gray.png")
    photos, _ = load(find_photos(tmp_path), color_only=False)
    np.testing.assert_array_equal(photos.gray[0], photos.gray[1])
    assert photos.gray[0].std() > 10


def test_photo_set_luma_is_gray_from_0_to_1() -> None:
    photos = photo_set(2)
    assert photos.luma.dtype == np.float32
    np.testing.assert_allclose(photos.luma, photos.gray / 255, atol=1e-7)


def test_take_selects_all_arrays_of_photos() -> None:
    photos = photo_set(5)
    taken = photos.take([4, 0])
    assert taken.names == ("photo 4", "photo 0")
    assert taken.digests == (photos.digests[4], photos.digests[0])
    np.testing.assert_array_equal(taken.gray, photos.gray[[4, 0]])
    np.testing.assert_array_equal(taken.chroma, photos.chroma[[4, 0]])


def test_take_of_nothing_is_empty() -> None:
    taken = photo_set(2).take([])
    assert len(taken) == 0
    assert taken.gray.shape == (0, 112, 112)
    assert taken.chroma.shape == (0, 14, 14, 2)


def test_digests_are_equal_if_pixels_are() -> None:
    photos = photo_set(3, copies=1)
    assert photos.digests[0] == photos.digests[3]
    assert len(set(photos.digests)) == 3


def test_digest_depends_on_every_pixel() -> None:
    pixels = np.zeros((3, 112, 112, 3), np.uint8)
    pixels[1, 111, 111, 2] = 1
    pixels[2, 0, 0, 0] = 1
    assert len(set(prepare(pixels, "abc").digests)) == 3


def test_digest_is_equal_across_lossless_formats(tmp_path: Path) -> None:
    for name in ("a.png", "b.bmp", "c.tif"):
        noise(0).save(tmp_path / name)
    photos, _ = load(find_photos(tmp_path))
    assert len(photos) == 3
    assert len(set(photos.digests)) == 1


def test_fingerprint_ignores_order_and_names() -> None:
    photos = photo_set(4)
    renamed = PhotoSet(("a", "b", "c", "d"), photos.gray, photos.chroma, photos.digests)
    assert photos.fingerprint == photos.take([2, 0, 3, 1]).fingerprint == renamed.fingerprint
    assert photos.fingerprint != photos.take([0, 1, 2]).fingerprint
    assert photos.take([0, 1, 2]).fingerprint != photos.take([0, 1, 2, 2]).fingerprint


@needs("photos")
@pytest.mark.parametrize(("folder", "count"), [("roses-train", 120), ("roses-test", 20)])
def test_load_reads_shared_roses(folder: str, count: int) -> None:
    paths = find_photos(SHARED / folder)
    photos, skipped = load(paths, color_only=False)
    assert skipped == []
    assert len(paths) == len(photos) == len(set(photos.digests)) == count
    assert 0.01 < np.linalg.norm(photos.chroma, axis=-1).mean() < 0.6


TONED = "toned (sepia or yellowed): its colors follow from its luma; use an untoned version or remove it"


@needs("photos")
def test_load_skips_gray_and_sepia_roses() -> None:
    photos, skipped = load(find_photos(SHARED, ["roses-train", "roses-test"]))
    reasons = {Path(line.partition("'")[2].partition("'")[0]).name: line.rpartition("': ")[2] for line in skipped}
    assert len(photos) == 137 and reasons == {
        "5892908233_6756199a43.jpg": "gray: there are no colors to learn; use a color version or remove it",
        "5156037859_1673720a11_m.jpg": TONED,
        "850416050_31b3ff7086.jpg": TONED,
    }


def test_load_retries_unreadable_photo_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without memory libwebp and libavif fail as they do for damaged files."""
    for number in range(4):
        noise(number).save(tmp_path / f"{number}.png")
    asked: list[Path] = []

    def short_of_memory(path: Path, **options: Any) -> Any:
        asked.append(path)
        if path.name == "2.png" and asked.count(path) == 1:
            raise PhotoError(f"{str(path)!r}: cannot be decoded (could not create decoder object)")
        return decoding.open_photo(path, **options)

    monkeypatch.setattr(photos, "open_photo", short_of_memory)
    read, skipped = load(find_photos(tmp_path), cache=tmp_path / "cache")
    assert len(read) == 4 and not skipped and len(asked) == 5


def test_outcomes_reads_a_bounded_number_of_files_ahead(tmp_path: Path) -> None:
    noise(0).save(tmp_path / "0.png")
    for number in range(1, 1000):
        (tmp_path / f"{number}.png").hardlink_to(tmp_path / "0.png")
    taken = 0

    def paths() -> Any:
        nonlocal taken
        for path in walk_photos(tmp_path):
            taken += 1
            yield path

    given = 0
    for _, photo in outcomes(paths(), cache=tmp_path / "cache"):
        given += isinstance(photo, PreparedPhoto)
        assert taken - given <= READ_AHEAD_FILES
    assert taken == given == 1000
    assert not (tmp_path / "cache").exists()


def test_load_skips_gray_photos_unless_color_is_not_needed(tmp_path: Path) -> None:
    for name, mode, color in (("a.png", "L", 90), ("b.jpg", "RGB", (90, 90, 90)), ("c.png", "RGB", (92, 90, 90))):
        filled(mode, color).save(tmp_path / name)
    read, skipped = load(find_photos(tmp_path))
    assert len(read) == 0 and read.gray.shape == (0, 112, 112) and read.chroma.shape == (0, 14, 14, 2)
    assert skipped == [
        f"{str(path)!r}: gray: there are no colors to learn; use a color version or remove it"
        for path in sorted(tmp_path.iterdir())
    ]
    read, skipped = load(find_photos(tmp_path), color_only=False)
    assert len(read) == 3 and skipped == [] and np.abs(read.chroma).max() < 0.02


def test_photo_with_one_small_flower_is_in_color(tmp_path: Path) -> None:
    pixels = np.full((112, 112, 3), 120, np.uint8)
    pixels[50:54, 50:54] = 200, 40, 40
    Image.fromarray(pixels).save(tmp_path / "a.png")
    read, skipped = load(find_photos(tmp_path))
    assert (len(read), skipped) == (1, [])
