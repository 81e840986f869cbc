"""Each promise that a run can break is noticed when it is broken."""

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from huetune.data_tools.common.errors import StorageError
from huetune.results import integrity
from huetune.results.integrity import damage, violations
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


def test_a_whole_run_breaks_no_promise(run):
    assert list(violations(run)) == []


NO_DIGESTS = "DELETE FROM trial_user_attributes WHERE key = 'digest'"
NO_LAST = "DELETE FROM trials WHERE trial_id = (SELECT MAX(trial_id) FROM trials)"


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda run: _flip(_checkpoint(run)), "weights.npz': damaged"),
        (lambda run: shutil.rmtree(_checkpoint(run).parent), "has no SHA256SUMS"),
        (lambda run: (run.folder / "trials" / "0099").mkdir(), "0099': belongs to no trial"),
        (lambda run: (run.folder / "trials" / "0000" / ".epoch-002-x").mkdir(), "half-written"),
        (lambda run: (run.folder / ".study.db.draft").touch(), "half-written"),
        (lambda run: (run.folder / "trials" / "0000" / "epoch-077-x").mkdir(), "nothing names it"),
        (lambda run: _both(run, "UPDATE trial_values SET value = value + 1", NO_DIGESTS), "is not that of its best"),
        (
            lambda run: _sql(run.folder / STUDY, "UPDATE trial_intermediate_values SET intermediate_value = 0"),
            "is not as it ended",
        ),
        (
            lambda run: _sql(run.folder / STUDY, NO_LAST),
            "is missing or another now",
        ),
        (
            lambda run: _both(run, NO_LAST),
            "5 trials, not the 6 that were asked for",
        ),
        (lambda run: _both(run, "UPDATE trials SET number = 77 WHERE trial_id = 6", NO_DIGESTS), "each once"),
        (
            lambda run: _both(run, "UPDATE trials SET state = 'RUNNING' WHERE trial_id = 1"),
            "trials 0: has not ended, although its search has",
        ),
        (lambda run: _sql(run.folder / STUDY, "UPDATE trial_values SET value = value + 1"), "is not as it ended"),
        (lambda run: _sql(run.folder / STUDY, "UPDATE trials SET state = 'NONSENSE'"), "damaged ("),
        (lambda run: (run.folder / STUDY).write_bytes(b"no study"), "damaged (file is not a database)"),
        (lambda run: backup_path(run.folder / STUDY).write_bytes(b"no copy"), "damaged (file is not a database)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_harm_is_noticed(run, harm, message):
    harm(run)
    assert any(message in line for line in violations(run)), list(violations(run))


NOT_ENDED = "DELETE FROM study_user_attributes WHERE key = 'ended'"


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        ([], ["the search is not finished: 6 of 6 trials have ended"]),
        (
            ["UPDATE trials SET state = 'WAITING' WHERE trial_id > 4"],
            ["the search is not finished: 4 of 6 trials have ended", "waiting to be continued: trial 4, trial 5"],
        ),
        (
            ["UPDATE trials SET state = 'RUNNING' WHERE trial_id = 6"],
            [
                "the search is not finished: 5 of 6 trials have ended",
                "the search died: its process ended without stopping what was running: trial 5",
                "half-written or not needed any more, removed when it continues: 3 files or folders",
            ],
        ),
    ],
    ids=["between trials", "interrupted", "died"],
)
def test_unfinished_search_is_a_state_and_no_violation(statements, said, run, in_process):
    """Until something of it is damaged, too."""
    _both(run, NOT_ENDED, *statements)
    if "died" in "".join(said):
        for name in ("trials/0005/.epoch-002-x", "trials/0000/epoch-077-x", ".study.db.draft"):
            (run.folder / name).mkdir(parents=True)
    done = in_process("verify", run.folder, "--quick")
    *lines, last = done.stdout.splitlines()
    assert done.returncode == 0 and last.startswith("run 'tiny' is whole so far: "), done.stdout
    assert lines == [*said, f"continue it with: huetune resume {run.location}"]
    _flip(_checkpoint(run))
    done = in_process("verify", run.folder, "--quick")
    assert done.returncode == 1 and said[0] in done.stdout and "weights.npz': damaged" in done.stdout


