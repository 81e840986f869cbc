"""A training that stayed at the mean-color baseline says so, wherever its trial is shown."""

import csv
import io
from typing import Any

import pandas as pd
import pytest
from optuna.trial import create_trial
from ray.tune.schedulers import TrialScheduler
from rich.console import Console

from huetune.model.metrics import METRICS
from huetune.results.analysis import effects
from huetune.results.live.board import TrainingProgress, draw
from huetune.results.live.progress import Display
from huetune.results.live.watch import WatchedRun
from huetune.results.notebook import OpenRun
from huetune.results.records.baseline import MAX_BASELINE_SKILL, baseline_line, baseline_note, grace_epochs
from huetune.results.records.run import find_run
from huetune.results.records.study_record import StudyRecord
from huetune.results.records.trial_record import TrialRecord
from huetune.results.report import charts
from huetune.results.report.summary import Findings
from huetune.results.report.svg import to_svg
from huetune.results.tables import formats, trial_table
from huetune.results.tables.row_filter import where
from huetune.search.ray_runtime.scheduler_replay import EndedTrial
from huetune.search.tuning.schedulers import SCHEDULERS
from huetune.search.tuning.trial_result import SCORE
from tests.results.synthetic_run import EPOCHS, make_run


def _epochs(*skills):
    return [{"epoch": epoch, "skill": skill} for epoch, skill in enumerate(skills, 1)]


@pytest.mark.parametrize(
    ("state", "skills", "target", "expected"),
    [
        ("complete", (-5.0, 0.0, 0.004, -0.1), 4, True),
        ("complete", (0.0, 0.02, -0.1, -0.1), 4, False),
        ("complete", (MAX_BASELINE_SKILL,), 1, True),
        ("pruned", (-0.2,), 8, True),
        ("running", (-0.2,), 8, False),
        ("running", (-0.2, 0.0), 8, True),
        ("interrupted", (-0.2, 0.0), 8, True),
        ("running", (-0.2, 0.0, 0.3), 8, False),
        ("interrupted", (float("nan"), 0.0), 8, True),
        ("failed", (-0.2, 0.0, 0.0), 8, False),
        ("running", (), 8, False),
        ("running", (0.0, 0.0), None, False),
        ("complete", (0.0, 0.0), None, True),
    ],
)
def test_note_is_given_after_grace_period(state, skills, target, expected):
    """Not before it, not to who got past the baseline once, and not to failed trials, which have their error."""
    assert baseline_note(state, _epochs(*skills), target) == ("at baseline" if expected else None)


def test_note_without_skill_is_absent():
    assert baseline_note("complete", [{"epoch": 1, "chroma_mse": 0.08}], 1) is None


@pytest.mark.parametrize("name", ["asha", "hyperband", "median"])
@pytest.mark.parametrize("epochs", [1, 3, 8, 25])
def test_grace_epochs_are_those_of_schedulers(name, epochs):
    """The first epoch after which the worst of many trials is stopped."""
    ends: set[int] = set()
    nobody: Any = None  # none of them asks the controller
    for _ in range(4):
        scheduler = SCHEDULERS[name](epochs)
        scheduler.set_search_properties(SCORE, "min")
        for number in range(40):
            trial: Any = EndedTrial(f"{number}")
            scheduler.on_trial_add(nobody, trial)
            for epoch in range(1, epochs + 1):
                if scheduler.on_trial_result(nobody, trial, {"epoch": epoch, SCORE: number}) == TrialScheduler.STOP:
                    ends.add(epoch)
                    break
    assert min(ends) == grace_epochs(epochs)


@pytest.fixture
def run(tmp_path):
    """8 trials: 0 and 4 complete, 1, 2, 5 and 6 pruned, 3 and 7 failed; 1, 3 and 4 stayed at the baseline."""
    return make_run(tmp_path / "made", 8, at_baseline=(1, 3, 4))


LINE = (
    "2 of 8 trials, 1 of them not trained to the end, stayed at the mean-color baseline (best skill 0.01 or "
    "less): their training did not work, so their scores do not show how good their settings are"
)


def test_note_is_the_same_text_in_each_format(run):
    table = trial_table.run_rows(run)
    assert {row["trial"] for row in table if row["note"] == "at baseline"} == {1, 4}
    assert {row["note"] for row in table} == {"at baseline", None}
    assert len(where(table, "note == 'at baseline'")) == 2 and len(where(table, "note != 'at baseline'")) == 6
    read = list(csv.DictReader(io.StringIO(formats.to_csv(table))))
    assert [row["note"] for row in read] == [row["note"] or "" for row in table]
    assert set(OpenRun(run).frame().set_index("trial")["note"].dropna().index) == {1, 4}
    assert pd.isna(OpenRun(run).frame().set_index("trial")["note"][0])


@pytest.mark.parametrize("width", [60, 80, 200])
def test_table_of_any_width_keeps_note(width, run):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(formats.fit_to_console(trial_table.run_rows(run), "made", console, "--format csv"))
    text = console.export_text()
    assert text.count("at baseline") == 2 and "…" not in text


