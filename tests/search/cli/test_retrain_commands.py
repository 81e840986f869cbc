"""`confirm`, `compare` and `rerun` on a real search that exhausted its space; and searches with other options."""

import contextlib
import json
import re
import shlex
import shutil
import sqlite3

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from huetune.data_tools.datasets.synthetic_garden import write_garden
from huetune.data_tools.photos.source import Source
from huetune.data_tools.photos.split import split
from huetune.model.checkpoint import read_checkpoint
from huetune.model.checkpoint_format import MODEL_CARD_FILE
from huetune.results.analysis.effects import comparison, effects, importances, measured_configs
from huetune.results.analysis.replicates import replicates_by_config, verdict
from huetune.results.analysis.winner import find_winner, headline
from huetune.results.evaluation import evaluate, final_check
from huetune.results.evaluation.evaluate import measure_checkpoints
from huetune.results.experiment_log.entry import entries_of_run, newest_first
from huetune.results.experiment_log.messages import Language
from huetune.results.experiment_log.verdict import verdict as log_verdict
from huetune.results.export.best_model import best_checkpoints
from huetune.results.integrity import find_damage
from huetune.results.records.run import STUDY, backup_path, find_run
from huetune.results.tables.trial_table import run_rows, winner_row
from huetune.search.session.replicate_runner import missing_finalists
from tests.faults.chaos import MINIMAL_OPTIONS
from tests.faults.program import ONE_SLOT
from tests.results.synthetic_run import make_run

TOGGLES = """
[flips]
choices = [true, false]

[clip]
choices = [0.5, 1.0]
where = { flips = true }
"""
"""Three configurations with the same network, which a worker traces only once."""


@pytest.fixture(scope="session")
def confirmed(huetune, once):
    """The storage and output of a search with a budget of 20 trials but only 3 configurations, two of them confirmed.

    Tests that modify the run use `copied`.
    """

    def search(storage):
        (storage / "toggles.toml").write_text(TOGGLES, encoding="utf-8")
        done = huetune(
            *("search", "--garden", 12, "--storage", storage, "--name", "toggles", "--space", storage / "toggles.toml"),
            *("--trials", 20, "--epochs", 2, "--scheduler", "none", "--confirm", "2x2", "--warm-start", "model-1"),
            *ONE_SLOT,
        )
        assert done.returncode == 0, done.stderr
        return done

    return once("confirmed", search)


@pytest.fixture
def run(confirmed):
    return find_run("toggles", confirmed[0])


@pytest.fixture
def copied(confirmed, tmp_path):
    """A storage with a copy of the confirmed run."""
    shutil.copytree(confirmed[0] / "toggles", tmp_path / "toggles")
    return tmp_path


def test_search_ends_when_its_space_is_exhausted(confirmed, run):
    assert "search space exhausted, all 3 configurations were tried" in confirmed[1].stdout
    trials = run.study().get_trials()
    assert len(trials) == 3 == len({json.dumps(trial.user_attrs["config"]) for trial in trials})
    assert {tuple(sorted(trial.params)) for trial in trials} == {("flips",), ("clip", "flips")}


def test_finalists_train_all_epochs_from_shared_fresh_seeds(confirmed, run):
    study = optuna.load_study(study_name="toggles/replicates", storage=f"sqlite:///{confirmed[0]}/toggles/study.db")
    best_two = sorted(run.study().get_trials(), key=lambda trial: trial.value)[:2]
    assert study.user_attrs["finalists"] == [trial.number for trial in best_two]
    trials = study.get_trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 4
    assert all(len(trial.intermediate_values) == 2 for trial in trials)
    again = {(json.dumps(trial.user_attrs["config"]), trial.user_attrs["seed"]) for trial in trials}
    searched = {trial.user_attrs["seed"] for trial in run.study().get_trials()}
    assert len(again) == 4 and not searched & {seed for _, seed in again}
    assert len({seed for _, seed in again}) == 2, "the same seeds for both, so that luck is shared"


def test_trial_table_ranks_finalists_by_confirmed_score(confirmed, run):
    table = run_rows(run)
    groups = replicates_by_config(run.replicates())
    means = {row["trial"]: row["confirmed"] for row in table if row["rank"]}
    assert [row["rank"] for row in table] == [1, 2, None]
    assert means[table[0]["trial"]] == min(means.values()) and all(row["score"] for row in table)
    assert table[0]["confirmed"] == pytest.approx(min(sum(group.scores) / 2 for group in groups.values()))
    assert table[0]["ci_half_width"] > 0 and table[0]["seeds"] == 2 and table[2]["confirmed"] is None
    assert winner_row(table) == table[0]
    line = verdict(run.study(), run.replicates())
    assert line and line.startswith(f"trial {table[0]['trial']} wins: chroma_mse")
    assert (
        f" trial {table[1]['trial']}: " in line and "the mean-color baseline (" in line and line in confirmed[1].stdout
    )


