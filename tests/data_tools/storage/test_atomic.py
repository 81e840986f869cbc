"""A folder is there whole or not at all, and damage shows."""

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from huetune.data_tools.common.errors import CheckpointError, StorageError
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
    MAX_FILE_BYTES,
    MAX_STATE_BYTES,
    STATE_FILE,
    SUMS_FILE,
    check_files,
    check_sums,
)
from huetune.data_tools.storage.user_folders import NONEXISTENT_HOME, user_folder


@pytest.fixture
def folder(tmp_path):
    with atomic_folder(tmp_path / "made" / "folder") as draft:
        (draft / "one").write_bytes(b"1" * 1000)
        (draft / "two").write_text("2", encoding="utf-8")
    return tmp_path / "made" / "folder"


def test_a_sealed_folder_is_whole_for_us_and_for_coreutils(folder):
    check_sums(folder)
    checked = subprocess.run(
        ["sha256sum", "--check", SUMS_FILE], cwd=folder, capture_output=True, text=True, encoding="utf-8", check=True
    )
    assert checked.stdout.splitlines() == ["one: OK", "two: OK"]
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]


def test_nothing_is_put_into_a_sealed_folder(folder):
    for place in (folder, folder / "pictures", folder / "a" / "b"):
        with pytest.raises(StorageError, match="has checksums and would count as damaged"):
            require_writable(place)
    require_writable(folder.parent / "pictures")
    (folder / "one").unlink()
    os.mkfifo(folder / "one")
    require_writable(folder / "pictures")
    # As a folder of downloads, with the sums of some of what is in it.
    (folder / "more").mkdir()
    require_writable(folder / "pictures")


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: _flip(folder / "one"), "one': is damaged"),
        (lambda folder: (folder / "one").write_bytes(b"1" * 999), "one': is damaged"),
        (lambda folder: (folder / "two").unlink(), "holds other files than its SHA256SUMS lists"),
        (
            lambda folder: (folder / "more").write_text("3", encoding="utf-8"),
            "holds other files than its SHA256SUMS lists",
        ),
        (lambda folder: (folder / SUMS_FILE).unlink(), "has no SHA256SUMS"),
        (lambda folder: (folder / SUMS_FILE).write_bytes(b"\xff\xfe"), "cannot be read"),
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


def test_of_two_who_make_a_folder_one_is_refused(tmp_path):
    with exclusive(tmp_path / "model"):
        with pytest.raises(StorageError, match="another process is writing it"), exclusive(tmp_path / "model"):
            pass
        with exclusive(tmp_path / "other"):
            pass
    with exclusive(tmp_path / "model"):
        pass
    assert not list(tmp_path.iterdir())


def test_alone_does_not_count_a_lock_that_was_removed(tmp_path, monkeypatch):
    """Whoever opened the lock before its holder removed it would hold a file that the next one does not find."""
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


def test_alone_on_a_disk_without_locks_is_refused(tmp_path, monkeypatch):
    """A lock that is a mere file would stay where its process was killed, and keep the next one out."""

    def missing(descriptor, kind):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", missing)
    with pytest.raises(OSError, match="not implemented"), exclusive(tmp_path / "model"):
        pass


def test_remove_drafts_takes_only_what_huetune_wrote(folder):
    """A folder of another name, with another file in it or a link is somebody's own."""
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


def test_check_files_knows_how_large_a_training_state_is(tmp_path):
    """The state of the largest model's training is larger than any model, but no more than it can be."""
    for name, size, fine in (
        (STATE_FILE, MAX_FILE_BYTES + 1, True),
        (STATE_FILE, MAX_STATE_BYTES + 1, False),
        ("weights.npz", MAX_FILE_BYTES + 1, False),
    ):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
        with contextlib.nullcontext() if fine else pytest.raises(CheckpointError, match="in a model it has at most"):
            check_files(tmp_path)
        (tmp_path / name).unlink()


def test_what_fails_on_the_way_leaves_the_old_folder_and_no_draft(folder):
    with pytest.raises(RuntimeError), atomic_folder(folder) as draft:
        (draft / "one").write_text("new", encoding="utf-8")
        raise RuntimeError
    check_sums(folder)
    assert (folder / "one").read_bytes() == b"1" * 1000
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]


RENAMES_AND_REMOVALS = {"os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}


def _replace_in_child(folder, step, how):
    """Replace a folder in a process of its own, hit before its step-th rename or removal; return its status."""
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
def test_sealed_interrupted_at_any_step_loses_nothing(folder, how):
    """Whatever happens between the renames, whoever opens the folder next finds one whole version of it."""
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


def test_recover_leaves_a_folder_to_the_process_making_it(folder):
    """A reader that looks between the two renames of a living process waits, and takes nothing from it."""
    folder.rename(folder.with_name(".folder.old"))
    with exclusive(folder), pytest.raises(StorageError, match="another process is replacing it"):
        recover(folder)
    assert not folder.exists()
    recover(folder)
    check_sums(folder)


def test_recover_with_both_versions_keeps_the_new_one(folder):
    """A new version that is damaged or not huetune's does not cost the old one."""
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


def test_recover_on_a_read_only_disk_names_the_old_version(folder, monkeypatch):
    """Nothing can be renamed there: the reader says where the old version is."""
    folder.rename(folder.with_name(".folder.old"))
    descriptor = os.open

    def opened(path, flags, *words, **more):
        if flags & os.O_CREAT:
            raise OSError(30, "Read-only file system")
        return descriptor(path, flags, *words, **more)

    monkeypatch.setattr(os, "open", opened)
    with pytest.raises(StorageError, match=r"\(Read-only file system\); rename .*\.folder\.old. to it"):
        recover(folder)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "file"
    atomic_write(path, b"old")
    atomic_write(path, b"new")
    assert path.read_bytes() == b"new"
    monkeypatch.setattr("os.fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        atomic_write(path, b"newest")
    assert path.read_bytes() == b"new" and [found.name for found in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("home", "state", "expected"),
    [
        ("/home/rose", None, "/home/rose/.local/state/huetune"),
        ("/home/rose", "not/absolute", "/home/rose/.local/state/huetune"),
        ("/home/rose", "/var/state", "/var/state/huetune"),
        (None, "/var/state", "/var/state/huetune"),
        (None, None, None),
        (NONEXISTENT_HOME, None, None),
    ],
)
def test_own_folder_is_where_the_xdg_standard_says(home, state, expected, monkeypatch):
    """A user without a home has none, and neither has a container's user without a name."""
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 3)
    for name, value in (("HOME", home), ("XDG_STATE_HOME", state)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert user_folder("state") == (Path(expected) if expected else None)
