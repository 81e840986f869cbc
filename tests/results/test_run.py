"""Runs are found by name or path, and nowhere else."""

import json

import pytest
from PIL import Image

from data_tools.errors import PhotoError, StorageError, UserError
from data_tools.garden import garden
from data_tools.source import Source
from data_tools.split import split
from results.command import photos_of
from results.run import MANIFEST, Run, check_name, find_run, list_runs, open_storage, sqlite_url


def test_a_run_is_found_by_name_and_by_path(searched, monkeypatch):
    storage, _ = searched
    assert find_run("tiny", storage).folder == storage / "tiny"
    assert find_run(str(storage / "tiny")).folder == storage / "tiny"
    assert [run.name for run in list_runs(storage)] == ["tiny"]


def test_a_missing_run_names_those_that_are_there(searched, tmp_path):
    with pytest.raises(StorageError, match=r"no run 'other' in .*: the newest there are tiny"):
        find_run("other", searched[0])
    with pytest.raises(StorageError, match="there are none yet, start one with `huetune search`"):
        find_run("other", tmp_path)


def test_a_run_without_a_study_says_so_and_none_is_made(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / MANIFEST).write_text(json.dumps({}), encoding="utf-8")
    with pytest.raises(StorageError, match="the run has no study"):
        find_run("empty", tmp_path).study()
    (tmp_path / "empty" / "study.db").write_bytes(b"not a database, though long enough to be looked at" * 9)
    with pytest.raises(StorageError, match="the study cannot be opened"):
        find_run("empty", tmp_path).study()


def test_photos_that_come_in_another_order_are_not_taken_for_those_of_the_search(tmp_path):
    """By their order the same seed shuffles them, and draws the latent vectors that rank a model."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, scene in enumerate(garden(6)):
        Image.fromarray(scene).save(folder / f"{number}.png")
    source = Source(folder)
    parts = split(source.read()[0], 0)
    photos = {"source": source.record, "order": parts.order, **parts.summary}
    (tmp_path / MANIFEST).write_text(
        json.dumps({"schema": 2, "search": {"seed": 0}, "photos": photos}), encoding="utf-8"
    )
    assert photos_of(Run(tmp_path), quiet=True).order == parts.order
    (folder / "0.png").rename(folder / "9.png")
    with pytest.raises(PhotoError, match="in another order"):
        photos_of(Run(tmp_path), quiet=True)
    (folder / "9.png").rename(folder / "00.png")
    assert photos_of(Run(tmp_path), quiet=True).order == parts.order


@pytest.mark.parametrize("name", ["", "../x", "/tmp/x", ".hidden", "a/b", "a b", "x" * 101, "né", "-x", "a\n"])
def test_names_that_are_no_folder_of_their_own_are_refused(name):
    with pytest.raises(UserError, match="a run's name has 1 to 100 letters"):
        check_name(name)


def test_plain_names_are_fine():
    assert [check_name(name) for name in ("roses", "2026-11-22", "a.b_c-d")] == ["roses", "2026-11-22", "a.b_c-d"]


def test_a_brace_in_a_path_is_only_a_brace(tmp_path):
    """Optuna would read it as a field of str.format."""
    (tmp_path / "{a}").mkdir()
    open_storage(sqlite_url(tmp_path / "{a}" / "study.db"))
    assert (tmp_path / "{a}" / "study.db").is_file()
