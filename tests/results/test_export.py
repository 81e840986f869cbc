"""The best model leaves its run whole."""

import shutil

import numpy as np
import pytest

from data_tools.errors import CheckpointError, NoTrialError, StorageError
from model.checkpoint import load, read
from model.score import scores
from results import export
from results.run import Run, find_run
from results.trials import rows


def test_the_best_is_the_best_complete_trial(searched):
    run = find_run("tiny", searched[0])
    row, (path, *_) = export.best(run)
    complete = [other for other in rows(run.study()) if other["state"] == "complete"]
    assert row == min(complete, key=lambda other: other["score"])
    checkpoint = read(path)
    assert checkpoint.figures["chroma_mse"] == row["score"]
    assert checkpoint.origin == {"run": "tiny", "trial": row["trial"], "objective": "chroma_mse"}
    assert checkpoint.seed == 5 + row["trial"]
    assert checkpoint.config.learning_rate == row["learning_rate"]


def test_an_export_scores_the_same_without_its_run(searched, tmp_path, huetune):
    """Rebuild the search's photos and score the exported model on them: the very score of the table."""
    from data_tools.garden import garden
    from data_tools.photos import prepare
    from data_tools.split import split
    from model.training import VALIDATION_SAMPLES, VALIDATION_SEED

    copy = tmp_path / "elsewhere"
    shutil.copytree(searched[0] / "tiny", copy / "tiny")
    row, (path, *_) = export.best(Run(copy / "tiny"))
    export.export(path, tmp_path / "exported")
    shutil.rmtree(copy)
    checkpoint, colorizer = load(tmp_path / "exported")
    parts = split(prepare(garden(12), [str(index) for index in range(12)]), seed=5)
    assert checkpoint.photos["fingerprint"] == parts.fingerprint
    drawn = colorizer.draw(parts.validation.grey, VALIDATION_SAMPLES, VALIDATION_SEED)
    figures = scores(drawn, parts.validation.chroma, np.array(checkpoint.mean_chroma, np.float32))
    assert figures["chroma_mse"] == pytest.approx(row["score"], abs=1e-6)


def test_an_export_overwrites_nothing(searched, tmp_path):
    _, (path, *_) = export.best(find_run("tiny", searched[0]))
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(StorageError, match="is not empty"):
        export.export(path, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_every_scored_trial_has_a_checkpoint_that_loads(searched):
    run = find_run("tiny", searched[0])
    study = run.study()
    scored = [row["trial"] for row in rows(study) if row["score"] is not None]
    assert len(scored) == 4
    for number in scored:
        checkpoint, _ = load(export.checkpoint(run, study, number))
        assert checkpoint.origin["trial"] == number
    with pytest.raises(NoTrialError, match="no trial 99"):
        export.checkpoint(run, study, 99)


def test_a_model_is_a_run_or_an_export_or_refused(searched, tmp_path):
    path, out = export.find_model("tiny", searched[0])
    assert path.parent.parent == searched[0] / "tiny" / "trials" and out == searched[0] / "tiny" / "evaluation"
    export.export(path, tmp_path / "exported")
    assert export.find_model(str(tmp_path / "exported")) == (tmp_path / "exported", tmp_path / "exported-evaluation")
    with pytest.raises(StorageError, match="nor is it an export"):
        export.find_model("nothing", tmp_path)
    with pytest.raises(CheckpointError):
        load(tmp_path)
