"""Damage in a folder with checksums is found and reported."""

import contextlib
import subprocess

import pytest

from huetune.data_tools.common.errors import CheckpointError
from huetune.data_tools.storage.atomic import atomic_folder
from huetune.data_tools.storage.checksums import (
    MAX_FILE_BYTES,
    MAX_STATE_BYTES,
    STATE_FILE,
    SUMS_FILE,
    check_files,
    check_sums,
)


@pytest.fixture
def folder(tmp_path):
    with atomic_folder(tmp_path / "folder") as draft:
        (draft / "one").write_bytes(b"1" * 1000)
        (draft / "two").write_text("2", encoding="utf-8")
    return tmp_path / "folder"


def test_sums_file_is_accepted_by_sha256sum(folder):
    check_sums(folder)
    checked = subprocess.run(
        ["sha256sum", "--check", SUMS_FILE], cwd=folder, capture_output=True, text=True, encoding="utf-8", check=True
    )
    assert checked.stdout.splitlines() == ["one: OK", "two: OK"]


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
def test_check_sums_of_damaged_folder_is_one_line(folder, damage, message):
    damage(folder)
    with pytest.raises(CheckpointError) as refused:
        check_sums(folder)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_check_files_allows_larger_files_for_training_state(tmp_path):
    """The training state of the largest model is larger than any weights, but it has a limit, too."""
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
