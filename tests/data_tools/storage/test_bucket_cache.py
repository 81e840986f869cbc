"""The local copy of a bucket is what the bucket has."""

import io
import urllib.request

import pytest
from PIL import Image

from huetune.data_tools.common.errors import PhotoError, StorageError
from huetune.data_tools.datasets.synthetic_garden import garden
from huetune.data_tools.photos.source import Source
from huetune.data_tools.storage import bucket_cache
from huetune.data_tools.storage.atomic import atomic_folder
from huetune.data_tools.storage.checksums import SUMS_FILE, check_sums
from huetune.data_tools.storage.object_store import BucketPath


def test_bucket_path_of_local_path_is_the_bucket_path(place):
    path = bucket_cache.local_path(str(place))
    assert bucket_cache.bucket_path(path / "a" / "b") == place / "a" / "b"
    assert bucket_cache.location_of(path) == str(place)
    start, _, query = str(place).partition("?")
    turned = "&".join(reversed(query.split("&")))
    assert bucket_cache.local_path(f"{start}/?{turned}") == path


def test_functions_do_nothing_for_a_plain_folder(tmp_path):
    (tmp_path / "a").write_text("1", encoding="utf-8")
    assert bucket_cache.bucket_path(tmp_path) is None and bucket_cache.location_of(tmp_path) == str(tmp_path)
    bucket_cache.push(tmp_path)
    bucket_cache.pull(tmp_path)
    assert bucket_cache.list_paths(tmp_path, "*") == [tmp_path / "a"]
    bucket_cache.remove(tmp_path / "a")
    assert bucket_cache.list_paths(tmp_path, "*") == []


def test_pushed_folder_can_be_pulled_on_another_machine(place, monkeypatch, tmp_path):
    here = bucket_cache.local_path(str(place)) / "model"
    with atomic_folder(here) as draft:
        (draft / "weights").write_bytes(b"1" * 1000)
    bucket_cache.push(here)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
    there = bucket_cache.local_path(str(place)) / "model"
    assert there != here and bucket_cache.list_paths(there.parent, "*/*") == [there / SUMS_FILE, there / "weights"]
    bucket_cache.pull(there)
    check_sums(there)


def test_push_keeps_other_objects(place, store):
    for key in ("notes.txt", "theirs/model.bin"):
        (place / key).write(b"1")
    here = bucket_cache.local_path(str(place))
    here.mkdir(parents=True)
    (here / "sheet.png").write_bytes(b"1")
    bucket_cache.push(here)
    assert sorted(place.list_objects()) == ["notes.txt", "sheet.png", "theirs/model.bin"]
    bucket_cache.push(bucket_cache.local_path(store.uri("hue")))
    assert bucket_cache.MARKER_FILE not in BucketPath.of(store.uri("hue")).list_names()


def test_source_in_bucket_pulls_photos_and_leaves_runs_alone(place):
    """The study and the lock of a run that is being searched on this machine are only in the mirror."""
    file = io.BytesIO()
    Image.fromarray(garden(1)[0]).save(file, "png")
    for key in ("rose/a.png", "tulip/a.png", "runs/r/evaluation/sheet.png"):
        (place / key).write(file.getvalue())
    (place / "runs/r/manifest.json").write(b"{}")
    here = bucket_cache.local_path(str(place))
    (here / "runs" / "r" / "evaluation").mkdir(parents=True)
    mine = [here / "runs" / "r" / name for name in ("study.db", "lock", "evaluation/not-there-yet.png")]
    for path in mine:
        path.write_bytes(b"1")
    (here / "runs" / "r" / "trials" / "0000" / ".after-001").mkdir(parents=True)
    photos, left_out = Source(here, None, ("rose",)).read()
    assert len(photos) == 1 and not left_out and all(path.is_file() for path in mine)
    assert not (here / "tulip").exists() and (here / "runs" / "r" / "trials" / "0000" / ".after-001").is_dir()
    with pytest.raises(PhotoError, match=r"no photos of class 'lily' in .* it has evaluation, rose, tulip"):
        Source(here, None, ("lily",)).read()
    (place / "rose/a.png").remove()
    with pytest.raises(PhotoError, match=r"no photos of class 'rose' in .* it has evaluation, tulip"):
        Source(here, None, ("rose",)).read()


def test_interrupted_push_leaves_folder_without_checksums(broken, network, monkeypatch, tmp_path):
    here = bucket_cache.local_path(str(broken)) / "model"
    with atomic_folder(here) as draft:
        (draft / "weights").write_bytes(b"1" * 1000)
    write = BucketPath.write

    def break_off(place, content):
        if place.name == SUMS_FILE:
            network.set_state("refuses")
        write(place, content)

    monkeypatch.setattr(BucketPath, "write", break_off)
    with pytest.raises(StorageError):
        bucket_cache.push(here)
    network.set_state("fine")
    assert bucket_cache.list_paths(here, "*") == [here / "weights"]


def test_pull_updates_mirror_and_skips_current_files(place):
    here = bucket_cache.local_path(str(place))
    for name in ("kept/a", "changed/a", "gone/a"):
        (place / name).write(b"1")
    bucket_cache.pull(here)
    inode = (here / "kept" / "a").stat().st_ino
    (place / "changed/a").write(b"22")
    (place / "gone").remove()
    (here / "stray").mkdir()
    (here / "stray" / "a").write_bytes(b"1")
    bucket_cache.pull(here)
    files = {path.relative_to(here).as_posix(): path.read_bytes() for path in here.rglob("*") if path.is_file()}
    assert files == {"kept/a": b"1", "changed/a": b"22"}
    assert (here / "kept" / "a").stat().st_ino == inode, "was downloaded again"
    bucket_cache.pull(here, force=True)
    assert (here / "kept" / "a").stat().st_ino != inode


def test_pull_with_pattern_leaves_other_files_alone(place):
    here = bucket_cache.local_path(str(place))
    for name in ("after-001/a", "epoch-001/a"):
        (place / name).write(b"1")
    (here / "epoch-000").mkdir(parents=True)
    (here / "epoch-000" / "a").write_bytes(b"1")
    bucket_cache.pull(here, "after-*")
    assert sorted(path.name for path in here.iterdir()) == ["after-001", "epoch-000"]


def test_pull_refuses_key_that_leads_out_of_the_mirror(place, store):
    # No S3 client would write such a key.
    where = f"http://127.0.0.1:{store.port}/hue/{place.name}/%2E%2E/%2E%2E/canary"
    urllib.request.urlopen(urllib.request.Request(where, b"1", method="PUT")).close()
    here = bucket_cache.local_path(str(place))
    with pytest.raises(StorageError, match="the key cannot be used as a path"):
        bucket_cache.pull(here)
    assert not list(here.parents[2].rglob("canary"))
