"""Metrics have the values that their definitions give."""

import numpy as np
import pytest

from huetune.model.metrics import METRICS, baseline_scores, better, scores


@pytest.fixture
def truth(rng):
    return rng.uniform(-0.5, 0.5, (3, 14, 14, 2)).astype(np.float32)


def test_scores_of_the_truth_are_perfect(truth):
    metrics = scores(np.stack([truth, truth], axis=1), truth, truth.mean(axis=(0, 1, 2)))
    assert metrics == pytest.approx({"chroma_mse": 0, "skill": 1, "chroma_ratio": 1, "chroma_ratio_error": 0}, abs=1e-6)


def test_baseline_scores_have_no_skill(truth):
    mean = truth.mean(axis=(0, 1, 2))
    metrics = baseline_scores(truth, mean)
    assert metrics["skill"] == pytest.approx(0, abs=1e-6)
    assert metrics["chroma_mse"] == pytest.approx(((truth - mean) ** 2).mean(), rel=1e-5)


def test_scores_of_gray_have_a_chroma_ratio_of_0(truth):
    metrics = scores(np.zeros((3, 1, 14, 14, 2), np.float32), truth, np.zeros(2, np.float32))
    assert metrics["chroma_ratio"] == 0 and metrics["chroma_ratio_error"] == 1


def test_scores_are_of_single_samples_not_of_their_mean(truth):
    """Two samples on either side of the truth are both wrong, although their mean is right."""
    both_sides = np.stack([truth + 0.1, truth - 0.1], axis=1)
    assert scores(both_sides, truth, np.zeros(2, np.float32))["chroma_mse"] == pytest.approx(0.01, rel=1e-3)


def test_better_follows_the_direction_of_the_objective():
    assert better("chroma_mse", 0.1, 0.2) and not better("chroma_mse", 0.2, 0.1)
    assert better("skill", 0.2, 0.1) and not better("skill", 0.1, 0.2)
    assert all(better(objective, 1.0, None) for objective in METRICS.objectives)
