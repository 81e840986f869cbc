"""Discovery of photos below a folder: suffixes, classes, links, order and errors."""

from pathlib import Path

import pytest

from huetune.data_tools.common.errors import PhotoError
from huetune.data_tools.photos.discovery import find_photos


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
        path.write_bytes(b"anything")
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


def test_find_photos_ignores_link_loops_and_folder_suffixes(tmp_path: Path) -> None:
    deep = tmp_path / "x.jpg" / "y.png"
    deep.mkdir(parents=True)
    (deep / "a.jpg").write_bytes(b"anything")
    (deep / "round").symlink_to(tmp_path)
    (tmp_path / "link.jpg").symlink_to(deep / "a.jpg")
    assert find_photos(tmp_path) == [tmp_path / "link.jpg", deep / "a.jpg"]


def test_walk_photos_yields_paths_in_order(tmp_path: Path) -> None:
    for name in ("b/c.jpg", "b.jpg", "b-/a.jpg", "a.jpg", "b/a/z.jpg", "B.jpg", "b/b.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_photos(tmp_path)
    assert len(found) == 7 and found == sorted(found)
    assert find_photos(tmp_path, limit=3) == found[:3]