def test_unfinished_confirmation_is_a_state_and_no_violation(run, in_process):
    asked = {**run.manifest["search"], "confirm": [1, 2]}
    (run.folder / MANIFEST).write_text(json.dumps({**run.manifest, "search": asked}), encoding="utf-8")
    done = in_process("verify", run.folder, "--quick")
    assert done.returncode == 0, done.stdout
    assert "the confirmation is not finished: no finalist is trained again yet" in done.stdout


def test_the_best_model_must_score_as_it_did(run, parts):
    """Here it is asked to rank other photos than those of its search."""
    (line,) = list(violations(run, parts.validation))
    assert line.startswith("the best model: chroma_mse was 0.")


@pytest.mark.parametrize("keep", [0, 10, 100, 5000, 40_000])
def test_a_study_cut_short_is_damaged(run, keep):
    path: Path = run.folder / STUDY
    assert damage(path) is None
    path.write_bytes(path.read_bytes()[:keep])
    assert str(damage(path)).startswith("damaged (")


@pytest.mark.parametrize("bit", range(8))
@pytest.mark.parametrize("word", [b"alembic_version", b"version_info", b"locked"])
def test_a_flipped_bit_in_a_name_is_damage_and_no_other_optuna(word, bit, run):
    path = run.folder / STUDY
    content = bytearray(path.read_bytes() + (b"locked" if word == b"locked" else b""))
    content[content.index(word) + bit % len(word)] ^= 1 << bit % 7
    path.write_bytes(content)
    found = damage(path)
    assert found is None or found.startswith("damaged (")


@pytest.mark.parametrize("words", ["is locked", "unable to open", "no longer compatible"])
def test_words_in_a_damaged_study_do_not_hide_its_damage(words, run):
    """What cannot be read now is told by SQLite's codes and the tables' revision, not by words of an error."""
    _sql(run.folder / STUDY, f"UPDATE trials SET state = '{words}' WHERE trial_id = 1")
    assert words in str(damage(run.folder / STUDY)) and str(damage(run.folder / STUDY)).startswith("damaged (")


def test_locked_study_cannot_be_read_now(run, monkeypatch):
    """It is not damaged: another process writes it."""
    monkeypatch.setattr(integrity, "LOCK_TIMEOUT_SECONDS", 0.05)
    path = run.folder / STUDY
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageError, match=r"study.db': cannot be read now \(database is locked\)"):
            damage(path)


def test_unreachable_study_is_told_through_optunas_error(tmp_path):
    """SQLAlchemy and Optuna wrap SQLite's error, and its code is still found."""
    with pytest.raises(Exception, match="unable to open database file") as raised:
        open_storage(read_only(tmp_path / "gone" / STUDY))
    assert not isinstance(raised.value, sqlite3.Error)
    assert integrity._sqlite_code(raised.value) == sqlite3.SQLITE_CANTOPEN
    assert integrity._sqlite_code(ValueError("unable to open")) is None


@pytest.mark.parametrize(
    ("revision", "remedy"), [("v3.0.0.d", "optuna storage upgrade"), ("v9.0.0.a", "install a newer Optuna")]
)
def test_study_of_another_optuna_cannot_be_read_now(revision, remedy, run):
    _sql(run.folder / STUDY, f"UPDATE alembic_version SET version_num = '{revision}'")
    with pytest.raises(
        StorageError, match=f"cannot be read now .*revision {revision} and Optuna .* uses v3.2.0.a; .*{remedy}"
    ):
        damage(run.folder / STUDY)
    with pytest.raises(StorageError, match=f"cannot be opened .*revision {revision}"):
        run.study()


def test_a_study_that_is_not_there_is_said(tmp_path):
    assert damage(tmp_path / STUDY) == "is not there"
