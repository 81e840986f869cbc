"""Real faults of the system around a search: nothing is lost, and one line names the command that continues it."""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from optuna.trial import TrialState
from rich.console import Console

from huetune.results.records.outcomes import Failure, FailureKind
from huetune.results.records.run import MANIFEST, STUDY, Run, backup_path
from huetune.results.records.trial_record import TrialRecord
from huetune.search.session.repair import repair
from tests.allowed_skips import skip_without
from tests.faults.chaos import MINIMAL_OPTIONS, PROCESS_NAMES
from tests.faults.program import NAME, ONE_SLOT, Program, assert_verified, epochs, search, states, trials, verified


def test_signals_interrupt_a_search_that_resumes(start, tmp_path):
    """Ctrl-C, SIGTERM and two Ctrl-C each end it in time, with the exit code and the command that resumes it."""
    for words, numbers, code, most in (
        (search(3, 6, *ONE_SLOT), [signal.SIGINT], 130, 15),
        (("resume", NAME), [signal.SIGTERM], 143, 15),
        (("resume", NAME), [signal.SIGINT, signal.SIGINT], 130, 3),
    ):
        program = start(tmp_path, *words)
        before = 0 if words[0] == "search" else sum(len(trial.intermediate_values) for trial in trials(tmp_path))
        program.wait_for(epochs(before + 1))
        for number in numbers:
            begun = time.monotonic()
            program.process.send_signal(number)
            time.sleep(0.3)
        found, output = program.end(30)
        assert found == code and time.monotonic() - begun < most, output
        assert f"huetune resume {os.path.relpath(tmp_path / NAME)}" in output
        if len(numbers) == 1:
            assert TrialState.WAITING in states(tmp_path) and TrialState.RUNNING not in states(tmp_path)
        fine, state = verified(tmp_path)
        assert fine and ("interrupted: " if len(numbers) == 1 else "is not finished: ") in state, state
    done = {trial.number: len(trial.intermediate_values) for trial in trials(tmp_path)}
    code, output = start(tmp_path, "resume", NAME).end()
    assert code == 0, output
    resumed_lines = [
        re.search(rf"trial {number} +resumed .*\(epoch (\d)", output) for number in done if done[number] < 6
    ]
    assert resumed_lines and all(found for found in resumed_lines)
    assert states(tmp_path) == {TrialState.COMPLETE} and len(trials(tmp_path)) == 3
    assert_verified(tmp_path)


def test_worker_killed_is_replaced_and_its_trial_resumes(start, in_process, tmp_path):
    program = start(tmp_path, *search(2, 8, *ONE_SLOT))
    program.wait_for(epochs(1))
    # The table can be read while the search runs.
    table = json.loads(in_process("trials", NAME, "--storage", tmp_path, "--format", "json").stdout)
    assert "running" in {row["state"] for row in table}
    family = program.process.children(recursive=True)
    next(process for process in family if PROCESS_NAMES["worker"] in " ".join(process.cmdline())).kill()
    code, output = program.end()
    assert code == 0, output
    assert states(tmp_path) == {TrialState.COMPLETE} and len(trials(tmp_path)) == 2
    (killed,) = [trial for trial in trials(tmp_path) if "deaths" in trial.user_attrs]
    assert [death.kind for death in TrialRecord.of(killed).deaths] == [FailureKind.WORKER_DIED]
    assert str(TrialRecord.of(killed).deaths[0]).startswith("died: ")
    assert re.search(rf"trial {killed.number} +resumed", output)
    assert list(killed.intermediate_values) == list(range(1, 9))


@pytest.fixture
def disk(tmp_path):
    """Mount a small disk, which a test can fill or make read-only."""
    place = tmp_path / "disk"
    place.mkdir()
    skip_without("mounts")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", place], check=True, capture_output=True)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


BOUND = ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override") if os.getuid() == 0 else ()
"""Runs a command as root with the permissions of an ordinary user."""


def _set_writable(storage, writable):
    # Top-down, because a search may remove folders in the meantime; these are skipped.
    for folder, _, _ in os.walk(storage):
        os.chmod(folder, 0o755 if writable else 0o555)


UNWRITABLE = f"the study of {NAME!r} cannot be written (("


def test_disk_unwritable_or_full_stops_search_without_loss(start, disk):
    """The disk is read-only during a search, read-only at its start, full, and finally writable."""
    program = start(disk, *search(3, 3, *ONE_SLOT), before=BOUND)
    program.wait_for(epochs(1))
    # The study stays writable, so that a worker is the first to fail.
    _set_writable(disk / NAME / "trials", False)
    code, output = program.end()
    assert code == 4 and "huetune resume" in output and "Traceback" not in output, output
    assert re.search(
        rf"{disk / NAME}/trials/\S+': cannot be written \(Permission denied\); no finished epoch", output
    ), output
    _set_writable(disk, False)
    code, output = start(disk, "resume", NAME, before=BOUND).end()
    assert code == 4 and "huetune resume" in output and "Traceback" not in output, output
    assert UNWRITABLE in output and "attempt to write a readonly database" in output
    code, output = start(disk, "search", *MINIMAL_OPTIONS, "--name", "other", before=BOUND).end()
    assert code == 4 and "cannot be created (Permission denied)" in output, output
    _set_writable(disk, True)

    subprocess.run(["dd", "if=/dev/zero", f"of={disk / 'ballast'}", "bs=1M"], check=False, capture_output=True)
    code, output = start(disk, "resume", NAME).end()
    assert code == 4 and "huetune resume" in output, output
    assert UNWRITABLE in output and "database or disk is full" in output
    assert "Traceback" not in output
    (disk / "ballast").unlink()

    code, output = start(disk, "resume", NAME).end()
    assert code == 0, output
    assert len(trials(disk)) == 3 and states(disk) == {TrialState.COMPLETE}
    assert_verified(disk)


