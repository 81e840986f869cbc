"""The rows of the trial table match the study, and can be sorted and selected."""

import optuna
import pytest
from optuna.trial import create_trial

from huetune.data_tools.common.errors import UserError
from huetune.results.records.run import find_run
from huetune.results.report.summary import Findings
from huetune.results.tables import formats, trial_table
from huetune.results.tables.row_filter import where
from tests.results.synthetic_run import make_run

ROWS = [
    {"trial": 3, "state": "complete", "score": 0.02, "skip": True, "activation": "silu", "epochs": 5, "error": None},
    {"trial": 0, "state": "pruned", "score": 0.03, "skip": False, "activation": "relu", "epochs": 1, "error": None},
    {"trial": 7, "state": "running", "score": 0.04, "skip": True, "activation": "relu", "epochs": 6, "error": None},
    {"trial": 5, "state": "failed", "score": None, "skip": False, "activation": "silu", "epochs": 0, "error": "a | b"},
]


def _numbers(rows):
    return [row["trial"] for row in rows]


def test_sort_puts_rows_without_value_last():
    assert _numbers(trial_table.sort(ROWS, "score")) == [3, 0, 7, 5]
    assert _numbers(trial_table.sort(ROWS, "score", descending=True)) == [7, 0, 3, 5]
    with pytest.raises(UserError, match="did you mean 'score'"):
        trial_table.sort(ROWS, "scores")


def test_select_columns_keeps_given_order():
    assert trial_table.select_columns(ROWS[:1], ["score", "trial"]) == [{"score": 0.02, "trial": 3}]
    with pytest.raises(UserError, match="no column 'hue'"):
        trial_table.select_columns(ROWS, ["hue"])


def test_rows_of_real_search_match_its_study(searched):
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


def test_baseline_row_has_no_skill(searched):
    baseline = trial_table.baseline_row(find_run("tiny", searched[0]).study(), ["trial", "score", "skill", "host"])
    assert baseline["skill"] == pytest.approx(0, abs=1e-6) and baseline["score"] > 0 and baseline["host"] is None


def test_with_baseline_puts_baseline_at_its_rank(searched):
    study = find_run("tiny", searched[0]).study()
    table = trial_table.with_baseline(trial_table.rows(study), study)
    scores = [row["score"] for row in table if row["score"] is not None]
    assert scores == sorted(scores) and len(table) == 7
    assert [row["trial"] for row in table].count("baseline") == 1


def test_with_baseline_compares_finalists_by_confirmed_score(tmp_path):
    run = make_run(tmp_path / "made", 20, finalists=3)
    again = run.replicate_study
    assert again
    run.search_study.set_user_attr("zero_line", {**run.search_study.user_attrs["zero_line"], "chroma_mse": 0.0})
    assert trial_table.with_baseline(trial_table.run_rows(run), run.search_study)[0]["trial"] == "baseline"
    second = sorted(row["confirmed"] for row in trial_table.run_rows(run) if row["rank"])[1]
    run.search_study.set_user_attr("zero_line", {**run.search_study.user_attrs["zero_line"], "chroma_mse": second})
    table = trial_table.with_baseline(trial_table.run_rows(run), run.search_study)
    assert [row["rank"] for row in table[:4]] == [1, None, 2, 3] and table[1]["trial"] == "baseline"


def test_study_opened_for_reading_cannot_be_written(searched):
    study = find_run("tiny", searched[0]).study()
    with pytest.raises(optuna.exceptions.StorageInternalError):
        study.set_user_attr("objective", "skill")
    assert find_run("tiny", searched[0]).study().user_attrs["objective"] == "chroma_mse"


def test_rows_name_trial_that_is_continued(tmp_path):
    """In a column of its own, in the report too; without such trials there is none."""
    run = make_run(tmp_path / "made", 4)
    assert all("continues" not in row for row in trial_table.run_rows(run))
    parent = run.search_study.trials[0]
    notes = {**parent.user_attrs, "target": 12, "continues": 0}
    run.search_study.add_trial(
        create_trial(value=0.01, params=parent.params, distributions=parent.distributions, user_attrs=notes)
    )
    assert {row["trial"]: row["continues"] for row in trial_table.run_rows(run)} == {**dict.fromkeys(range(4)), 4: 0}
    assert Findings.of(run).columns()["continues"] is True
    assert "continues" in formats.to_csv(trial_table.run_rows(run)).splitlines()[0]


def test_columns_are_found_by_earlier_names(tmp_path):
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


def test_column_takes_precedence_over_earlier_name():
    """A space may search a parameter that is called `place`."""
    assert trial_table.column_name("place", ["place", "rank"]) == "place"
