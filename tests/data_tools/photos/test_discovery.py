"""Discovery by content, unsupported formats, draws from classes and names in other encodings."""

import io
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from huetune.data_tools.common.errors import PhotoError, StorageError
from huetune.data_tools.photos.dataset import load
from huetune.data_tools.photos.discovery import class_counts, find_photos, sample_photos, walk_photos
from huetune.data_tools.photos.file_types import OTHER, PHOTO, kind_of
from huetune.data_tools.photos.source import Source
from huetune.data_tools.storage.bucket_cache import local_path
from huetune.data_tools.storage.object_store import BucketPath

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))


def saved(kind: str) -> bytes:
    file = io.BytesIO()
    NOISE.save(file, kind)
    return file.getvalue()


SUPPORTED = {
    "a.jfif": "JPEG",
    "b.jpe": "JPEG",
    "c.jif": "JPEG",
    "d.pnm": "PPM",
    "e.dib": "DIB",
    "f.apng": "PNG",
    "g": "JPEG",
    "h": "PNG",
    "i.photo": "WEBP",
    "j.orig": "GIF",
    "k.1": "TIFF",
    "l~": "BMP",
    "m.bak": "PPM",
    "n.heic": "AVIF",
    "o.HEIC": "JPEG",
}
UNSUPPORTED = {
    "1.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "2.HIF": b"\0\0\0\x18ftypheix\0\0\0\0mif1heic",
    "no ending": b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic",
    "4.jxl": b"\xff\x0a\xfa\x1f",
    "5": b"\0\0\0\x0cJXL \r\n\x87\n",
    "6.jp2": b"\0\0\0\x0cjP  \r\n\x87\n",
    "7.NEF": b"MM\0*\0\0\0\x08",
    "8.dng": b"II*\0\x08\0\0\0",
    "9": b"FUJIFILMCCD-RAW 0201",
    "10.psd": b"8BPS\0\1",
}
UNSUPPORTED_LINES = [
    "3 HEIC photos: not a supported format; convert them to JPEG or PNG",
    "1 JPEG 2000 photo: not a supported format; convert it to JPEG or PNG",
    "2 JPEG XL photos: not a supported format; convert them to JPEG or PNG",
    "1 Photoshop photo: not a supported format; convert it to JPEG or PNG",
    "3 camera raw photos: not a supported format; develop them to JPEG or PNG",
]
OTHERS = {
    "notes.txt": b"BMW and P3 are no pictures, nor is P6\n",
    "labels.json": b"{}",
    "features.npy": b"\x93NUMPY",
    "study.db": b"SQLite format 3\0",
    "README": b"P6 is how it begins\n",
    "B": b"BM",
    "empty": b"",
    "clip.mp4": b"\0\0\0\x20ftypisom",
    "song.wav": b"RIFF\0\0\0\0WAVE",
}


