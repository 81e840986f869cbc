"""Each photo file is opened, read and decoded once. A child process counts this, where nothing else reads files."""

import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from huetune.data_tools.photos import discovery, file_types
from huetune.data_tools.photos.dataset import PhotoSet
from huetune.data_tools.photos.source import Source
from huetune.data_tools.photos.split import may_be_in_test_split, split
from tests.interpreter import output_of

COUNT = """
import collections, json, sys
from functools import partial
from pathlib import Path
from huetune.data_tools.photos import decoding
from huetune.data_tools.photos import split
from huetune.data_tools.photos.source import Source

folder = Path(sys.argv[1])
opens, decoded, as_before = collections.Counter(), [], decoding.decode

def count(event, details):
    if event == "open" and str(details[0]).startswith(f"{folder}/"):
        opens[str(details[0])] += 1

def counted(image, **options):
    decoded.append(image)
    return as_before(image, **options)

def read_bytes():
    with open("/proc/self/io") as file:
        return int(file.readline().split()[1])

# Read once before counting, so that modules imported in functions are loaded.
Source(Path(sys.argv[2])).read()
source = Source(folder)
sys.addaudithook(count)
decoding.decode = counted
before = read_bytes()
photos, skipped = source.read(**eval(sys.argv[3]))
between = len(decoded)
parts = split.split(photos, 7)
truth = source.read_rgb(parts.test)
print(json.dumps({
    "photos": len(photos), "skipped": len(skipped), "test": len(parts.test), "bytes": read_bytes() - before,
    "opens": [opens[str(path)] for path in sorted(folder.iterdir())], "decoded": len(decoded),
    "again": len(decoded) - between, "truth": [int(picture.sum()) for picture in truth],
}))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """30 different photos, about 3 MB, and one photo in another folder for the process to warm up."""
    rng = np.random.default_rng(0)
    for number in range(30):
        place = tmp_path / "photos" / f"{number:02}.png"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (180, 180, 3), np.uint8)).save(place)
    (tmp_path / "first").mkdir()
    Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(tmp_path / "first" / "1.png")
    return tmp_path / "photos"


TEST_SPLIT_ONLY = "keep_rgb=partial(split.may_be_in_test_split, 7)"


def counted(folder: Path, options: str = TEST_SPLIT_ONLY, cache: str = "cache") -> Any:
    command = ["-P", "-c", COUNT, str(folder), str(folder.with_name("first")), f"dict({options})"]
    environment = os.environ | {"HUETUNE_CACHE": cache and str(folder.with_name(cache))}
    return json.loads(output_of(*command, environment=environment))


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_source_reads_and_decodes_new_photos_once(folder: Path) -> None:
    """This includes the test split, whose RGB pixels the final check needs."""
    cold = counted(folder, cache="")
    assert cold["photos"] == 30 and cold["test"] == 3
    assert cold["opens"] == [1] * 30
    assert (cold["decoded"], cold["again"]) == (30, 0)
    # The process itself reads a little, too; reading the photos twice would be 6 MB.
    assert cold["bytes"] < 1.1 * size(folder)


def test_source_decodes_only_test_split_of_cached_photos(folder: Path) -> None:
    """The cache does not contain RGB pixels. Photos that were added to the folder are decoded, too."""
    cold = counted(folder)
    assert cold["opens"] == [1] * 30 and (cold["decoded"], cold["again"]) == (30, 0)
    assert cold["bytes"] < 1.1 * size(folder)
    warm = counted(folder)
    assert warm["decoded"] == warm["again"] == warm["test"] == 3
    assert sorted(warm["opens"]) == [1] * 27 + [2] * 3
    assert warm["truth"] == cold["truth"]
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (180, 180, 3), np.uint8)).save(folder / "00 new.png")
    more = counted(folder)
    assert more["photos"] == 31 and more["decoded"] - more["again"] == 1


def test_kept_rgb_is_bounded_and_not_pickled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels beyond the bound are read again, and workers do not get any."""
    from huetune.data_tools.cli.data_commands import every_photo
    from huetune.data_tools.photos import dataset

    paths = discovery.find_photos(folder)
    read, _ = dataset.load(paths, keep_rgb=every_photo)
    assert len(read.rgb) == 30 and set(read.rgb) == set(read.digests)
    assert not pickle.loads(pickle.dumps(read)).rgb
    np.testing.assert_array_equal(Source(folder).read_rgb(read), dataset.read_squares(paths))
    monkeypatch.setattr(dataset, "MAX_RGB_BYTES", 5 * 112 * 112 * 3)
    few, _ = dataset.load(paths, keep_rgb=every_photo)
    assert 5 <= len(few.rgb) < 5 + len(os.sched_getaffinity(0))
    np.testing.assert_array_equal(Source(folder).read_rgb(few), dataset.read_squares(paths))


@pytest.mark.parametrize("count", [3, 100, 20_000])
def test_may_be_in_test_split_covers_test_split(count: int) -> None:
    """Of 100,000 photos 12% are kept, so their RGB pixels fit in memory."""
    digests = tuple(hashlib.sha256(str(number).encode()).hexdigest() for number in range(count))
    empty = np.zeros((count, 0))
    parts = split(PhotoSet(digests, empty.astype(np.uint8), empty.astype(np.float32), digests), 3, hash_kind=None)
    chosen = {digest for digest in digests if may_be_in_test_split(3, digest, count)}
    assert set(parts.test.digests) <= chosen
    assert count < 20_000 or len(chosen) < 0.14 * count


def test_data_check_reads_head_of_each_file_once(
    folder: Path, in_process: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "00.png").rename(folder / "a photo")
    (folder / "notes.txt").write_text("no photo", encoding="utf-8")
    looked = []

    def read_head(path: str) -> bytes:
        looked.append(Path(path).name)
        return file_types.read_head(path)

    monkeypatch.setattr(discovery, "read_head", read_head)
    done = in_process("data", "check", folder)
    assert done.stdout.startswith("30 files: 30 usable photos (") and sorted(looked) == ["a photo", "notes.txt"]
