"""Of all machines that want a run in a bucket, one has it."""

import subprocess
import sys
import time

import pytest

from huetune.data_tools.common.errors import StorageError
from huetune.data_tools.storage import bucket_lease
from huetune.data_tools.storage.object_store import BucketPath

ABOUT = {"host": "here", "pid": 1, "user": "me", "since": "now"}
HOLD = """
import sys, time
from huetune.data_tools.storage.object_store import BucketPath
from huetune.data_tools.storage import bucket_lease
about = {"host": "elsewhere", "pid": 7, "user": "she", "since": "then"}
bucket_lease.HEARTBEAT_SECONDS = 0.5
with bucket_lease.lease_run(BucketPath.of(sys.argv[1]), about):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def run(store, tmp_path) -> BucketPath:
    return BucketPath.of(store.uri(f"hue/{tmp_path.name}"))


@pytest.fixture
def other(run):
    """Another process that holds the run."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_one_holds_and_the_other_names_it(run, other):
    words = (
        r"locked by process 7 \(user she\) on host elsewhere since then; wait for it or stop that process, whose lease"
    )
    with pytest.raises(StorageError, match=words), bucket_lease.lease_run(run, ABOUT):
        pass
    assert bucket_lease.lease_holder(run) == "process 7 (user she) on host elsewhere since then"
    assert len((run / bucket_lease.LEASES_FOLDER).list_objects()) == 1, "who was refused leaves nothing"


def test_who_died_is_followed(run, other, monkeypatch):
    monkeypatch.setattr(bucket_lease, "EXPIRY_SECONDS", 2.0)
    other.kill()
    with pytest.raises(StorageError, match="locked by"), bucket_lease.lease_run(run, ABOUT):
        pass
    time.sleep(3.5)
    with bucket_lease.lease_run(run, ABOUT):
        assert list((run / bucket_lease.LEASES_FOLDER).list_objects()) == [bucket_lease.LEASE_ID]


def test_who_is_known_to_have_died_is_followed_at_once(run, other):
    other.kill()
    (dead,) = (run / bucket_lease.LEASES_FOLDER).list_objects()
    with bucket_lease.lease_run(run, ABOUT, dead):
        pass


def test_who_leaves_frees_it(run):
    with bucket_lease.lease_run(run, ABOUT):
        assert bucket_lease.lease_holder(run) is None, "oneself is no other"
    assert (run / bucket_lease.LEASES_FOLDER).list_objects() == {}
    with bucket_lease.lease_run(run, ABOUT):
        pass


@pytest.fixture
def cut_off(store, network, tmp_path, monkeypatch):
    """A run that this process holds and has lost sight of, and the network that is to blame."""
    monkeypatch.setattr(bucket_lease, "HEARTBEAT_SECONDS", 0.01)  # so often that one falls into the midst of a check
    monkeypatch.setattr(bucket_lease, "LEASE_SECONDS", 1.0)
    run = BucketPath.of(store.uri(f"hue/{tmp_path.name}", network.port))
    with bucket_lease.lease_run(run, ABOUT):
        time.sleep(1.5)
        bucket_lease.check_lease(run)
        network.become("refuses")
        time.sleep(1.5)
        with pytest.raises(StorageError, match="cannot be written"):
            bucket_lease.check_lease(run)
        yield run, network
        network.become("fine")


def test_who_was_cut_off_asks_again(cut_off):
    run, network = cut_off
    network.become("fine")
    bucket_lease.check_lease(run)


def test_who_was_cut_off_and_replaced_holds_it_no_more(cut_off, store, monkeypatch, tmp_path):
    run, network = cut_off
    place = BucketPath.of(store.uri(f"hue/{tmp_path.name}"))
    (place / bucket_lease.LEASES_FOLDER).remove()
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(place)], stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    assert process.stdout and process.stdout.readline() == "held\n"
    network.become("fine")
    for _ in range(2):
        with pytest.raises(StorageError, match=r"now locked by process 7 \(user she\) on host elsewhere since then"):
            bucket_lease.check_lease(run)
    assert len((place / bucket_lease.LEASES_FOLDER).list_objects()) == 1
    process.kill()
    process.wait()
    process.stdout.close()
