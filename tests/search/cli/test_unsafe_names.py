"""Control characters and other unsafe characters in names of photos, folders and runs never reach the terminal."""

import contextlib
import csv
import json
import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from huetune.data_tools.datasets.synthetic_garden import garden
from huetune.results.export.best_model import export, find_model
from huetune.results.records.outcomes import Failure, FailureKind
from huetune.results.records.run import STUDY

NAMES = [
    os.fsdecode(name)
    for name in (
        b"\x1b[2J\x1b[31mred",
        b"\x1b]0;owned\x07",
        b"a\nskipped: nothing",
        b"a\rb",
        "a\u202eb".encode(),
        b"\xff\xfe\x80",
        b"[red]a[ red] <script>",
        "été 花 🌹".encode(),
        b"--help",
        b"a" * 250,
    )
]


def assert_plain(text: str) -> None:
    assert text and all(line.isprintable() for line in text.split("\n")), ascii(text)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with an unsafe name, with a photo and a file that is not a photo for each unsafe name."""
    folder = tmp_path / NAMES[0] / "a\nb\udcff"
    folder.mkdir(parents=True)
    for name, scene in zip(NAMES, garden(len(NAMES), seed=9), strict=True):
        Image.fromarray(scene).save(folder / f"{name}.png", "PNG")
        (folder / f"{name}.jpg").touch()
    return folder


def test_data_check_escapes_file_names(folder, run_command):
    code, out, _ = run_command("data", "check", folder)
    assert code == 0
    assert_plain(out)
    lines = out.splitlines()
    assert len(lines) == len(NAMES) + 1 and all(line.startswith("skipped: '") for line in lines[:-1])
    assert lines[-1] == "20 files: 10 usable photos (0 copies, 0 near-duplicates), 10 skipped"


def test_data_garden_escapes_the_folder_name(folder, run_command):
    code, out, _ = run_command("data", "garden", "--count", 1, "--out", folder / NAMES[1])
    assert code == 0
    assert_plain(out)


def test_evaluate_and_colorize_accept_odd_file_names(folder, run_command, searched, tmp_path):
    model, out_folder = tmp_path / NAMES[4], tmp_path / NAMES[1] / "out"
    export(find_model("tiny", searched[0])[0], model)
    code, out, err = run_command("evaluate", model, "--photos", folder, "--samples", 1, "--out", out_folder)
    assert code == 0, err
    assert_plain(out)
    assert_plain(err)
    rows = json.loads((out_folder / "metrics.json").read_text(encoding="utf-8"))["photos"]
    assert sorted(Path(row["photo"]).stem for row in rows) == sorted(NAMES)
    with (out_folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(NAMES) + 1
    assert len(list((out_folder / "colorized").iterdir())) == len(NAMES)
    assert np.asarray(Image.open(out_folder / "contact-sheet.png")).std() > 0

    photos = [folder / f"{name}.png" for name in NAMES]
    code, out, err = run_command("colorize", model, *photos, "--out", folder / "colored")
    assert code == 0, err
    assert_plain(out)
    assert len(out.splitlines()) == len(list((folder / "colored").iterdir())) == len(NAMES)


@pytest.fixture
def run(searched, tmp_path) -> Path:
    """A run with an unsafe name, trained on a machine with an unsafe name."""
    run = tmp_path / NAMES[2]
    shutil.copytree(searched[0] / "tiny", run)
    failure = Failure(FailureKind.WORKER_DIED, f"{NAMES[1]}\n{NAMES[6]}")
    with contextlib.closing(sqlite3.connect(run / STUDY)) as connection, connection:
        for key, value in (("host", NAMES[0]), ("failure", failure.record)):
            connection.execute(
                "UPDATE trial_user_attributes SET value_json = ? WHERE key = ?", (json.dumps(value), key)
            )
        connection.execute("DELETE FROM trial_user_attributes WHERE key = 'digest'")
    return run


def test_watch_escapes_names(run, run_command):
    code, out, _ = run_command("watch", run, "--once")
    assert code == 0
    assert_plain(out)


def test_report_and_log_accept_odd_file_names(folder, searched, run_command, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))  # no Graphviz to wait for
    for verb, words in (("report", ["--out", tmp_path / "r.html"]), ("log", ["--out", tmp_path / "l", "--trials", 0])):
        code, out, err = run_command(verb, "tiny", "--storage", searched[0], "--photos", folder, *words)
        assert code == 0, err
        assert_plain(out)
    text = (tmp_path / "l" / "log.md").read_text(encoding="utf-8")
    assert len(text.split("\n| ![")) == 1 + 4, "a row a photo, whatever its name"
    assert "\n4 of 10 test photos, evenly spread\n\n| " in text


def test_current_folder_as_run_is_read_and_never_replaced(run, run_command, monkeypatch, tmp_path):
    monkeypatch.chdir(run)
    assert run_command("trials", ".") == run_command("trials", run)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    code, _, err = run_command("best", run, "--export", ".")
    assert code == 4 and "is the current folder" in err and not list(Path().iterdir())
    code, _, err = run_command("trials", run, "--format", "csv", "--out", ".")
    assert code == 4 and "Is a directory" in err and err.count("\n") == 1


@pytest.fixture
def odd(searched, tmp_path) -> Path:
    """A storage whose path is not UTF-8, with a run."""
    storage = tmp_path / os.fsdecode(b"st\xfcck")
    shutil.copytree(searched[0] / "tiny", storage / "tiny")
    return storage


@pytest.mark.parametrize(
    "words",
    [
        "trials",
        "watch --once",
        "effects",
        "verify",
        "verify --quick",
        "best",
        "report",
        "log",
        "structure --out o",
        "colorize p.png --out o",
        "evaluate --photos p",
        "tensorboard",
        "mlflow --uri sqlite:///m.db",
        "dashboard",
        "resume",
        "extend --trials 1",
        "confirm",
        "compare 0 1",
        "rerun 0",
    ],
)
def test_run_with_a_path_that_is_not_utf8_is_refused(odd, run_command, monkeypatch, words):
    """A database URL cannot contain such a path; the message says so, and does not call the run damaged."""
    monkeypatch.chdir(odd.parent)
    before = sorted(Path().rglob("*"))
    verb, *options = words.split()
    code, out, err = run_command(verb, odd / "tiny", *options)
    assert code == 2 and not out and err.count("\n") == 1
    assert "tiny': the path of a run and of its study must be UTF-8; rename the folder\n" in err
    assert sorted(Path().rglob("*")) == before


def test_list_shows_a_run_with_a_path_that_is_not_utf8(odd, run_command):
    code, out, _ = run_command("list", "--storage", odd)
    assert code == 0 and out.startswith("tiny  ") and "must be UTF-8; rename the folder" in out
    assert_plain(out)


@pytest.mark.parametrize("option", ["--storage {}", "--study sqlite:///{}", "--study postgresql://h/{}"])
def test_search_with_a_path_that_is_not_utf8_creates_nothing(run_command, monkeypatch, tmp_path, option):
    monkeypatch.chdir(tmp_path)
    name, place = option.split()
    code, _, err = run_command("search", "--garden", 4, "--trials", 1, name, place.format(os.fsdecode(b"st\xfcck")))
    assert code == 2 and "must be UTF-8" in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_search_in_a_folder_that_is_not_utf8_is_refused(run_command, monkeypatch, tmp_path):
    """Ray sends the path of the current folder to its workers."""
    (here := tmp_path / os.fsdecode(b"st\xfcck")).mkdir()
    monkeypatch.chdir(here)
    code, _, err = run_command("search", "--garden", 4, "--trials", 1, "--storage", tmp_path / "runs")
    assert code == 2 and "the current folder must be UTF-8 for Ray; change to another" in err
    assert [path.name for path in tmp_path.iterdir()] == [here.name]


@pytest.mark.parametrize("form", ["table", "csv", "json", "markdown"])
def test_tables(run, run_command, form):
    for verb in ("trials", "effects"):
        code, out, _ = run_command(verb, run, "--format", form)
        assert code == 0
        assert_plain(out)


def test_list_best_and_verify_escape_names(run, run_command):
    for code, words in ((0, ["list", "--storage", run.parent]), (0, ["best", run]), (1, ["verify", run, "--quick"])):
        ended, out, _ = run_command(*words)
        assert ended == code
        assert_plain(out)
    assert len(run_command("list", "--storage", run.parent)[1].splitlines()) == 1


def test_terminal_in_ascii_gets_escaped_letters(folder, huetune, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = huetune("data", "check", folder)
    assert done.returncode == 0, done.stderr
    assert r"\xe9t\xe9 \u82b1" in done.stdout
