"""Dropout drops its share and no more, and no two of its random numbers agree."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from huetune.model.config import FILTERS, LATENT, Config
from huetune.model.dropout import (
    BYTE_VALUES,
    CHANNEL_GROUP,
    StepRandom,
    drops_channels,
    kept_byte_values,
    kept_channels,
)
from huetune.model.weights import TOWERS

THROWS = 400


def _lives(channels) -> np.ndarray:
    """Which channels of all live: bool [towers, sum of FILTERS]."""
    parts = [(places.numpy()[..., None] == np.arange(n)).any(1) for places, n in zip(channels, FILTERS, strict=True)]
    return np.concatenate(parts, axis=1)


@pytest.fixture(scope="module")
def thrown() -> np.ndarray:
    """Which channels live in each of many steps: bool [steps, towers, channels]."""
    return np.stack(
        [
            _lives(StepRandom(tf.constant([7, step]), BYTE_VALUES).channels(kept_channels(0.45)))
            for step in range(THROWS)
        ]
    )


@pytest.mark.parametrize("rate", [0.1, 0.45, 0.9])
def test_drop_drops_its_share_and_keeps_the_expectation(rate):
    units = tf.random.stateless_normal([7, 301, 333], [1, 2]) + 3
    seen = StepRandom(tf.constant([3, 4]), tf.constant(kept_byte_values(rate), tf.int64)).drop(units).numpy()
    assert abs(np.mean(seen == 0) - rate) < 1 / 512 + 5 * np.sqrt(rate * (1 - rate) / seen.size)
    lives = seen != 0
    np.testing.assert_allclose(seen[lives], units.numpy()[lives] / (kept_byte_values(rate) / BYTE_VALUES), rtol=1e-6)
    assert seen.mean() == pytest.approx(units.numpy().mean(), rel=0.02)
    # Neither rows nor columns nor neighbors fall together.
    flat = lives.reshape(-1).astype(np.float64) - lives.mean()
    for lag in (1, 8, 64, 333):
        assert abs(np.mean(flat[lag:] * flat[:-lag])) < 6 * rate * (1 - rate) / np.sqrt(seen.size)


def test_drop_follows_the_seed_and_no_two_layers_agree():
    units = tf.ones([30, 5])
    seen = []
    for seed in ([3, 4], [3, 4], [3, 5], [4, 4]):
        dice = StepRandom(tf.constant(seed), kept_byte_values(0.45))
        seen += [dice.drop(units).numpy(), dice.drop(units).numpy()]
    np.testing.assert_array_equal(seen[:2], seen[2:4])
    assert len({some.tobytes() for some in seen}) == 6


@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (3, 5, 7, 11)])
def test_drop_of_a_rate_too_small_for_a_byte_drops_nothing(shape):
    units = tf.random.stateless_normal(shape, [1, 2])
    assert kept_byte_values(0.0) == kept_byte_values(0.001) == BYTE_VALUES
    np.testing.assert_array_equal(StepRandom(tf.constant([3, 4]), BYTE_VALUES).drop(units), units)


def test_kept_of_a_rate_near_1_keeps_something():
    assert kept_byte_values(0.9999) == 1
    seen = StepRandom(tf.constant([3, 4]), kept_byte_values(0.9999)).drop(tf.ones([100, 100])).numpy()
    assert set(np.unique(seen)) == {0.0, 256.0}


@pytest.mark.parametrize(
    ("rate", "counts"),
    [
        (0.0, FILTERS),
        (0.02, FILTERS),
        (0.1, (16, 32, 32, 40, 40)),
        (0.2, (16, 24, 24, 40, 40)),
        (0.45, (8, 16, 16, 24, 24)),
        (0.9, (8, 8, 8, 8, 8)),
        (0.999, (8, 8, 8, 8, 8)),
    ],
)
def test_living_channels_are_a_multiple_of_the_width(rate, counts):
    assert kept_channels(rate) == counts
    assert not any(count % CHANNEL_GROUP for count in counts)


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.45])
def test_drops_channels_is_one_answer_for_all_rates_above_0(rate):
    """A range of rates then needs one trace."""
    assert drops_channels(Config(dropout=rate, dropout_of="channels")) == (rate > 0)
    assert not drops_channels(Config(dropout=rate, dropout_of="units"))


@pytest.mark.parametrize("counts", [(8, 16, 16, 24, 24), (16, 24, 32, 8, 48)])
def test_channels_are_different_places_among_all(counts):
    """The same ones, whether the counts are numbers or tensors as in a traced step."""
    seed = tf.constant([5, 6])
    channels = StepRandom(seed, BYTE_VALUES).channels(counts)
    for places, count, all_of_them in zip(channels, counts, FILTERS, strict=True):
        assert places.dtype == tf.int32 and places.shape == [len(TOWERS), count]
        assert all(len(set(row)) == count and set(row) <= set(range(all_of_them)) for row in places.numpy())
    again = StepRandom(seed, BYTE_VALUES).channels([tf.constant(count) for count in counts])
    np.testing.assert_array_equal(_lives(channels), _lives(again))


def test_channels_follow_the_seed(thrown):
    np.testing.assert_array_equal(
        _lives(StepRandom(tf.constant([7, 3]), BYTE_VALUES).channels(kept_channels(0.45))), thrown[3]
    )
    assert len({some.tobytes() for some in thrown}) == THROWS
    assert (_lives(StepRandom(tf.constant([8, 3]), BYTE_VALUES).channels(kept_channels(0.45))) != thrown[3]).any()


def test_channels_live_each_as_often_as_any_other(thrown):
    expected = np.repeat(np.divide(kept_channels(0.45), FILTERS), FILTERS)
    # Five standard deviations of so many throws of a coin.
    assert np.abs(thrown.mean(axis=0) - expected).max() < 5 * 0.5 / np.sqrt(THROWS)


def test_channels_of_two_layers_towers_or_steps_do_not_agree(thrown):
    """Where each of many thousand pairs is within six standard deviations, no pair has anything in common."""
    flat = thrown.reshape(THROWS, -1).astype(np.float64)
    layer = np.arange(len(TOWERS) * len(FILTERS)).reshape(len(TOWERS), -1).repeat(FILTERS, axis=1).ravel()
    others = layer[:, None] != layer
    assert np.abs(np.corrcoef(flat, rowvar=False)[others]).max() < 6 / np.sqrt(THROWS)
    flat = (flat - flat.mean(axis=0)) / flat.std(axis=0)
    assert np.abs(flat[1:].T @ flat[:-1] / (THROWS - 1)).max() < 6 / np.sqrt(THROWS)


def test_draws_of_one_step_do_not_hang_on_each_other():
    """Nor on those of the next step, whose key is the next number."""
    draws = []
    for step in range(THROWS):
        dice = StepRandom(tf.constant([7, step]), kept_byte_values(0.45))
        noise, others = dice.normal([12, LATENT]).numpy(), dice.normal([12, LATENT]).numpy()
        lives, units = _lives(dice.channels(kept_channels(0.45))), dice.drop(tf.ones([12, LATENT])).numpy()
        draws.append([some.ravel()[: lives.size] for some in (noise, np.abs(noise), others, lives, units)])
    figures = np.swapaxes(np.array(draws, np.float64), 0, 1)
    for first, second in list(itertools.combinations(figures, 2))[1:]:  # The first pair is of one draw.
        assert _most_alike(first, second) < 6 / np.sqrt(THROWS)
    for first, second in itertools.product(figures, figures):
        assert _most_alike(first[1:], second[:-1]) < 6 / np.sqrt(THROWS)


def _most_alike(ours: np.ndarray, others: np.ndarray) -> float:
    """The largest correlation of two figures in the same place."""
    ours, others = ((some - some.mean(axis=0)) / some.std(axis=0) for some in (ours, others))
    return float(np.abs((ours * others).mean(axis=0)).max())


def test_normal_numbers_are_standard_and_follow_the_seed():
    seen = StepRandom(tf.constant([3, 4]), BYTE_VALUES).normal([300, LATENT]).numpy()
    assert abs(seen.mean()) < 5 / np.sqrt(seen.size) and seen.std() == pytest.approx(1, abs=5 / np.sqrt(seen.size))
    np.testing.assert_array_equal(StepRandom(tf.constant([3, 4]), BYTE_VALUES).normal([300, LATENT]), seen)
    for seed in ([3, 5], [4, 4], [4, 3]):
        assert (StepRandom(tf.constant(seed), BYTE_VALUES).normal([300, LATENT]).numpy() != seen).mean() > 0.99


def test_corner_is_anywhere_and_hangs_on_the_seed_alone():
    seen = np.stack([StepRandom(tf.constant([7, step]), BYTE_VALUES).corner(3).numpy() for step in range(90)])
    assert {tuple(corner) for corner in seen} == {(row, column) for row in range(3) for column in range(3)}
    np.testing.assert_array_equal(StepRandom(tf.constant([7, 5]), BYTE_VALUES).corner(3), seen[5])
    np.testing.assert_array_equal(StepRandom(tf.constant([7, 5]), BYTE_VALUES).corner(1), [0, 0])


def test_draws_can_be_compiled():
    """As a step on a card is. XLA knows fewer operations, and the test of a compiled step drops nothing."""
    counts = kept_channels(0.45)

    @tf.function(jit_compile=True)
    def draw(seed, keep):
        dice = StepRandom(seed, keep)
        return dice.normal([50, LATENT]), dice.corner(8), dice.channels(counts), dice.drop(tf.ones([50, LATENT]))

    noise, corner, channels, units = draw(tf.constant([7, 5]), tf.constant(kept_byte_values(0.45), tf.int64))
    assert abs(noise.numpy().std() - 1) < 0.05 and corner.shape == [2] and (_lives(channels).sum(axis=1) == 88).all()
    assert (
        set(np.unique(units)) == {0.0, np.float32(BYTE_VALUES / kept_byte_values(0.45))}
        and abs(np.mean(units == 0) - 0.45) < 0.05
    )
