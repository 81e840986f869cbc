"""What a command writes replaces its own files of before and nothing else, whatever stops it on the way."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from huetune.data_tools.common.errors import StorageError
from huetune.data_tools.datasets.synthetic_garden import garden
from huetune.data_tools.photos.dataset import prepare
from huetune.data_tools.storage import output_files
from huetune.data_tools.storage.bucket_cache import bucket_path, local_path, push
from huetune.data_tools.storage.output_files import (
    RECORD_FILE,
    OutputFolder,
    require_outside_photos,
    require_replaceable,
    write_file,
    write_new,
)
from huetune.results.evaluation import evaluate
from huetune.results.export.best_model import find_model


def fill(folder, files, command="evaluate"):
    with OutputFolder(folder, command) as out:
        return [out.add(name, content) for name, content in files.items()]


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != RECORD_FILE)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_output_replaces_only_its_own_files(tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "a.png").write_bytes(b"mine")
    assert fill(tmp_path, {"c/a.png": b"1", "c/b.png": b"2", "m.json": b"3"}) == ["c/a_2.png", "c/b.png", "m.json"]
    (tmp_path / "c" / "b.png").write_bytes(b"mine now")
    assert fill(tmp_path, {"c/a.png": b"4", "m.json": b"5"}) == ["c/a_2.png", "m.json"]
    assert contents(tmp_path) == {"c/a.png": b"mine", "c/b.png": b"mine now", "c/a_2.png": b"4", "m.json": b"5"}


def test_output_removes_what_it_no_longer_writes(tmp_path):
    """But no file of another command, and none that another command names too."""
    fill(tmp_path, {"c/a.png": b"1", "shared.png": b"2"})
    fill(tmp_path, {"shared.png": b"2", "log.md": b"3"}, "log")
    fill(tmp_path, {"m.json": b"4"})
    assert contents(tmp_path) == {"shared.png": b"2", "log.md": b"3", "m.json": b"4"}
    assert not (tmp_path / "c").exists()


def test_output_of_equal_names_and_contents_is_one_file(tmp_path):
    with OutputFolder(tmp_path, "log") as out:
        assert [out.add("a.png", content) for content in (b"1", b"1", b"2", b"2")] == ["a.png"] * 2 + ["a_2.png"] * 2
    assert contents(tmp_path) == {"a.png": b"1", "a_2.png": b"2"}


def test_output_that_fails_leaves_the_old_files(tmp_path):
    fill(tmp_path / "old", {"a.png": b"1"})
    for folder in ("old", "new"):
        with pytest.raises(KeyboardInterrupt), OutputFolder(tmp_path / folder, "evaluate") as out:
            out.add("a.png", b"2")
            raise KeyboardInterrupt
    assert contents(tmp_path) == {"old/a.png": b"1"} and not (tmp_path / "new").exists()


@pytest.mark.parametrize("step", range(6))
def test_output_stopped_at_any_step_can_be_repeated(step, tmp_path, monkeypatch):
    """Two files are replaced, a third is removed, a fourth is the user's: nothing is lost, and nothing stays behind."""
    fill(tmp_path, {"a.png": b"1", "b.png": b"1", "c.png": b"1"})
    (tmp_path / "d.png").write_bytes(b"mine")
    new = {"a.png": b"2", "b.png": b"2", "d.png": b"2"}
    steps = 0

    def stopping(action):
        def stop(*args):
            nonlocal steps
            steps += 1
            if steps == step:
                raise OSError(28, os.strerror(28))
            return action(*args)

        return stop

    with monkeypatch.context() as patch:
        for name in ("atomic_write", "remove"):
            patch.setattr(output_files, name, stopping(getattr(output_files, name)))
        if step:
            with pytest.raises(OSError, match="No space"):
                fill(tmp_path, new)
    assert {"a.png", "b.png", "d.png"} <= set(contents(tmp_path)) and contents(tmp_path)["d.png"] == b"mine"
    assert fill(tmp_path, new) == ["a.png", "b.png", "d_2.png"]
    assert contents(tmp_path) == {"a.png": b"2", "b.png": b"2", "d.png": b"mine", "d_2.png": b"2"}


def test_output_does_not_follow_a_foreign_record(tmp_path):
    """A record may come with a folder from anyone."""
    (tmp_path / "mine.png").write_bytes(b"1")
    fill(tmp_path / "out", {"a.png": b"1"})
    record = json.loads((tmp_path / "out" / RECORD_FILE).read_text(encoding="utf-8"))
    sha256 = record["evaluate"][0][1]
    names = ["../mine.png", str(tmp_path / "mine.png"), "a.png"]
    (tmp_path / "out" / RECORD_FILE).write_text(json.dumps({"evaluate": [[name, sha256] for name in names]}), "utf-8")
    fill(tmp_path / "out", {"b.png": b"2"})
    assert contents(tmp_path) == {"mine.png": b"1", "out/b.png": b"2"}


@pytest.mark.parametrize("content", ["", "[]", "null", '{"evaluate": 5}', '{"evaluate": [["a"]]}', "{" * 10_000])
def test_a_damaged_record_is_refused_in_one_line(content, tmp_path):
    (tmp_path / RECORD_FILE).write_text(content, encoding="utf-8")
    with pytest.raises(StorageError, match=r"is damaged .*remove it or choose another --out$"):
        fill(tmp_path, {"a.png": b"1"})
    assert [path.name for path in tmp_path.iterdir()] == [RECORD_FILE]


def test_a_file_in_place_of_a_folder_is_refused(tmp_path):
    (tmp_path / "c").write_bytes(b"mine")
    with pytest.raises(StorageError, match="c': is a file where a folder is needed"):
        fill(tmp_path, {"c/a.png": b"1"})
    assert contents(tmp_path) == {"c": b"mine"}


