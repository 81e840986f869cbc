"""A folder is there whole or not at all, and damage shows."""

import os
import subprocess
from pathlib import Path

import pytest

from data_tools.errors import CheckpointError, StorageError
from data_tools.folder import SUMS, alone, check_sums, replace, require_new, require_place, sealed


@pytest.fixture
def folder(tmp_path):
    with sealed(tmp_path / "made" / "folder") as draft:
        (draft / "one").write_bytes(b"1" * 1000)
        (draft / "two").write_text("2", encoding="utf-8")
    return tmp_path / "made" / "folder"


def test_a_sealed_folder_is_whole_for_us_and_for_coreutils(folder):
    check_sums(folder)
    checked = subprocess.run(
        ["sha256sum", "--check", SUMS], cwd=folder, capture_output=True, text=True, encoding="utf-8", check=True
    )
    assert checked.stdout.splitlines() == ["one: OK", "two: OK"]
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]


def test_nothing_is_put_into_a_sealed_folder(folder):
    for place in (folder, folder / "pictures", folder / "a" / "b"):
        with pytest.raises(StorageError, match="is sealed"):
            require_place(place)
    require_place(folder.parent / "pictures")
    (folder / "one").unlink()
    os.mkfifo(folder / "one")
    require_place(folder / "pictures")
    # As a folder of downloads, with the sums of some of what is in it.
    (folder / "more").mkdir()
    require_place(folder / "pictures")


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: _flip(folder / "one"), "one': damaged"),
        (lambda folder: (folder / "one").write_bytes(b"1" * 999), "one': damaged"),
        (lambda folder: (folder / "two").unlink(), "holds other files than"),
        (lambda folder: (folder / "more").write_text("3", encoding="utf-8"), "holds other files than"),
        (lambda folder: (folder / SUMS).unlink(), "has no SHA256SUMS"),
        (lambda folder: (folder / SUMS).write_bytes(b"\xff\xfe"), "cannot be read"),
    ],
    ids=["flipped", "cut", "missing", "one more", "no sums", "no text"],
)
def test_damage_shows_in_one_line(folder, damage, message):
    damage(folder)
    with pytest.raises(CheckpointError) as refused:
        check_sums(folder)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_where_no_folder_could_be_put_is_known_before_it_is_filled(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    require_new(tmp_path / "empty")
    require_new(tmp_path / "a" / "b" / "new")
    for folder, message in (
        (tmp_path / "link", "is a link"),
        (Path("/dev/shm"), "a disk of its own|is not empty"),
        (tmp_path / ("x" * 250), "File name too long"),
        (Path("/proc/new"), "cannot be made"),
    ):
        with pytest.raises(StorageError, match=message):
            require_new(folder)
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(StorageError, match="the folder that you are in"):
        require_new(tmp_path / "empty")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "link"]


def test_of_two_who_make_a_folder_one_is_refused(tmp_path):
    with alone(tmp_path / "model"):
        with pytest.raises(StorageError, match="another process is making it"), alone(tmp_path / "model"):
            pass
        with alone(tmp_path / "other"):
            pass
    with alone(tmp_path / "model"):
        pass
    assert not list(tmp_path.iterdir())


def test_what_fails_on_the_way_leaves_the_old_folder_and_no_draft(folder):
    with pytest.raises(RuntimeError), sealed(folder) as draft:
        (draft / "one").write_text("new", encoding="utf-8")
        raise RuntimeError
    check_sums(folder)
    assert (folder / "one").read_bytes() == b"1" * 1000
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "file"
    replace(path, b"old")
    replace(path, b"new")
    assert path.read_bytes() == b"new"
    monkeypatch.setattr("os.fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        replace(path, b"newest")
    assert path.read_bytes() == b"new" and [found.name for found in tmp_path.iterdir()] == ["file"]
