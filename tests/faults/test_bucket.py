"""Searches in a bucket with a faulty network and a lost machine."""

import os
import subprocess
import sys

import optuna
import pytest
from optuna.trial import TrialState

from huetune.data_tools.common.errors import StorageError
from huetune.data_tools.datasets.synthetic_garden import garden
from huetune.data_tools.storage.bucket_cache import bucket_path, local_path, push
from huetune.results.records.run import STUDY, backup_path, find_run, open_storage, sqlite_url
from huetune.search.tuning.study_writer import copy_study, upload_copy
from tests.faults.chaos import HUETUNE
from tests.faults.program import NAME, Program, epochs, search
from tests.store import FaultyProxy

WITH_SHORT_LEASE = """
from huetune.data_tools.storage import bucket_lease
from huetune.search.cli.main import main
bucket_lease.EXPIRY_SECONDS = 1.0
main()
"""
"""The command, with leases that expire after a second."""


@pytest.fixture
def between(store):
    """A proxy to the object store that can be made faulty; timeouts are those of the command."""
    network = FaultyProxy(store.port)
    yield network
    network.close()


@pytest.fixture
def place(store, between, tmp_path):
    """The URI of a storage in a bucket, with photos beside it, through the faulty proxy."""
    from PIL import Image

    photos = local_path(store.uri(f"hue/{tmp_path.name}/photos", between.port))
    photos.mkdir(parents=True)
    for number, scene in enumerate(garden(4)):
        Image.fromarray(scene).save(photos / f"{number}.png")
    push(photos)
    return store.uri(f"hue/{tmp_path.name}/runs", between.port)


def run_on(machine, *words, program=(HUETUNE,)):
    """Call the command as on another machine, with its own state folder."""
    environment = {**os.environ, "XDG_STATE_HOME": str(machine)}
    return subprocess.run(
        [*program, *map(str, words)], capture_output=True, text=True, encoding="utf-8", env=environment, timeout=500
    )


def kill(process):
    """Kill a process and its children, as if the machine lost power."""
    for one in (*process.children(recursive=True), process) if process.is_running() else ():
        one.kill()
    process.wait()


def searching(place, machine, trials=2, depth=3):
    """Start a search of photos in the bucket in the background."""
    words = [*search(trials, depth)]
    words[words.index("--garden") : words.index("--garden") + 2] = ["--photos", place.replace("/runs?", "/photos?")]
    program = Program(local_path(place), *words, "--storage", place, XDG_STATE_HOME=str(machine))
    return program


@pytest.fixture
def begun(place, state_folder):
    programs = []

    def begin(trials=2, depth=3):
        programs.append(searching(place, state_folder, trials, depth))
        return programs[-1]

    yield begin
    for program in programs:
        kill(program.process)


@pytest.mark.long
def test_bucket_search_survives_outage_and_lost_machine(place, between, begun, tmp_path):
    begun = begun()
    begun.wait_for(epochs(1))
    between.set_state("refuses")
    with pytest.raises(TimeoutError):
        begun.wait_for(lambda trials: False, seconds=3)
    between.set_state("fine")
    begun.wait_for(epochs(2))
    kill(begun.process)

    another = tmp_path / "another"
    refused = run_on(another, "resume", NAME, "--storage", place)
    assert refused.returncode == 4 and f"process {begun.process.pid}" in refused.stderr, refused.stderr
    resumed = run_on(another, "resume", NAME, "--storage", place, program=(sys.executable, "-c", WITH_SHORT_LEASE))
    assert resumed.returncode == 0, resumed.stderr
    assert " resumed " in resumed.stdout

    third = tmp_path / "third"
    verified = run_on(third, "verify", NAME, "--storage", place)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    run = place.replace("/runs?", f"/runs/{NAME}?")
    export = place.replace("/runs?", "/models/best?")
    photos = place.replace("/runs?", "/photos?")
    for words in (
        ["trials", run],
        ["best", run, "--export", export],
        ["evaluate", export, "--photos", photos, "--allow-leakage"],
        ["log", run, "--top", "1"],
    ):
        done = run_on(third, *words)
        assert done.returncode == 0, done.stderr
    assert run_on(third, "best", run, "--export", export).returncode == 4
    assert run_on(third, "list", "--storage", place).stdout.startswith(f"{NAME} ")
    # The lost machine returns. Its local files are older than those in the bucket.
    again = find_run(run)
    assert {trial.state for trial in again.study().get_trials(deepcopy=False)} == {TrialState.COMPLETE}
    finished = run_on(os.environ["XDG_STATE_HOME"], "resume", run)
    assert finished.returncode == 0 and "nothing was changed" in finished.stdout


@pytest.mark.long
def test_bucket_that_denies_access_ends_the_search(place, between, begun, state_folder):
    begun = begun()
    begun.wait_for(epochs(1))
    between.set_state("forbids")
    code, output = begun.end()
    assert code == 4 and "access is denied" in output and "huetune resume" in output, output
    assert "Traceback" not in output
    between.set_state("fine")
    resumed = run_on(state_folder, "resume", NAME, "--storage", place)
    assert resumed.returncode == 0, resumed.stderr
    verified = run_on(state_folder, "verify", NAME, "--storage", place)
    assert verified.returncode == 0, verified.stdout + verified.stderr


@pytest.mark.parametrize(
    ("state", "why"),
    [("refuses", "cannot be reached"), ("forbids", "access is denied"), ("hangs", "cannot be reached")],
)
def test_bucket_out_of_reach_fails_before_the_search(place, between, state, why, state_folder):
    between.set_state(state)
    done = run_on(state_folder, "search", "--garden", 4, "--name", NAME, "--storage", place)
    assert done.returncode == 4 and why in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not (local_path(place) / NAME).exists()


def test_bucket_run_name_taken_fails(place, begun, tmp_path):
    begun = begun()
    begun.wait_for(lambda trials: trials)
    done = run_on(tmp_path / "another", *search(), "--storage", place)
    assert done.returncode == 4 and "exists already; choose another --name" in done.stderr, done.stderr


def test_bucket_study_copy_changed_elsewhere_is_kept(store, tmp_path):
    run = local_path(store.uri(f"hue/{tmp_path.name}")) / NAME
    run.mkdir(parents=True)
    optuna.create_study(study_name=NAME, storage=open_storage(sqlite_url(run / STUDY)))
    for _ in range(2):
        copy_study(run / STUDY)
        upload_copy(run / STUDY)
    place = bucket_path(backup_path(run / STUDY))
    assert place
    place.write(b"another's")
    with pytest.raises(StorageError, match="another process has changed it since; resume from its version"):
        upload_copy(run / STUDY)
    assert place.read() == b"another's"
