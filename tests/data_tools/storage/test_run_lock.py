"""Of two processes that want to write a run, one locks it, and the error of the other names it."""

import os
import subprocess
import sys

import pytest

from huetune.data_tools.common.errors import StorageError
from huetune.data_tools.storage.run_lock import LOCK_FILE, lock_holder, lock_run

LOCK = """
import sys, time
from pathlib import Path
from huetune.data_tools.storage.run_lock import lock_run
with lock_run(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", LOCK, str(tmp_path)], stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    assert process.stdout and process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.wait()


def test_lock_run_of_locked_run_names_the_holder(tmp_path, other):
    assert str(lock_holder(tmp_path)).startswith(f"process {other.pid} (user ")
    with pytest.raises(StorageError, match=rf"is locked by process {other.pid} \(user ") as refused, lock_run(tmp_path):
        pass
    assert "\n" not in str(refused.value)


def test_lock_of_killed_process_is_released(tmp_path, other):
    other.kill()
    other.wait()
    assert lock_holder(tmp_path) is None
    with lock_run(tmp_path):
        assert f"process {os.getpid()} (user" in str(lock_holder(tmp_path))
    assert lock_holder(tmp_path) is None


READ_HOLDER = """
import fcntl, sys, time
with open(sys.argv[1], encoding="utf-8") as file:
    fcntl.flock(file, fcntl.LOCK_SH)
    print("reads", flush=True)
    time.sleep(0.4)
"""


def test_lock_run_waits_while_another_process_reads_the_holder(tmp_path):
    """A process that reads the holder has a shared lock for a moment, here for a long one."""
    with lock_run(tmp_path):
        pass
    with subprocess.Popen(
        [sys.executable, "-c", READ_HOLDER, str(tmp_path / LOCK_FILE)],
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as reader:
        assert reader.stdout and reader.stdout.readline() == "reads\n"
        with lock_run(tmp_path):
            pass


def test_lock_holder_of_new_run_is_none(tmp_path):
    assert lock_holder(tmp_path) is None
