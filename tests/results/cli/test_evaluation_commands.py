"""The commands `best`, `evaluate` and `colorize`, and the evaluation at the end of a search."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from huetune.data_tools.datasets.synthetic_garden import garden


def assert_measured_against(scenes, folder):
    """Each photo of an evaluation was compared with the scene of its name, and no other."""
    rows = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["photos"]
    assert rows
    for row in rows:
        name = Path(row["photo"]).stem
        truth = rgb2lab(scenes[int(name.removeprefix("garden-"))])
        written = [np.asarray(Image.open(path)) for path in (folder / "colorized").glob(f"{name}-*.png")]
        expected = np.mean([deltaE_ciede2000(truth, rgb2lab(sample)).mean() for sample in written])
        assert row["delta_e"] == pytest.approx(expected, rel=1e-6)


def test_search_evaluates_winner_on_its_own_test_photos(searched):
    assert_measured_against(garden(12), searched[0] / "tiny" / "evaluation")


def test_export_of_a_run_evaluates_and_colorizes(searched, huetune, in_process, tmp_path):
    """best, evaluate and colorize, on an export that left its run."""
    scenes = tmp_path / "scenes"
    assert in_process("data", "garden", "--count", 4, "--out", scenes, "--seed", 9).returncode == 0
    Image.fromarray(garden(1)[0]).convert("L").resize((200, 150)).save(scenes / "gray.png")
    (scenes / "garden-0001 is no picture.png").write_text("it comes before garden-0001.png", encoding="utf-8")
    exported = tmp_path / "model"
    done = in_process("best", "tiny", "--storage", searched[0], "--export", exported)
    assert done.returncode == 0 and "exported to" in done.stdout
    assert in_process("best", "tiny", "--storage", searched[0], "--export", exported).returncode == 4

    done = in_process("evaluate", exported, "--photos", scenes, "--samples", 2, "--out", tmp_path / "evaluation")
    assert done.returncode == 0, done.stderr
    assert "gray.png': gray: there are no colors to learn" in done.stderr
    metrics = json.loads((tmp_path / "evaluation" / "metrics.json").read_text(encoding="utf-8"))
    assert len(metrics["photos"]) == 4 and metrics["all"]["delta_e"] > 0
    assert (tmp_path / "evaluation" / "contact-sheet.png").is_file()
    assert_measured_against(garden(4, seed=9), tmp_path / "evaluation")

    done = huetune("colorize", exported, scenes / "gray.png", "--out", tmp_path / "colored")
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "colored" / "gray.png").size == (200, 150)
    before = (tmp_path / "colored" / "gray.png").read_bytes()
    done = in_process("colorize", exported, tmp_path / "colored" / "gray.png", "--out", tmp_path / "colored")
    assert done.returncode == 0 and done.stdout == f"{tmp_path / 'colored' / 'gray-colorized.png'}\n"
    assert (tmp_path / "colored" / "gray.png").read_bytes() == before
    done = in_process("colorize", exported, scenes / "gray.png", scenes / "no.png", "--out", tmp_path / "other")
    assert done.returncode == 3 and not (tmp_path / "other").exists()
