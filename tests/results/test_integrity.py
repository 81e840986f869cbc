"""`huetune verify` and its checks: damage, loss, unfinished searches, and files that cannot be read now."""

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from huetune.data_tools.common.errors import StorageError
from huetune.results import integrity
from huetune.results.integrity import find_damage, find_violations
from huetune.results.records.run import MANIFEST, STUDY, Run, backup_path, open_storage, read_only


@pytest.fixture
def run(searched, tmp_path):
    shutil.copytree(searched[0] / "tiny", tmp_path / "tiny")
    return Run(tmp_path / "tiny")


def _sql(path, *statements):
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def _both(run, *statements):
    for path in (run.folder / STUDY, backup_path(run.folder / STUDY)):
        _sql(path, *statements)


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _checkpoint(run):
    return next(iter(sorted(run.folder.glob("trials/*/epoch-*/weights.npz"))))


def test_undamaged_run_has_no_violations(run):
    assert list(find_violations(run)) == []


NO_DIGESTS = "DELETE FROM trial_user_attributes WHERE key = 'digest'"
NO_LAST = "DELETE FROM trials WHERE trial_id = (SELECT MAX(trial_id) FROM trials)"


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda run: _flip(_checkpoint(run)), "weights.npz': is damaged"),
        (lambda run: shutil.rmtree(_checkpoint(run).parent), "has no SHA256SUMS"),
        (lambda run: (run.folder / "trials" / "0099").mkdir(), "0099': belongs to no trial"),
        (lambda run: (run.folder / "trials" / "0000" / ".epoch-002-x").mkdir(), "incomplete, its process died"),
        (lambda run: (run.folder / ".study.db.draft").touch(), "incomplete, its process died"),
        (lambda run: (run.folder / "trials" / "0000" / "epoch-077-x").mkdir(), "no epoch of its trial refers to it"),
        (
            lambda run: _both(run, "UPDATE trial_values SET value = value + 1", NO_DIGESTS),
            "expected the value of its best epoch",
        ),
        (
            lambda run: _sql(run.folder / STUDY, "UPDATE trial_intermediate_values SET intermediate_value = 0"),
            "was changed after it ended",
        ),
        (
            lambda run: _sql(run.folder / STUDY, NO_LAST),
            "trial 5 of 'tiny' is missing; the copy of the study has it",
        ),
        (
            lambda run: _both(run, NO_LAST),
            "expected 6 trials, found 5",
        ),
        (lambda run: _both(run, "UPDATE trials SET number = 77 WHERE trial_id = 6", NO_DIGESTS), "each once"),
        (
            lambda run: _both(run, "UPDATE trials SET state = 'RUNNING' WHERE trial_id = 1"),
            "trials 0: expected an ended trial, because its search has ended; found running",
        ),
        (
            lambda run: _sql(run.folder / STUDY, "UPDATE trial_values SET value = value + 1"),
            "was changed after it ended",
        ),
        (lambda run: _sql(run.folder / STUDY, "UPDATE trials SET state = 'NONSENSE'"), "damaged ("),
        (lambda run: (run.folder / STUDY).write_bytes(b"no study"), "damaged (file is not a database)"),
        (lambda run: backup_path(run.folder / STUDY).write_bytes(b"no copy"), "damaged (file is not a database)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_violations_find_each_kind_of_damage(run, harm, message):
    harm(run)
    assert any(message in line for line in find_violations(run)), list(find_violations(run))


NOT_ENDED = "DELETE FROM study_user_attributes WHERE key = 'ended'"


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        ([], ["the search is not finished: 6 of 6 trials have ended"]),
        (
            ["UPDATE trials SET state = 'WAITING' WHERE trial_id > 4"],
            ["the search is not finished: 4 of 6 trials have ended", "interrupted: trial 4, trial 5"],
        ),
        (
            ["UPDATE trials SET state = 'RUNNING' WHERE trial_id = 6"],
            [
                "the search is not finished: 5 of 6 trials have ended",
                "running when the process of the search died: trial 5",
                "incomplete or superseded, removed by `resume`: 3 files or folders",
            ],
        ),
    ],
    ids=["between trials", "interrupted", "died"],
)
def test_verify_of_unfinished_search_succeeds(statements, said, run, in_process):
    """Once something is damaged, `verify` fails and still shows the state."""
    _both(run, NOT_ENDED, *statements)
    if "process of the search died" in "".join(said):
        for name in ("trials/0005/.epoch-002-x", "trials/0000/epoch-077-x", ".study.db.draft"):
            (run.folder / name).mkdir(parents=True)
    done = in_process("verify", run.folder, "--quick")
    *lines, last = done.stdout.splitlines()
    assert done.returncode == 0 and last.startswith("run 'tiny' is undamaged so far: "), done.stdout
    assert lines == [*said, f"continue it with: huetune resume {run.location}"]
    _flip(_checkpoint(run))
    done = in_process("verify", run.folder, "--quick")
    assert done.returncode == 1 and said[0] in done.stdout and "weights.npz': is damaged" in done.stdout


