"""No model is tested on what it has seen, unless somebody insists."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from data_tools.errors import CheckpointError
from data_tools.garden import garden
from data_tools.photos import prepare
from data_tools.split import split
from model.checkpoint import read
from results import evaluation
from results.export import find_model


@pytest.fixture
def model(searched):
    return find_model("tiny", searched[0])[0]


def photos(pictures):
    return prepare(pictures, [str(number) for number in range(len(pictures))])


def seen_of(model, pictures):
    names = evaluation.leaked(read(model), photos(pictures))
    assert names is not None
    return sorted(names)


def test_a_model_knows_what_trained_and_ranked_it_and_nothing_else(model):
    parts = split(photos(garden(12)), seed=5)
    darker = (garden(12) * 0.9).astype(np.uint8)
    seen = sorted([*parts.training.names, *parts.validation.names])
    assert seen_of(model, garden(12)) == seen
    assert seen_of(model, darker) == seen
    assert len(seen) < 12
    assert seen_of(model, garden(8, seed=9)) == []


def test_an_older_model_opens_and_does_not_say(model):
    checkpoint = read(model)
    older = replace(checkpoint, photos={name: value for name, value in checkpoint.photos.items() if name != "seen"})
    assert evaluation.leaked(older, photos(garden(12))) is None
    other = replace(checkpoint, photos={**checkpoint.photos, "seen": {"kind": "dct-512"}})
    assert evaluation.leaked(other, photos(garden(12))) is None


@pytest.mark.parametrize(
    "seen", [[], "x", {}, {"kind": "dct-128"}, {"kind": "dct-128", "training": "?", "validation": ""}]
)
def test_a_damaged_record_is_refused(model, seen):
    checkpoint = read(model)
    with pytest.raises(CheckpointError, match="record of what it has seen is damaged"):
        evaluation.leaked(replace(checkpoint, photos={**checkpoint.photos, "seen": seen}), photos(garden(2)))


def test_evaluate_refuses_photos_that_the_model_has_seen(searched, model, in_process, tmp_path):
    (tmp_path / "photos").mkdir()
    for number, scene in enumerate(garden(12)):
        Image.fromarray(scene).save(tmp_path / "photos" / f"{number}.jpg", quality=60)
    words = ["evaluate", model, "--photos", tmp_path / "photos", "--out", tmp_path / "out", "--samples", 1]
    done = in_process(*words)
    assert done.returncode == 3 and done.stdout == ""
    seen = len(seen_of(model, garden(12)))
    assert f"{seen} of 12 photos, or near copies of them, have trained or ranked the model" in done.stderr
    assert "say --allow-leakage" in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()

    done = in_process(*words, "--allow-leakage")
    assert done.returncode == 0, done.stderr
    assert "what follows is too good" in done.stderr
    assert len(json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))["leaked"]) == seen
