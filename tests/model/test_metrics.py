"""Scores mean what they say."""

import numpy as np
import pytest

from huetune.model.metrics import METRICS, baseline_scores, better, scores


@pytest.fixture
def truth(rng):
    return rng.uniform(-0.5, 0.5, (3, 14, 14, 2)).astype(np.float32)


def test_the_truth_scores_perfectly(truth):
    figures = scores(np.stack([truth, truth], axis=1), truth, truth.mean(axis=(0, 1, 2)))
    assert figures == pytest.approx({"chroma_mse": 0, "skill": 1, "chroma_ratio": 1, "chroma_ratio_error": 0}, abs=1e-6)


def test_one_color_for_everything_has_no_skill(truth):
    mean = truth.mean(axis=(0, 1, 2))
    figures = baseline_scores(truth, mean)
    assert figures["skill"] == pytest.approx(0, abs=1e-6)
    assert figures["chroma_mse"] == pytest.approx(((truth - mean) ** 2).mean(), rel=1e-5)


def test_gray_wins_no_ratio(truth):
    figures = scores(np.zeros((3, 1, 14, 14, 2), np.float32), truth, np.zeros(2, np.float32))
    assert figures["chroma_ratio"] == 0 and figures["chroma_ratio_error"] == 1


def test_samples_are_judged_one_by_one_not_by_their_mean(truth):
    """Two samples on either side of the truth are both wrong, though their mean is right."""
    either = np.stack([truth + 0.1, truth - 0.1], axis=1)
    assert scores(either, truth, np.zeros(2, np.float32))["chroma_mse"] == pytest.approx(0.01, rel=1e-3)


def test_each_objective_knows_its_direction():
    assert better("chroma_mse", 0.1, 0.2) and not better("chroma_mse", 0.2, 0.1)
    assert better("skill", 0.2, 0.1) and not better("skill", 0.1, 0.2)
    assert all(better(objective, 1.0, None) for objective in METRICS.objectives)
