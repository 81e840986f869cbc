"""The trial table says what the study holds, sorted, filtered and in each format."""

import csv
import io
import json
import re

import optuna
import pytest
from optuna.trial import create_trial
from rich.console import Console

from huetune.data_tools.common.errors import UserError
from huetune.results.records.run import find_run
from huetune.results.report.summary import Findings
from huetune.results.tables import formats, trial_table
from huetune.results.tables.row_filter import where
from tests.results.made import make_run

ROWS = [
    {"trial": 3, "state": "complete", "score": 0.02, "skip": True, "activation": "silu", "epochs": 5, "error": None},
    {"trial": 0, "state": "pruned", "score": 0.03, "skip": False, "activation": "relu", "epochs": 1, "error": None},
    {"trial": 7, "state": "running", "score": 0.04, "skip": True, "activation": "relu", "epochs": 6, "error": None},
    {"trial": 5, "state": "failed", "score": None, "skip": False, "activation": "silu", "epochs": 0, "error": "a | b"},
]


def _numbers(rows):
    return [row["trial"] for row in rows]


def test_sorting_keeps_rows_without_a_value_last_either_way():
    assert _numbers(trial_table.sort(ROWS, "score")) == [3, 0, 7, 5]
    assert _numbers(trial_table.sort(ROWS, "score", descending=True)) == [7, 0, 3, 5]
    with pytest.raises(UserError, match="did you mean 'score'"):
        trial_table.sort(ROWS, "scores")


def test_choosing_columns_keeps_their_order():
    assert trial_table.select_columns(ROWS[:1], ["score", "trial"]) == [{"score": 0.02, "trial": 3}]
    with pytest.raises(UserError, match="no column 'hue'"):
        trial_table.select_columns(ROWS, ["hue"])


def test_formats_hold_the_same_rows():
    assert json.loads(formats.to_json(ROWS)) == ROWS
    read = list(csv.DictReader(io.StringIO(formats.to_csv(ROWS))))
    assert [row["trial"] for row in read] == ["3", "0", "7", "5"] and read[3]["error"] == "a | b"
    lines = formats.to_markdown(ROWS).splitlines()
    assert len(lines) == 2 + len(ROWS) and lines[2].startswith("| 3 | complete | 0.02 | yes |")
    assert lines[5].endswith("| a \\| b |")


def test_the_study_of_a_real_search_becomes_rows(searched):
    study = find_run("tiny", searched[0]).study()
    table = trial_table.rows(study)
    assert sorted(_numbers(table)) == list(range(6))
    assert {row["state"] for row in table} == {"complete", "pruned", "failed"}
    scored = [row["score"] for row in table if row["score"] is not None]
    assert scored == sorted(scored)
    for row in table:
        trial = study.trials[row["trial"]]
        assert (row["learning_rate"], row["mse_weight"]) == (trial.params["learning_rate"], trial.params["mse_weight"])
        assert row["epochs"] == len(trial.intermediate_values)
        if row["state"] == "complete":
            assert row["epochs"] == 3
            assert row["score"] == row["chroma_mse"] == min(trial.intermediate_values.values())
        if row["state"] == "failed":
            assert row["score"] is None and row["error"].startswith("diverged in epoch")


def test_the_zero_line_is_one_color_for_everything(searched):
    zero = trial_table.baseline_row(find_run("tiny", searched[0]).study(), ["trial", "score", "skill", "host"])
    assert zero["skill"] == pytest.approx(0, abs=1e-6) and zero["score"] > 0 and zero["host"] is None


def test_the_zero_line_stands_at_its_rank(searched):
    study = find_run("tiny", searched[0]).study()
    table = trial_table.with_baseline(trial_table.rows(study), study)
    scores = [row["score"] for row in table if row["score"] is not None]
    assert scores == sorted(scores) and len(table) == 7
    assert [row["trial"] for row in table].count("zero") == 1


def test_a_narrow_terminal_gets_fewer_columns_not_cut_ones():
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(formats.fit_to_console([{**row, "host": "h" * 30} for row in ROWS], "roses", console, "--format csv"))
    text = console.export_text()
    table, _, below = text.partition("no room for ")
    assert "…" not in text and "host" not in table and "activation" in table and "a | b" in table
    assert " ".join(below.split()) == "epochs, host; see all columns with --format csv"


def test_columns_without_room_are_named_below_the_table():
    """In words, with the way to see them; those without any value, and a wide table, need no line."""
    rows = [{**row, "rank": None, "host": "h" * 30, "seconds": 1.5} for row in ROWS]
    for width in range(40, 160, 10):
        console = Console(width=width, record=True, file=io.StringIO())
        console.print(formats.fit_to_console(rows, "roses", console, "--format csv"))
        table, line, below = console.export_text().partition("no room for ")
        heads = [name for name in rows[0] if re.search(rf"\b{name}\b", table)]
        named = " ".join(below.split()).partition(";")[0].split(", ") if line else []
        assert sorted([*heads, *named, "rank"]) == sorted(rows[0]), width
        assert ("see all columns with --format csv" in " ".join(below.split())) == bool(named)
    assert not named


