"""Runs are found by name or path, and nowhere else."""

import json

import pytest
from PIL import Image

from huetune.data_tools.common.errors import PhotoError, StorageError, UserError
from huetune.data_tools.datasets.synthetic_garden import garden
from huetune.data_tools.photos.source import Source
from huetune.data_tools.photos.split import split
from huetune.results.records.run import MANIFEST, Run, find_run, list_runs, open_storage, require_run_name, sqlite_url
from huetune.results.records.run_photos import photos_of


def test_find_run_accepts_name_and_path(searched, monkeypatch):
    storage, _ = searched
    assert find_run("tiny", storage).folder == storage / "tiny"
    assert find_run(str(storage / "tiny")).folder == storage / "tiny"
    assert [run.name for run in list_runs(storage)] == ["tiny"]


def test_find_run_missing_run_lists_existing_ones(searched, tmp_path):
    with pytest.raises(StorageError, match=r"no run 'other' in .*: the newest runs there are tiny"):
        find_run("other", searched[0])
    with pytest.raises(StorageError, match="there are no runs yet, start one with `huetune search`"):
        find_run("other", tmp_path)


def test_run_without_study_is_refused_and_none_is_created(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / MANIFEST).write_text(json.dumps({}), encoding="utf-8")
    with pytest.raises(StorageError, match="the run has no study"):
        find_run("empty", tmp_path).study()
    (tmp_path / "empty" / "study.db").write_bytes(b"not a database, though long enough to be looked at" * 9)
    with pytest.raises(StorageError, match="the study cannot be opened"):
        find_run("empty", tmp_path).study()


def test_photos_in_another_order_are_refused(tmp_path):
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
def test_run_name_that_is_no_folder_name_is_refused(name):
    with pytest.raises(UserError, match="a run's name has 1 to 100 letters"):
        require_run_name(name)


def test_run_name_with_plain_characters_is_accepted():
    assert [require_run_name(name) for name in ("roses", "2026-11-22", "a.b_c-d")] == ["roses", "2026-11-22", "a.b_c-d"]


def test_sqlite_url_with_brace_in_path_opens(tmp_path):
    """Optuna would read it as a field of str.format."""
    (tmp_path / "{a}").mkdir()
    open_storage(sqlite_url(tmp_path / "{a}" / "study.db"))
    assert (tmp_path / "{a}" / "study.db").is_file()


@pytest.mark.parametrize(
    ("changes", "verb", "rest", "expected"),
    [
        ({}, "trials", "", "huetune trials 'my runs/tiny'"),
        ({}, "resume", "", "huetune resume 'my runs/tiny'"),
        ({}, "best", "--export best-model", "huetune best 'my runs/tiny' --export best-model"),
        (
            {"search": {"objectives": ["skill", "chroma_mse"]}},
            "best",
            "",
            "huetune best 'my runs/tiny' --by skill",
        ),
        ({"search": {"objectives": ["skill", "chroma_mse"]}}, "trials", "", "huetune trials 'my runs/tiny'"),
        ({"cluster": {"address": "one:6379"}}, "resume", "", "huetune resume 'my runs/tiny' --address one:6379"),
        (
            {"cluster": {"address": "one:6379"}},
            "extend",
            "--trials 2",
            "huetune extend 'my runs/tiny' --trials 2 --address one:6379",
        ),
    ],
)
def test_run_command_can_be_pasted_into_shell(changes, verb, rest, expected, tmp_path, monkeypatch):
    (tmp_path / "my runs" / "tiny").mkdir(parents=True)
    (tmp_path / "my runs" / "tiny" / MANIFEST).write_text(json.dumps(changes), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert find_run("tiny", tmp_path / "my runs").command(verb, rest) == expected


@pytest.mark.parametrize("storage", [".", "-x", "runs", "other storage"])
def test_run_location_finds_that_run_only(storage, tmp_path, monkeypatch):
    """Though a run of that name is in the usual storage, and the storage may look like an option."""
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path / "runs" / "tiny", tmp_path / storage / "tiny"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).write_text("{}", encoding="utf-8")
    place = Run(tmp_path / storage / "tiny").location
    assert find_run(place).folder == tmp_path / storage / "tiny" and not place.startswith("-")


def test_run_command_without_huetune_on_path_names_its_file(tmp_path, monkeypatch):
    (tmp_path / "a venv").mkdir()
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / MANIFEST).write_text("{}", encoding="utf-8")
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [str(tmp_path / "a venv" / "huetune")])
    assert Run(tmp_path / "tiny").command("trials") == "'a venv/huetune' trials tiny"
    monkeypatch.chdir(tmp_path / "a venv")
    assert Run(tmp_path / "tiny").command("trials") == "./huetune trials ../tiny"