def test_verify_of_unfinished_confirmation_succeeds(run, in_process):
    asked = {**run.manifest["search"], "confirm": [1, 2]}
    (run.folder / MANIFEST).write_text(json.dumps({**run.manifest, "search": asked}), encoding="utf-8")
    done = in_process("verify", run.folder, "--quick")
    assert done.returncode == 0, done.stdout
    assert "the confirmation is not finished: no replicate was started yet" in done.stdout


def test_violations_compare_best_score_with_record(run, parts):
    """The best model is measured on other photos than those of its search."""
    (line,) = list(find_violations(run, parts.validation))
    assert line.startswith("the best model: expected chroma_mse 0.") and "measured again it is 0." in line


@pytest.mark.parametrize("keep", [0, 10, 100, 5000, 40_000])
def test_truncated_study_is_damaged(run, keep):
    path: Path = run.folder / STUDY
    assert find_damage(path) is None
    path.write_bytes(path.read_bytes()[:keep])
    assert str(find_damage(path)).startswith("damaged (")


@pytest.mark.parametrize("bit", range(8))
@pytest.mark.parametrize("word", [b"alembic_version", b"version_info", b"locked"])
def test_flipped_bit_in_table_name_is_damage(word, bit, run):
    path = run.folder / STUDY
    content = bytearray(path.read_bytes() + (b"locked" if word == b"locked" else b""))
    content[content.index(word) + bit % len(word)] ^= 1 << bit % 7
    path.write_bytes(content)
    found = find_damage(path)
    assert found is None or found.startswith("damaged (")


@pytest.mark.parametrize("words", ["is locked", "unable to open", "no longer compatible"])
def test_error_words_inside_damaged_study_are_ignored(words, run):
    """Temporary errors are recognized by SQLite's codes and the revision of the tables, not by words of an error."""
    _sql(run.folder / STUDY, f"UPDATE trials SET state = '{words}' WHERE trial_id = 1")
    assert words in str(find_damage(run.folder / STUDY)) and str(find_damage(run.folder / STUDY)).startswith(
        "damaged ("
    )


def test_locked_study_is_not_damaged(run, monkeypatch):
    """A locked file is not damaged: another process is writing it."""
    monkeypatch.setattr(integrity, "LOCK_TIMEOUT_SECONDS", 0.05)
    path = run.folder / STUDY
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageError, match=r"study.db': cannot be read now \(database is locked\)"):
            find_damage(path)


def test_sqlite_code_is_found_in_optunas_error(tmp_path):
    """The code is found although SQLAlchemy and Optuna wrap SQLite's error."""
    with pytest.raises(Exception, match="unable to open database file") as raised:
        open_storage(read_only(tmp_path / "gone" / STUDY))
    assert not isinstance(raised.value, sqlite3.Error)
    assert integrity._sqlite_code(raised.value) == sqlite3.SQLITE_CANTOPEN
    assert integrity._sqlite_code(ValueError("unable to open")) is None


@pytest.mark.parametrize(
    ("revision", "remedy"), [("v3.0.0.d", "optuna storage upgrade"), ("v9.0.0.a", "install a newer Optuna")]
)
def test_study_of_another_optuna_is_not_damaged(revision, remedy, run):
    _sql(run.folder / STUDY, f"UPDATE alembic_version SET version_num = '{revision}'")
    with pytest.raises(
        StorageError, match=f"cannot be read now .*revision {revision} and Optuna .* uses v3.2.0.a; .*{remedy}"
    ):
        find_damage(run.folder / STUDY)
    with pytest.raises(StorageError, match=f"cannot be opened .*revision {revision}"):
        run.study()


def test_missing_study_does_not_exist(tmp_path):
    assert find_damage(tmp_path / STUDY) == "does not exist"
