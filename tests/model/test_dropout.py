"""Dropout drops the share of its rate, and its random numbers are independent of each other."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from huetune.model.config import FILTERS, LATENT, Config
from huetune.model.dropout import (
    BYTE_VALUES,
    CHANNEL_MULTIPLE,
    StepRandom,
    drops_channels,
    kept_byte_values,
    kept_channel_counts,
)
from huetune.model.weights import TOWERS

STEPS = 400


def _kept_mask(channels) -> np.ndarray:
    """Return which of all channels are kept: bool [towers, sum of FILTERS]."""
    parts = [(indices.numpy()[..., None] == np.arange(n)).any(1) for indices, n in zip(channels, FILTERS, strict=True)]
    return np.concatenate(parts, axis=1)


@pytest.fixture(scope="module")
def kept_in_steps() -> np.ndarray:
    """Return which channels are kept in each of many steps: bool [steps, towers, channels]."""
    return np.stack(
        [
            _kept_mask(StepRandom(tf.constant([7, step]), BYTE_VALUES).kept_channels(kept_channel_counts(0.45)))
            for step in range(STEPS)
        ]
    )


@pytest.mark.parametrize("rate", [0.1, 0.45, 0.9])
def test_drop_drops_the_share_of_its_rate_and_keeps_the_mean(rate):
    units = tf.random.stateless_normal([7, 301, 333], [1, 2]) + 3
    seen = StepRandom(tf.constant([3, 4]), tf.constant(kept_byte_values(rate), tf.int64)).drop_units(units).numpy()
    assert abs(np.mean(seen == 0) - rate) < 1 / 512 + 5 * np.sqrt(rate * (1 - rate) / seen.size)
    kept = seen != 0
    np.testing.assert_allclose(seen[kept], units.numpy()[kept] / (kept_byte_values(rate) / BYTE_VALUES), rtol=1e-6)
    assert seen.mean() == pytest.approx(units.numpy().mean(), rel=0.02)
    # Units of one row, one column or side by side are dropped independently.
    flat = kept.reshape(-1).astype(np.float64) - kept.mean()
    for lag in (1, 8, 64, 333):
        assert abs(np.mean(flat[lag:] * flat[:-lag])) < 6 * rate * (1 - rate) / np.sqrt(seen.size)


def test_drop_depends_on_the_seed_and_differs_between_layers():
    units = tf.ones([30, 5])
    seen = []
    for seed in ([3, 4], [3, 4], [3, 5], [4, 4]):
        random = StepRandom(tf.constant(seed), kept_byte_values(0.45))
        seen += [random.drop_units(units).numpy(), random.drop_units(units).numpy()]
    np.testing.assert_array_equal(seen[:2], seen[2:4])
    assert len({units.tobytes() for units in seen}) == 6


@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (3, 5, 7, 11)])
def test_drop_with_a_rate_below_one_byte_value_drops_nothing(shape):
    units = tf.random.stateless_normal(shape, [1, 2])
    assert kept_byte_values(0.0) == kept_byte_values(0.001) == BYTE_VALUES
    np.testing.assert_array_equal(StepRandom(tf.constant([3, 4]), BYTE_VALUES).drop_units(units), units)


def test_kept_byte_values_of_a_rate_near_1_is_at_least_one():
    assert kept_byte_values(0.9999) == 1
    seen = StepRandom(tf.constant([3, 4]), kept_byte_values(0.9999)).drop_units(tf.ones([100, 100])).numpy()
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
def test_kept_channels_are_a_multiple_of_the_group(rate, counts):
    assert kept_channel_counts(rate) == counts
    assert not any(count % CHANNEL_MULTIPLE for count in counts)


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.45])
def test_drops_channels_is_the_same_for_all_rates_above_0(rate):
    """A range of rates then needs only one trace."""
    assert drops_channels(Config(dropout=rate, dropout_of="channels")) == (rate > 0)
    assert not drops_channels(Config(dropout=rate, dropout_of="units"))


@pytest.mark.parametrize("counts", [(8, 16, 16, 24, 24), (16, 24, 32, 8, 48)])
def test_channels_are_distinct_indices_in_range(counts):
    """They are the same for counts that are numbers and for tensors, as in a traced step."""
    seed = tf.constant([5, 6])
    channels = StepRandom(seed, BYTE_VALUES).kept_channels(counts)
    for indices, count, filters in zip(channels, counts, FILTERS, strict=True):
        assert indices.dtype == tf.int32 and indices.shape == [len(TOWERS), count]
        assert all(len(set(row)) == count and set(row) <= set(range(filters)) for row in indices.numpy())
    traced = StepRandom(seed, BYTE_VALUES).kept_channels([tf.constant(count) for count in counts])
    np.testing.assert_array_equal(_kept_mask(channels), _kept_mask(traced))


def test_channels_depend_on_the_seed(kept_in_steps):
    np.testing.assert_array_equal(
        _kept_mask(StepRandom(tf.constant([7, 3]), BYTE_VALUES).kept_channels(kept_channel_counts(0.45))),
        kept_in_steps[3],
    )
    assert len({mask.tobytes() for mask in kept_in_steps}) == STEPS
    assert (
        _kept_mask(StepRandom(tf.constant([8, 3]), BYTE_VALUES).kept_channels(kept_channel_counts(0.45)))
        != kept_in_steps[3]
    ).any()


def test_channels_are_all_kept_equally_often(kept_in_steps):
    expected = np.repeat(np.divide(kept_channel_counts(0.45), FILTERS), FILTERS)
    # The bound is five standard deviations of the mean of a fair coin.
    assert np.abs(kept_in_steps.mean(axis=0) - expected).max() < 5 * 0.5 / np.sqrt(STEPS)


def test_channels_of_layers_towers_and_steps_are_independent(kept_in_steps):
    """The correlation of each of many thousand pairs is within six standard deviations of 0."""
    flat = kept_in_steps.reshape(STEPS, -1).astype(np.float64)
    layer = np.arange(len(TOWERS) * len(FILTERS)).reshape(len(TOWERS), -1).repeat(FILTERS, axis=1).ravel()
    others = layer[:, None] != layer
    assert np.abs(np.corrcoef(flat, rowvar=False)[others]).max() < 6 / np.sqrt(STEPS)
    flat = (flat - flat.mean(axis=0)) / flat.std(axis=0)
    assert np.abs(flat[1:].T @ flat[:-1] / (STEPS - 1)).max() < 6 / np.sqrt(STEPS)


def test_draws_of_one_step_are_independent():
    """They are independent of those of the next step too, whose seed is the next number."""
    draws = []
    for step in range(STEPS):
        random = StepRandom(tf.constant([7, step]), kept_byte_values(0.45))
        noise, more_noise = random.normal([12, LATENT]).numpy(), random.normal([12, LATENT]).numpy()
        kept, units = (
            _kept_mask(random.kept_channels(kept_channel_counts(0.45))),
            random.drop_units(tf.ones([12, LATENT])).numpy(),
        )
        draws.append([draw.ravel()[: kept.size] for draw in (noise, np.abs(noise), more_noise, kept, units)])
    series = np.swapaxes(np.array(draws, np.float64), 0, 1)
    for first, second in list(itertools.combinations(series, 2))[1:]:  # The first pair is of one draw.
        assert _max_correlation(first, second) < 6 / np.sqrt(STEPS)
    for first, second in itertools.product(series, series):
        assert _max_correlation(first[1:], second[:-1]) < 6 / np.sqrt(STEPS)


def _max_correlation(ours: np.ndarray, others: np.ndarray) -> float:
    """Return the largest absolute correlation of two columns with the same index."""
    ours, others = ((values - values.mean(axis=0)) / values.std(axis=0) for values in (ours, others))
    return float(np.abs((ours * others).mean(axis=0)).max())


def test_normal_is_standard_and_depends_on_the_seed():
    seen = StepRandom(tf.constant([3, 4]), BYTE_VALUES).normal([300, LATENT]).numpy()
    assert abs(seen.mean()) < 5 / np.sqrt(seen.size) and seen.std() == pytest.approx(1, abs=5 / np.sqrt(seen.size))
    np.testing.assert_array_equal(StepRandom(tf.constant([3, 4]), BYTE_VALUES).normal([300, LATENT]), seen)
    for seed in ([3, 5], [4, 4], [4, 3]):
        assert (StepRandom(tf.constant(seed), BYTE_VALUES).normal([300, LATENT]).numpy() != seen).mean() > 0.99


def test_corner_takes_all_values_and_depends_on_the_seed():
    seen = np.stack([StepRandom(tf.constant([7, step]), BYTE_VALUES).corner(3).numpy() for step in range(90)])
    assert {tuple(corner) for corner in seen} == {(row, column) for row in range(3) for column in range(3)}
    np.testing.assert_array_equal(StepRandom(tf.constant([7, 5]), BYTE_VALUES).corner(3), seen[5])
    np.testing.assert_array_equal(StepRandom(tf.constant([7, 5]), BYTE_VALUES).corner(1), [0, 0])


def test_draws_compiled_by_xla_have_the_same_distribution():
    """A step on a GPU is compiled. XLA has fewer operations, and the test of a compiled step drops nothing."""
    counts = kept_channel_counts(0.45)

    @tf.function(jit_compile=True)
    def draw(seed, keep):
        random = StepRandom(seed, keep)
        return (
            random.normal([50, LATENT]),
            random.corner(8),
            random.kept_channels(counts),
            random.drop_units(tf.ones([50, LATENT])),
        )

    noise, corner, channels, units = draw(tf.constant([7, 5]), tf.constant(kept_byte_values(0.45), tf.int64))
    assert (
        abs(noise.numpy().std() - 1) < 0.05 and corner.shape == [2] and (_kept_mask(channels).sum(axis=1) == 88).all()
    )
    assert (
        set(np.unique(units)) == {0.0, np.float32(BYTE_VALUES / kept_byte_values(0.45))}
        and abs(np.mean(units == 0) - 0.45) < 0.05
    )
