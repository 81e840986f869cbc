"""A bucket gives back what was put there, whatever is between it and us; its mirror is what it has."""

import io
import threading
import time

import pytest
from PIL import Image

from huetune.data_tools.common.errors import PhotoError, StorageError, UserError
from huetune.data_tools.datasets.synthetic_garden import garden
from huetune.data_tools.photos.source import Source
from huetune.data_tools.storage import bucket_cache
from huetune.data_tools.storage import object_store as buckets
from huetune.data_tools.storage.atomic import atomic_folder
from huetune.data_tools.storage.checksums import SUMS_FILE, check_sums
from huetune.data_tools.storage.object_store import BucketPath


@pytest.fixture
def place(store, tmp_path) -> BucketPath:
    """A place of this test's own."""
    return BucketPath.of(store.uri(f"hue/{tmp_path.name}"))


@pytest.fixture
def broken(store, network, tmp_path) -> BucketPath:
    """The same through a network that can be broken."""
    return BucketPath.of(store.uri(f"hue/{tmp_path.name}", network.port))


def test_what_is_put_there_is_there(place):
    (place / "a" / "b?#ü .bin").write(b"\0\1\2" * 50_000)
    assert (place / "a" / "b?#ü .bin").read() == b"\0\1\2" * 50_000
    assert list((place / "a").list_objects()) == ["b?#ü .bin"]
    assert (place / "a").list_objects()["b?#ü .bin"].size_bytes == 150_000
    assert place.list_names() == ["a"]
    (place / "a").remove()
    assert place.list_objects() == {} and (place / "a").version_tag() is None
    (place / "a").remove()
    with pytest.raises(FileNotFoundError):
        (place / "a").read()


def test_another_object_has_another_tag(place):
    (place / "a").write(b"1")
    first = (place / "a").version_tag()
    assert (place / "a").version_tag() == first
    (place / "a").write(b"2")
    assert (place / "a").version_tag() != first


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("s3://", "is not a path in a bucket"),
        ("s3:///runs", "is not a path in a bucket"),
        ("s3://hue/../other", "is not a path in a bucket"),
        ("s3://hue//runs", "is not a path in a bucket"),
        ("s3://hue/\x1b[31m", "is not a path in a bucket"),
        ("s3://key:secret@hue/runs", "AWS_ACCESS_KEY_ID"),
        ("s3://hue/runs?secret_key=x", "not 'secret_key'"),
        ("s3://hue/runs?scheme=", "each with a value"),
        ("s3://hue/runs?scheme=ftp", "the scheme must be http or https"),
    ],
)
def test_another_uri_is_refused(uri, why):
    with pytest.raises(UserError, match=why) as refused:
        BucketPath.of(uri)
    assert "secret@" not in str(refused.value) and "\x1b" not in str(refused.value)


def test_no_such_bucket(store):
    with pytest.raises(StorageError, match="there is no bucket 'other'"):
        BucketPath.of(store.uri("other/runs")).check_reachable()


def test_nobody_answers_and_nobody_waits(broken, network):
    network.become("refuses")
    began = time.monotonic()
    with pytest.raises(StorageError, match="cannot be reached"):
        broken.check_reachable()
    assert time.monotonic() - began < buckets.RETRY_SECONDS


@pytest.mark.parametrize("state", ["refuses", "hangs"])
def test_a_store_that_comes_back_was_never_away(broken, network, state, monkeypatch):
    monkeypatch.setattr(buckets, "RETRY_SECONDS", 30.0)  # the timer's thread may have to wait for its turn
    network.become(state)
    threading.Timer(0.5, network.become, ["fine"]).start()
    (broken / "a").write(b"1")
    assert (broken / "a").read() == b"1"


@pytest.mark.parametrize("state", ["refuses", "hangs"])
def test_patience_ends(broken, network, state):
    (broken / "a").write(b"1")
    network.become(state)
    with pytest.raises(StorageError, match=r"'s3://hue/.*/a\?.*': cannot be written \(.+\)$"):
        (broken / "a").write(b"2")
    network.become("fine")
    assert (broken / "a").read() == b"1"


@pytest.mark.parametrize(
    "code",
    ["AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidSignature", "IncompleteSignature"],
)
def test_what_is_forbidden_is_not_asked_again(broken, network, code):
    """The code is read from what the real pyarrow says: this fails where another version says it in other words."""
    network.code = code
    network.become("forbids")
    began = time.monotonic()
    with pytest.raises(StorageError, match="access is denied"):
        (broken / "a").write(b"2")
    assert time.monotonic() - began < buckets.RETRY_SECONDS


@pytest.mark.parametrize("name", ["FORBIDDEN", "ACCESS_DENIED", "SIGNATURE", "NO_SUCH_BUCKET"])
def test_name_like_an_error_code_is_only_a_name(broken, network, monkeypatch, name):
    """An outage under such a key counted as a refusal, or as a bucket that is not there, and was not waited for."""
    monkeypatch.setattr(buckets, "RETRY_SECONDS", 0.2)
    network.become("refuses")
    with pytest.raises(StorageError, match=r"cannot be written \(.*onnect.*\)$") as raised:
        (broken / name).write(b"1")
    assert "access is denied" not in str(raised.value) and "create it first" not in str(raised.value)


