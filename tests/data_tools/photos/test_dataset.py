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


def test_a_photo_that_is_no_square_is_stretched_to_one(tmp_path: Path) -> None:
    halves = np.zeros((50, 400, 3), np.uint8)
    halves[:, 200:] = RED
    Image.fromarray(halves).save(tmp_path / "a.png")
    square = read_square(tmp_path / "a.png").astype(int)
    assert square.shape == (112, 112, 3)
    assert square[:, :50].max() <= 8
    assert np.abs(square[:, 62:] - RED).max() <= 8


def test_a_photo_of_the_models_size_keeps_its_pixels(tmp_path: Path) -> None:
    image = noise(0, (112, 112))
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_square(tmp_path / "a.png"), np.asarray(image))


def test_photos_are_found_in_all_subfolders_whatever_the_case_of_their_ending(tmp_path: Path) -> None:
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
def test_classes_are_the_folders_that_hold_the_photos(tmp_path: Path, classes: tuple, expected: list) -> None:
    folder = flowers(tmp_path)
    assert find_photos(folder, classes) == [folder / name for name in expected]
    assert find_photos(tmp_path, classes) == [folder / name for name in expected]


@pytest.mark.parametrize("unknown", ["orchids", "empty", "flowers"])
def test_an_unknown_class_is_answered_with_those_there_are(tmp_path: Path, unknown: str) -> None:
    message = f"no photos of class '{unknown}' in '.*': it has roses, tea-roses, tulips, wild$"
    with pytest.raises(PhotoError, match=message):
        find_photos(flowers(tmp_path), ["roses", unknown])


@pytest.mark.parametrize("classes", [(), ("roses",)])
def test_a_folder_without_photos_is_named_with_what_was_looked_for(tmp_path: Path, classes: tuple) -> None:
    (tmp_path / "notes.txt").write_text("no photos today", encoding="utf-8")
    with pytest.raises(PhotoError, match=r"no photos in '.*': looked for JPEG, PNG, .* or AVIF in [01] files?$"):
        find_photos(tmp_path, classes)


@pytest.mark.parametrize("name", ["nowhere", "a.jpg"])
def test_what_is_no_folder_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.jpg").write_bytes(b"anything")
    with pytest.raises(PhotoError, match=f"no photos: '.*{name}' is not a folder"):
        find_photos(tmp_path / name)


def test_loading_keeps_the_order_and_says_what_it_left_out(tmp_path: Path) -> None:
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


def test_squares_are_read_in_the_order_asked_for(tmp_path: Path) -> None:
    paths = [tmp_path / f"{index}.png" for index in (3, 1, 2)]
    for index, path in enumerate(paths):
        noise(index).save(path)
    squares = read_squares(paths)
    for index, square in enumerate(squares):
        np.testing.assert_array_equal(square, resize(noise(index)))
    assert read_squares([]).shape == (0, 112, 112, 3)
    with pytest.raises(PhotoError, match=r"no\.png': no such file"):
        read_squares([*paths, tmp_path / "no.png"])


def test_loading_counts_every_file_once(tmp_path: Path) -> None:
    noise(1).save(tmp_path / "1.png")
    (tmp_path / "2.png").write_bytes(b"")
    counted = []

    def count(results: Iterable) -> Iterator:
        for result in results:
            counted.append(result)
            yield result

    load(find_photos(tmp_path), progress=count)
    assert len(counted) == 2


def test_nothing_to_load_is_an_empty_set(tmp_path: Path) -> None:
    filled("L", 90).save(tmp_path / "a.png")
    photos, left_out = load(find_photos(tmp_path))
    assert len(photos) == 0
    assert len(left_out) == 1
    assert photos.gray.shape == (0, 112, 112)
    assert photos.chroma.shape == (0, 14, 14, 2)


def test_checking_names_the_first_bad_file(tmp_path: Path) -> None:
    noise(0).save(tmp_path / "1.png")
    check_readable([tmp_path / "1.png"])
    (tmp_path / "2.jpg").write_bytes(b"half a photo")
    (tmp_path / "3.jpg").write_bytes(b"")
    with pytest.raises(PhotoError, match=r"2\.jpg"):
        check_readable(find_photos(tmp_path))


