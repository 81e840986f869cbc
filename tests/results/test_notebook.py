"""`OpenRun`, the API for notebooks, and the example notebook."""

import runpy
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from huetune.data_tools.common.errors import StorageError
from huetune.data_tools.datasets.synthetic_garden import garden
from huetune.model.checkpoint import load_colorizer
from huetune.results.export import best_model
from huetune.results.notebook import open_run
from huetune.results.records.run import MANIFEST, STUDY, find_run
from huetune.results.tables.trial_table import run_rows

EXAMPLE = Path(__file__).parents[2] / "results" / "examples" / "notebook.py"


def test_example_notebook_runs(searched, tmp_path, monkeypatch, capsys):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "roses").symlink_to(searched[0] / "tiny")
    monkeypatch.chdir(tmp_path)
    cells = runpy.run_path(str(EXAMPLE))
    assert "parameters" in capsys.readouterr().out
    assert list(cells["frame"]["trial"]) == [row["trial"] for row in run_rows(find_run("tiny", searched[0]))]
    assert Image.open(tmp_path / "colored.png").size == (3 * 112, 112)
    drawn = ElementTree.parse(tmp_path / "curves.svg").getroot()
    assert drawn.tag.endswith("svg") and "mean-color baseline" in "".join(drawn.itertext())


def test_open_run_model_is_the_best(searched):
    run = open_run("tiny", searched[0])
    model = run.model()
    _, paths = best_model.best_checkpoints(run.run, run.run.snapshot())
    stored = np.load(paths[0] / "weights.npz")
    assert {weight.path for weight in model.trainable_weights} == set(stored.files)
    for weight in model.trainable_weights:
        np.testing.assert_array_equal(weight.numpy(), stored[weight.path])
    scene = garden(1, seed=3)[0]
    _, colorizer = load_colorizer(paths[0])
    from huetune.results.evaluation.colorization import colorize_photo

    expected = colorize_photo(colorizer, scene, 1, 0)[0]
    np.testing.assert_array_equal(np.asarray(run.colorize(Image.fromarray(scene))), expected)


def test_open_run_html_has_the_baseline(searched):
    run = open_run("tiny", searched[0])
    shown = run._repr_html_()
    assert "mean color" in shown and shown.count("<tr") == 1 + 7 and "diverged in epoch 1" in shown
    epochs = run.epochs()
    assert len(epochs) == sum(run.frame()["epochs"])
    assert run.history()._repr_svg_().startswith("<svg")
    assert set(run.effects()["setting"]) == {"learning_rate", "mse_weight"}
    assert run.contact_sheet().size == Image.open(searched[0] / "tiny" / "evaluation" / "contact-sheet.png").size


def test_contact_sheet_missing_names_command(searched, tmp_path):
    for name in (MANIFEST, STUDY):
        (tmp_path / "tiny").mkdir(exist_ok=True)
        (tmp_path / "tiny" / name).write_bytes((searched[0] / "tiny" / name).read_bytes())
    with pytest.raises(StorageError, match=r"huetune resume \S*tiny"):
        open_run("tiny", tmp_path).contact_sheet()