def test_write_new_never_replaces_a_file(tmp_path, monkeypatch):
    def write(content):
        return write_new(tmp_path / "a.png", lambda draft: draft.write_bytes(content)).name

    names = [write(content) for content in (b"1", b"2", b"1", b"2", b"3")]
    assert names == ["a.png", "a_2.png", "a.png", "a_2.png", "a_3.png"]

    def no_links(*_):
        raise PermissionError

    monkeypatch.setattr(os, "link", no_links)
    assert write(b"4") == "a_4.png"
    assert contents(tmp_path) == {"a.png": b"1", "a_2.png": b"2", "a_3.png": b"3", "a_4.png": b"4"}


def test_a_named_file_is_replaced_only_if_unchanged(tmp_path):
    """An empty one, as `mktemp` makes it, holds nothing to lose."""
    path = tmp_path / "roses.csv"
    path.touch()
    for content in (b"1", b"2"):
        write_file(path, content, "trials")
    write_file(tmp_path / "tulips.csv", b"3", "trials")
    assert contents(tmp_path) == {"roses.csv": b"2", "tulips.csv": b"3"}
    path.write_bytes(b"mine")
    for place in (path, tmp_path):
        with pytest.raises(StorageError, match="choose another --out"):
            require_replaceable(place)


def test_output_in_a_bucket_keeps_what_others_put_there(store, tmp_path, monkeypatch):
    """Another machine has written the file of the first, and somebody a file of their own."""
    place = store.uri(f"hue/{tmp_path.name}/out")
    fill(local_path(place), {"c/a.png": b"1", "c/old.png": b"1"})
    mine = local_path(place) / "m.json"
    mine.write_bytes(b"mine")
    push(mine)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
    assert fill(local_path(place), {"c/a.png": b"2", "m.json": b"2"}) == ["c/a.png", "m_2.json"]
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "third"))
    assert fill(local_path(place), {"c/a.png": b"2", "m.json": b"2"}) == ["c/a.png", "m_2.json"]
    keys = {RECORD_FILE, "c/a.png", "m.json", "m_2.json"}
    bucket = bucket_path(local_path(place))
    assert bucket and set(bucket.list_objects()) == keys


@pytest.mark.parametrize(
    ("photos", "out", "fine"),
    [
        ("t", "t", False),
        ("t", "t/out", False),
        ("t", "link/out", False),
        ("out/colorized", "out", False),
        ("out/colorized/best", "out", False),
        ("out/test", "out", True),
        ("t", "tout", True),
    ],
)
def test_an_output_among_the_photos_is_refused(photos, out, fine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / photos).mkdir(parents=True)
    (tmp_path / "link").symlink_to("t")
    words = [tmp_path / photos, tmp_path / out, "colorized"]
    if fine:
        require_outside_photos(*words)
    else:
        with pytest.raises(ValueError, match="choose another --out"):
            require_outside_photos(*words)


@pytest.fixture
def model(searched):
    return find_model("tiny", searched[0])[0]


def test_evaluate_keeps_files_that_are_not_its_own(model, tmp_path):
    """Its figures and pictures have the user's names; with fewer photos its own pictures go."""
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


def test_evaluate_twice_among_its_photos_is_refused(model, in_process, tmp_path):
    (tmp_path / "t").mkdir()
    Image.fromarray(garden(1, seed=9)[0]).save(tmp_path / "t" / "a.png")
    for out in ("t", "t/out"):
        done = in_process("evaluate", model, "--photos", tmp_path / "t", "--out", tmp_path / out)
        assert done.returncode == 2 and "is in the folder of photos" in done.stderr and done.stderr.count("\n") == 1
    assert [path.name for path in (tmp_path / "t").rglob("*")] == ["a.png"]


def test_colorize_replaces_no_file_of_equal_name(model, in_process, tmp_path):
    """Neither the picture beside a photo nor what another photo of that name became; the same photo is one file."""
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


def test_trials_replaces_no_file_of_the_users(searched, in_process, tmp_path):
    words = ("trials", "tiny", "--storage", searched[0], "--format", "csv", "--out", tmp_path / "roses.csv")
    assert [in_process(*words).returncode for _ in range(2)] == [0, 0]
    (tmp_path / "roses.csv").write_text("my remarks", encoding="utf-8")
    done = in_process(*words)
    assert done.returncode == 4 and "roses.csv': exists" in done.stderr and done.stderr.count("\n") == 1
    assert (tmp_path / "roses.csv").read_text(encoding="utf-8") == "my remarks"


def test_event_files_of_another_run_are_not_replaced(searched, in_process, tmp_path):
    """A run that goes on may change its own."""
    shutil.copytree(searched[0] / "tiny", tmp_path / "tiny")
    words = ("tensorboard", "tiny", "--storage", tmp_path, "--out", tmp_path / "tb")
    assert [in_process(*words).returncode for _ in range(2)] == [0, 0]
    file = next((tmp_path / "tb").glob("events.*"))
    file.write_bytes(b"mine")
    done = in_process(*words)
    assert done.returncode == 4 and "holds events of another run" in done.stderr and file.read_bytes() == b"mine"


def test_a_garden_that_fails_leaves_no_part(tmp_path):
    from huetune.data_tools.datasets.synthetic_garden import write_garden

    def two(numbers):
        for number in numbers:
            if number == 2:
                raise KeyboardInterrupt
            yield number

    with pytest.raises(KeyboardInterrupt):
        write_garden(3, tmp_path / "new", progress=two)
    assert not (tmp_path / "new").exists()
