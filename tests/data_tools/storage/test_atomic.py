"""A folder or file is written completely or not at all, whatever interrupts it."""

import errno
import fcntl
import os
import signal
import sys
from pathlib import Path

import pytest

from huetune.data_tools.common.errors import StorageError
from huetune.data_tools.storage.atomic import (
    atomic_folder,
    atomic_write,
    exclusive,
    recover,
    remove_drafts,
    require_new,
    require_writable,
)
from huetune.data_tools.storage.checksums import (
    check_sums,
)


@pytest.fixture
def folder(tmp_path):
    with atomic_folder(tmp_path / "made" / "folder") as draft:
        (draft / "one").write_bytes(b"1" * 1000)
        (draft / "two").write_text("2", encoding="utf-8")
    return tmp_path / "made" / "folder"


def test_require_writable_inside_checksummed_folder_is_refused(folder):
    for path in (folder, folder / "pictures", folder / "a" / "b"):
        with pytest.raises(StorageError, match="has checksums and would count as damaged"):
            require_writable(path)
    require_writable(folder.parent / "pictures")
    (folder / "one").unlink()
    os.mkfifo(folder / "one")
    require_writable(folder / "pictures")
    # Such as a folder of downloads with the checksums of some of its files.
    (folder / "more").mkdir()
    require_writable(folder / "pictures")


def test_require_new_where_no_folder_can_be_created_is_refused(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    require_new(tmp_path / "empty")
    require_new(tmp_path / "a" / "b" / "new")
    for folder, message in (
        (tmp_path / "link", "is a link"),
        (Path("/dev/shm"), "a mount point|is not empty"),
        (tmp_path / ("x" * 250), "File name too long"),
        (Path("/proc/new"), "cannot be created"),
    ):
        with pytest.raises(StorageError, match=message):
            require_new(folder)
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(StorageError, match="is the current folder"):
        require_new(tmp_path / "empty")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "link"]


def test_exclusive_folder_refuses_a_second_writer(tmp_path):
    with exclusive(tmp_path / "model"):
        with pytest.raises(StorageError, match="another process is writing it"), exclusive(tmp_path / "model"):
            pass
        with exclusive(tmp_path / "other"):
            pass
    with exclusive(tmp_path / "model"):
        pass
    assert not list(tmp_path.iterdir())


def test_exclusive_after_lock_file_was_deleted_locks_again(tmp_path, monkeypatch):
    """A process that opened the lock file before its owner deleted it would lock a file that no other process finds."""
    flock, first = fcntl.flock, iter([True])

    def late(descriptor, kind):
        if next(first, False):
            (tmp_path / ".model.lock").unlink()
        flock(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", late)
    with (
        exclusive(tmp_path / "model"),
        pytest.raises(StorageError, match="writing it; wait"),
        exclusive(tmp_path / "model", "wait"),
    ):
        pass
    assert not next(first, False) and not list(tmp_path.iterdir())


def test_exclusive_on_disk_without_locks_is_refused(tmp_path, monkeypatch):
    """A lock that is only a file would stay after its process was killed, and block the next one."""

    def missing(descriptor, kind):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", missing)
    with pytest.raises(OSError, match="not implemented"), exclusive(tmp_path / "model"):
        pass


def test_remove_drafts_keeps_folders_that_are_no_drafts(folder):
    """A folder with another name or with an unknown file, and a link, may be the user's."""
    for name in (".folder-0123abcd", ".folder-ffffffff"):
        (folder.parent / name).mkdir()
        (folder.parent / name / "one").touch()
    kept = [".folder-0123456", ".folder-0123abcg", ".folder-2-0123abcd", ".folder-0000abcd"]
    for name in kept:
        (folder.parent / name).mkdir()
    (folder.parent / ".folder-0000abcd" / "mine").touch()
    (folder.parent / ".folder-1111abcd").symlink_to(folder)
    remove_drafts(folder, ("one", "two"))
    assert {path.name for path in folder.parent.iterdir()} == {"folder", ".folder-1111abcd", *kept}
    check_sums(folder)


def test_atomic_folder_that_fails_leaves_old_folder_and_no_draft(folder):
    with pytest.raises(RuntimeError), atomic_folder(folder) as draft:
        (draft / "one").write_text("new", encoding="utf-8")
        raise RuntimeError
    check_sums(folder)
    assert (folder / "one").read_bytes() == b"1" * 1000
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]


RENAMES_AND_REMOVALS = {"os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}


def _replace_in_child(folder, step, how):
    """Replace a folder in a child process that is stopped before its step-th rename or removal; return its status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    seen = 0

    def hit(event, _):
        nonlocal seen
        seen += event in RENAMES_AND_REMOVALS
        if event in RENAMES_AND_REMOVALS and (seen == step or (seen > step and how == "fails from there on")):
            if how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(5, "Input/output error")

    try:
        sys.addaudithook(hit)
        with atomic_folder(folder) as draft:
            (draft / "one").write_bytes(b"new")
        os._exit(0 if seen < step else 3)
    except OSError:
        os._exit(3)
    finally:
        os._exit(4)


@pytest.mark.parametrize("how", ["killed", "fails once", "fails from there on"])
def test_atomic_folder_interrupted_at_any_step_loses_nothing(folder, how):
    """After any interruption, `recover` finds one complete version of the folder."""
    found, step, status = [], 0, None
    while status != 0:
        step += 1
        status = _replace_in_child(folder, step, how)
        recover(folder)
        check_sums(folder)
        found.append((folder / "one").read_bytes() == b"new")
        assert not list(folder.parent.glob("*.old")), "the old version is gone once the new one is in place"
        with atomic_folder(folder) as draft:
            (draft / "one").write_bytes(b"old")
    assert found == sorted(found) and not found[0] and found[-1] and step > 3


def test_recover_during_replacement_waits_and_changes_nothing(folder):
    """A reader between the two renames of another process waits and does not rename anything."""
    folder.rename(folder.with_name(".folder.old"))
    with exclusive(folder), pytest.raises(StorageError, match="another process is replacing it"):
        recover(folder)
    assert not folder.exists()
    recover(folder)
    check_sums(folder)


def test_recover_with_two_whole_versions_keeps_the_new_one(folder):
    """If the new version is damaged or not huetune's, the old one is kept, too."""
    aside = folder.with_name(".folder.old")
    with atomic_folder(aside) as draft:
        (draft / "one").write_bytes(b"old")
    (folder / "more").touch()
    recover(folder)
    check_sums(aside)
    (folder / "more").unlink()
    recover(folder)
    check_sums(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]


def test_recover_on_read_only_disk_names_the_old_version(folder, monkeypatch):
    """Nothing can be renamed there, so the error has the path of the old version."""
    folder.rename(folder.with_name(".folder.old"))
    os_open = os.open

    def opened(path, flags, *args, **options):
        if flags & os.O_CREAT:
            raise OSError(30, "Read-only file system")
        return os_open(path, flags, *args, **options)

    monkeypatch.setattr(os, "open", opened)
    with pytest.raises(StorageError, match=r"\(Read-only file system\); rename .*\.folder\.old. to it"):
        recover(folder)


def test_atomic_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    atomic_write(path, b"old")
    atomic_write(path, b"new")
    assert path.read_bytes() == b"new"
    monkeypatch.setattr("os.fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        atomic_write(path, b"newest")
    assert path.read_bytes() == b"new" and [found.name for found in tmp_path.iterdir()] == ["file"]
