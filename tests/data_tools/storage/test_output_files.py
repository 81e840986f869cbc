"""A command replaces files that it wrote before, and no other files, even if it is interrupted."""

import json
import os

import pytest

from huetune.data_tools.common.errors import StorageError
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


def fill(folder, files, command="evaluate"):
    with OutputFolder(folder, command) as out:
        return [out.add(name, content) for name, content in files.items()]


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != RECORD_FILE)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_output_folder_replaces_only_its_own_files(tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "a.png").write_bytes(b"mine")
    assert fill(tmp_path, {"c/a.png": b"1", "c/b.png": b"2", "m.json": b"3"}) == ["c/a_2.png", "c/b.png", "m.json"]
    (tmp_path / "c" / "b.png").write_bytes(b"mine now")
    assert fill(tmp_path, {"c/a.png": b"4", "m.json": b"5"}) == ["c/a_2.png", "m.json"]
    assert contents(tmp_path) == {"c/a.png": b"mine", "c/b.png": b"mine now", "c/a_2.png": b"4", "m.json": b"5"}


def test_output_folder_removes_files_not_written_again(tmp_path):
    """It keeps the files of another command, and files that both commands wrote."""
    fill(tmp_path, {"c/a.png": b"1", "shared.png": b"2"})
    fill(tmp_path, {"shared.png": b"2", "log.md": b"3"}, "log")
    fill(tmp_path, {"m.json": b"4"})
    assert contents(tmp_path) == {"shared.png": b"2", "log.md": b"3", "m.json": b"4"}
    assert not (tmp_path / "c").exists()


def test_output_folder_adds_equal_files_only_once(tmp_path):
    with OutputFolder(tmp_path, "log") as out:
        assert [out.add("a.png", content) for content in (b"1", b"1", b"2", b"2")] == ["a.png"] * 2 + ["a_2.png"] * 2
    assert contents(tmp_path) == {"a.png": b"1", "a_2.png": b"2"}


def test_output_folder_that_fails_keeps_the_old_files(tmp_path):
    fill(tmp_path / "old", {"a.png": b"1"})
    for folder in ("old", "new"):
        with pytest.raises(KeyboardInterrupt), OutputFolder(tmp_path / folder, "evaluate") as out:
            out.add("a.png", b"2")
            raise KeyboardInterrupt
    assert contents(tmp_path) == {"old/a.png": b"1"} and not (tmp_path / "new").exists()


@pytest.mark.parametrize("step", range(6))
def test_output_folder_stopped_at_any_step_can_be_repeated(step, tmp_path, monkeypatch):
    """Two files are replaced, a third is removed, and a fourth is the user's: none is lost, and no draft is left."""
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


def test_output_folder_ignores_recorded_paths_outside_of_it(tmp_path):
    """A folder may come from a stranger, with its record."""
    (tmp_path / "mine.png").write_bytes(b"1")
    fill(tmp_path / "out", {"a.png": b"1"})
    record = json.loads((tmp_path / "out" / RECORD_FILE).read_text(encoding="utf-8"))
    sha256 = record["evaluate"][0][1]
    names = ["../mine.png", str(tmp_path / "mine.png"), "a.png"]
    (tmp_path / "out" / RECORD_FILE).write_text(json.dumps({"evaluate": [[name, sha256] for name in names]}), "utf-8")
    fill(tmp_path / "out", {"b.png": b"2"})
    assert contents(tmp_path) == {"mine.png": b"1", "out/b.png": b"2"}


@pytest.mark.parametrize("content", ["", "[]", "null", '{"evaluate": 5}', '{"evaluate": [["a"]]}', "{" * 10_000])
def test_output_folder_with_damaged_record_is_refused(content, tmp_path):
    (tmp_path / RECORD_FILE).write_text(content, encoding="utf-8")
    with pytest.raises(StorageError, match=r"is damaged .*remove it or choose another --out$"):
        fill(tmp_path, {"a.png": b"1"})
    assert [path.name for path in tmp_path.iterdir()] == [RECORD_FILE]


def test_output_folder_with_file_in_place_of_folder_is_refused(tmp_path):
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


def test_write_file_replaces_only_unchanged_files(tmp_path):
    """An empty file, such as `mktemp` makes, can be replaced, too."""
    path = tmp_path / "roses.csv"
    path.touch()
    for content in (b"1", b"2"):
        write_file(path, content, "trials")
    write_file(tmp_path / "tulips.csv", b"3", "trials")
    assert contents(tmp_path) == {"roses.csv": b"2", "tulips.csv": b"3"}
    path.write_bytes(b"mine")
    for existing in (path, tmp_path):
        with pytest.raises(StorageError, match="choose another --out"):
            require_replaceable(existing)


def test_output_folder_in_bucket_keeps_files_of_others(store, tmp_path, monkeypatch):
    """The command runs on three machines in turn, and a user has put a file of their own there."""
    uri = store.uri(f"hue/{tmp_path.name}/out")
    fill(local_path(uri), {"c/a.png": b"1", "c/old.png": b"1"})
    mine = local_path(uri) / "m.json"
    mine.write_bytes(b"mine")
    push(mine)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
    assert fill(local_path(uri), {"c/a.png": b"2", "m.json": b"2"}) == ["c/a.png", "m_2.json"]
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "third"))
    assert fill(local_path(uri), {"c/a.png": b"2", "m.json": b"2"}) == ["c/a.png", "m_2.json"]
    keys = {RECORD_FILE, "c/a.png", "m.json", "m_2.json"}
    bucket = bucket_path(local_path(uri))
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
def test_require_outside_photos_refuses_output_among_photos(photos, out, fine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / photos).mkdir(parents=True)
    (tmp_path / "link").symlink_to("t")
    folders = [tmp_path / photos, tmp_path / out, "colorized"]
    if fine:
        require_outside_photos(*folders)
    else:
        with pytest.raises(ValueError, match="choose another --out"):
            require_outside_photos(*folders)
