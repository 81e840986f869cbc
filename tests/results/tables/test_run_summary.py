"""`huetune list` reads the studies that have changed since it listed them, and no others."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from huetune.results.records.run import STUDY
from huetune.results.tables import run_summary
from huetune.results.tables.run_summary import CACHE_FILE
from tests.results.synthetic_run import make_run, write_studies


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage of two runs."""
    storage = tmp_path_factory.mktemp("made") / "runs"
    run = make_run(storage / "a", 5)
    write_studies(run)
    shutil.copytree(storage / "a", storage / "b")
    return storage


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HUETUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(run_summary, "SETTLED_SECONDS", 0)
    return tmp_path / "cache"


@pytest.fixture
def listed(made: Path, cache: Path, tmp_path: Path, in_process: Callable, connections: list[str]) -> Callable:
    """Return a function that lists a copy of the runs and returns its output and the number of studies read."""
    shutil.copytree(made, tmp_path / "runs")

    def run() -> tuple[list[str], int]:
        connections.clear()
        done = in_process("list", "--storage", tmp_path / "runs")
        assert done.returncode == 0, done.stderr
        return sorted(done.stdout.splitlines()), len(connections)

    return run


def change(study: Path) -> None:
    """Change a metric in a study without changing the size or the modification time of its file."""
    before = study.stat()
    database = optuna.storages.RDBStorage(f"sqlite:///{study}")
    with database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE trials SET state = 'FAIL' WHERE number = 1")
    database.engine.dispose()
    os.utime(study, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert study.stat().st_size == before.st_size


def test_summary_of_unchanged_study_is_cached(listed: Callable, tmp_path: Path) -> None:
    first, reads = listed()
    assert reads == 2 and "2 complete, 2 pruned, 1 failed  winner: trial " in first[0]
    assert listed() == (first, 0)
    change(tmp_path / "runs" / "b" / STUDY)
    again, reads = listed()
    assert reads == 1 and again[0] == first[0] and "2 complete, 1 pruned, 2 failed" in again[1]
    manifest = tmp_path / "runs" / "a" / "manifest.json"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace('"name": "made"', '"name": "none"'))
    (one, other), reads = listed()
    assert "has no study 'none'" in one and other == again[1]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-5],
        lambda content: "[]",
        lambda content: content.replace('"winner": "trial', '"winner": 7, "loser": "trial'),
        lambda content: content.replace('"states": {', '"states": 3, "others": {'),
        lambda content: content.replace("huetune", "another huetune"),
    ],
    ids=["cut", "a list", "a number for a winner", "a number for states", "another version"],
)
def test_damaged_summary_is_made_again(listed: Callable, cache: Path, damage: Callable[[str], str]) -> None:
    first, _ = listed()
    whole = (cache / CACHE_FILE).read_text(encoding="utf-8")
    (cache / CACHE_FILE).write_text(damage(whole), encoding="utf-8")
    assert listed() == (first, 2)
    assert json.loads((cache / CACHE_FILE).read_text(encoding="utf-8")) == json.loads(whole)


def test_summary_of_study_being_written_is_not_cached(listed: Callable, tmp_path: Path, monkeypatch) -> None:
    """Of two changes in one moment the file's times may show one; a journal says that a process is at it, or was."""
    with monkeypatch.context() as patch:
        patch.setattr(run_summary, "SETTLED_SECONDS", 3600)
        assert [listed()[1] for _ in range(2)] == [2, 2]
    listed()
    assert listed()[1] == 0
    (tmp_path / "runs" / "a" / f"{STUDY}-journal").touch()
    assert listed()[1] >= 1


def test_summaries_work_without_cache(listed: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first, _ = listed()
    monkeypatch.setenv("HUETUNE_CACHE", "")
    assert listed() == (first, 2)
    (tmp_path / "no folder").write_text("mine", encoding="utf-8")
    monkeypatch.setenv("HUETUNE_CACHE", str(tmp_path / "no folder"))
    assert listed() == (first, 2)