def test_write_to_a_missing_bucket_names_the_bucket(store):
    """Here, too, pyarrow has only words for it."""
    with pytest.raises(StorageError, match="there is no bucket 'other'; create it first"):
        BucketPath.of(store.uri("other/runs/a")).write(b"1")


def test_half_an_answer_is_none(broken, network):
    content = bytes(range(256)) * 4000
    (broken / "a").write(content)
    network.most_cuts = 2
    network.become("cut")
    assert (broken / "a").read() == content
    assert network.cuts == 2
    network.most_cuts = 10**9
    with pytest.raises(StorageError, match="cannot be read"):
        (broken / "a").read()


def test_a_path_in_a_mirror_is_a_place_in_its_bucket(place):
    path = bucket_cache.local_path(str(place))
    assert bucket_cache.bucket_path(path / "a" / "b") == place / "a" / "b"
    assert bucket_cache.location_of(path) == str(place)
    start, _, query = str(place).partition("?")
    turned = "&".join(reversed(query.split("&")))
    assert bucket_cache.local_path(f"{start}/?{turned}") == path


def test_a_plain_folder_has_no_bucket(tmp_path):
    (tmp_path / "a").write_text("1", encoding="utf-8")
    assert bucket_cache.bucket_path(tmp_path) is None and bucket_cache.location_of(tmp_path) == str(tmp_path)
    bucket_cache.push(tmp_path)
    bucket_cache.pull(tmp_path)
    assert bucket_cache.list_paths(tmp_path, "*") == [tmp_path / "a"]
    bucket_cache.remove(tmp_path / "a")
    assert bucket_cache.list_paths(tmp_path, "*") == []


def test_another_machine_sees_what_was_put_there(place, monkeypatch, tmp_path):
    here = bucket_cache.local_path(str(place)) / "model"
    with atomic_folder(here) as draft:
        (draft / "weights").write_bytes(b"1" * 1000)
    bucket_cache.push(here)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
    there = bucket_cache.local_path(str(place)) / "model"
    assert there != here and bucket_cache.list_paths(there.parent, "*/*") == [there / SUMS_FILE, there / "weights"]
    bucket_cache.pull(there)
    check_sums(there)


def test_what_else_is_in_a_place_stays_there(place, store):
    for key in ("notes.txt", "theirs/model.bin"):
        (place / key).write(b"1")
    here = bucket_cache.local_path(str(place))
    here.mkdir(parents=True)
    (here / "sheet.png").write_bytes(b"1")
    bucket_cache.push(here)
    assert sorted(place.list_objects()) == ["notes.txt", "sheet.png", "theirs/model.bin"]
    bucket_cache.push(bucket_cache.local_path(store.uri("hue")))
    assert bucket_cache.MARKER_FILE not in BucketPath.of(store.uri("hue")).list_names()


def test_photos_are_fetched_and_runs_beneath_them_let_be(place):
    """The study and the lock of a run that is searched from here are in no bucket."""
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


def test_a_folder_that_was_cut_short_is_not_whole(broken, network, monkeypatch, tmp_path):
    here = bucket_cache.local_path(str(broken)) / "model"
    with atomic_folder(here) as draft:
        (draft / "weights").write_bytes(b"1" * 1000)
    write = BucketPath.write

    def break_off(place, content):
        if place.name == SUMS_FILE:
            network.become("refuses")
        write(place, content)

    monkeypatch.setattr(BucketPath, "write", break_off)
    with pytest.raises(StorageError):
        bucket_cache.push(here)
    network.become("fine")
    assert bucket_cache.list_paths(here, "*") == [here / "weights"]


def test_pull_makes_the_mirror_what_the_bucket_is(place):
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
    assert (here / "kept" / "a").stat().st_ino == inode, "fetched again"
    bucket_cache.pull(here, force=True)
    assert (here / "kept" / "a").stat().st_ino != inode


def test_only_what_is_wanted_is_pulled(place):
    here = bucket_cache.local_path(str(place))
    for name in ("after-001/a", "epoch-001/a"):
        (place / name).write(b"1")
    (here / "epoch-000").mkdir(parents=True)
    (here / "epoch-000" / "a").write_bytes(b"1")
    bucket_cache.pull(here, "after-*")
    assert sorted(path.name for path in here.iterdir()) == ["after-001", "epoch-000"]


def test_a_key_that_climbs_out_is_no_file(place, store):
    import urllib.request

    # No library of ours would write such a key.
    where = f"http://127.0.0.1:{store.port}/hue/{place.name}/%2E%2E/%2E%2E/canary"
    urllib.request.urlopen(urllib.request.Request(where, b"1", method="PUT")).close()
    here = bucket_cache.local_path(str(place))
    with pytest.raises(StorageError, match="the key cannot be used as a path"):
        bucket_cache.pull(here)
    assert not list(here.parents[2].rglob("canary"))
