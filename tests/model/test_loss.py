"""The loss equals that of a plain loop over patches."""

import numpy as np

from huetune.model import loss


def _loss_by_loop(target, predicted, mean, log_variance, mse_weight, l2):
    total = 0.0
    for t, p, mu, log in zip(target, predicted, mean, log_variance, strict=True):
        mse = sum((a - b) ** 2 for a, b in zip(t, p, strict=True)) / 2
        norm = ((t[0] ** 2 + t[1] ** 2) - (p[0] ** 2 + p[1] ** 2)) ** 2
        kl = sum(0.5 * (m * m + np.exp(v) - 1 - v) for m, v in zip(mu, log, strict=True))
        total += mse_weight * mse + norm + kl
    return total / len(target) + l2


def test_loss_terms_equal_a_loop_and_add_up_to_the_loss(rng):
    target, predicted = rng.uniform(-0.7, 0.7, (2, 9, 2)).astype(np.float32)
    mean, log_variance = rng.normal(0, 0.5, (2, 9, 120)).astype(np.float32)
    parts = np.asarray(loss.loss_terms(target, predicted, mean, log_variance, 2.5, 0.25))
    assert np.isclose(parts[0], _loss_by_loop(target, predicted, mean, log_variance, 2.5, 0.25), rtol=1e-5)
    named = dict(zip(loss.LOSS_TERMS, parts, strict=True))
    assert np.isclose(named["loss"], 2.5 * named["mse"] + named["norm"] + named["kl"] + named["l2"], rtol=1e-5)


def test_loss_terms_of_a_perfect_prediction_are_only_l2():
    truth, zeros = np.full((4, 2), 0.3, np.float32), np.zeros((4, 120), np.float32)
    assert np.asarray(loss.loss_terms(truth, truth, zeros, zeros, 4.0, 0.125)).tolist() == [0.125, 0, 0, 0, 0.125]
