"""Color profiles and other color information of files, and conversion to sRGB."""

import io
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms
from skimage.color import deltaE_ciede2000, rgb2lab, xyz2lab

from huetune.data_tools.common.errors import PhotoError, StorageError
from huetune.data_tools.datasets.synthetic_garden import garden
from huetune.data_tools.photos.color_profile import ProfileError, srgb_chunk, to_srgb
from huetune.data_tools.photos.dataset import check_readable, load, read_photo, read_square, resize
from huetune.data_tools.photos.discovery import find_photos
from huetune.data_tools.photos.source import Source
from huetune.data_tools.photos.versions import READER_VERSION
from tests.data_tools.photos.icc_profiles import (
    D50,
    SPACES,
    SRGB,
    Pixels,
    cmyk_profile,
    converted,
    curve,
    decoded_by,
    encoded_by,
    gray_profile,
    profile,
    rgb_profile,
)


def apart(photo: Pixels, other: Pixels) -> float:
    return float(deltaE_ciede2000(rgb2lab(photo), rgb2lab(other)).mean())


@pytest.fixture(scope="module")
def scene() -> Pixels:
    return garden(1)[0]


LOSSLESS: dict[str, dict[str, Any]] = {
    "a.png": {},
    "a.tif": {},
    "a.webp": {"lossless": True},
    "a.jpg": {"quality": 98, "subsampling": 0},
    "a.avif": {"quality": 98, "subsampling": "4:4:4"},
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_read_photo_applies_profile_in_each_format(name: str, scene: Pixels, tmp_path: Path) -> None:
    """Phones save photos in Display P3; without the profile the colors would be 18% too pale."""
    colorants, gamma = SPACES["Display P3"]
    pixels = Image.fromarray(converted(scene, colorants, gamma))
    pixels.save(tmp_path / name, icc_profile=rgb_profile(colorants, gamma), **LOSSLESS[name])
    read = read_photo(tmp_path / name)
    assert apart(read, scene) < 1 < apart(np.asarray(pixels), scene)
    assert check_readable([tmp_path / name]) == []


@pytest.mark.parametrize("space", SPACES)
def test_read_photo_converts_each_color_space_to_srgb(space: str, scene: Pixels, tmp_path: Path) -> None:
    colorants, gamma = SPACES[space]
    pixels = Image.fromarray(converted(scene, colorants, gamma))
    pixels.save(tmp_path / "a.png", icc_profile=rgb_profile(colorants, gamma))
    assert (
        apart(read_photo(tmp_path / "a.png"), scene)
        < (1 if space != "linear" else 1.5)
        < apart(np.asarray(pixels), scene) + 1
    )


def rounded_srgb() -> bytes:
    """Return an sRGB profile with a curve of 26 points and colorants of three digits, as in small profiles."""
    steps = np.rint(decoded_by(0, np.linspace(0, 1, 26)) * 65535).astype(">u2").tobytes()
    parts = {b"wtpt": struct.pack(">4s4x3i", b"XYZ ", *D50)}
    for letter, column in zip("rgb", SRGB.round(4), strict=True):
        parts[f"{letter}XYZ".encode()] = struct.pack(">4s4x3i", b"XYZ ", *np.rint(column * 65536).astype(int))
        parts[f"{letter}TRC".encode()] = struct.pack(">4s4xI", b"curv", 26) + steps
    return profile(parts)


@pytest.mark.parametrize(
    "made",
    [
        lambda: ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        lambda: rgb_profile(SRGB, 0),
        rounded_srgb,
    ],
    ids=["of lcms", "1024 points", "26 points"],
)
def test_srgb_profile_leaves_pixels_unchanged(made: Callable[[], bytes], scene: Pixels, tmp_path: Path) -> None:
    Image.fromarray(scene).save(tmp_path / "a.png", icc_profile=made())
    np.testing.assert_array_equal(read_photo(tmp_path / "a.png"), scene)


def test_large_photo_is_shrunk_before_conversion(scene: Pixels, tmp_path: Path) -> None:
    """Converting all 12 megapixels would take half a second; the colors are those of the whole photo."""
    colorants, gamma = SPACES["Adobe RGB"]
    pixels = Image.fromarray(converted(scene, colorants, gamma)).resize((1500, 1100), Image.Resampling.BICUBIC)
    pixels.save(tmp_path / "a.png", icc_profile=rgb_profile(colorants, gamma))
    read = read_square(tmp_path / "a.png")
    assert read.shape == (112, 112, 3)
    assert apart(read, resize(Image.fromarray(read_photo(tmp_path / "a.png")))) < 0.5


GRAYS = np.arange(256, dtype=np.uint8)[None].repeat(2, axis=0)


@pytest.mark.parametrize("of_rgb", [False, True])
def test_linear_gray_is_converted_to_srgb_levels(of_rgb: bool, tmp_path: Path) -> None:
    """A gray of 67 in linear light is 141 in sRGB. A profile for RGB applies to gray pixels, too."""
    icc = rgb_profile(SRGB, 1.0) if of_rgb else gray_profile(1.0)
    Image.fromarray(GRAYS).save(tmp_path / "a.tif", icc_profile=icc)
    expected = encoded_by(0, GRAYS / 255) * 255
    assert np.abs(read_photo(tmp_path / "a.tif") - expected[..., None]).max() < 1


def test_gray_profile_applies_to_gray_photo_stored_as_rgb(tmp_path: Path) -> None:
    Image.fromarray(GRAYS).convert("RGB").save(tmp_path / "a.webp", lossless=True, icc_profile=gray_profile(1.0))
    assert np.abs(read_photo(tmp_path / "a.webp") - encoded_by(0, GRAYS / 255)[..., None] * 255).max() < 1


def test_16_bit_gray_is_converted_before_rounding_to_8_bits(tmp_path: Path) -> None:
    """Rounding first would lose the shadows: the first of 8-bit linear levels is level 13 of sRGB."""
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = encoded_by(0, deep / 65535)[..., None] * 255
    Image.fromarray(deep).save(tmp_path / "a.tif", icc_profile=gray_profile(1.0))
    assert np.abs(read_photo(tmp_path / "a.tif") - expected).max() < 1
    Image.fromarray(deep).save(tmp_path / "a.png", pnginfo=chunks(gAMA=struct.pack(">I", 100_000)))
    assert np.abs(read_photo(tmp_path / "a.png") - expected).max() < 1
    Image.fromarray(deep).save(tmp_path / "b.png", icc_profile=gray_profile(0))
    np.testing.assert_array_equal(read_photo(tmp_path / "b.png")[..., 0], np.rint(deep / 257))


def test_transparent_pixels_are_composited_on_white_in_srgb(tmp_path: Path) -> None:
    icc = rgb_profile(*SPACES["linear"])
    half = np.array([[[0, 0, 0, 128], [55, 55, 55, 255], [9, 9, 9, 0]]], np.uint8)
    Image.fromarray(half).save(tmp_path / "a.png", icc_profile=icc)
    np.testing.assert_allclose(read_photo(tmp_path / "a.png")[0, :, 0], [127, 128, 255], atol=1)
    Image.fromarray(half[..., [0, 3]]).save(tmp_path / "b.png", icc_profile=gray_profile(1.0))
    np.testing.assert_allclose(read_photo(tmp_path / "b.png")[0, :, 0], [127, 128, 255], atol=1)
    palette = Image.new("P", (3, 1), 0)
    palette.putpalette([55, 55, 55])
    palette.save(tmp_path / "c.png", icc_profile=icc)
    np.testing.assert_allclose(read_photo(tmp_path / "c.png"), 128, atol=1)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_profile_converts_inks(suffix: str, tmp_path: Path) -> None:
    inks = np.array([(0, 0, 0, 0), (0, 0, 0, 255), (255, 0, 0, 0), (0, 255, 255, 0)], np.uint8).repeat(16, axis=0)
    image = Image.fromarray(inks[None].repeat(16, axis=0), "CMYK")
    options: dict[str, Any] = {"quality": 98} if suffix == "jpg" else {}
    image.save(tmp_path / f"a.{suffix}", icc_profile=cmyk_profile(), **options)
    white, black, cyan, red = read_photo(tmp_path / f"a.{suffix}")[8, 8::16].astype(int)
    assert white.min() > 250 and np.abs(black - 85).max() < 12
    # Without the profile Pillow would return (0, 255, 255) and (255, 0, 0).
    assert 20 < cyan[0] < 110 and cyan[1:].min() > 240 and red[0] > 240 and 60 < red[1:].min() <= red[1:].max() < 110


def test_lab_tiff_is_read(scene: Pixels, tmp_path: Path) -> None:
    lab = xyz2lab(decoded_by(0, scene / 255) @ SRGB, "D50") * [2.55, 1, 1] + [0, 128, 128]
    image = Image.merge("LAB", [Image.fromarray(np.rint(lab[..., axis]).astype(np.uint8)) for axis in range(3)])
    image.save(tmp_path / "a.tif")
    assert apart(read_photo(tmp_path / "a.tif"), scene) < 1


def chunks(**parts: bytes) -> Any:
    from PIL import PngImagePlugin

    info = PngImagePlugin.PngInfo()
    for name, content in parts.items():
        info.add(name.encode(), content)
    return info


def coded(*codes: int) -> bytes:
    return bytes(codes)


WHITE_AND_P3 = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)