def test_best_model_is_the_best_training_of_the_winner(run):
    row, paths = best_checkpoints(run, run.snapshot())
    assert row["rank"] == 1 and len(paths) == 3
    scores = [
        json.loads((path / "settings.json").read_text(encoding="utf-8"))["figures"]["chroma_mse"] for path in paths
    ]
    assert scores == sorted(scores) and row["score"] in scores


def test_winner_has_one_checkpoint_and_score_in_every_command(confirmed, run, in_process, tmp_path):
    """All commands show the checkpoint that is used, perhaps of a replicate; `best` shows other scores separately."""
    won = find_winner(run)
    assert won
    line = headline(run.study(), run.replicates())
    assert line and f"winner: {won}" in in_process("list", "--storage", confirmed[0]).stdout
    output = in_process("best", "toggles", "--storage", confirmed[0], "--export", tmp_path / "model").stdout
    values_by_label = dict(text.split(maxsplit=1) for text in output.splitlines() if " " in text and text[0] != " ")
    checkpoint = read_checkpoint(tmp_path / "model")
    assert values_by_label["checkpoint"] == str(won.training) and checkpoint.seed == won.training.seed
    assert float(values_by_label["chroma_mse"]) == pytest.approx(checkpoint.metrics["chroma_mse"], rel=1e-3)
    assert "search score   chroma_mse " in output and "confirmed      chroma_mse " in output and line in output
    card = (tmp_path / "model" / MODEL_CARD_FILE).read_text(encoding="utf-8")
    assert f"This checkpoint ({won.training}) has {won.score:.4g}." in card
    shown = " ".join(in_process("watch", "toggles", "--storage", confirmed[0], "--once").stdout.split())
    assert re.search(rf"confirmed winner \(its trial in the search; .*?\) trial {won.number} ", shown)


def test_final_check_averages_all_trainings_of_the_winner(confirmed, run):
    """The run stores the mean over all trainings of the winner, with its interval."""
    won = winner_row(run_rows(run))
    assert won
    beginning = f"final check of trial {won['trial']} on 1 photo that no trial has seen (fingerprint "
    assert beginning in confirmed[1].stdout and "): mean of 3 trainings of its configuration\n" in confirmed[1].stdout
    kept = final_check.read(run)
    assert kept and final_check.is_current(run) and kept.trial == won["trial"] and kept.count == 1
    photos = split(Source(scenes=12).read()[0], seed=0).test
    assert kept.fingerprint == photos.fingerprint
    judged = measure_checkpoints(
        [run.path(name) for name in kept.checkpoints], photos, Source(scenes=12).read_rgb(photos)
    )
    assert kept.metrics.keys() == evaluate.metrics().keys()
    for name, estimate in kept.metrics.items():
        values = [metrics[name] for metrics in judged]
        assert estimate.value == pytest.approx(np.mean(values)) and len(values) == 3
        half = 4.302653 * np.std(values, ddof=1) / 3**0.5
        low, high = evaluate.metrics()[name].limits
        assert estimate.low == pytest.approx(max(low, estimate.value - half))
        assert estimate.high == pytest.approx(min(high, estimate.value + half))
        assert f"  {name} " in confirmed[1].stdout
    assert kept.references["baseline"]["skill"] == 0 and kept.references["gray"]["chroma_ratio"] == 0


def _seeds(run):
    return [trial.user_attrs["seed"] for trial in run.replicates().get_trials()]


def test_final_check_of_another_winner_is_renewed(copied, in_process):
    """`best` reports a final check of another winner, as after a `compare`; `confirm` and `resume` renew it."""
    run = find_run("toggles", copied)
    whole = (run.folder / final_check.FILE_NAME).read_bytes()
    old = json.dumps({**json.loads(whole), "checkpoints": ["trials/0000/epoch-001-x"]})
    for verb in (("confirm", "--top", 2, "--seeds", 2), ("resume",)):
        (run.folder / final_check.FILE_NAME).write_text(old, encoding="utf-8")
        output = in_process("best", "toggles", "--storage", copied).stdout
        assert re.search(r"measure again with: huetune resume \S*toggles$", output, re.MULTILINE)
        done = in_process(verb[0], "toggles", "--storage", copied, *verb[1:])
        assert done.returncode == 0 and "final check of trial" in done.stdout, done.stderr
        now, then = (
            json.loads(text) for text in ((run.folder / final_check.FILE_NAME).read_text(encoding="utf-8"), whole)
        )
        assert now["checkpoints"] == then["checkpoints"] and now["metrics"] == then["metrics"]
        done = in_process("best", "toggles", "--storage", copied)
        assert done.returncode == 0 and "measure again" not in done.stdout


