"""`huetune train` trains any configuration, and `--resume` continues an interrupted training to the last bit."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from huetune.data_tools.datasets.synthetic_garden import write_garden
from huetune.data_tools.storage.atomic import atomic_folder, exclusive
from huetune.data_tools.storage.checksums import STATE_FILE, SUMS_FILE
from huetune.model import npz
from huetune.model.checkpoint import load_colorizer, read_checkpoint, read_epoch_log
from huetune.model.checkpoint_format import EPOCH_LOG_FILE, SETTINGS_FILE, WEIGHTS_FILE
from huetune.model.cli import train
from huetune.model.presets import PRESETS
from huetune.model.recipes import with_recipe
from huetune.results.experiment_log.entry import entry_of_checkpoint

EPOCHS = 8
SMALL_MODEL = ("--set", "activation=relu", "--set", "skip=false", "--set", "merge_units=8")
TRAINING_FILES = {SETTINGS_FILE, WEIGHTS_FILE, EPOCH_LOG_FILE, STATE_FILE, SUMS_FILE}


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("train") / "photos"
    write_garden(4, folder)
    return folder


@pytest.fixture(scope="module")
def uninterrupted(photos) -> Path:
    """The folder of a training of EPOCHS epochs that was never interrupted."""
    out = photos.parent / "uninterrupted"
    arguments = [*SMALL_MODEL, "--photos", photos, "--epochs", EPOCHS, "--out", out, "--seed", 3]
    done = CliRunner().invoke(train, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    return out


@pytest.fixture
def copied(uninterrupted, tmp_path) -> Path:
    return Path(shutil.copytree(uninterrupted, tmp_path / "model"))


def _epochs(folder: Path) -> list[dict]:
    """The training log without times, which differ between two runs of the same training."""
    return [{name: value for name, value in line.items() if "seconds" not in name} for line in read_epoch_log(folder)]


def assert_equal(one: Path, other: Path) -> None:
    """Assert that two folders have the same weights, training log, best epoch and training state, to the last bit."""
    assert _epochs(one) == _epochs(other)
    assert read_checkpoint(one).metrics["epoch"] == read_checkpoint(other).metrics["epoch"]
    for name, dtypes in ((WEIGHTS_FILE, (np.float32,)), (STATE_FILE, None)):
        ours, theirs = npz.read(one / name, dtypes), npz.read(other / name, dtypes)
        assert ours.keys() == theirs.keys()
        for key in ours:
            np.testing.assert_array_equal(ours[key], theirs[key], err_msg=key)


def test_train_with_settings_trains_that_configuration(uninterrupted):
    found = read_checkpoint(uninterrupted)
    assert (found.config.activation, found.config.skip, found.config.merge_units) == ("relu", False, 8)
    default = with_recipe(PRESETS["model-2"], "photos")
    assert (found.config.learning_rate, found.config.batching) == (default.learning_rate, "photos")
    assert {path.name for path in uninterrupted.iterdir()} == TRAINING_FILES
    # It differs from the preset, so tables do not show the preset's name.
    assert "preset" not in found.origin and entry_of_checkpoint(uninterrupted).name == uninterrupted.name


def test_colorize_with_a_training_folder_writes_photos(uninterrupted, photos, in_process, tmp_path):
    done = in_process("colorize", uninterrupted, photos / "garden-0000.png", "--out", tmp_path / "new")
    assert done.returncode == 0 and [path.name for path in (tmp_path / "new").glob("*.png")] == ["garden-0000.png"]


def test_train_keeps_the_best_of_all_epochs(uninterrupted):
    log = read_epoch_log(uninterrupted)
    assert [line["epoch"] for line in log] == list(range(1, EPOCHS + 1))
    assert read_checkpoint(uninterrupted).metrics == min(log, key=lambda line: line["chroma_mse"])


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        ("", "model-2"),
        ("--set skip=true --preset model-3", "model-3"),
        ("--set mse_weight=8 --set skip=False --seed 0", "model-2-mse_weight-8.0-skip-false"),
        # `--set batching` sets the whole recipe, so the optimizer is no change.
        ("--set batching=patches --set optimizer=adam", "model-2"),
        ("--batching boxes --set batching=boxes --set learning_rate=1e-05", "model-2-learning_rate-1e-05"),
        ("--set 'clip = 0.5' --set clip=0.50", "model-2-clip-0.5"),
    ],
)
def test_train_without_out_names_its_folder_by_settings(arguments, folder, in_process, tmp_path):
    """The folder is not empty, so it is refused before any photo is read, and the message has its name."""
    (tmp_path / "trained" / folder).mkdir(parents=True)
    (tmp_path / "trained" / folder / "mine").touch()
    done = in_process("train", *shlex.split(arguments), cwd=tmp_path)
    assert done.returncode == 4 and f"'trained/{folder}': is not empty" in done.stderr


def test_killed_training_resumes_to_the_same_bits(uninterrupted, executable, in_process, tmp_path):
    """It resumes after `kill -9` with moved photos and more epochs, then after Ctrl-C without any option."""
    shutil.copytree(uninterrupted.parent / "photos", tmp_path / "photos")
    out = tmp_path / "a model"
    arguments = ["--photos", tmp_path / "photos", "--epochs", 2, "--out", out, "--seed", 3]
    child = subprocess.Popen([executable, "train", *SMALL_MODEL, *map(str, arguments)], stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 200
        while not (out / STATE_FILE).is_file() and child.poll() is None and time.monotonic() < end:
            time.sleep(0.005)
    finally:
        child.kill()
        child.wait()
    done = len(read_epoch_log(out))
    assert 1 <= done <= 2
    # A process that is killed while it writes an epoch leaves such a draft.
    shutil.copytree(uninterrupted, tmp_path / ".a model-0123abcd")
    (tmp_path / "photos").rename(tmp_path / "moved")
    missing = in_process("train", "--resume", "--out", out, "--epochs", EPOCHS)
    assert missing.returncode == 3 and "if they were moved, name their folder with --photos" in missing.stderr

    def interrupt() -> None:
        end = time.monotonic() + 200
        while len(read_epoch_log(out)) == done and time.monotonic() < end:
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)

    watcher = threading.Thread(target=interrupt)
    watcher.start()
    stopped = in_process("train", "--resume", "--out", out, "--epochs", EPOCHS, "--photos", tmp_path / "moved")
    watcher.join()
    command = f"huetune train --resume --out '{out}'"
    assert stopped.returncode == 130 and f"resumed after epoch {done} of {EPOCHS}" in stopped.stdout, stopped.stderr
    assert stopped.stderr.strip() == f"huetune: interrupted; continue it with: {command}"
    assert done < len(read_epoch_log(out)) < EPOCHS and entry_of_checkpoint(out).state == "interrupted"

    ended = in_process(*shlex.split(command)[1:])
    assert ended.returncode == 0 and f"train on with: {command} --epochs N" in ended.stdout, ended.stderr
    assert_equal(out, uninterrupted)
    assert entry_of_checkpoint(out).state == "complete" and read_checkpoint(out).origin["source"]["folder"] == str(
        tmp_path / "moved"
    )
    assert {path.name for path in tmp_path.iterdir()} == {"a model", "moved"}


@pytest.mark.parametrize(
    "arguments", ["", f"--epochs {EPOCHS}", "--preset model-2 --seed 3 --set skip=false --train-first 9"]
)
def test_resume_of_a_complete_training_changes_nothing(arguments, copied, photos, in_process):
    before = {path.name: path.read_bytes() for path in copied.iterdir()}
    done = in_process("train", "--resume", "--out", copied, *shlex.split(arguments))
    assert done.returncode == 0 and f"all {EPOCHS} epochs are trained; train on with: " in done.stdout
    assert {path.name: path.read_bytes() for path in copied.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--epochs 3", f"has {EPOCHS} epochs already; give {EPOCHS + 1} or more"),
        ("--seed 7", "--seed 7: the training in 'model' was started with --seed 3; omit this option, or start a new"),
        ("--preset model-1", "--preset model-1: the training in 'model' was started with --preset model-2"),
        ("--set skip=true", "skip=true: the training in 'model' was started with skip=false"),
        ("--batching patches", "batching=patches: the training in 'model' was started with batching=photos"),
        ("--garden 5", "--garden 5: the training in 'model' was started with --photos /"),
        ("--photos . --classes rose", "--classes rose: the training in 'model' was started without --classes"),
        ("--train-first 2", "--train-first 2: the training in 'model' was started without --train-first"),
    ],
)
def test_resume_with_other_options_is_refused(arguments, message, copied, in_process):
    done = in_process("train", "--resume", "--out", "model", *shlex.split(arguments), cwd=copied.parent)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1


def test_resume_on_other_photos_is_refused(copied, photos, in_process, tmp_path):
    """Other names give the same photos another order, and then the training would be another one."""
    (tmp_path / "other").mkdir()
    for number, path in enumerate(sorted(photos.iterdir(), reverse=True)):
        shutil.copy(path, tmp_path / "other" / f"{number}.png")
    arguments = ("train", "--resume", "--out", copied, "--epochs", 99, "--photos", tmp_path / "other")
    done = in_process(*arguments)
    assert done.returncode == 3 and "in another order" in done.stderr and done.stderr.count("\n") == 1
    (tmp_path / "other" / "0.png").unlink()
    done = in_process(*arguments)
    assert (
        done.returncode == 3
        and "no longer the photos that the model was trained with" in done.stderr
        and done.stderr.count("\n") == 1
    )
    assert read_checkpoint(copied).origin["epochs"] == EPOCHS


def test_resume_of_a_locked_folder_is_refused(copied, in_process):
    with exclusive(copied):
        done = in_process("train", "--resume", "--out", copied, "--epochs", 99)
    assert done.returncode == 4 and "wait for it, or stop that process" in done.stderr


def test_train_into_a_training_folder_names_the_resume_command(copied, in_process):
    done = in_process("train", "--out", copied)
    assert done.returncode == 4 and f"continue it with: huetune train --resume --out {copied}; or" in done.stderr


def _rewrite_sums(folder: Path, without: str = "") -> None:
    """Write the folder again with sums that match, without one of its files."""
    kept = {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in (SUMS_FILE, without)}
    with atomic_folder(folder) as draft:
        for name, content in kept.items():
            (draft / name).write_bytes(content)


def test_folder_without_training_state_loads_but_cannot_resume(copied, in_process):
    _rewrite_sums(copied, without=STATE_FILE)
    assert load_colorizer(copied)[0] == read_checkpoint(copied)
    done = in_process("train", "--resume", "--out", copied)
    assert done.returncode == 4 and "has no training state" in done.stderr and done.stderr.count("\n") == 1


def _flip_a_bit_of_the_state(folder: Path) -> None:
    content = bytearray((folder / STATE_FILE).read_bytes())
    content[len(content) // 2] ^= 4
    (folder / STATE_FILE).write_bytes(content)


def _drop_an_array(folder: Path) -> None:
    state = npz.read(folder / STATE_FILE, dtypes=None)
    state.pop(next(iter(state)))
    npz.write(folder / STATE_FILE, state)
    _rewrite_sums(folder)


def _pickle_an_array(folder: Path) -> None:
    np.savez(folder / STATE_FILE, counters=np.array([{}], object))
    _rewrite_sums(folder)


def _drop_photo_fingerprint(folder: Path) -> None:
    settings = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
    settings["photos"].pop("fingerprint")
    (folder / SETTINGS_FILE).write_text(json.dumps(settings), encoding="utf-8")
    _rewrite_sums(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_flip_a_bit_of_the_state, "is damaged; its SHA-256"),
        (_drop_an_array, "this huetune cannot continue its training state"),
        (_pickle_an_array, "damaged ("),
        (_drop_photo_fingerprint, "damaged (the record of its training is incomplete)"),
    ],
)
def test_resume_of_a_damaged_training_is_refused(damage, message, copied, in_process):
    damage(copied)
    done = in_process("train", "--resume", "--out", copied, "--epochs", 99)
    assert done.returncode == 6 and message in done.stderr and done.stderr.count("\n") == 1


def test_train_writes_the_log_and_stores_the_best_epoch(huetune, in_process, tmp_path):
    out = tmp_path / "trained"
    arguments = ["train", "--preset", "model-1", "--garden", 4, "--train-first", 3, "--epochs", 2, "--out", out]
    done = huetune(*arguments, "--batching", "boxes")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 2 and lines[0].startswith("epoch 1/2  576 patches")
    log = json.loads((out / "log.json").read_text(encoding="utf-8"))
    settings = json.loads((out / "settings.json").read_text(encoding="utf-8"))
    assert settings["figures"] == min(log, key=lambda epoch: epoch["chroma_mse"])
    assert settings["config"]["batching"] == "patches" and settings["photos"]["training"] == 3
    assert in_process(*arguments).returncode == 4