@pytest.mark.parametrize(
    ("space", "parts"),
    [
        ("Display P3", {"cICP": coded(12, 13, 0, 1)}),
        ("Display P3", {"cHRM": WHITE_AND_P3}),
        ("Display P3", {"cHRM": WHITE_AND_P3, "gAMA": struct.pack(">I", 45455)}),
        ("linear", {"gAMA": struct.pack(">I", 100_000)}),
        ("linear", {"cICP": coded(1, 8, 0, 1), "sRGB": b"\0"}),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else value,
)
def test_png_chunks_define_color_space(space: str, parts: dict, scene: Pixels, tmp_path: Path) -> None:
    pixels = Image.fromarray(converted(scene, *SPACES[space]))
    pixels.save(tmp_path / "a.png", pnginfo=chunks(**parts))
    assert apart(read_photo(tmp_path / "a.png"), scene) < 1.5 < apart(np.asarray(pixels), scene)


@pytest.mark.parametrize(
    "parts",
    [
        {"sRGB": b"\0", "gAMA": struct.pack(">I", 100_000)},
        {"gAMA": struct.pack(">I", 45455)},
        {"cICP": coded(1, 13, 0, 1)},
        {"cICP": coded(2, 2, 0, 1)},
    ],
    ids=lambda parts: "+".join(parts),
)
def test_png_chunks_for_srgb_leave_pixels_unchanged(parts: dict, scene: Pixels, tmp_path: Path) -> None:
    Image.fromarray(scene).save(tmp_path / "a.png", pnginfo=chunks(**parts))
    np.testing.assert_array_equal(read_photo(tmp_path / "a.png"), scene)


def avif(pixels: Pixels, primaries: int, transfer: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "AVIF", quality=98, subsampling="4:4:4")
    data = file.getvalue()
    place = data.index(b"nclx") + 4
    return data[:place] + struct.pack(">HH", primaries, transfer) + data[place + 4 :]


def test_avif_color_codes_are_applied(scene: Pixels, tmp_path: Path) -> None:
    pixels = converted(scene, *SPACES["Display P3"])
    (tmp_path / "a.avif").write_bytes(avif(pixels, 12, 13))
    assert apart(read_photo(tmp_path / "a.avif"), scene) < 1 < apart(pixels, scene)


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_photo_is_refused(transfer: int, name: str, scene: Pixels, tmp_path: Path) -> None:
    """Read as sRGB an HDR photo would be pale; tone mapping would be an arbitrary choice."""
    Image.fromarray(scene).save(tmp_path / "a.png", pnginfo=chunks(cICP=coded(9, transfer, 0, 1)))
    (tmp_path / "a.avif").write_bytes(avif(scene, 9, transfer))
    for path in find_photos(tmp_path):
        with pytest.raises(PhotoError, match=rf": HDR \({name}\), which is brighter than .*; save it as SDR first$"):
            read_photo(path)


def test_adobe_rgb_in_exif_is_applied(scene: Pixels, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.ColorSpace: 0xFFFF, ExifTags.IFD.Interop: {1: "R03"}}
    pixels = converted(scene, *SPACES["Adobe RGB"])
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=98, subsampling=0)
    assert apart(read_photo(tmp_path / "a.jpg"), scene) < 1 < apart(pixels, scene)


