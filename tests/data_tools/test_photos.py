"""Files as people have them: every format and mode that is read, and what is said of those that are not."""

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from data_tools.colour import chroma_map, grey
from data_tools.errors import PhotoError
from data_tools.photos import (
    LARGEST,
    PhotoSet,
    check_readable,
    find_photos,
    load,
    prepare,
    read_photo,
    read_square,
    read_squares,
    resize,
)

RED = (208, 48, 32)
WHITE = (255, 255, 255)
ORIENTATION = 0x0112
ROSES = Path(__file__).parents[3] / "shared" / "photos"


def filled(mode: str, colour: Any) -> Image.Image:
    return Image.new(mode, (40, 30), colour)


def palette(transparent: bool) -> Image.Image:
    image = Image.new("P", (40, 30), 1)
    image.putpalette([0, 0, 255, *RED])
    if transparent:
        image.info["transparency"] = 1
    return image


def wide(value: int) -> Image.Image:
    return Image.fromarray(np.full((30, 40), value, np.uint16))


def with_orientation(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def noise(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    width, height = size
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def photo_set(count: int, copies: int = 0) -> PhotoSet:
    photos = np.random.default_rng(0).integers(0, 256, (count, 112, 112, 3), np.uint8)
    photos = np.concatenate([photos, photos[:copies]])
    return prepare(photos, [f"photo {index}" for index in range(len(photos))])


FRAMES: dict[str, Any] = {"save_all": True, "append_images": [filled("RGB", "blue"), filled("RGB", "lime")]}

# What the file is called, its picture, how Pillow is told to save it, and the colour that must come back.
CASES: dict[str, tuple[str, Image.Image, dict[str, Any], tuple[int, int, int]]] = {
    "JPEG": ("a.jpg", filled("RGB", RED), {}, RED),
    "JPEG of two pictures": ("a.jpg", filled("RGB", RED), {"format": "MPO", **FRAMES}, RED),
    "JPEG of one channel": ("a.jpg", filled("L", 90), {}, (90, 90, 90)),
    "JPEG in CMYK": ("a.jpg", filled("CMYK", (47, 207, 223, 0)), {}, RED),
    "PNG": ("a.png", filled("RGB", RED), {}, RED),
    "PNG under another name": ("a.jpg", filled("RGB", RED), {"format": "PNG"}, RED),
    "PNG, palette": ("a.png", palette(transparent=False), {}, RED),
    "PNG, palette, transparent": ("a.png", palette(transparent=True), {}, WHITE),
    "PNG, opaque": ("a.png", filled("RGBA", (*RED, 255)), {}, RED),
    "PNG, hidden colour": ("a.png", filled("RGBA", (*RED, 0)), {}, WHITE),
    "PNG, half transparent": ("a.png", filled("RGBA", (0, 0, 0, 128)), {}, (127, 127, 127)),
    "PNG, one colour is transparent": ("a.png", filled("RGB", RED), {"transparency": RED}, WHITE),
    "PNG, grey": ("a.png", filled("L", 90), {}, (90, 90, 90)),
    "PNG, grey, opaque": ("a.png", filled("LA", (90, 255)), {}, (90, 90, 90)),
    "PNG, grey, hidden": ("a.png", filled("LA", (90, 0)), {}, WHITE),
    "PNG, one bit": ("a.png", filled("1", 1), {}, WHITE),
    "PNG, 16 bits": ("a.png", wide(127 * 257), {}, (127, 127, 127)),
    "PNG, 16 bits, white": ("a.png", wide(65535), {}, WHITE),
    "PNG, 16 bits, dark": ("a.png", wide(257), {}, (1, 1, 1)),
    "TIFF": ("a.tif", filled("RGB", RED), {}, RED),
    "TIFF, packed": ("a.tiff", filled("RGB", RED), {"compression": "tiff_lzw"}, RED),
    "TIFF, CMYK": ("a.tif", filled("CMYK", (47, 207, 223, 0)), {}, RED),
    "TIFF, 16 bits": ("a.tif", wide(127 * 257), {}, (127, 127, 127)),
    "WebP": ("a.webp", filled("RGB", RED), {}, RED),
    "WebP, hidden colour": ("a.webp", filled("RGBA", (*RED, 0)), {"lossless": True, "exact": True}, WHITE),
    "WebP, animated": ("a.webp", filled("RGB", RED), FRAMES, RED),
    "GIF": ("a.gif", filled("RGB", RED), {}, RED),
    "GIF, animated": ("a.gif", filled("RGB", RED), FRAMES, RED),
    "BMP": ("a.bmp", filled("RGB", RED), {}, RED),
    "PPM": ("a.ppm", filled("RGB", RED), {}, RED),
    "PGM, 16 bits": ("a.pgm", wide(127 * 257), {}, (127, 127, 127)),
    "AVIF": ("a.avif", filled("RGB", RED), {}, RED),
}


@pytest.mark.parametrize(("name", "image", "options", "colour"), CASES.values(), ids=CASES)
def test_every_kind_of_file_comes_back_in_its_colour(
    tmp_path: Path, name: str, image: Image.Image, options: dict[str, Any], colour: tuple[int, int, int]
) -> None:
    path = tmp_path / name
    image.save(path, **options)
    assert find_photos(tmp_path) == [path]
    photo = read_photo(path)
    assert photo.shape == (30, 40, 3)
    assert photo.dtype == np.uint8
    lossy = path.suffix in (".jpg", ".webp", ".avif")
    assert np.abs(photo.astype(int) - colour).max() <= (5 if lossy else 0)
    assert read_square(path).shape == (112, 112, 3)


# What lies at the first row and the first column of the stored picture, from the EXIF standard.
ORIENTATIONS: dict[int, tuple[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]]] = {
    1: ("top left", lambda up: up),
    2: ("top right", lambda up: up[:, ::-1]),
    3: ("bottom right", lambda up: up[::-1, ::-1]),
    4: ("bottom left", lambda up: up[::-1]),
    5: ("left top", lambda up: up.swapaxes(0, 1)),
    6: ("right top", lambda up: up[:, ::-1].swapaxes(0, 1)),
    7: ("right bottom", lambda up: up[::-1, ::-1].swapaxes(0, 1)),
    8: ("left bottom", lambda up: up[::-1].swapaxes(0, 1)),
}


@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg"])
@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=[corner for corner, _ in ORIENTATIONS.values()])
def test_photos_come_back_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :16], upright[:16, 16:], upright[16:, :16] = (200, 0, 0), (0, 200, 0), (0, 0, 200)
    stored = Image.fromarray(np.ascontiguousarray(ORIENTATIONS[orientation][1](upright)))
    path = tmp_path / f"a.{suffix}"
    stored.save(path, exif=with_orientation(orientation), quality=95)
    photo = read_photo(path)
    assert photo.shape == upright.shape
    assert np.abs(photo[4::8, 4::8].astype(int) - upright[4::8, 4::8]).max() < 30


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


