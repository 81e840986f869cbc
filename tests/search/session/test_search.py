"""Real searches on Ray, read through plain Optuna."""

import json
import re

import optuna
from optuna.trial import TrialState

from huetune.data_tools.photos.source import Source
from huetune.model import npz
from huetune.model.checkpoint import read_checkpoint
from huetune.model.network import build
from huetune.results.export.best_model import trial_checkpoint
from huetune.results.records.outcomes import FailureKind
from huetune.results.records.run import find_run
from huetune.results.records.trial_record import TrialRecord
from huetune.results.tables.trial_table import rows
from tests.faults.program import ONE_SLOT


def _study(storage, name):
    return optuna.load_study(study_name=name, storage=f"sqlite:///{storage}/{name}/study.db")


def test_trial_states_are_complete_pruned_and_failed(searched):
    """Complete trials have all epochs, pruned ones the value of each epoch, failed ones a reason."""
    trials = _study(searched[0], "tiny").get_trials()
    by_state = {state: [trial for trial in trials if trial.state == state] for state in TrialState}
    assert len(trials) == 6 and not by_state[TrialState.RUNNING] and not by_state[TrialState.WAITING]
    for trial in by_state[TrialState.COMPLETE]:
        assert list(trial.intermediate_values) == [1, 2, 3]
        assert trial.value == min(trial.intermediate_values.values())
    for trial in by_state[TrialState.PRUNED]:
        assert 1 <= len(trial.intermediate_values) < 3
        assert trial.value == list(trial.intermediate_values.values())[-1]
    diverged = {trial.number for trial in trials if trial.params["learning_rate"] == 1e30}
    assert {trial.number for trial in by_state[TrialState.FAIL]} == diverged and len(diverged) == 2
    for trial in by_state[TrialState.FAIL]:
        failure = TrialRecord.of(trial).failure
        assert failure and failure.kind is FailureKind.DIVERGED and "error" not in trial.user_attrs
        assert str(failure).startswith("diverged in epoch 1: train_")
    assert by_state[TrialState.COMPLETE] and by_state[TrialState.PRUNED]


def test_study_holds_every_epoch(searched):
    trials = _study(searched[0], "tiny").get_trials()
    figures = [trial.user_attrs[f"epoch-{epoch}"] for trial in trials for epoch in trial.intermediate_values]
    assert {epoch["epoch"] for epoch in figures} == {1, 2, 3}
    expected = {"epoch", "boxes", "seconds", "train_seconds", "train_loss", "train_mse", "train_norm", "train_kl"}
    assert all(expected | {"chroma_mse", "skill", "chroma_ratio"} <= set(epoch) for epoch in figures)
    for trial in trials:
        assert trial.user_attrs["seed"] == 5 + trial.number
        assert trial.user_attrs["config"]["mse_weight"] == trial.params["mse_weight"]


def test_diverged_trial_keeps_its_worker(searched):
    """Six trials in two slots need two workers, although two of the trials diverge."""
    pids = {trial.user_attrs.get("pid") for trial in _study(searched[0], "tiny").get_trials()}
    assert len(pids - {None}) == 2
    assert "died" not in searched[1].stdout


def test_run_keeps_only_checkpoints_that_the_study_names(searched):
    run = find_run("tiny", searched[0])
    study = run.study()
    named = {trial_checkpoint(run, study, row["trial"]) for row in rows(study) if row["score"] is not None}
    ends = {path for path in (run.folder / "trials").glob("*/after-003-*")}
    assert len(named) == 4 and set((run.folder / "trials").glob("*/*")) == named | ends
    complete = {f"{row['trial']:04}" for row in rows(study) if row["state"] == "complete"}
    assert {path.parent.name for path in ends} == complete and len(ends) == len(complete)


def test_searched_models_ignore_keras_settings(searched):
    """keras.json of the search had float16 and channels_first, with which the checkpoints could not be read."""
    run = find_run("tiny", searched[0])
    folder = trial_checkpoint(run, run.study(), 0)
    built = build(read_checkpoint(folder).config).vae.trainable_weights
    assert {weight.path: weight.shape for weight in built} == {
        name: array.shape for name, array in npz.read(folder / "weights.npz").items()
    }


def test_search_ends_with_a_contact_sheet_of_test_photos(searched):
    storage, done = searched
    assert re.search(
        r"final check of trial \d on 1 photo that no trial has seen \(fingerprint \w+\): trained once\n", done.stdout
    )
    assert (storage / "tiny" / "evaluation" / "contact-sheet.png").is_file()


def test_manifest_records_the_specification(searched):
    manifest = json.loads((searched[0] / "tiny" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["search"]["epochs"] == 3 and manifest["search"]["searcher"] == "grid"
    assert manifest["space"]["mse_weight"]["name"] == "FloatDistribution"
    assert manifest["base"]["clip"] == 0.0
    assert manifest["photos"]["source"] == Source(scenes=12).record
    assert [manifest["photos"][part] for part in ("training", "validation", "test")] == [9, 2, 1]
    assert manifest["versions"]["python"] and manifest["study"] is None


def test_search_to_a_pipe_prints_a_line_per_event(searched):
    lines = searched[1].stdout.splitlines()
    assert (
        sum(" started " in line for line in lines)
        == sum(
            " complete " in line or " pruned " in line or " failed " in line for line in lines if " s  trial " in line
        )
        == 6
    )
    assert any(line.strip().endswith("/tiny") and "huetune trials" in line for line in lines)
    assert "\x1b" not in searched[1].stdout and searched[1].stderr == ""


def test_search_tries_presets_first(huetune, tmp_path):
    """With more presets than trials, another database, and --quiet."""
    url = f"sqlite:///{tmp_path / 'team.db'}"
    words = ["--garden", 6, "--trials", 2, "--epochs", 1, "--name", "first", "--storage", tmp_path, "--quiet"]
    done = huetune("search", *words, *ONE_SLOT, "--study", url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    trials = optuna.load_study(study_name="first", storage=url).get_trials()
    assert [trial.user_attrs["preset"] for trial in trials] == ["model-1", "model-2"]
    assert [trial.params["mse_weight"] for trial in trials] == [4.0, 2.5]
    (tmp_path / "first").rename(tmp_path / "renamed")
    table = json.loads(huetune("trials", tmp_path / "renamed", "--format", "json").stdout)
    assert {row["preset"] for row in table} == {"model-1", "model-2"}