def test_confirm_and_compare_train_only_missing_replicates(copied, in_process):
    run = find_run("toggles", copied)
    before = _seeds(run)
    write_garden(12, copied / "scenes")
    for words in (("confirm", "toggles", "--top", 2), ("compare", "toggles", "0", "0")):
        done = in_process(*words, "--seeds", 2, "--storage", copied, "--photos", copied / "scenes")
        assert done.returncode == 0 and "started" not in done.stdout, done.stderr
        assert _seeds(run) == before


def test_confirm_and_compare_repair_a_damaged_study_first(copied, in_process):
    """Otherwise the next copy of the study would be damaged, too."""
    path = copied / "toggles" / STUDY
    for words in (("confirm", "toggles", "--top", 2, "--seeds", 2), ("compare", "toggles", "0", "0", "--seeds", 2)):
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE trial_values SET value = value / 2")
        assert find_damage(path) and not find_damage(backup_path(path))
        done = in_process(*words, "--storage", copied)
        assert "replaced by its copy" in done.stdout, done.stderr
        assert not find_damage(path) and not find_damage(backup_path(path))


def test_compare_prints_percentages_with_an_interval(copied, huetune, in_process):
    run = find_run("toggles", copied)
    done = huetune("compare", "toggles", "model-2", "0", "--storage", copied, "--seeds", 2)
    assert done.returncode == 0, done.stderr
    assert "model-2 against trial 0: chroma_mse " in done.stdout and "% (95% CI " in done.stdout
    assert comparison(run, "model-2", "0")[0] in done.stdout
    same = comparison(run, "0", "0")[0]
    assert "chroma_mse +0%" in same and same.endswith("; no significant difference")
    wrong = in_process("compare", "toggles", "model-9", "0", "--storage", copied)
    assert wrong.returncode == 2 and "'model-9': neither a preset" in wrong.stderr


def test_log_verdict_agrees_with_compare(run):
    """The experiment log has the same verdict on two confirmed trials as `compare`."""
    new, old = newest_first(entry for entry in entries_of_run(run) if entry.replicate_scores)[:2]
    assert new.trial_reference and old.trial_reference
    sentence = comparison(run, new.trial_reference[1], old.trial_reference[1])[0]
    gap = sentence.partition(" chroma_mse ")[2].partition(";")[0].replace(" to ", ",")
    text = log_verdict(new, old, Language("en"))
    assert f"by {gap}".replace(" ", "") in text.replace(" to ", ",").replace(" ", "")
    assert ("no significant difference from [" in text) == sentence.endswith("no significant difference")


def test_rerun_gives_the_same_bits(copied, confirmed, huetune, in_process):
    """The scenes of the garden may be read from a folder, too."""
    write_garden(12, copied / "scenes")
    done = huetune("rerun", "toggles", "1", "--storage", copied, "--photos", copied / "scenes")
    assert done.returncode == 0, done.stderr
    assert "trial 1: the same to the last bit in all its 2 epochs" in done.stdout
    assert in_process("rerun", "toggles", "99", "--storage", confirmed[0]).returncode == 5


def test_rerun_of_a_changed_record_reports_the_difference(copied, huetune):
    study = optuna.load_study(study_name="toggles", storage=f"sqlite:///{copied}/toggles/study.db")
    trial = study.get_trials()[1]
    figures = {**trial.user_attrs["epoch-2"], "chroma_mse": trial.user_attrs["epoch-2"]["chroma_mse"] * (1 + 1e-15)}
    with sqlite3.connect(copied / "toggles" / "study.db") as base:
        base.execute(
            "update trial_user_attributes set value_json = ? where trial_id = ? and key = 'epoch-2'",
            (json.dumps(figures), trial._trial_id),
        )
    done = huetune("rerun", "toggles", "1", "--storage", copied)
    assert done.returncode == 1 and "chroma_mse was" in done.stdout and "1 of 2 epochs differ" in done.stdout


