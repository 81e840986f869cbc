"""Of two that want to write a run, one does, and the other hears of whom."""

import os
import subprocess
import sys

import pytest

from huetune.data_tools.common.errors import StorageError
from huetune.data_tools.storage.run_lock import LOCK_FILE, lock_holder, lock_run

HOLD = """
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
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    assert process.stdout and process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_hears_who_the_first_is(tmp_path, other):
    assert str(lock_holder(tmp_path)).startswith(f"process {other.pid} (user ")
    with pytest.raises(StorageError, match=rf"is locked by process {other.pid} \(user ") as refused, lock_run(tmp_path):
        pass
    assert "\n" not in str(refused.value)


def test_a_killed_holder_leaves_nothing_to_clean_up(tmp_path, other):
    other.kill()
    other.wait()
    assert lock_holder(tmp_path) is None
    with lock_run(tmp_path):
        assert f"process {os.getpid()} (user" in str(lock_holder(tmp_path))
    assert lock_holder(tmp_path) is None


ASK = """
import fcntl, sys, time
with open(sys.argv[1], encoding="utf-8") as file:
    fcntl.flock(file, fcntl.LOCK_SH)
    print("asks", flush=True)
    time.sleep(0.4)
"""


def test_who_asks_does_not_keep_out_who_searches(tmp_path):
    """Whoever asks for the holder holds the lock for a moment; here it is a long one."""
    with lock_run(tmp_path):
        pass
    with subprocess.Popen(
        [sys.executable, "-c", ASK, str(tmp_path / LOCK_FILE)], stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as asking:
        assert asking.stdout and asking.stdout.readline() == "asks\n"
        with lock_run(tmp_path):
            pass


def test_nobody_holds_what_was_never_searched(tmp_path):
    assert lock_holder(tmp_path) is None
