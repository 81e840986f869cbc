"""Runs and models as each released schema wrote them, in tests/results/released: all of them still open.

They are real, but that their weights are few different numbers, or each would take megabytes.
"""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from huetune.data_tools.datasets.synthetic_garden import garden
from huetune.data_tools.photos.dataset import prepare
from huetune.model.checkpoint import load_colorizer
from huetune.model.checkpoint_format import EXPORT_SCHEMA, FILES_BY_SCHEMA
from huetune.results.export.best_model import best_checkpoints, find_model
from huetune.results.records.outcomes import Stop, StopReason
from huetune.results.records.run import Run
from huetune.results.records.study_record import StudyRecord
from huetune.results.tables.trial_table import run_rows
from huetune.search.cli.main import cli
from huetune.search.spec import manifest

RELEASED = Path(__file__).with_name("released")


@pytest.fixture
def released(tmp_path):
    for path in RELEASED.glob("*.zip"):
        with zipfile.ZipFile(path) as file:
            file.extractall(tmp_path)
    return tmp_path


def _drawn(colorizer):
    return colorizer.draw(prepare(garden(1), ["scene"]).gray, samples=1, seed=0)


def test_released_schemas_have_a_fixture_each(released):
    runs = {Run(path).manifest["schema"] for path in released.glob("run-*")}
    assert runs == set(range(1, manifest.SCHEMA + 1))
    assert {path.name for path in released.glob("export-*")} == {f"export-{EXPORT_SCHEMA}"}
    assert set(FILES_BY_SCHEMA) == {*runs, EXPORT_SCHEMA}


@pytest.mark.parametrize(("schema", "trials", "epochs"), [(1, 2, 1), (2, 3, 3)])
def test_run_of_older_schema_opens(schema, trials, epochs, released, capsys):
    run = Run(released / f"run-{schema}")
    table = run_rows(run)
    assert len(table) == trials and {row["state"] for row in table} == {"complete"}
    assert {row["epochs"] for row in table} == {epochs}
    assert {row["note"] for row in table} == {"at baseline"} and all(row["skill"] < 0 for row in table)
    assert StudyRecord.of(run.study()).ended == (Stop(StopReason.TRIAL_BUDGET, 3) if schema == 2 else None)
    row, (path, *_) = best_checkpoints(run, run.snapshot())
    checkpoint, colorizer = load_colorizer(path)
    assert checkpoint.metrics["chroma_mse"] == row["score"] == min(row["score"] for row in table)
    # The numbers that its own huetune gave.
    assert np.abs(_drawn(colorizer)).mean() == pytest.approx(DRAWN, abs=1e-4)
    for verb in ("trials", "effects", "best"):
        cli([verb, run.name, "--storage", str(released)], standalone_mode=False)
    assert f"{row['score']:.4g}" in capsys.readouterr().out


DRAWN = 0.46941


def test_export_of_older_schema_passes_its_self_test(released):
    path, _ = find_model(str(released / f"export-{EXPORT_SCHEMA}"))
    checkpoint, _ = load_colorizer(path)
    assert checkpoint.origin["trial"] == 1