def fill(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, kind in SUPPORTED.items():
        (folder / name).write_bytes(saved(kind))
    for name, content in {**UNSUPPORTED, **OTHERS}.items():
        (folder / name).write_bytes(content)


def test_walk_photos_finds_photos_by_content(tmp_path: Path) -> None:
    fill(tmp_path)
    others = Counter[str]()
    paths = find_photos(tmp_path, others=others)
    assert [path.name for path in paths] == sorted(SUPPORTED)
    assert others == {"HEIC": 3, "JPEG XL": 2, "JPEG 2000": 1, "camera raw": 3, "Photoshop": 1, OTHER: len(OTHERS)}
    photos, skipped = load(paths)
    assert len(photos) == len(SUPPORTED) and not skipped


def test_data_check_reports_unsupported_kinds(tmp_path: Path, in_process: Callable) -> None:
    fill(tmp_path)
    (tmp_path / "named so.jpg").write_bytes(UNSUPPORTED["1.heic"])
    lines = in_process("data", "check", tmp_path).stdout.splitlines()
    skipped = [line for line in lines if line.startswith("skipped: '")]
    assert len(skipped) == 1 and skipped[0].endswith("HEIC is not supported; convert it to JPEG or PNG")
    assert lines[-len(UNSUPPORTED_LINES) - 2 : -2] == [f"skipped: {line}" for line in UNSUPPORTED_LINES]
    found = f"{len(SUPPORTED) + 1} files: {len(SUPPORTED)} usable photos"
    assert lines[-2] == f"{found} (10 copies, 4 near-duplicates), 1 skipped"
    assert lines[-1] == f"{len(OTHERS)} other files that are not photos"


def test_strict_stops_at_unsupported_kind(tmp_path: Path, in_process: Callable) -> None:
    fill(tmp_path)
    done = in_process("train", "--photos", tmp_path, "--strict", "--out", tmp_path / "model")
    assert done.returncode == 3 and "3 HEIC photos: not a supported format" in done.stderr


def test_find_photos_names_unsupported_kinds(tmp_path: Path) -> None:
    for name, content in UNSUPPORTED.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(PhotoError, match=r"looked for JPEG, .* or AVIF in 10 files; 3 HEIC photos: .* develop them"):
        find_photos(tmp_path)


@pytest.mark.timeout(30, method="thread")  # opening a pipe blocks forever and ignores signals
def test_walk_photos_skips_hidden_and_blocking_files(tmp_path: Path) -> None:
    for name in (".hidden", ".git/objects/ab", ".cache/thumbnail", "deep/.DS_Store"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(saved("JPEG"))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "nowhere").symlink_to("gone")
    (tmp_path / "a").write_bytes(saved("JPEG"))
    (tmp_path / "link").symlink_to("a")
    (tmp_path / ".git" / "called so.jpg").write_bytes(saved("JPEG"))
    others = Counter[str]()
    found = list(walk_photos(tmp_path, others=others))
    assert found == [tmp_path / ".git" / "called so.jpg", tmp_path / "a", tmp_path / "link"]
    assert not others


def test_walk_photos_counts_only_files_of_classes(tmp_path: Path) -> None:
    for name in ("roses", "tulips"):
        fill(tmp_path / name)
    others = Counter[str]()
    assert len(find_photos(tmp_path, ["roses"], others=others)) == len(SUPPORTED)
    assert others.total() == len(UNSUPPORTED) + len(OTHERS)


def test_source_of_reader_version_1_finds_fewer_suffixes(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "z.jpg").write_bytes(saved("JPEG"))
    record = Source(tmp_path).record
    assert len(Source.of(record).read()[0]) == len(SUPPORTED) + 1
    del record["reading"]
    photos, skipped = Source.of(record).read()
    assert photos.names == (str(tmp_path / "z.jpg"),) and not skipped


def test_source_in_bucket_finds_photos_by_suffix(store: Any, tmp_path: Path) -> None:
    """Looking into the files would mean to fetch all of them."""
    place = BucketPath.of(store.uri(f"hue/{tmp_path.name}"))
    for key in ("a.jfif", "b.png", "c.heic", "d.NEF", "e", "f.txt"):
        (place / key).write(saved("PNG"))
    here = local_path(str(place))
    (here / "left here").parent.mkdir(parents=True)
    (here / "left here").write_bytes(saved("PNG"))
    photos, skipped = Source(here).read()
    assert [Path(name).name for name in photos.names] == ["a.jfif", "b.png"]
    assert skipped == [
        "1 HEIC photo: not a supported format; convert it to JPEG or PNG",
        "1 camera raw photo: not a supported format; develop it to JPEG or PNG",
    ]


@pytest.mark.parametrize(("name", "kind"), [("a.JPG", PHOTO), ("a.cr3", "camera raw"), ("a", OTHER), (".png", OTHER)])
def test_kind_of_name_without_content(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def files(folder: Path, **classes: int) -> list[Path]:
    """Write copies of one photo, so many for each class; return their paths in order."""
    for name, count in classes.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            (folder / name / f"{number:03}.jpg").write_bytes(saved("JPEG"))
    return find_photos(folder)


def by_class(paths: list[Path]) -> dict[str, int]:
    return dict(Counter(path.parent.name for path in paths))


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (20, {"daisy": 4, "dandelion": 4, "roses": 4, "sunflowers": 4, "tulips": 4}),
        (30, {"daisy": 7, "dandelion": 7, "roses": 7, "sunflowers": 7, "tulips": 2}),
        (1000, {"daisy": 9, "dandelion": 9, "roses": 9, "sunflowers": 9, "tulips": 2}),
    ],
)
def test_sample_photos_draws_evenly_from_classes(count: int, expected: dict, tmp_path: Path) -> None:
    files(tmp_path, daisy=9, dandelion=9, roses=9, sunflowers=9, tulips=2)
    paths = find_photos(tmp_path, limit=count, seed=3)
    if count == 20:
        expected["tulips"] = 2
        assert sum(by_class(paths).values()) == 20 and by_class(paths)["tulips"] == 2
        assert {by_class(paths)[name] for name in expected if name != "tulips"} == {4, 5}
    else:
        assert by_class(paths) == expected
    assert paths == sorted(paths)


