"""Of two that want to write a run, one does, and the other hears of whom."""

import os
import subprocess
import sys

import pytest

from data_tools.errors import StorageError
from results.lock import held, holder

HOLD = """
import sys, time
from pathlib import Path
from results.lock import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_hears_who_the_first_is(tmp_path, other):
    assert str(holder(tmp_path)).startswith(f"process {other.pid} of ")
    with pytest.raises(StorageError, match=f"is in the hands of process {other.pid} of ") as refused, held(tmp_path):
        pass
    assert "\n" not in str(refused.value)


def test_a_killed_holder_leaves_nothing_to_clean_up(tmp_path, other):
    other.kill()
    other.wait()
    assert holder(tmp_path) is None
    with held(tmp_path):
        assert f"process {os.getpid()} of" in str(holder(tmp_path))
    assert holder(tmp_path) is None


def test_who_asks_does_not_keep_out_who_searches(tmp_path):
    with held(tmp_path):
        pass
    asking = subprocess.Popen(
        [sys.executable, "-c", "import sys; from pathlib import Path; from results.lock import holder\n"
         "while True: holder(Path(sys.argv[1]))", str(tmp_path)]
    )  # fmt: skip
    try:
        for _ in range(20):
            with held(tmp_path):
                pass
    finally:
        asking.kill()
        asking.wait()


def test_nobody_holds_what_was_never_searched(tmp_path):
    assert holder(tmp_path) is None