DICE = """
[mse_weight]
low = 1.0
high = 8.0
"""
"""A space of models with dropout and Muon, so that results depend on the restored random state."""


@pytest.fixture
def killed_storage(once, tmp_path):
    """Return a storage whose search was killed with two ended and two running trials, each with two training states."""

    def kill(storage):
        (storage / "space.toml").write_text(DICE, encoding="utf-8")
        program = Program(storage, *search(4, 12, "--space", storage / "space.toml"))
        program.wait_for(lambda found: len(found) == 4 and min(len(one.intermediate_values) for one in found) >= 2)
        program.process.kill()
        program.end()
        # The search ran two trials at once; resuming with one worker starts faster.
        manifest = json.loads((storage / NAME / MANIFEST).read_text(encoding="utf-8"))
        manifest["cluster"]["cpus_per_trial"] = ONE_SLOT[1]
        (storage / NAME / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")

    killed, _ = once("killed", kill)
    shutil.copytree(killed, tmp_path / "copy")
    return tmp_path / "copy"


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 8
    path.write_bytes(content)


def test_damaged_files_are_replaced_by_older_ones_with_warning(start, killed_storage):
    """The study is truncated, one trial's newest training state has a flipped bit, both of another are truncated."""
    before = {trial.number: trial for trial in trials(killed_storage)}
    study = killed_storage / NAME / STUDY
    study.write_bytes(study.read_bytes()[:30_000])
    newest = {number: sorted((killed_storage / NAME / "trials" / f"{number:04}").glob("after-*")) for number in (2, 3)}
    assert [len(saved) for saved in newest.values()] == [2, 2]
    _flip(newest[2][-1] / "state.npz")
    for snapshot in newest[3]:
        (snapshot / "state.npz").write_bytes((snapshot / "state.npz").read_bytes()[:1000])
    code, output = start(killed_storage, "resume", NAME).end()
    assert code == 0, output
    assert "damaged" in output and "replaced by its copy" in output
    assert list((killed_storage / NAME).glob(f"{STUDY}.damaged-*"))
    assert len(re.findall(r"trial 2 +warning .*skipped training state .*after-", output)) == 1
    assert len(re.findall(r"trial 3 +warning .*skipped training state .*after-", output)) == 2
    after = {trial.number: trial for trial in trials(killed_storage)}
    assert sorted(after) == [0, 1, 2, 3] and states(killed_storage) == {TrialState.COMPLETE}
    for number in (0, 1):
        assert after[number].intermediate_values == before[number].intermediate_values
    # Training the lost epochs again gives the same numbers.
    for number in (2, 3):
        known = before[number].intermediate_values
        assert {epoch: after[number].intermediate_values[epoch] for epoch in known} == known
    assert_verified(killed_storage)


def test_damaged_study_without_intact_copy_is_kept(start, killed_storage):
    _flip(killed_storage / NAME / STUDY)
    for path in (killed_storage / NAME / STUDY, backup_path(killed_storage / NAME / STUDY)):
        path.write_bytes(path.read_bytes()[:20_000])
    before = (killed_storage / NAME / STUDY).read_bytes()
    code, output = start(killed_storage, "resume", NAME).end()
    assert code == 4 and "restore both from a backup" in output and "Traceback" not in output, output
    assert (killed_storage / NAME / STUDY).read_bytes() == before


def test_altered_trial_is_restored_from_the_copy(killed_storage, capsys):
    with sqlite3.connect(killed_storage / NAME / STUDY) as connection:
        connection.execute("UPDATE trial_intermediate_values SET intermediate_value = 0.001 WHERE trial_id = 1")
    assert "trial 0 of 'run' was changed after it ended" in verified(killed_storage)[1]
    repair(Run(killed_storage / NAME), Console())
    output = capsys.readouterr().out
    assert "trial 0 of 'run' was changed after it ended" in output and "replaced by its copy" in output
    assert "was changed after it ended" not in verified(killed_storage)[1]


def test_trial_that_hangs_is_retried_and_then_fails_alone(start, killed_storage):
    """Its files are on a disk that does not answer, so that opening one blocks for ever."""
    for snapshot in (killed_storage / NAME / "trials" / "0002").glob("after-*"):
        (snapshot / "SHA256SUMS").unlink()
        os.mkfifo(snapshot / "SHA256SUMS")
    manifest = killed_storage / NAME / "manifest.json"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace('"trial_timeout": null', '"trial_timeout": 15.0'))
    code, output = start(killed_storage, "resume", NAME).end(400)
    assert code == 0, output
    after = trials(killed_storage)
    assert [trial.number for trial in after if trial.state == TrialState.FAIL] == [2]
    hung = Failure(FailureKind.HUNG, seconds=15.0)
    assert TrialRecord.of(after[2]).failure == hung and str(hung) == "hung: no epoch within 15 s", output
    assert TrialRecord.of(after[2]).deaths == (hung,) * 2
    assert after[3].state == TrialState.COMPLETE
    assert_verified(killed_storage)


