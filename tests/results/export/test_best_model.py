"""Tests that the best model of a run is found, and that its export is complete without the run."""

import json
import os
import re
import shutil
import socket
import tempfile
from pathlib import Path

import numpy as np
import pytest

from huetune.data_tools.common.errors import CheckpointError, NoTrialError, StorageError
from huetune.data_tools.storage.atomic import atomic_write
from huetune.data_tools.storage.checksums import SUMS_FILE
from huetune.model.checkpoint import load_colorizer, read_checkpoint
from huetune.model.checkpoint_format import (
    EXPORT_SCHEMA,
    FILES_BY_SCHEMA,
    MODEL_CARD_FILE,
    SELF_TEST_FILE,
    SETTINGS_FILE,
    WEIGHTS_FILE,
)
from huetune.model.metrics import scores
from huetune.results.analysis.winner import find_winner
from huetune.results.export import best_model
from huetune.results.export.model_card import model_card
from huetune.results.records.run import Run, find_run
from huetune.results.tables.trial_table import rows


def test_best_checkpoints_are_those_of_the_best_complete_trial(searched):
    run = find_run("tiny", searched[0])
    row, (path, *_) = best_model.best_checkpoints(run, run.snapshot())
    complete = [other for other in rows(run.study()) if other["state"] == "complete"]
    assert row == min(complete, key=lambda other: other["score"])
    checkpoint = read_checkpoint(path)
    assert checkpoint.metrics["chroma_mse"] == row["score"]
    assert checkpoint.origin == {"run": "tiny", "trial": row["trial"], "objective": "chroma_mse", "epochs": 3}
    assert checkpoint.seed == 5 + row["trial"]
    assert checkpoint.config.learning_rate == row["learning_rate"]


def test_export_without_its_run_has_the_same_score(searched, tmp_path, huetune):
    """Scores the exported model on the validation photos of the search: the result is the score in the table."""
    from huetune.data_tools.datasets.synthetic_garden import garden
    from huetune.data_tools.photos.dataset import prepare
    from huetune.data_tools.photos.split import split
    from huetune.model.trainer import VALIDATION_SAMPLES, VALIDATION_SEED

    copy = tmp_path / "elsewhere"
    shutil.copytree(searched[0] / "tiny", copy / "tiny")
    copied = Run(copy / "tiny")
    row, (path, *_) = best_model.best_checkpoints(copied, copied.snapshot())
    best_model.export(path, tmp_path / "exported")
    shutil.rmtree(copy)
    checkpoint, colorizer = load_colorizer(tmp_path / "exported")
    parts = split(prepare(garden(12), [str(index) for index in range(12)]), seed=5)
    assert checkpoint.photos["fingerprint"] == parts.fingerprint
    drawn = colorizer.draw(parts.validation.gray, VALIDATION_SAMPLES, VALIDATION_SEED)
    figures = scores(drawn, parts.validation.chroma, np.array(checkpoint.mean_chroma, np.float32))
    assert figures["chroma_mse"] == pytest.approx(row["score"], abs=1e-6)


