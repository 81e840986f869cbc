"""Photos are found, read and gathered; what becomes of each kind of file is in test_photo_files.py."""

import hashlib
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from huetune.data_tools.common.errors import PhotoError
from huetune.data_tools.photos import dataset as photos
from huetune.data_tools.photos import decoding
from huetune.data_tools.photos.color import chroma_map, gray
from huetune.data_tools.photos.dataset import PhotoSet, check_readable, load, prepare, read_square, read_squares, resize
from huetune.data_tools.photos.discovery import find_photos
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


def test_find_photos_ignores_case_of_suffix_in_subfolders(tmp_path: Path) -> None:
    names = ["z.JPG", "a.jpeg", "deep/er/b.Png", "deep/c.tiff", "été 花.jpg", "x.jpg/inner.webp"]
    for name in [*names, "notes.txt", "jpg", "deep/archive.tgz", "deep/.hidden"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"anything")
    assert find_photos(tmp_path) == sorted(tmp_path / name for name in names)


def flowers(folder: Path) -> Path:
    for name in (
        "roses/1.jpg",
        "roses/2.jpg",
        "tulips/1.jpg",
        "tulips/roses.jpg",
        "tea-roses/1.jpg",
        "roses/wild/1.jpg",
    ):
        path = folder / "flowers" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(len(name)).save(path)
    (folder / "flowers" / "empty").mkdir()
    return folder / "flowers"


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (
            (),
            [
                "roses/1.jpg",
                "roses/2.jpg",
                "roses/wild/1.jpg",
                "tea-roses/1.jpg",
                "tulips/1.jpg",
                "tulips/roses.jpg",
            ],
        ),
        (("roses",), ["roses/1.jpg", "roses/2.jpg"]),
        (("wild", "tulips"), ["roses/wild/1.jpg", "tulips/1.jpg", "tulips/roses.jpg"]),
    ],
)
def test_find_photos_selects_classes_by_folder_name(tmp_path: Path, classes: tuple, expected: list) -> None:
    folder = flowers(tmp_path)
    assert find_photos(folder, classes) == [folder / name for name in expected]
    assert find_photos(tmp_path, classes) == [folder / name for name in expected]


@pytest.mark.parametrize("unknown", ["orchids", "empty", "flowers"])
def test_find_photos_of_unknown_class_lists_classes(tmp_path: Path, unknown: str) -> None:
    message = f"no photos of class '{unknown}' in '.*': it has roses, tea-roses, tulips, wild$"
    with pytest.raises(PhotoError, match=message):
        find_photos(flowers(tmp_path), ["roses", unknown])


@pytest.mark.parametrize("classes", [(), ("roses",)])
def test_find_photos_in_folder_without_photos_names_formats(tmp_path: Path, classes: tuple) -> None:
    (tmp_path / "notes.txt").write_text("no photos today", encoding="utf-8")
    with pytest.raises(PhotoError, match=r"no photos in '.*': looked for JPEG, PNG, .* or AVIF in [01] files?$"):
        find_photos(tmp_path, classes)


@pytest.mark.parametrize("name", ["nowhere", "a.jpg"])
def test_find_photos_outside_of_folder_raises(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.jpg").write_bytes(b"anything")
    with pytest.raises(PhotoError, match=f"no photos: '.*{name}' is not a folder"):
        find_photos(tmp_path / name)


def test_load_keeps_order_and_reports_skipped_files(tmp_path: Path) -> None:
    for index in (3, 1, 2):
        noise(index).save(tmp_path / f"{index}.png")
    noise(0).convert("L").save(tmp_path / "0 gray.png")
    (tmp_path / "4 empty.jpg").write_bytes(b"")
    paths = find_photos(tmp_path)
    photos, left_out = load(paths)
    assert photos.names == tuple(str(tmp_path / f"{index}.png") for index in (1, 2, 3))
    assert left_out == [
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
    photos, left_out = load(find_photos(tmp_path))
    assert len(photos) == 0
    assert len(left_out) == 1
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
    """The channels are multiples of 8, for Pillow rounds some of the values between two steps the other way."""
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
    photos, left_out = load(paths, color_only=False)
    assert left_out == []
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
    """As libwebp and libavif fail without memory, which is then kept for damage."""
    for number in range(4):
        noise(number).save(tmp_path / f"{number}.png")
    asked: list[Path] = []

    def short_of_memory(path: Path, **options: Any) -> Any:
        asked.append(path)
        if path.name == "2.png" and asked.count(path) == 1:
            raise PhotoError(f"{str(path)!r}: cannot be decoded (could not create decoder object)")
        return decoding.open_photo(path, **options)

    monkeypatch.setattr(photos, "open_photo", short_of_memory)
    read, left_out = load(find_photos(tmp_path), cache=tmp_path / "cache")
    assert len(read) == 4 and not left_out and len(asked) == 5


def test_pixel_budget_bounds_pixels_decoded_at_once() -> None:
    budget, most, now, lock = decoding._PixelBudget(100), [0], [0], threading.Lock()

    def take(pixels: int) -> None:
        with budget.reserve(pixels):
            with lock:
                now[0] += pixels
                most[0] = max(most[0], now[0])
            time.sleep(0.01)
            with lock:
                now[0] -= pixels

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(take, [40, 30, 60, 100, 20, 50] * 4))
    assert 60 < most[0] <= 100 and now[0] == 0
    with budget.reserve(1000):
        pass