def test_a_photo_and_its_gray_copy_look_the_same_to_the_model(tmp_path: Path) -> None:
    """The channels are multiples of 8, for Pillow rounds some of the values between two steps the other way."""
    pixels = np.random.default_rng(0).integers(0, 32, (112, 112, 3), np.uint8) * 8
    Image.fromarray(pixels).save(tmp_path / "1 color.png")
    Image.fromarray(pixels).convert("L").save(tmp_path / "2 gray.png")
    photos, _ = load(find_photos(tmp_path), color_only=False)
    np.testing.assert_array_equal(photos.gray[0], photos.gray[1])
    assert photos.gray[0].std() > 10


def test_luma_is_the_gray_between_0_and_1() -> None:
    photos = photo_set(2)
    assert photos.luma.dtype == np.float32
    np.testing.assert_allclose(photos.luma, photos.gray / 255, atol=1e-7)


def test_taking_photos_takes_all_that_belongs_to_them() -> None:
    photos = photo_set(5)
    taken = photos.take([4, 0])
    assert taken.names == ("photo 4", "photo 0")
    assert taken.digests == (photos.digests[4], photos.digests[0])
    np.testing.assert_array_equal(taken.gray, photos.gray[[4, 0]])
    np.testing.assert_array_equal(taken.chroma, photos.chroma[[4, 0]])


def test_taking_no_photos_leaves_an_empty_set() -> None:
    taken = photo_set(2).take([])
    assert len(taken) == 0
    assert taken.gray.shape == (0, 112, 112)
    assert taken.chroma.shape == (0, 14, 14, 2)


def test_digests_are_equal_where_the_pixels_are() -> None:
    photos = photo_set(3, copies=1)
    assert photos.digests[0] == photos.digests[3]
    assert len(set(photos.digests)) == 3


def test_a_digest_sees_every_pixel() -> None:
    pixels = np.zeros((3, 112, 112, 3), np.uint8)
    pixels[1, 111, 111, 2] = 1
    pixels[2, 0, 0, 0] = 1
    assert len(set(prepare(pixels, "abc").digests)) == 3


def test_the_same_picture_in_two_files_has_one_digest(tmp_path: Path) -> None:
    for name in ("a.png", "b.bmp", "c.tif"):
        noise(0).save(tmp_path / name)
    photos, _ = load(find_photos(tmp_path))
    assert len(photos) == 3
    assert len(set(photos.digests)) == 1


def test_the_fingerprint_depends_on_the_photos_not_on_order_or_names() -> None:
    photos = photo_set(4)
    renamed = PhotoSet(("a", "b", "c", "d"), photos.gray, photos.chroma, photos.digests)
    assert photos.fingerprint == photos.take([2, 0, 3, 1]).fingerprint == renamed.fingerprint
    assert photos.fingerprint != photos.take([0, 1, 2]).fingerprint
    assert photos.take([0, 1, 2]).fingerprint != photos.take([0, 1, 2, 2]).fingerprint


@needs("photos")
@pytest.mark.parametrize(("folder", "count"), [("roses-train", 120), ("roses-test", 20)])
def test_the_roses_are_read(folder: str, count: int) -> None:
    paths = find_photos(SHARED / folder)
    photos, left_out = load(paths, color_only=False)
    assert left_out == []
    assert len(paths) == len(photos) == len(set(photos.digests)) == count
    assert 0.01 < np.linalg.norm(photos.chroma, axis=-1).mean() < 0.6


TONED = "toned (sepia or yellowed): its colors follow from its luma; use an untoned version or remove it"


@needs("photos")
def test_one_of_the_roses_is_gray_and_two_are_sepia() -> None:
    photos, skipped = load(find_photos(SHARED, ["roses-train", "roses-test"]))
    reasons = {Path(line.partition("'")[2].partition("'")[0]).name: line.rpartition("': ")[2] for line in skipped}
    assert len(photos) == 137 and reasons == {
        "5892908233_6756199a43.jpg": "gray: there are no colors to learn; use a color version or remove it",
        "5156037859_1673720a11_m.jpg": TONED,
        "850416050_31b3ff7086.jpg": TONED,
    }


def test_a_photo_that_cannot_be_read_beside_others_is_read_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
