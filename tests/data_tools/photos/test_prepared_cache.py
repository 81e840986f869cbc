"""The cache of prepared photos: photos are found by content, and no damage to the cache changes what `load` returns."""

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from huetune.data_tools.photos import dataset, decoding
from huetune.data_tools.photos.dataset import PhotoSet, load
from huetune.data_tools.photos.decoding import MAX_BUFFERED_BYTES, open_photo
from huetune.data_tools.photos.discovery import find_photos
from huetune.data_tools.photos.prepared_cache import MAX_CACHED_SETS, PreparedPhoto, default_cache_folder, write_set


def noise(seed: int, path: Path) -> None:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (48, 40, 3), np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two photos, a gray one between them, and a file that is not a photo."""
    folder = tmp_path / "photos"
    folder.mkdir()
    noise(1, folder / "1.png")
    Image.new("L", (40, 30), 90).save(folder / "2 gray.png")
    noise(3, folder / "3.png")
    (folder / "4.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "prepared"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded, recorded by a wrapper of `open_photo`."""
    names: list[str] = []

    def read(path: Path, **options: Any) -> Any:
        names.append(path.name)
        return open_photo(path, **options)

    monkeypatch.setattr(dataset, "open_photo", read)
    return names


def only_set(cache: Path) -> Path:
    (entry,) = cache.iterdir()
    return entry


def assert_same(loaded: tuple[PhotoSet, list[str]], expected: tuple[PhotoSet, list[str]]) -> None:
    read, wanted = loaded[0], expected[0]
    assert (read.names, read.digests, loaded[1]) == (wanted.names, wanted.digests, expected[1])
    assert (read.gray.dtype, read.chroma.dtype) == (np.uint8, np.float32)
    assert (read.gray.shape, read.chroma.shape) == (wanted.gray.shape, wanted.chroma.shape)
    assert read.gray.tobytes() == wanted.gray.tobytes()
    assert read.chroma.tobytes() == wanted.chroma.tobytes()


@pytest.mark.parametrize("color_only", [True, False])
def test_load_from_cache_equals_first_load(folder: Path, cache: Path, decoded: list[str], color_only: bool) -> None:
    paths = find_photos(folder)
    expected = load(paths, color_only=color_only)
    assert (len(expected[0]), len(expected[1])) == ((2, 2) if color_only else (3, 1))
    assert_same(load(paths, color_only=color_only, cache=cache), expected)
    decoded.clear()
    assert_same(load(paths, color_only=color_only, cache=cache), expected)
    assert decoded == []


def test_cached_set_serves_load_with_gray_photos(folder: Path, cache: Path, decoded: list[str]) -> None:
    paths = find_photos(folder)
    load(paths, cache=cache)
    expected = load(paths, color_only=False)
    decoded.clear()
    assert_same(load(paths, color_only=False, cache=cache), expected)
    assert decoded == []


def test_renamed_files_are_found_in_cache(folder: Path, cache: Path, decoded: list[str], tmp_path: Path) -> None:
    load(find_photos(folder), cache=cache)
    moved = tmp_path / "elsewhere" / "deep"
    moved.mkdir(parents=True)
    for path in folder.iterdir():
        shutil.copyfile(path, moved / f"new {path.name}")
        os.utime(moved / f"new {path.name}", (0, 0))
    decoded.clear()
    read, skipped = load(find_photos(moved), cache=cache)
    assert decoded == []
    assert read.names == (str(moved / "new 1.png"), str(moved / "new 3.png"))
    assert skipped == [
        f"{str(moved / 'new 2 gray.png')!r}: gray: there are no colors to learn; use a color version or remove it",
        f"{str(moved / 'new 4.jpg')!r}: {decoding.NOT_A_PHOTO}",
    ]


def test_load_returns_cached_arrays(folder: Path, cache: Path) -> None:
    load(find_photos(folder), cache=cache)
    with np.load(only_set(cache)) as file:
        arrays = dict(file)
    arrays["chroma"][0, 3, 4] = 0.25, -0.5
    np.savez(only_set(cache), **arrays)
    read, _ = load(find_photos(folder), cache=cache)
    assert read.chroma[0, 3, 4].tolist() == [0.25, -0.5]


def test_files_that_swap_names_swap_outcomes(folder: Path, cache: Path) -> None:
    load(find_photos(folder), cache=cache)
    (folder / "1.png").rename(folder / "x")
    (folder / "3.png").rename(folder / "1.png")
    (folder / "x").rename(folder / "3.png")
    assert_same(load(find_photos(folder), cache=cache), load(find_photos(folder)))


def test_changed_byte_is_not_found_in_cache(folder: Path, cache: Path, decoded: list[str]) -> None:
    """The file keeps its size and time, so only its content differs. Unchanged files are not decoded again."""
    noise(5, folder / "5.bmp")
    load(find_photos(folder), cache=cache)
    before = (folder / "5.bmp").stat()
    flip_a_byte(folder / "5.bmp")
    os.utime(folder / "5.bmp", ns=(before.st_atime_ns, before.st_mtime_ns))
    decoded.clear()
    loaded = load(find_photos(folder), cache=cache)
    assert decoded == ["5.bmp"]
    assert_same(loaded, load(find_photos(folder)))
    assert len(list(cache.iterdir())) == 2


