"""Commands do not replace files of the user or of other runs."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from huetune.data_tools.datasets.synthetic_garden import garden
from huetune.data_tools.photos.dataset import prepare
from huetune.data_tools.storage.output_files import RECORD_FILE
from huetune.results.evaluation import evaluate
from huetune.results.export.best_model import find_model


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != RECORD_FILE)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def model(searched):
    return find_model("tiny", searched[0])[0]


def test_evaluate_keeps_files_of_the_user(model, tmp_path):
    """Files of the user have the names of its metrics and pictures. With fewer photos it removes its own pictures."""
    (tmp_path / "colorized").mkdir()
    mine = {"metrics.json": b"{}", "contact-sheet.png": b"mine", "colorized/1-1.png": b"mine"}
    mine["colorized/holiday.png"] = b"mine"
    for name, content in mine.items():
        (tmp_path / name).write_bytes(content)
    for count in (2, 1):
        photos = garden(count, seed=9)
        report = evaluate.evaluate(model, prepare(photos, ["1.png", "2.png"][:count]), photos, tmp_path, samples=1)
    left = contents(tmp_path)
    assert {name: left[name] for name in mine} == mine
    assert set(left) == {*mine, "metrics_2.json", "metrics.csv", "contact-sheet_2.png", "colorized/1-1_2.png"}
    assert json.loads(left["metrics_2.json"]) == report and set(report["files"].values()) < set(left)


def test_evaluate_with_output_among_photos_is_refused(model, in_process, tmp_path):
    (tmp_path / "t").mkdir()
    Image.fromarray(garden(1, seed=9)[0]).save(tmp_path / "t" / "a.png")
    for out in ("t", "t/out"):
        done = in_process("evaluate", model, "--photos", tmp_path / "t", "--out", tmp_path / out)
        assert done.returncode == 2 and "is in the folder of photos" in done.stderr and done.stderr.count("\n") == 1
    assert [path.name for path in (tmp_path / "t").rglob("*")] == ["a.png"]


def test_colorize_replaces_no_file_of_equal_name(model, in_process, tmp_path):
    """It keeps a picture beside a photo and the output of another photo of that name; the same photo gives one file."""
    scenes = garden(2, seed=9)
    for folder, scene in zip("ab", scenes, strict=True):
        (tmp_path / folder).mkdir()
        Image.fromarray(scene).save(tmp_path / folder / "wedding.jpg")
    Image.fromarray(scenes[0]).save(tmp_path / "a" / "wedding.png")
    before = (tmp_path / "a" / "wedding.png").read_bytes()

    def colorize(folder, out, cwd=None):
        done = in_process("colorize", model, tmp_path / folder / "wedding.jpg", "--out", out, cwd=cwd)
        assert done.returncode == 0, done.stderr
        return [os.path.basename(line) for line in done.stdout.splitlines()]

    assert [colorize("a", ".", tmp_path / "a") for _ in "12"] == [["wedding-colorized.png"]] * 2
    assert (tmp_path / "a" / "wedding.png").read_bytes() == before
    batches = [colorize(folder, tmp_path / "c") for folder in "abab"]
    assert batches == [["wedding.png"], ["wedding_2.png"]] * 2
    first, second = (np.asarray(Image.open(tmp_path / "c" / name)) for name in ("wedding.png", "wedding_2.png"))
    assert (first != second).any() and len(list((tmp_path / "c").iterdir())) == 2


def test_trials_replaces_no_file_of_the_user(searched, in_process, tmp_path):
    arguments = ("trials", "tiny", "--storage", searched[0], "--format", "csv", "--out", tmp_path / "roses.csv")
    assert [in_process(*arguments).returncode for _ in range(2)] == [0, 0]
    (tmp_path / "roses.csv").write_text("my remarks", encoding="utf-8")
    done = in_process(*arguments)
    assert done.returncode == 4 and "roses.csv': exists" in done.stderr and done.stderr.count("\n") == 1
    assert (tmp_path / "roses.csv").read_text(encoding="utf-8") == "my remarks"


def test_tensorboard_keeps_event_files_of_another_run(searched, in_process, tmp_path):
    """A run that continues may change its own event files."""
    shutil.copytree(searched[0] / "tiny", tmp_path / "tiny")
    arguments = ("tensorboard", "tiny", "--storage", tmp_path, "--out", tmp_path / "tb")
    assert [in_process(*arguments).returncode for _ in range(2)] == [0, 0]
    file = next((tmp_path / "tb").glob("events.*"))
    file.write_bytes(b"mine")
    done = in_process(*arguments)
    assert done.returncode == 4 and "has events of another run" in done.stderr and file.read_bytes() == b"mine"