def encoded(kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    noise(0).save(file, kind, **options)
    return file.getvalue()


def half(kind: str) -> bytes:
    data = encoded(kind)
    return data[: len(data) // 2]


def without_pixels() -> bytes:
    data = encoded("AVIF")
    start = data.index(b"mdat") + 4
    return data[:start] + bytes(len(data) - start)


def in_floats() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((30, 40), 0.5, np.float32)).save(file, "TIFF")
    return file.getvalue()


BROKEN = {
    "JPEG, cut": (half("JPEG"), "cannot be read"),
    "PNG, cut": (half("PNG"), "cannot be read"),
    "WebP, cut": (half("WEBP"), "not a picture|cannot be read"),
    "TIFF, cut": (half("TIFF"), "not a picture|cannot be read"),
    "AVIF without its pixels": (without_pixels(), "cannot be read"),
    "empty": (b"", "not a picture of a kind that is read here"),
    "text": (b"a rose is a rose is a rose\n" * 9, "not a picture of a kind that is read here"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture of a kind that is read here"),
    "floating point": (in_floats(), "floating point pixels have no known white; save it as 8 or 16 bits"),
    "too large": (b"P6 8000 7000 255\n", "8000 x 7000 pixels are more than 50,000,000; shrink it first"),
    "a bomb": (b"P6 20000 20000 255\n", "more than 50,000,000 pixels; shrink it first"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("data", "message"), BROKEN.values(), ids=BROKEN)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "rose.jpg"
    path.write_bytes(data)
    with pytest.raises(PhotoError, match=message) as caught:
        read_photo(path)
    assert str(caught.value).startswith(repr(str(path)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing.jpg", "folder.jpg", "pipe.jpg"])
def test_what_is_not_a_file_is_named_too(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(PhotoError, match=rf"{name}': is not there, or not a file"):
        read_photo(tmp_path / name)


def test_the_limit_of_size_is_fifty_million_pixels(tmp_path: Path) -> None:
    assert LARGEST == 50_000_000
    path = tmp_path / "a.png"
    Image.new("1", (1000, 10_000)).save(path)
    assert read_photo(path).shape == (10_000, 1000, 3)


def test_strange_camera_data_does_not_stop_the_other_photos(tmp_path: Path) -> None:
    """Pillow fails in many ways over tags of a wrong kind, and none of them is an OSError."""
    exif = with_orientation(6)
    exif[0x010E] = "a rose"
    data = encoded("JPEG", exif=exif)
    assert data.count(b"\x01\x0e\0\2") == 1  # the description's tag, and its kind: text
    (tmp_path / "a.jpg").write_bytes(data.replace(b"\x01\x0e\0\2", b"\x01\0\0\2"))  # now the width is a text
    noise(1).save(tmp_path / "b.jpg")
    photos, left_out = load(find_photos(tmp_path))
    assert len(photos) + len(left_out) == 2
    assert str(tmp_path / "b.jpg") in photos.names


def test_photos_are_found_in_all_subfolders_whatever_the_case_of_their_ending(tmp_path: Path) -> None:
    names = ["z.JPG", "a.jpeg", "deep/er/b.Png", "deep/c.tiff", "été 花.jpg", "x.jpg/inner.webp"]
    for name in [*names, "notes.txt", "jpg", "deep/archive.tgz", "deep/.hidden"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"anything")
    assert find_photos(tmp_path) == sorted(tmp_path / name for name in names)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_only_plain_files_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"anything")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "a.jpg")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert find_photos(tmp_path) == [tmp_path / "a.jpg", tmp_path / "link.jpg"]


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
    (tmp_path / "notes.txt").write_text("no photos today")
    with pytest.raises(PhotoError, match=r"no photos in '.*': looked for .*\.jpg.*\.png"):
        find_photos(tmp_path, classes)


@pytest.mark.parametrize("name", ["nowhere", "a.jpg"])
def test_what_is_no_folder_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.jpg").write_bytes(b"anything")
    with pytest.raises(PhotoError, match=f"no photos: '.*{name}' is not a folder"):
        find_photos(tmp_path / name)


def test_loading_keeps_the_order_and_says_what_it_left_out(tmp_path: Path) -> None:
    for index in (3, 1, 2):
        noise(index).save(tmp_path / f"{index}.png")
    noise(0).convert("L").save(tmp_path / "0 grey.png")
    (tmp_path / "4 empty.jpg").write_bytes(b"")
    paths = find_photos(tmp_path)
    photos, left_out = load(paths)
    assert photos.names == tuple(str(tmp_path / f"{index}.png") for index in (1, 2, 3))
    assert left_out == [
        f"{str(tmp_path / '0 grey.png')!r}: grey, there is no colour in it to learn from",
        f"{str(tmp_path / '4 empty.jpg')!r}: not a picture of a kind that is read here",
    ]
    squares = np.stack([resize(noise(index)) for index in (1, 2, 3)])
    np.testing.assert_array_equal(photos.grey, grey(squares))
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
    with pytest.raises(PhotoError, match=r"no\.png': is not there"):
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


def test_grey_photos_are_loaded_where_they_are_wanted(tmp_path: Path) -> None:
    filled("L", 90).save(tmp_path / "a.png")
    photos, left_out = load(find_photos(tmp_path), colour_only=False)
    assert left_out == []
    assert (photos.grey == 90).all()
    assert np.abs(photos.chroma).max() == 0


def test_one_small_flower_makes_a_colour_photo(tmp_path: Path) -> None:
    pixels = np.full((112, 112, 3), 120, np.uint8)
    pixels[50:54, 50:54] = 200, 40, 40
    Image.fromarray(pixels).save(tmp_path / "a.png")
    photos, left_out = load(find_photos(tmp_path))
    assert (len(photos), left_out) == (1, [])


def test_nothing_to_load_is_an_empty_set(tmp_path: Path) -> None:
    filled("L", 90).save(tmp_path / "a.png")
    photos, left_out = load(find_photos(tmp_path))
    assert len(photos) == 0
    assert len(left_out) == 1
    assert photos.grey.shape == (0, 112, 112)
    assert photos.chroma.shape == (0, 14, 14, 2)


def test_checking_names_the_first_bad_file(tmp_path: Path) -> None:
    noise(0).save(tmp_path / "1.png")
    check_readable([tmp_path / "1.png"])
    (tmp_path / "2.jpg").write_bytes(half("JPEG"))
    (tmp_path / "3.jpg").write_bytes(b"")
    with pytest.raises(PhotoError, match=r"2\.jpg"):
        check_readable(find_photos(tmp_path))


def test_a_photo_and_its_grey_copy_look_the_same_to_the_model(tmp_path: Path) -> None:
    """The channels are multiples of 8, for Pillow rounds some of the values between two steps the other way."""
    pixels = np.random.default_rng(0).integers(0, 32, (112, 112, 3), np.uint8) * 8
    Image.fromarray(pixels).save(tmp_path / "1 colour.png")
    Image.fromarray(pixels).convert("L").save(tmp_path / "2 grey.png")
    photos, _ = load(find_photos(tmp_path), colour_only=False)
    np.testing.assert_array_equal(photos.grey[0], photos.grey[1])
    assert photos.grey[0].std() > 10


def test_luma_is_the_grey_between_0_and_1() -> None:
    photos = photo_set(2)
    assert photos.luma.dtype == np.float32
    np.testing.assert_allclose(photos.luma, photos.grey / 255, atol=1e-7)


def test_taking_photos_takes_all_that_belongs_to_them() -> None:
    photos = photo_set(5)
    taken = photos.take([4, 0])
    assert taken.names == ("photo 4", "photo 0")
    assert taken.digests == (photos.digests[4], photos.digests[0])
    np.testing.assert_array_equal(taken.grey, photos.grey[[4, 0]])
    np.testing.assert_array_equal(taken.chroma, photos.chroma[[4, 0]])


def test_taking_no_photos_leaves_an_empty_set() -> None:
    taken = photo_set(2).take([])
    assert len(taken) == 0
    assert taken.grey.shape == (0, 112, 112)
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
    renamed = PhotoSet(("a", "b", "c", "d"), photos.grey, photos.chroma, photos.digests)
    assert photos.fingerprint == photos.take([2, 0, 3, 1]).fingerprint == renamed.fingerprint
    assert photos.fingerprint != photos.take([0, 1, 2]).fingerprint
    assert photos.take([0, 1, 2]).fingerprint != photos.take([0, 1, 2, 2]).fingerprint


@pytest.mark.skipif(not ROSES.is_dir(), reason=f"the roses are not at {ROSES}")
@pytest.mark.parametrize(("folder", "count"), [("roses-train", 120), ("roses-test", 20)])
def test_the_roses_are_read(folder: str, count: int) -> None:
    paths = find_photos(ROSES / folder)
    photos, left_out = load(paths, colour_only=False)
    assert left_out == []
    assert len(paths) == len(photos) == len(set(photos.digests)) == count
    assert 0.01 < np.linalg.norm(photos.chroma, axis=-1).mean() < 0.6


@pytest.mark.skipif(not ROSES.is_dir(), reason=f"the roses are not at {ROSES}")
def test_one_of_the_roses_is_grey() -> None:
    photos, left_out = load(find_photos(ROSES, ["roses-train", "roses-test"]))
    assert len(photos) == 139
    assert len(left_out) == 1
    assert left_out[0].endswith("grey, there is no colour in it to learn from")