def rewritten(entry: Path, **changes: np.ndarray | None) -> None:
    with np.load(entry) as file:
        arrays = {name: array for name, array in (dict(file) | changes).items() if array is not None}
    np.savez(entry, **arrays)


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "of format 1": lambda entry: rewritten(entry, contents=None),
    "sums of other files": lambda entry: rewritten(entry, contents=np.zeros((4, 32), np.uint8)),
    "short sums": lambda entry: rewritten(entry, contents=np.zeros((4, 31), np.uint8)),
    "cut in half": lambda entry: os.truncate(entry, entry.stat().st_size // 2),
    "cut by a byte": lambda entry: os.truncate(entry, entry.stat().st_size - 1),
    "empty": lambda entry: os.truncate(entry, 0),
    "text": lambda entry: entry.write_text("a rose is a rose is a rose", encoding="utf-8"),
    "a flipped byte": flip_a_byte,
    "one bare array": lambda entry: np.save(entry.open("wb"), np.zeros(3)),
    "a missing array": lambda entry: rewritten(entry, grey=None),
    "numbers for reasons": lambda entry: rewritten(
        entry,
        reasons=np.ones(4),
        grey=np.zeros((0, 112, 112), np.uint8),
        chroma=np.zeros((0, 14, 14, 2), np.float32),
        digests=np.zeros((0, 32), np.uint8),
        sides=np.zeros(0, np.int64),
        notes=np.zeros(0, np.str_),
    ),
    "a missing size": lambda entry: rewritten(entry, sides=np.array([40, 48])),
    "a missing note": lambda entry: rewritten(entry, notes=np.array(["", ""])),
    "numbers for notes": lambda entry: rewritten(entry, notes=np.zeros(3)),
    "too few files": lambda entry: rewritten(entry, reasons=np.array(["", "", ""])),
    "too few photos": lambda entry: rewritten(entry, reasons=np.array(["", "no", "", "no"])),
    "a wrong size": lambda entry: rewritten(entry, grey=np.zeros((3, 112, 111), np.uint8)),
    "another number": lambda entry: rewritten(entry, chroma=np.zeros((2, 14, 14, 2), np.float32)),
    "a wrong type": lambda entry: rewritten(entry, chroma=np.zeros((3, 14, 14, 2), np.float64)),
    "short digests": lambda entry: rewritten(entry, digests=np.zeros((3, 31), np.uint8)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_set_is_replaced(folder: Path, cache: Path, damage: str) -> None:
    expected = load(find_photos(folder), cache=cache)
    whole = only_set(cache).read_bytes()
    DAMAGES[damage](only_set(cache))
    assert only_set(cache).read_bytes() != whole
    assert_same(load(find_photos(folder), cache=cache), expected)
    assert only_set(cache).read_bytes() == whole


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_pickles_in_cached_set_are_not_loaded(folder: Path, cache: Path, tmp_path: Path) -> None:
    expected = load(find_photos(folder), cache=cache)
    rewritten(only_set(cache), reasons=np.array([Trap(tmp_path / "sprung")] * 4, object))
    assert_same(load(find_photos(folder), cache=cache), expected)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("place", ["a file", "a file/below"])
def test_unwritable_cache_is_ignored(folder: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "a file").write_text("mine", encoding="utf-8")
    assert_same(load(find_photos(folder), cache=tmp_path / place), load(find_photos(folder)))
    assert (tmp_path / "a file").read_text(encoding="utf-8") == "mine"


@pytest.mark.timeout(60, method="thread")  # opening a pipe blocks forever and ignores signals
@pytest.mark.parametrize("name", ["missing.jpg", "folder.jpg", "pipe.jpg"])
def test_set_with_missing_file_is_not_cached(folder: Path, cache: Path, name: str) -> None:
    (folder / "folder.jpg").mkdir()
    os.mkfifo(folder / "pipe.jpg")
    paths = [folder / name, folder / "1.png"]
    expected = load(paths)
    assert expected[1] == [f"{str(folder / name)!r}: no such file, or not a regular file; replace or remove it"]
    assert_same(load(paths, cache=cache), expected)
    assert not cache.exists()


def test_temporary_failure_is_not_cached(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A photo that was skipped for lack of memory or of open files would otherwise stay skipped."""
    paths = find_photos(folder)
    decode, first = Image.open, (folder / "1.png").read_bytes()
    for error in (OSError(errno.EMFILE, "Too many open files"), MemoryError()):
        with monkeypatch.context() as patch:

            def fail(file: BytesIO, error: Exception = error, **options: object) -> Image.Image:
                if file.getvalue() == first:
                    raise error
                return decode(file)

            patch.setattr(Image, "open", fail)
            assert len(load(paths, cache=cache)[0]) == 1
        assert not cache.exists()
    assert len(load(paths, cache=cache)[0]) == 2


@pytest.mark.parametrize("most", [MAX_BUFFERED_BYTES, 0])
def test_file_that_changes_while_read_is_cached_as_read(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """A file that is too large to be buffered is cached only if it did not change."""
    monkeypatch.setattr(decoding, "MAX_BUFFERED_BYTES", most)
    before = {path: path.read_bytes() for path in find_photos(folder)}
    decode = decoding.decode

    def change(image: Image.Image, **options: Any) -> Any:
        found = decode(image, **options)
        noise(5, folder / "1.png")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(decoding, "decode", change)
        load(list(before), cache=cache)
    assert cache.exists() == (most > 0)
    assert_same(load(list(before), cache=cache), load(list(before)))
    for path, content in before.items():
        path.write_bytes(content)
    assert_same(load(list(before), cache=cache), load(list(before)))


def test_progress_reaches_total_with_and_without_cache(folder: Path, cache: Path) -> None:
    paths = find_photos(folder)
    for _ in range(2):
        counted: list[object] = []

        def count(results: Iterable, counted: list[object] = counted) -> Iterator:
            for result in results:
                counted.append(result)
                yield result

        load(paths, progress=count, cache=cache)
        assert len(counted) == len(paths)


def test_cached_sets_are_private(folder: Path, cache: Path) -> None:
    mask = os.umask(0)
    try:
        load(find_photos(folder), cache=cache)
    finally:
        os.umask(mask)
    assert cache.stat().st_mode & 0o777 == 0o700
    assert only_set(cache).stat().st_mode & 0o777 == 0o600


def test_least_recently_used_set_is_deleted(folder: Path, cache: Path, decoded: list[str]) -> None:
    assert MAX_CACHED_SETS == 16
    photo = find_photos(folder)[:1]
    entries: list[Path] = []
    for copies in range(1, MAX_CACHED_SETS + 1):
        load(photo * copies, cache=cache)
        (new,) = set(cache.iterdir()) - set(entries)
        os.utime(new, (copies, copies))
        entries.append(new)
    for mine in ("notes.txt", "mine.npz"):
        (cache / mine).write_text("mine", encoding="utf-8")
        os.utime(cache / mine, (0, 0))
    load(photo, cache=cache)  # the oldest set is used again
    load(photo * (MAX_CACHED_SETS + 1), cache=cache)
    kept = set(cache.iterdir())
    assert len(kept) == MAX_CACHED_SETS + 2
    assert entries[0] in kept and entries[1] not in kept and kept > set(entries[2:])
    assert {cache / "notes.txt", cache / "mine.npz"} < kept
    decoded.clear()
    load(photo, cache=cache)
    assert decoded == []


def test_abandoned_drafts_are_deleted(folder: Path, cache: Path) -> None:
    cache.mkdir(parents=True)
    drafts = [cache / f"{index:064}.x_{index}.npz" for index in range(MAX_CACHED_SETS)]
    for index, draft in enumerate(drafts):
        draft.write_bytes(b"half a set")
        os.utime(draft, (index, index))
    load(find_photos(folder), cache=cache)
    assert not drafts[0].exists() and drafts[1].exists()
    assert len(list(cache.iterdir())) == MAX_CACHED_SETS


def test_cached_set_appears_atomically(cache: Path) -> None:
    rng = np.random.default_rng(0)
    photo = PreparedPhoto(rng.integers(0, 256, (112, 112), np.uint8), np.zeros((14, 14, 2), np.float32), "ab" * 32)
    key, sums = "0" * 64, [bytes(32)] * 200
    write_set(cache, key, sums, [photo] * 200)
    whole = only_set(cache).read_bytes()
    with ThreadPoolExecutor(3) as pool:
        writing = [pool.submit(write_set, cache, key, sums, [photo] * 200) for _ in range(30)]
        while not all(done.done() for done in writing):
            assert (cache / f"{key}.npz").read_bytes() == whole
    assert only_set(cache).read_bytes() == whole


def test_concurrent_writers_leave_complete_set(folder: Path, cache: Path) -> None:
    paths = find_photos(folder)
    expected = load(paths)
    for _ in range(5):
        with ThreadPoolExecutor(6) as pool:
            for loaded in pool.map(lambda _: load(paths, cache=cache), range(12)):
                assert_same(loaded, expected)
        only_set(cache).unlink()


@pytest.mark.parametrize(
    ("chosen", "shared", "expected"),
    [
        (None, None, "/home/rose/.cache/huetune/prepared"),
        (None, "", "/home/rose/.cache/huetune/prepared"),
        (None, "not/absolute", "/home/rose/.cache/huetune/prepared"),
        (None, "/var/caches", "/var/caches/huetune/prepared"),
        ("/mine", "/var/caches", "/mine/prepared"),
        ("", "/var/caches", None),
    ],
)
def test_default_cache_folder_follows_environment(
    chosen: str | None, shared: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/rose")
    for name, value in (("HUETUNE_CACHE", chosen), ("XDG_CACHE_HOME", shared)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert default_cache_folder() == (Path(expected) if expected else None)