NO_LIGHT = struct.pack(">8I", 31270, 0, 68000, 32000, 26500, 69000, 15000, 6000)

BROKEN: dict[str, tuple[dict, str]] = {
    "cut": ({"icc_profile": rgb_profile(*SPACES["Adobe RGB"])[:200]}, "it is damaged"),
    "text": ({"icc_profile": b"no profile at all"}, "it is damaged, or not for images"),
    "of letters nobody knows": (
        {"icc_profile": rgb_profile(*SPACES["linear"]).replace(b"RGB ", b"\x1b\xff\0B")},
        "it is damaged, or not for images",
    ),
    "no colorants": ({"icc_profile": profile({b"wtpt": curve(1.0)})}, "it is damaged"),
    "of CMYK": ({"icc_profile": cmyk_profile()}, "it is for CMYK pixels, not for RGB"),
    "of gray": ({"icc_profile": gray_profile(1.0)}, "it is for GRAY pixels, not for RGB"),
    "of a link": ({"icc_profile": profile({}, kind=b"link")}, "it is damaged, or not for images"),
    "cICP of video": ({"pnginfo": chunks(cICP=coded(1, 13, 1, 1))}, "its cICP chunk is invalid"),
    "cICP unknown": ({"pnginfo": chunks(cICP=coded(200, 13, 0, 1))}, "its color codes 200 and 13 are unknown"),
    "gAMA of 0": ({"pnginfo": chunks(gAMA=bytes(4))}, "its gAMA chunk is invalid"),
    "cHRM in the dark": ({"pnginfo": chunks(cHRM=NO_LIGHT)}, "its primaries are degenerate"),
}