def test_trial_out_of_memory_fails_with_the_reason(start, tmp_path):
    """Ray kills every worker as on a machine without free memory."""
    program = start(tmp_path, *search(1, 1), RAY_memory_usage_threshold="0.01", RAY_memory_monitor_refresh_ms="100")
    code, output = program.end(300)
    assert code == 5, output
    (trial,) = trials(tmp_path)
    assert trial.state == TrialState.FAIL and "memory" in str(TrialRecord.of(trial).failure)
    assert_verified(tmp_path)


def test_second_search_of_a_name_fails_and_names_the_first(start, tmp_path):
    # Long enough that the first search still runs when the third one starts.
    both = [start(tmp_path, *search(3, 60, *ONE_SLOT)) for _ in range(2)]
    while all(program.process.poll() is None for program in both):
        time.sleep(0.1)
    loser = next(program for program in both if program.process.poll() is not None)
    winner = next(program for program in both if program is not loser)
    code, output = loser.end()
    assert code == 4 and f"locked by process {winner.process.pid} (user " in output, output
    winner.wait_for(epochs(1))
    code, output = start(tmp_path, "resume", NAME).end()
    assert code == 4 and f"locked by process {winner.process.pid} (user " in output, output
    assert trials(tmp_path)


SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
#include <sys/time.h>
#include <unistd.h>
#include <stdlib.h>

static long back(void) { const char *mark = getenv("CLOCK_BACK"); return mark && !access(mark, F_OK) ? 7200 : 0; }

/* Only for the driver: other processes wait by the kernel's clock, which the shim does not change. */
__attribute__((constructor)) static void alone(void) { unsetenv("LD_PRELOAD"); }

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (clock == CLOCK_REALTIME) now->tv_sec -= back();
    return result;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *where) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where) *where = now.tv_sec;
    return now.tv_sec;
}
"""


def test_clock_set_back_two_hours_changes_nothing(start, tmp_path):
    skip_without("gcc")
    (tmp_path / "shim.c").write_text(SHIM, encoding="utf-8")
    shim, mark = tmp_path / "shim.so", tmp_path / "back"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", shim, tmp_path / "shim.c", "-ldl"], check=True)
    words = search(4, 2, "--time-budget", "30m", *ONE_SLOT)
    program = start(tmp_path, *words, LD_PRELOAD=str(shim), CLOCK_BACK=str(mark))
    program.wait_for(epochs(1))
    mark.touch()
    code, output = program.end()
    assert code == 0, output
    spans = [(trial.datetime_complete - trial.datetime_start).total_seconds() for trial in trials(tmp_path)]
    assert min(spans) < -3600, "the clock was not set back"
    assert len(spans) == 4 and states(tmp_path) == {TrialState.COMPLETE}
    assert_verified(tmp_path)


NAMELESS = (
    *("setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"),
    # The process may read files of root, because this machine's Python may be in a folder of root.
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
    *("env", "--unset=HOME", "--unset=USER", "--unset=LOGNAME", "--unset=RAY_TMPDIR"),
)
HALF_A_CPU = (
    *("unshare", "--mount", "--propagation=private", "sh", "-c"),
    'mount -t tmpfs none /sys/fs/cgroup && echo 50000 100000 > /sys/fs/cgroup/cpu.max && exec "$@"',
    "sh",
)


@pytest.fixture
def open_folder():
    """Make a folder that every user can enter and write to."""
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        os.chmod(place, 0o777)
        yield Path(place)


def test_search_by_user_without_name_on_half_a_cpu_completes(start, open_folder):
    """No home, no user name, no docstrings, a long path for temporary files, and an unreachable RAY_ADDRESS."""
    skip_without("quotas")
    deep = open_folder / ("d" * 80)
    deep.mkdir()
    deep.chmod(0o777)
    odd = {"TMPDIR": str(deep), "PYTHONOPTIMIZE": "2", "RAY_ADDRESS": "127.0.0.1:1"}
    before = (*HALF_A_CPU, *NAMELESS)
    code, output = start(open_folder, *search(1, 1, "--address", "local"), before=before, **odd).end()
    assert code == 0 and "Traceback" not in output, output
    assert states(open_folder) == {TrialState.COMPLETE}
    code, output = start(open_folder, "report", NAME, before=before, **odd).end()
    assert code == 0 and "report.html" in output and "Traceback" not in output, output