def test_the_zero_line_stands_among_finalists_by_what_they_are_confirmed_to_be(tmp_path):
    run = make_run(tmp_path / "made", 20, finalists=3)
    again = run.again
    assert again
    run.made.set_user_attr("zero_line", {**run.made.user_attrs["zero_line"], "chroma_mse": 0.0})
    assert trial_table.with_baseline(trial_table.run_rows(run), run.made)[0]["trial"] == "zero"
    second = sorted(row["confirmed"] for row in trial_table.run_rows(run) if row["rank"])[1]
    run.made.set_user_attr("zero_line", {**run.made.user_attrs["zero_line"], "chroma_mse": second})
    table = trial_table.with_baseline(trial_table.run_rows(run), run.made)
    assert [row["rank"] for row in table[:4]] == [1, None, 2, 3] and table[1]["trial"] == "zero"


@pytest.mark.parametrize("width", [80, 88, 100, 110, 140])
def test_of_a_confirmed_search_no_figure_is_cut(width, tmp_path):
    """Nor of one with many settings, of which those that vary least are left out."""
    run = make_run(tmp_path / "made", 20, finalists=3)
    table = [{**row, **{f"setting_{number}": 0.5 for number in range(6)}} for row in trial_table.run_rows(run)]
    for rows in (trial_table.with_baseline(trial_table.run_rows(run), run.made), table):
        console = Console(width=width, record=True, file=io.StringIO())
        console.print(formats.fit_to_console([{**row, "error": None} for row in rows], "made", console, "--format csv"))
        text = console.export_text().partition("no room for ")[0]
        assert (
            "…" not in text and "confirmed" in text and "mse_weight" in text and ("setting_" not in text or width > 80)
        )


@pytest.mark.parametrize("verb", ["trials", "effects"])
def test_command_names_the_columns_without_room(verb, searched, in_process, monkeypatch):
    def printed(width: int) -> str:
        console = Console(width=width, file=io.StringIO())
        monkeypatch.setattr("huetune.results.cli.table_commands.stdout", console)
        assert in_process(verb, "tiny", "--storage", searched[0]).returncode == 0
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()

    whole = printed(300)
    assert "no room for" not in whole
    # How wide it is varies with the machine: with which trials were pruned.
    widest = max(line.rfind("┃") for line in whole.splitlines())
    said = printed(min(widest, 60))
    assert re.search(
        r"no room for (\w+, )*(host|curve)\b.*; see all columns with --format csv or a wider terminal",
        " ".join(said.split()),
    )
    assert "…" not in said


def test_a_long_error_goes_on_in_the_next_line_and_takes_no_column_away():
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(
        formats.fit_to_console(
            [{**ROWS[0], "error": "no such thing " * 20}, *ROWS[1:]], "roses", console, "--format csv"
        )
    )
    text = console.export_text()
    assert "…" not in text and "activation" in text and "skip" in text and text.count("such") == 20


def test_brackets_in_an_error_are_only_brackets():
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(formats.to_rich_table([{"trial": 1, "error": "died: x [/tmp/foo] y"}], "roses"))
    assert "died: x [/tmp/foo] y" in console.export_text()


def test_reading_cannot_write(searched):
    study = find_run("tiny", searched[0]).study()
    with pytest.raises(optuna.exceptions.StorageInternalError):
        study.set_user_attr("objective", "skill")
    assert find_run("tiny", searched[0]).study().user_attrs["objective"] == "chroma_mse"


def test_rows_trial_that_continues_another_names_it(tmp_path):
    """In a column of its own, in the report too; without such trials there is none."""
    run = make_run(tmp_path / "made", 4)
    assert all("continues" not in row for row in trial_table.run_rows(run))
    parent = run.made.trials[0]
    notes = {**parent.user_attrs, "target": 12, "continues": 0}
    run.made.add_trial(
        create_trial(value=0.01, params=parent.params, distributions=parent.distributions, user_attrs=notes)
    )
    assert {row["trial"]: row["continues"] for row in trial_table.run_rows(run)} == {**dict.fromkeys(range(4)), 4: 0}
    assert Findings.of(run).columns()["continues"] is True
    assert "continues" in formats.to_csv(trial_table.run_rows(run)).splitlines()[0]


def test_columns_are_found_by_their_names_of_earlier_versions(tmp_path):
    """Saved commands with `place` and `plus_minus` still work; the new names are what is shown."""
    table = trial_table.run_rows(make_run(tmp_path / "made", 20, finalists=3))
    assert trial_table.sort(table, "place") == trial_table.sort(table, "rank")
    assert list(trial_table.select_columns(table, ["trial", "place", "plus_minus"])[0]) == [
        "trial",
        "rank",
        "ci_half_width",
    ]
    assert _numbers(where(table, "place == 1 and plus_minus > 0")) == _numbers(where(table, "rank == 1"))
    assert [row["rank"] for row in where(table, "place in (1, 2)")] == [1, 2]
    with pytest.raises(UserError, match="'rank' holds numbers, and 'first' is text"):
        where(table, "place == 'first'")


def test_column_named_like_an_earlier_one_comes_first():
    """A space may search a parameter that is called `place`."""
    assert trial_table.column_name("place", ["place", "rank"]) == "place"