def test_export_holds_its_score_and_nothing_of_the_machine(searched, tmp_path):
    run = find_run("tiny", searched[0])
    row, (path, *_) = best_model.best_checkpoints(run, run.snapshot())
    won = find_winner(run)
    assert won and won.number == row["trial"]
    best_model.export(path, tmp_path / "exported", best_model.metric_record(won))
    files = {file.name: file.read_bytes() for file in (tmp_path / "exported").iterdir()}
    assert (
        set(files)
        == FILES_BY_SCHEMA[EXPORT_SCHEMA]
        == {MODEL_CARD_FILE, SETTINGS_FILE, WEIGHTS_FILE, SELF_TEST_FILE, SUMS_FILE}
    )
    assert f"held-out photos: {row['score']:.4g} in the search, **not confirmed**" in files[MODEL_CARD_FILE].decode()
    settings = json.loads(files[SETTINGS_FILE])
    assert settings["metric"] == {
        "objective": "chroma_mse",
        "direction": "minimize",
        "score": row["score"],
        "zero_line": run.study().user_attrs["zero_line"]["chroma_mse"],
        "baseline": str(won.comparison),
        "checkpoint": f"trial {row['trial']}, seed {5 + row['trial']}",
        "checkpoint_score": row["score"],
    }
    assert {name: about["bytes"] for name, about in settings["files"].items()} == {
        name: len(files[name]) for name in (WEIGHTS_FILE, MODEL_CARD_FILE, SELF_TEST_FILE)
    }
    here = [
        str(Path.home()),
        str(searched[0]),
        str(tmp_path),
        tempfile.gettempdir(),
        socket.gethostname() + "-",
        "/home/",
    ]
    for name, content in files.items():
        assert not [word for word in here if word.encode() in content], name
        assert not re.search(rb"pickle|__reduce__|lambda|<lambda>|\x80\x04\x95", content), name


def test_model_card_of_a_confirmed_winner_has_its_interval(searched):
    path, _ = best_model.find_model("tiny", searched[0])
    metric = {"objective": "skill", "direction": "maximize", "score": 0.5, "zero_line": 0.0}
    metric |= {"confirmed": 0.4, "plus_minus": 0.15, "seeds": 3}
    text = model_card(read_checkpoint(path), metric)
    assert "`skill` (higher is better) on held-out photos: **0.4**, 95% interval 0.25 to 0.55, confirmed" in text
    assert "from 3 fresh seeds" in text and "0.5" not in text.replace("0.55", "")
    metric |= {"checkpoint": "replicate, seed 1000003", "checkpoint_score": 0.45, "high": 0.5, "low": 0.25}
    text = model_card(read_checkpoint(path), metric | {"baseline": "better than the mean-color baseline (0)"})
    assert "95% interval 0.25 to 0.5, confirmed" in text and "better than the mean-color baseline (0)." in text
    assert "This checkpoint (replicate, seed 1000003) has 0.45." in text


def test_export_has_the_permissions_of_the_umask(searched, tmp_path):
    path, _ = best_model.find_model("tiny", searched[0])
    before = os.umask(0o027)
    try:
        best_model.export(path, tmp_path / "exported")
        atomic_write(tmp_path / "file", b"")
    finally:
        os.umask(before)
    modes = {file.stat().st_mode & 0o777 for file in (tmp_path / "exported").iterdir()}
    assert modes == {0o640} and (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "exported").stat().st_mode & 0o777 == 0o750


def test_export_to_a_folder_with_files_is_refused(searched, tmp_path):
    path, _ = best_model.find_model("tiny", searched[0])
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(StorageError, match="is not empty"):
        best_model.export(path, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_trial_checkpoint_of_each_scored_trial_loads(searched):
    run = find_run("tiny", searched[0])
    study = run.study()
    scored = [row["trial"] for row in rows(study) if row["score"] is not None]
    assert len(scored) == 4
    for number in scored:
        checkpoint, _ = load_colorizer(best_model.trial_checkpoint(run, study, number))
        assert checkpoint.origin["trial"] == number
    with pytest.raises(NoTrialError, match="no trial 99"):
        best_model.trial_checkpoint(run, study, 99)


def test_find_model_accepts_runs_and_exports_only(searched, tmp_path):
    path, out = best_model.find_model("tiny", searched[0])
    assert path.parent.parent == searched[0] / "tiny" / "trials" and out == searched[0] / "tiny" / "evaluations"
    best_model.export(path, tmp_path / "exported")
    assert best_model.find_model(str(tmp_path / "exported")) == (
        tmp_path / "exported",
        tmp_path / "exported-evaluations",
    )
    with pytest.raises(StorageError, match="it is not an export either"):
        best_model.find_model("nothing", tmp_path)
    with pytest.raises(CheckpointError):
        load_colorizer(tmp_path)
