"""An object store is read and written reliably over a network that fails."""

import threading
import time

import pytest

from huetune.data_tools.common.errors import StorageError, UserError
from huetune.data_tools.storage import object_store
from huetune.data_tools.storage.object_store import BucketPath


def test_written_object_can_be_read_listed_and_removed(place):
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


def test_version_tag_differs_for_each_version(place):
    (place / "a").write(b"1")
    first = (place / "a").version_tag()
    assert (place / "a").version_tag() == first
    (place / "a").write(b"2")
    assert (place / "a").version_tag() != first


@pytest.mark.parametrize(
    ("uri", "message"),
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
def test_invalid_uri_is_refused(uri, message):
    with pytest.raises(UserError, match=message) as refused:
        BucketPath.of(uri)
    assert "secret@" not in str(refused.value) and "\x1b" not in str(refused.value)


def test_check_reachable_without_bucket_names_the_bucket(store):
    with pytest.raises(StorageError, match="there is no bucket 'other'"):
        BucketPath.of(store.uri("other/runs")).check_reachable()


def test_check_reachable_does_not_retry(broken, network):
    network.set_state("refuses")
    began = time.monotonic()
    with pytest.raises(StorageError, match="cannot be reached"):
        broken.check_reachable()
    assert time.monotonic() - began < object_store.RETRY_SECONDS


@pytest.mark.parametrize("state", ["refuses", "hangs"])
def test_write_is_retried_until_the_store_is_back(broken, network, state, monkeypatch):
    monkeypatch.setattr(object_store, "RETRY_SECONDS", 30.0)  # on a busy machine the timer may be late
    network.set_state(state)
    threading.Timer(0.5, network.set_state, ["fine"]).start()
    (broken / "a").write(b"1")
    assert (broken / "a").read() == b"1"


@pytest.mark.parametrize("state", ["refuses", "hangs"])
def test_write_fails_when_retries_end(broken, network, state):
    (broken / "a").write(b"1")
    network.set_state(state)
    with pytest.raises(StorageError, match=r"'s3://hue/.*/a\?.*': cannot be written \(.+\)$"):
        (broken / "a").write(b"2")
    network.set_state("fine")
    assert (broken / "a").read() == b"1"


@pytest.mark.parametrize(
    "code",
    ["AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidSignature", "IncompleteSignature"],
)
def test_denied_access_is_not_retried(broken, network, code):
    """The error code is read from a message of the real pyarrow: this fails if a new version words it differently."""
    network.code = code
    network.set_state("forbids")
    began = time.monotonic()
    with pytest.raises(StorageError, match="access is denied"):
        (broken / "a").write(b"2")
    assert time.monotonic() - began < object_store.RETRY_SECONDS


@pytest.mark.parametrize("name", ["FORBIDDEN", "ACCESS_DENIED", "SIGNATURE", "NO_SUCH_BUCKET"])
def test_key_that_looks_like_an_error_code_is_only_a_key(broken, network, monkeypatch, name):
    """An outage with such a key counted as denied access or as a missing bucket, and was not retried."""
    monkeypatch.setattr(object_store, "RETRY_SECONDS", 0.2)
    network.set_state("refuses")
    with pytest.raises(StorageError, match=r"cannot be written \(.*onnect.*\)$") as raised:
        (broken / name).write(b"1")
    assert "access is denied" not in str(raised.value) and "create it first" not in str(raised.value)


def test_write_to_a_missing_bucket_names_the_bucket(store):
    """For this error, too, pyarrow has only a message."""
    with pytest.raises(StorageError, match="there is no bucket 'other'; create it first"):
        BucketPath.of(store.uri("other/runs/a")).write(b"1")


def test_truncated_answer_is_read_again(broken, network):
    content = bytes(range(256)) * 4000
    (broken / "a").write(content)
    network.max_cuts = 2
    network.set_state("cut")
    assert (broken / "a").read() == content
    assert network.cuts == 2
    network.max_cuts = 10**9
    with pytest.raises(StorageError, match="cannot be read"):
        (broken / "a").read()
