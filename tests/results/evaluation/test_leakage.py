"""Tests that no model is evaluated on photos that it has seen, unless `--allow-leakage` is given."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from huetune.data_tools.common.errors import CheckpointError
from huetune.data_tools.datasets.synthetic_garden import garden
from huetune.data_tools.photos.dataset import prepare
from huetune.data_tools.photos.split import split
from huetune.model.checkpoint import read_checkpoint
from huetune.results.evaluation.leakage import leaked_names
from huetune.results.export.best_model import find_model


@pytest.fixture
def model(searched):
    return find_model("tiny", searched[0])[0]


def photos(pictures):
    return prepare(pictures, [str(number) for number in range(len(pictures))])


def seen_of(model, pictures):
    names = leaked_names(read_checkpoint(model), photos(pictures))
    assert names is not None
    return sorted(names)


def test_leaked_names_are_the_training_and_validation_photos(model):
    parts = split(photos(garden(12)), seed=5)
    darker = (garden(12) * 0.9).astype(np.uint8)
    seen = sorted([*parts.training.names, *parts.validation.names])
    assert seen_of(model, garden(12)) == seen
    assert seen_of(model, darker) == seen
    assert len(seen) < 12
    assert seen_of(model, garden(8, seed=9)) == []


def test_leaked_names_of_a_model_without_a_record_is_none(model):
    checkpoint = read_checkpoint(model)
    older = replace(checkpoint, photos={name: value for name, value in checkpoint.photos.items() if name != "seen"})
    assert leaked_names(older, photos(garden(12))) is None
    other = replace(checkpoint, photos={**checkpoint.photos, "seen": {"kind": "dct-512"}})
    assert leaked_names(other, photos(garden(12))) is None


@pytest.mark.parametrize(
    "seen", [[], "x", {}, {"kind": "dct-128"}, {"kind": "dct-128", "training": "?", "validation": ""}]
)
def test_leaked_names_of_a_damaged_record_is_refused(model, seen):
    checkpoint = read_checkpoint(model)
    with pytest.raises(CheckpointError, match="record of what it has seen is damaged"):
        leaked_names(replace(checkpoint, photos={**checkpoint.photos, "seen": seen}), photos(garden(2)))


@pytest.fixture
def folder(tmp_path):
    """The scenes of the model's search, saved again as JPEG, and one that it has not seen."""
    (tmp_path / "photos").mkdir()
    for number, scene in enumerate([*garden(12), *garden(1, seed=9)]):
        Image.fromarray(scene).save(tmp_path / "photos" / f"{number:02}.jpg", quality=60)
    return tmp_path / "photos"


def test_evaluate_skips_photos_that_the_model_has_seen(model, folder, in_process, tmp_path):
    words = ["evaluate", model, "--photos", folder, "--out", tmp_path / "out", "--samples", 1]
    seen = {f"{int(name):02}.jpg" for name in seen_of(model, garden(12))}
    assert len(seen) == 11, "one more photo than is listed by name"

    done = in_process(*words)
    assert done.returncode == 0, done.stderr
    count, *named, rest = done.stderr.splitlines()
    assert count.startswith("skipped: 11 of 13 photos; the model was trained or ranked with them or with near-dup")
    assert named == [f"skipped: {str(folder / name)!r}" for name in sorted(seen)[:10]] and rest == "skipped: and 1 more"
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    measured = {path.name for path in folder.iterdir()} - seen
    assert {row["photo"] for row in metrics["photos"]} == {str(folder / name) for name in measured}
    assert metrics["skipped"] == [str(folder / name) for name in sorted(seen)] and metrics["leaked"] == []
    assert "2 photos, 1 sample each" in done.stdout

    done = in_process(*words, "--allow-leakage")
    assert done.returncode == 0, done.stderr
    assert "the metrics below are too optimistic" in done.stderr
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert len(metrics["leaked"]) == 11 and len(metrics["photos"]) == 13 and metrics["skipped"] == []


def test_evaluate_refuses_when_all_photos_were_seen(model, folder, in_process, tmp_path):
    seen = {f"{int(name):02}.jpg" for name in seen_of(model, garden(12))}
    for path in folder.iterdir():
        if path.name not in seen:
            path.unlink()
    done = in_process("evaluate", model, "--photos", folder, "--out", tmp_path / "out", "--samples", 1)
    assert done.returncode == 3 and done.stdout == ""
    assert "the model was trained or ranked with all 11 photos or with near-duplicates of them" in done.stderr
    assert "pass --allow-leakage" in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_log_and_report_skip_photos_that_a_model_has_seen(searched, folder, in_process, tmp_path):
    options = ("--storage", searched[0], "--photos", folder, "--out")
    done = in_process("log", "tiny", *options, tmp_path / "log", "--trials", 0)
    assert done.returncode == 0 and "skipped: 11 of 13 photos" in done.stderr, done.stderr
    assert "* Test photos (2): " in (tmp_path / "log" / "log.md").read_text(encoding="utf-8")
    done = in_process("report", "tiny", *options, tmp_path / "r.html")
    assert done.returncode == 0 and "skipped: and 1 more\n" in done.stderr, done.stderr
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert (
        "2 of 2 photos from" in html
        and "(11 more are skipped: a model shown here was trained or ranked with them" in html
    )


def test_data_check_counts_near_duplicates(in_process, tmp_path):
    """Of four pictures one is there three times, once as a copy; one twice."""
    first, second, *others = garden(4, seed=9)
    for name, scene in zip("abcde", [first, first, second, *others], strict=True):
        Image.fromarray(scene).save(tmp_path / f"{name}.png")
    Image.fromarray(first).save(tmp_path / "f.jpg", quality=60)
    Image.fromarray((second * 0.9).astype(np.uint8)).save(tmp_path / "g.png")
    done = in_process("data", "check", tmp_path)
    assert done.returncode == 0
    *groups, count = done.stdout.splitlines()
    assert count == "7 files: 7 usable photos (1 copy, 2 near-duplicates), 0 skipped"
    named = [(tmp_path / one, tmp_path / other) for one, other in (("a.png", "f.jpg"), ("c.png", "g.png"))]
    assert groups == [f"near-duplicates: {str(one)!r}, {str(other)!r}" for one, other in named]