@pytest.mark.parametrize(("options", "reason"), BROKEN.values(), ids=BROKEN)
def test_broken_profile_is_noted_and_read_as_srgb(
    options: dict, reason: str, scene: Pixels, tmp_path: Path, in_process: Callable
) -> None:
    Image.fromarray(scene).save(tmp_path / "a.png", **options)
    np.testing.assert_array_equal(read_photo(tmp_path / "a.png"), scene)
    line = f"{str(tmp_path / 'a.png')!r}: its color profile cannot be used ({reason}); its colors are read as sRGB"
    for _ in range(2):  # the second time from the cache
        photos, left_out = load(find_photos(tmp_path), cache=tmp_path / "cache")
        assert (photos.notes, left_out) == ((line,), [])
    assert check_readable([tmp_path / "a.png"]) == [line]
    done = in_process("data", "check", tmp_path)
    assert f"note: {line}" in done.stdout.replace("\n", " ").replace("  ", " ") and "1 usable photo (" in done.stdout


def test_jpeg_with_incomplete_profile_is_noted(scene: Pixels, tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(scene).save(file, "JPEG", icc_profile=rgb_profile(*SPACES["Adobe RGB"]))
    data = bytearray(file.getvalue())
    data[data.index(b"ICC_PROFILE\0") + 13] = 2  # parts
    (tmp_path / "a.jpg").write_bytes(data)
    (line,) = check_readable([tmp_path / "a.jpg"])
    assert "(it is incomplete)" in line


def test_png_with_many_chunks_is_read_in_bounded_time(scene: Pixels, tmp_path: Path) -> None:
    Image.fromarray(scene).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    many = b"".join(struct.pack(">I4sI", 0, b"quIt", zlib.crc32(b"quIt")) for _ in range(5000))
    (tmp_path / "a.png").write_bytes(data[:33] + many + data[33:])
    np.testing.assert_array_equal(read_photo(tmp_path / "a.png"), scene)


def test_threads_share_transform(scene: Pixels, tmp_path: Path) -> None:
    colorants, gamma = SPACES["ProPhoto"]
    paths = []
    for number, photo in enumerate(garden(8)):
        paths.append(tmp_path / f"{number}.png")
        pixels = Image.fromarray(converted(photo, colorants, gamma))
        pixels.save(paths[-1], icc_profile=rgb_profile(colorants, gamma))
    expected = [read_square(path) for path in paths]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            np.testing.assert_array_equal(list(pool.map(read_square, paths)), expected)


def test_source_of_reader_version_1_ignores_profiles(scene: Pixels, tmp_path: Path) -> None:
    """The run's fingerprint is that of pixels without profiles, and it continues only with equal photos."""
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = converted(scene, *SPACES["Display P3"])
    Image.fromarray(pixels).save(folder / "a.png", icc_profile=rgb_profile(*SPACES["Display P3"]))
    record = Source(folder).record
    assert record.pop("reading") == READER_VERSION
    older = Source.of(record)
    photos, _ = older.read()
    np.testing.assert_array_equal(older.read_rgb(photos), pixels[None])
    new = Source.of({**record, "reading": READER_VERSION})
    assert new.read()[0].digests != photos.digests
    assert apart(new.read_rgb(photos)[0], scene) < 1
    with pytest.raises(StorageError, match=r"reader version 3, expected 1 to 2; update huetune$"):
        Source.of({**record, "reading": READER_VERSION + 1})


def test_srgb_chunk_is_written(scene: Pixels, tmp_path: Path) -> None:
    Image.fromarray(scene).save(tmp_path / "a.png", pnginfo=srgb_chunk())
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["srgb"] == 0


def test_damaged_profiles_convert_or_raise_profile_error() -> None:
    """A damaged profile either converts the image or raises a ProfileError, and nothing else."""
    random = Random(0)
    cases = [
        (Image.new("RGB", (9, 9), "teal"), rgb_profile(*SPACES["Adobe RGB"])),
        (Image.new("L", (9, 9), 77), gray_profile(1.0)),
        (Image.new("CMYK", (9, 9), (9, 99, 200, 3)), cmyk_profile()),
    ]
    ends = set()
    for _ in range(400):
        image, whole = random.choice(cases)
        data = bytearray(whole)
        for _ in range(random.choice([1, 2, 9])):
            data[random.randrange(min(len(data), 400))] = random.choice([0, 255, random.randrange(256)])
        try:
            ends.add(to_srgb(image, bytes(data[: random.choice([200, None, None])])).mode)
        except ProfileError as error:
            ends.add(str(error))
    assert ends == {"RGB", "L", "it is damaged", "it is damaged, or not for images"}
