"""Of all machines that request the lease of a run in a bucket, one gets it."""

import subprocess
import sys
import time

import pytest

from huetune.data_tools.common.errors import StorageError
from huetune.data_tools.storage import bucket_lease
from huetune.data_tools.storage.object_store import BucketPath

DETAILS = {"host": "here", "pid": 1, "user": "me", "since": "now"}
LEASE = """
import sys, time
from huetune.data_tools.storage.object_store import BucketPath
from huetune.data_tools.storage import bucket_lease
about = {"host": "elsewhere", "pid": 7, "user": "she", "since": "then"}
bucket_lease.HEARTBEAT_SECONDS = 0.5
with bucket_lease.lease_run(BucketPath.of(sys.argv[1]), about):
    print("leased", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def run(store, tmp_path) -> BucketPath:
    return BucketPath.of(store.uri(f"hue/{tmp_path.name}"))


@pytest.fixture
def other(run):
    """Another process that has the lease."""
    process = subprocess.Popen(
        [sys.executable, "-c", LEASE, str(run)], stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    assert process.stdout
    assert process.stdout.readline() == "leased\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_lease_run_of_leased_run_names_the_holder(run, other):
    words = (
        r"locked by process 7 \(user she\) on host elsewhere since then; wait for it or stop that process, whose lease"
    )
    with pytest.raises(StorageError, match=words), bucket_lease.lease_run(run, DETAILS):
        pass
    assert bucket_lease.lease_holder(run) == "process 7 (user she) on host elsewhere since then"
    assert len((run / bucket_lease.LEASES_FOLDER).list_objects()) == 1, "the refused request is removed"


def test_lease_of_dead_process_expires(run, other, monkeypatch):
    monkeypatch.setattr(bucket_lease, "EXPIRY_SECONDS", 2.0)
    other.kill()
    with pytest.raises(StorageError, match="locked by"), bucket_lease.lease_run(run, DETAILS):
        pass
    time.sleep(3.5)
    with bucket_lease.lease_run(run, DETAILS):
        assert list((run / bucket_lease.LEASES_FOLDER).list_objects()) == [bucket_lease.LEASE_ID]


def test_lease_of_known_dead_process_is_taken_at_once(run, other):
    other.kill()
    (ended,) = (run / bucket_lease.LEASES_FOLDER).list_objects()
    with bucket_lease.lease_run(run, DETAILS, ended):
        pass


def test_lease_is_released_at_the_end(run):
    with bucket_lease.lease_run(run, DETAILS):
        assert bucket_lease.lease_holder(run) is None, "its own lease does not count"
    assert (run / bucket_lease.LEASES_FOLDER).list_objects() == {}
    with bucket_lease.lease_run(run, DETAILS):
        pass


@pytest.fixture
def cut_off(store, network, tmp_path, monkeypatch):
    """A run that this process has leased but cannot reach any more, and the proxy in between."""
    monkeypatch.setattr(bucket_lease, "HEARTBEAT_SECONDS", 0.01)  # so short that a renewal happens during a check
    monkeypatch.setattr(bucket_lease, "LEASE_SECONDS", 1.0)
    run = BucketPath.of(store.uri(f"hue/{tmp_path.name}", network.port))
    with bucket_lease.lease_run(run, DETAILS):
        time.sleep(1.5)
        bucket_lease.check_lease(run)
        network.set_state("refuses")
        time.sleep(1.5)
        with pytest.raises(StorageError, match="cannot be written"):
            bucket_lease.check_lease(run)
        yield run, network
        network.set_state("fine")


def test_check_lease_after_an_outage_renews_it(cut_off):
    run, network = cut_off
    network.set_state("fine")
    bucket_lease.check_lease(run)


def test_check_lease_after_a_takeover_names_the_new_holder(cut_off, store, monkeypatch, tmp_path):
    run, network = cut_off
    place = BucketPath.of(store.uri(f"hue/{tmp_path.name}"))
    (place / bucket_lease.LEASES_FOLDER).remove()
    process = subprocess.Popen(
        [sys.executable, "-c", LEASE, str(place)], stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    assert process.stdout and process.stdout.readline() == "leased\n"
    network.set_state("fine")
    for _ in range(2):
        with pytest.raises(StorageError, match=r"now locked by process 7 \(user she\) on host elsewhere since then"):
            bucket_lease.check_lease(run)
    assert len((place / bucket_lease.LEASES_FOLDER).list_objects()) == 1
    process.kill()
    process.wait()
    process.stdout.close()