def test_confirm_with_other_photos_is_refused(copied, in_process):
    manifest = json.loads((copied / "toggles" / "manifest.json").read_text(encoding="utf-8"))
    manifest["photos"]["source"]["scenes"] = 11
    (copied / "toggles" / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    done = in_process("confirm", "toggles", "--storage", copied)
    assert done.returncode == 3 and "no longer the photos that run" in done.stderr


def test_effects_with_few_trials_lack_importances(confirmed, run, in_process):
    trainings = measured_configs(*run.snapshot())
    assert len(trainings) == 3, "a configuration each, however often it was trained"
    assert importances(run.study()) == ({}, 3), "too few to say"
    done = in_process("effects", "toggles", "--storage", confirmed[0])
    assert done.returncode == 0 and "importance: needs at least 50 complete trials" in done.stdout
    assert effects(trainings, ["flips", "clip"], "chroma_mse")


def test_manifest_has_versions_and_no_environment(run, monkeypatch):
    manifest = run.manifest
    assert manifest["command"][1:3] == ["search", "--garden"] and manifest["versions"]["ray"]
    assert set(manifest["code"]) == {"commit", "dirty"} and manifest["hardware"]["cores"] > 0
    assert manifest["conditions"] == {"clip": {"flips": [True]}}
    assert len(manifest["photos"]["fingerprint"]) == 64
    assert "PATH" not in json.dumps(manifest)


@pytest.mark.long
def test_median_scheduler_prunes_and_never_pauses(huetune, tmp_path):
    """Tune's median rule pauses trials when it has too few to compare, which would need the whole state of a worker."""
    done = huetune(
        *(
            "search",
            *MINIMAL_OPTIONS,
            *ONE_SLOT,
            "--storage",
            tmp_path,
            "--name",
            "median",
            "--trials",
            8,
            "--epochs",
            4,
        ),
        *("--scheduler", "median", "--searcher", "random"),
    )
    assert done.returncode == 0, done.stderr
    states = [row["state"] for row in run_rows(find_run("median", tmp_path))]
    assert "pruned" in states and set(states) == {"pruned", "complete"}


@pytest.mark.long
def test_best_after_two_objectives_requires_an_objective(huetune, in_process, tmp_path):
    done = huetune(
        *("search", *MINIMAL_OPTIONS, *ONE_SLOT, "--garden", 12, "--storage", tmp_path, "--name", "two", "--trials", 4),
        *("--epochs", 1, "--objective", "chroma_mse,chroma_ratio_error", "--searcher", "nsga2"),
    )
    assert done.returncode == 0, done.stderr
    run = find_run("two", tmp_path)
    study = run.study()
    assert len(study.directions) == 2 and all(len(trial.values) == 2 for trial in study.get_trials())
    front = {row["trial"] for row in run_rows(run) if row["front"]}
    assert front == {trial.number for trial in study.best_trials} and front
    (best_line,) = re.findall(r"^  .*huetune (best .*)$", done.stdout, re.MULTILINE)
    assert in_process(*shlex.split(best_line.replace("best-model", str(tmp_path / "exported")))).returncode == 0
    asked = in_process("best", "two", "--storage", tmp_path)
    assert asked.returncode == 2 and "choose the best of one objective: --by chroma_mse (trial" in asked.stderr
    for end, objective in enumerate(("chroma_mse", "chroma_ratio_error")):
        row, _ = best_checkpoints(run, run.snapshot(), objective)
        assert row[objective] == min(trial.values[end] for trial in study.get_trials())


def test_missing_finalists_after_extension_are_fully_trained(tmp_path):
    run = make_run(tmp_path / "made", 20, finalists=3)
    assert not missing_finalists(run, 3, 3)
    complete = [trial for trial in run.search_study.trials if trial.state == TrialState.COMPLETE]
    complete.sort(key=lambda trial: trial.values)
    for trial in complete:
        notes = {**trial.user_attrs, "target": 12, "continues": trial.number}
        further = create_trial(
            value=trial.value, params=trial.params, distributions=trial.distributions, user_attrs=notes
        )
        run.search_study.add_trial(further)
    run.search_study.set_user_attr("asked", {"trials": 20 + len(complete), "epochs": 12, "further": []})
    assert run.replicate_study
    for trial in complete[:3]:
        assert missing_finalists(run, 3, 3), f"trial {trial.number} was not trained again"
        for seed in range(1_000_000, 1_000_003):
            notes = {"config": trial.user_attrs["config"], "seed": seed, "name": "again", "target": 12}
            run.replicate_study.add_trial(create_trial(value=0.05, user_attrs=notes))
    assert not missing_finalists(run, 3, 3)