def test_table_without_trials_at_baseline_has_no_note(tmp_path):
    table = trial_table.run_rows(make_run(tmp_path / "made", 1))
    assert baseline_line(table) is None and "note" not in str(formats.to_rich_table(table, "made").columns)


@pytest.mark.parametrize(
    "objectives", [*((name,) for name in METRICS.objectives), ("chroma_ratio_error", "chroma_mse")]
)
def test_note_does_not_depend_on_objective(objectives, tmp_path):
    """Colors can be as strong as the photos' and all wrong, so a good chroma_ratio_error proves no training."""
    run = make_run(tmp_path / "made", 8, at_baseline=(1, 3, 4), objectives=objectives)
    assert {row["trial"] for row in trial_table.run_rows(run) if row["note"]} == {1, 4}


def test_baseline_line_counts_all_trials(run):
    table = trial_table.run_rows(run)
    assert baseline_line(table) == LINE
    one = [row for row in table if row["trial"] != 1]
    assert baseline_line(one) == (
        "1 of 7 trials stayed at the mean-color baseline (best skill 0.01 or less): its training did not work, "
        "so its score does not show how good its settings are"
    )


def test_report_counts_trials_at_baseline(run):
    found = Findings.of(run)
    assert f"{LINE}." in found.notes() and found.columns()["note"] is False
    assert OpenRun(run)._repr_html_().count("at baseline") == 2 and LINE in OpenRun(run)._repr_html_()
    table = trial_table.run_rows(run)
    drawn = to_svg(charts.score_history(table, 0.083, "chroma_mse", ["skip"]))
    assert drawn.count("trial 4, complete, at baseline, chroma_mse") == 1 and drawn.count("at baseline") == 2


def test_watch_counts_trials_at_baseline(run):
    watched = WatchedRun(lambda: run)
    assert watched.finished and watched.status_lines[-1] == LINE


def test_finalists_count_replicates_at_baseline(tmp_path):
    run = make_run(tmp_path / "made", 8, finalists=2)
    assert run.replicate_study and all("at baseline" not in row for row in Findings.of(run).finalist_rows())
    one = run.replicate_study.trials[0]
    attributes = {**one.user_attrs, "epoch-8": {**one.user_attrs["epoch-8"], "skill": 0.003}}
    run.replicate_study.add_trial(
        create_trial(value=one.value, user_attrs=attributes, intermediate_values=one.intermediate_values)
    )
    assert sorted((row["at baseline"] for row in Findings.of(run).finalist_rows()), key=str) == [1, None]


def test_board_shows_note_beside_state(run):
    stuck, good = run.search_study.trials[1], run.search_study.trials[0]
    notes = [TrainingProgress.of(stuck, state, "chroma_mse").note for state in ("pruned", "running", "failed")]
    assert notes == ["at baseline", "at baseline", ""] and len(TrialRecord.of(stuck).epochs) == grace_epochs(EPOCHS)
    assert TrainingProgress.of(good, "complete", "chroma_mse").note == ""
    console = Console(width=160, record=True, file=io.StringIO())
    display = Display(console, "made", StudyRecord.of(run.search_study), run.search_study.trials[:4])
    display(WatchedRun(lambda: run).phase(), run.search_study.trials[4], "complete")
    assert "(epoch 8; at baseline; best so far 0.0" in console.export_text()
    lines = [line.plain for line in draw(display.board, 160, 60)]
    noted = [line for line in lines if "  at baseline  mse_weight" in line]
    assert len(noted) == 2 and ["pruned  at baseline" in line for line in noted].count(True) == 1


def test_effects_count_configurations_at_baseline(run):
    configurations = effects.measured_configs(*run.snapshot())
    assert [one.at_baseline for one in configurations] == [False, True]
    line = effects.baseline_line(configurations)
    assert line and line.startswith("1 of 2 configurations stayed at the mean-color baseline (best skill 0.01 or")
    assert effects.baseline_line(configurations[:1]) is None


def test_commands_count_trials_at_baseline(run, in_process, monkeypatch):
    """`trials` and `effects` below their tables, and in no other format."""
    monkeypatch.setattr("huetune.results.records.run.find_run", lambda *_: run)
    said = {verb: " ".join(in_process(verb, "made").stdout.split()) for verb in ("trials", "effects")}
    assert LINE in said["trials"] and "1 of 2 configurations stayed at" in said["effects"]
    for form in ("csv", "json", "markdown"):
        done = in_process("trials", "made", "--format", form)
        assert done.returncode == 0 and "stayed at" not in done.stdout


def test_search_counts_trials_at_baseline_at_its_end(searched):
    """A real one: some of its trials have a learning rate of 1e-7, with which no training works."""
    line = baseline_line(trial_table.run_rows(find_run("tiny", searched[0])))
    assert line and line in " ".join(searched[1].stdout.split()) and "at baseline" in searched[1].stdout
