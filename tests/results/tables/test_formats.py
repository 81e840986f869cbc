"""Each format contains the same rows, and a table fits the terminal without cut values."""

import csv
import io
import json
import re

import pytest
from rich.console import Console

from huetune.results.tables import formats, trial_table
from tests.results.synthetic_run import make_run
from tests.results.tables.test_trial_table import ROWS


def test_formats_contain_the_same_rows():
    assert json.loads(formats.to_json(ROWS)) == ROWS
    read = list(csv.DictReader(io.StringIO(formats.to_csv(ROWS))))
    assert [row["trial"] for row in read] == ["3", "0", "7", "5"] and read[3]["error"] == "a | b"
    lines = formats.to_markdown(ROWS).splitlines()
    assert len(lines) == 2 + len(ROWS) and lines[2].startswith("| 3 | complete | 0.02 | yes |")
    assert lines[5].endswith("| a \\| b |")


def test_narrow_terminal_omits_columns_instead_of_cutting():
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(formats.fit_to_console([{**row, "host": "h" * 30} for row in ROWS], "roses", console, "--format csv"))
    text = console.export_text()
    table, _, below = text.partition("no room for ")
    assert "…" not in text and "host" not in table and "activation" in table and "a | b" in table
    assert " ".join(below.split()) == "epochs, host; see all columns with --format csv"


def test_omitted_columns_are_named_below_table():
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


@pytest.mark.parametrize("width", [80, 88, 100, 110, 140])
def test_table_of_confirmed_search_cuts_no_metric(width, tmp_path):
    """Nor of one with many settings, of which those that vary least are left out."""
    run = make_run(tmp_path / "made", 20, finalists=3)
    table = [{**row, **{f"setting_{number}": 0.5 for number in range(6)}} for row in trial_table.run_rows(run)]
    for rows in (trial_table.with_baseline(trial_table.run_rows(run), run.search_study), table):
        console = Console(width=width, record=True, file=io.StringIO())
        console.print(formats.fit_to_console([{**row, "error": None} for row in rows], "made", console, "--format csv"))
        text = console.export_text().partition("no room for ")[0]
        assert (
            "…" not in text and "confirmed" in text and "mse_weight" in text and ("setting_" not in text or width > 80)
        )


@pytest.mark.parametrize("verb", ["trials", "effects"])
def test_command_names_omitted_columns(verb, searched, in_process, monkeypatch):
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
    said = printed(min(widest, 64))
    assert re.search(
        r"no room for (\w+, )*(host|curve)\b.*; see all columns with --format csv or a wider terminal",
        " ".join(said.split()),
    )
    assert "…" not in said


def test_long_error_is_folded_and_hides_no_column():
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(
        formats.fit_to_console(
            [{**ROWS[0], "error": "no such thing " * 20}, *ROWS[1:]], "roses", console, "--format csv"
        )
    )
    text = console.export_text()
    assert "…" not in text and "activation" in text and "skip" in text and text.count("such") == 20


def test_brackets_in_error_are_not_markup():
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(formats.to_rich_table([{"trial": 1, "error": "died: x [/tmp/foo] y"}], "roses"))
    assert "died: x [/tmp/foo] y" in console.export_text()