def test_sample_photos_depends_on_seed_and_names_only(tmp_path: Path) -> None:
    paths = files(tmp_path / "a", daisy=30, roses=30)
    drawn = [tuple(sample_photos(paths, tmp_path / "a", 10, seed)) for seed in range(20)]
    assert len(set(drawn)) == 20 and sample_photos(paths, tmp_path / "a", 10, 7) == list(drawn[7])
    assert sample_photos(paths[::-1], tmp_path / "a", 10, 7) == list(drawn[7])[::-1], (
        "the order of the files does not matter"
    )
    there = files(tmp_path / "b" / "elsewhere", daisy=30, roses=30)
    again = sample_photos(there, tmp_path / "b" / "elsewhere", 10, 7)
    assert [path.name for path in again] == [path.name for path in drawn[7]], "the folder does not matter"
    held = Counter(path.name for paths in drawn for path in paths)
    assert len(held) == 30, "each photo is drawn for some seed"


def test_source_without_seed_takes_first_photos(tmp_path: Path) -> None:
    paths = files(tmp_path, daisy=3, roses=3)
    for path in paths:
        NOISE.rotate(30 * paths.index(path)).save(path)
    record = Source(tmp_path, limit=4, seed=5).record
    assert record["seed"] == 5
    drawn = Source.of(record).read()[0]
    assert by_class([Path(name) for name in drawn.names]) == {"daisy": 2, "roses": 2}
    del record["seed"], record["reading"]
    assert Source.of(record).read()[0].names == tuple(str(path) for path in paths[:4])


def test_class_counts_describes_classes() -> None:
    assert class_counts(["a/roses/1", "b/roses/1", "a/tulips/1"]) == "roses 2, tulips 1"
    assert class_counts(["roses/1", "roses/2"]) == class_counts([]) == ""
    assert class_counts([f"{number}/1" for number in range(30)] + ["0/2"]) == "30 classes, 1 to 2 photos each"


def test_search_with_limit_counts_each_class(
    in_process: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search gets the limited source; `launch` is replaced, because a real search takes long."""
    from huetune.search.session import runner

    sources: list[Source] = []

    def begin(*_: Any, source: Source, **__: Any) -> None:
        sources.append(source)
        raise StorageError("enough")

    monkeypatch.setattr(runner, "launch", begin)
    for number, path in enumerate(files(tmp_path / "flowers", daisy=9, roses=9)):
        NOISE.rotate(20 * number).save(path)
    words = ["--photos", tmp_path / "flowers", "--limit", 8, "--seed", 3, "--storage", tmp_path / "runs"]
    done = in_process("search", *words, "--trials", 1)
    assert (done.returncode, done.stderr) == (4, "huetune: enough\n")
    assert done.stdout.splitlines()[-1] == "by class: daisy 4, roses 4"
    assert sources == [Source(tmp_path / "flowers", limit=8, seed=3)]


def test_decomposed_names_equal_composed_names(tmp_path: Path) -> None:
    """macOS may store é as two code points. Classes, order and draws are the same in both forms."""
    drawn = []
    for form, other in (("NFC", "NFD"), ("NFD", "NFC")):
        folder = tmp_path / form
        for name in (*(f"rose/{letter}.jpg" for letter in "abc"), *(f"fanée/{letter}.jpg" for letter in "défghz")):
            path = folder / unicodedata.normalize(form, name)  # type: ignore[arg-type]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(saved("JPEG"))
        found = find_photos(folder, [unicodedata.normalize(other, "fanée")])  # type: ignore[arg-type]
        names = [unicodedata.normalize("NFC", path.name) for path in found]
        assert names == ["d.jpg", "f.jpg", "g.jpg", "h.jpg", "z.jpg", "é.jpg"]
        drawn.append(
            [
                unicodedata.normalize("NFC", str(path.relative_to(folder)))
                for seed in range(9)
                for path in find_photos(folder, limit=5, seed=seed)
            ]
        )
    assert drawn[0] == drawn[1]


def test_find_photos_suggests_similar_class(tmp_path: Path) -> None:
    files(tmp_path, daisy=1, roses=1, tulips=1)
    for word, nearest in (("rose", "roses"), ("tulip", "tulips")):
        with pytest.raises(PhotoError, match=f"no photos of class '{word}' in .*: did you mean '{nearest}'\\?$"):
            find_photos(tmp_path, [word])


def test_examples_use_classes_of_tf_flowers() -> None:
    """These are the classes that `huetune data fetch flowers` downloads."""
    root = Path(__file__).parents[3]
    texts = [
        root / "README.md",
        *(path for part in ("data_tools", "model", "results", "search") for path in (root / part).rglob("*.py")),
    ]
    named = set()
    for path in texts:
        for words in re.findall(r"(?:--classes |as in )([a-z]+(?:,[a-z]+)*)", path.read_text(encoding="utf-8")):
            named |= set(words.split(",")) if "rose" in words or "tulip" in words else set()
    assert named == {"roses", "tulips"}
