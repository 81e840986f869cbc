"""A run has one winner, wherever it is named, and its metrics are those of the checkpoint that is used."""

import dataclasses
import io
import json
import threading
import urllib.request

import optuna
import pytest
from optuna.trial import TrialState, create_trial
from rich.console import Console

from huetune.results.analysis.winner import find_winner, headline
from huetune.results.experiment_log.entry import entries_of_run
from huetune.results.export import best_model
from huetune.results.integrations.optuna_dashboard import serve_dashboard
from huetune.results.live.watch import show_once
from huetune.results.notebook import OpenRun
from huetune.results.report import charts
from huetune.results.report.parallel_coordinates import BEST_TENTH, WINNER, parallel_coordinates
from huetune.results.report.summary import Findings
from huetune.results.report.svg import to_svg
from huetune.results.tables.trial_table import run_rows
from tests.results.synthetic_run import EPOCHS, make_run

SEED = 1_000_001
"""Of the best training of the winner."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A search whose best score is that of another trial than the winner, whose best training is a replicate."""
    made = make_run(tmp_path_factory.mktemp("winner") / "made", 8, states=(TrialState.COMPLETE,))
    first, second, *_ = sorted(made.search_study.get_trials(), key=lambda trial: trial.values[0])
    again = optuna.create_study(study_name="made/replicates")
    again.set_user_attr("finalists", [first.number, second.number])
    for trial, scores in ((first, (0.07, 0.071)), (second, (0.05, 0.021))):
        for seed, score in enumerate(scores, SEED - 1):
            notes = {
                "config": trial.user_attrs["config"],
                "seed": seed,
                "name": f"trial {trial.number}",
                "target": EPOCHS,
            }
            notes["epoch-8"] = {**trial.user_attrs["epoch-8"], "chroma_mse": score, "skill": 1 - score / 0.083}
            again.add_trial(create_trial(value=score, user_attrs=notes, intermediate_values={8: score}))
    return dataclasses.replace(made, replicate_study=again), first.number, second.number


def test_winner_is_confirmed_trial_with_best_training(run):
    made, first, second = run
    won = find_winner(made)
    assert won and won.number == second and won.search_score > made.search_study.trials[first].values[0]
    assert str(won.training) == f"replicate, seed {SEED}" and won.score == 0.021
    assert str(won) == f"trial {second}, chroma_mse 0.021 (replicate, seed {SEED})"
    lines = dict(won.lines())
    assert lines["checkpoint"] == f"replicate, seed {SEED}" and lines["chroma_mse"] == "0.021"
    assert lines["search score"] == f"chroma_mse {won.search_score:.4g} (trial {second}, seed {second})"
    assert lines["confirmed"].startswith("chroma_mse 0.0355 (95% CI 0 to ") and lines["confirmed"].endswith(
        ", 2 seeds)"
    )
    row, paths = best_model.best_checkpoints(made, made.snapshot())
    assert row["trial"] == won.number and len(paths) == 3
    claim = best_model.metric_record(won)
    assert (claim["checkpoint"], claim["checkpoint_score"]) == (f"replicate, seed {SEED}", 0.021)


def test_winner_is_the_same_in_each_output(run):
    made, first, second = run
    line = headline(made.search_study, made.replicate_study)
    assert line and line.startswith(f"trial {second} wins: chroma_mse 0.0355 (95% CI 0 to ")
    assert line.endswith(f"; checkpoint: replicate, seed {SEED}, chroma_mse 0.021")
    assert "no significant difference from the mean-color baseline (0.083)" in line
    found = Findings.of(made)
    assert found.answer() == f"T{line[1:]}."
    assert dict(found.facts())["winner and its checkpoint"] == str(find_winner(made))
    assert line in OpenRun(made)._repr_html_()
    entries = {entry.trial_reference: entry for entry in entries_of_run(made, top=2)}
    assert entries[made.location, str(second)].is_winner and entries[
        made.location, str(second)
    ].checkpoint_replicate == (
        SEED,
        0.021,
    )
    assert (
        not entries[made.location, str(first)].is_winner
        and entries[made.location, str(first)].checkpoint_replicate is None
    )
    console = Console(file=io.StringIO(), width=100, record=True)
    assert show_once(lambda: made, console)
    said = " ".join(console.export_text().split())
    assert f"confirmed winner (its trial in the search; mean-color baseline: 0.083) trial {second} " in said


def test_charts_mark_winner_not_best_score(run):
    made, _, second = run
    table, parameters = run_rows(made), made.search_study.user_attrs["parameters"]
    lines = parallel_coordinates(made.search_study, table, "chroma_mse", parameters).to_dict()
    assert _trials_in_group(lines, WINNER) == {second} and len(_trials_in_group(lines, BEST_TENTH)) == 1
    history = charts.score_history(table, 0.083, "chroma_mse", parameters).to_dict()
    (ring,) = (layer for layer in history["layer"] if layer.get("mark", {}).get("size") == 220)
    assert [mark["trial"] for mark in history["datasets"][ring["data"]["name"]]] == [second]
    assert to_svg(charts.learning_curves(made.search_study, table, 0.083, "chroma_mse", parameters)).startswith("<svg")


def test_winner_of_several_objectives_needs_by(tmp_path):
    made = make_run(
        tmp_path / "front", 6, states=(TrialState.COMPLETE,), objectives=("chroma_mse", "chroma_ratio_error")
    )
    table = run_rows(made)
    assert find_winner(made) is None and headline(made.search_study, None) is None
    ends = {by: find_winner(made, by) for by in ("chroma_mse", "chroma_ratio_error")}
    for by, won in ends.items():
        assert won and won.objective == by and won.score == min(row[by] for row in table) and by in dict(won.lines())
    lines = parallel_coordinates(
        made.search_study, table, "chroma_mse", made.search_study.user_attrs["parameters"]
    ).to_dict()
    assert not _trials_in_group(lines, WINNER) and _trials_in_group(lines, BEST_TENTH)


def _trials_in_group(chart, group):
    """Return the trials that a chart in parallel coordinates draws in a group."""
    return {mark["trial"] for marks in chart["datasets"].values() for mark in marks if mark.get("group") == group}


def test_dashboard_best_trial_is_winner_with_note(run):
    made, _, second = run
    with serve_dashboard(made.search_study, 0, lambda: find_winner(made)) as (server, page):
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            site, _, number = page.rpartition("/dashboard/studies/")
            with urllib.request.urlopen(f"{site}/api/studies/{number}", timeout=60) as answer:
                about = json.loads(answer.read())
        finally:
            server.shutdown()
            thread.join()
    assert [trial["number"] for trial in about["best_trials"]] == [second]
    assert about["note"]["body"].startswith(
        f"Winner: trial {second}, chroma_mse 0.021 (replicate, seed {SEED}); the mean"
    )
    assert "There is no significant difference from the mean-color baseline (0.083)." in about["note"]["body"]
    assert about["note"]["body"].endswith("Tables and plots here rank by the score of the search.")
