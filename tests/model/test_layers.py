"""Dropout drops its share and no more, and what it does not compute would have been dropped."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from model.layers import Convolution, Dice, Dropout, Merge


@pytest.mark.parametrize("rate", [0.1, 0.45, 0.9])
def test_dropout_drops_its_share_and_keeps_the_expectation(rate):
    layer = Dropout(rate)
    units = tf.random.stateless_normal([7, 301, 333], [1, 2]) + 3
    seen = layer(units, training=True).numpy()
    dropped = np.mean(seen == 0)
    assert abs(dropped - rate) < 1 / 512 + 5 * np.sqrt(rate * (1 - rate) / seen.size)
    kept = seen != 0
    np.testing.assert_allclose(seen[kept], units.numpy()[kept] / (layer.kept / 256), rtol=1e-6)
    assert seen.mean() == pytest.approx(units.numpy().mean(), rel=0.02)
    # Neither rows nor columns nor neighbours fall together.
    flat = kept.reshape(-1).astype(np.float64) - kept.mean()
    for lag in (1, 8, 64, 333):
        assert abs(np.mean(flat[lag:] * flat[:-lag])) < 6 * rate * (1 - rate) / np.sqrt(seen.size)


def test_dropout_follows_the_throw_and_rests_outside_of_training():
    dice = Dice()
    layer, other = Dropout(0.45, dice), Dropout(0.45, dice)
    units = tf.ones([30, 5])
    seen = []
    for seed in ([3, 4], [3, 5], [4, 4], [3, 4]):
        dice.throw(tf.constant(seed))
        seen.append(layer(units, training=True).numpy())
    np.testing.assert_array_equal(seen[0], seen[3])
    assert not any(np.array_equal(seen[0], changed) for changed in (*seen[1:3], other(units, training=True)))
    for same in (layer(units), Dropout(0.0)(units, training=True)):
        np.testing.assert_array_equal(same, units)


@pytest.mark.parametrize(
    ("count", "rate", "living"),
    [(16, 0.45, 8), (32, 0.45, 16), (48, 0.45, 24), (48, 0.2, 40), (16, 0.9, 8), (48, 0.0, 48), (12, 0.1, 8)],
)
def test_of_the_channels_a_multiple_of_the_width_lives(count, rate, living):
    channels = Dice().channels(count, rate)
    assert channels.living == living
    assert channels.columns(tf.ones([2, count])).shape == [2, living]
    assert channels.rows(tf.ones([3, count, 2])).shape == [3, living, 2]


def test_every_channel_lives_as_often_as_any_other_and_layers_do_not_agree():
    dice = Dice()
    ours, theirs = dice.channels(16, 0.5), dice.channels(16, 0.5)
    lives: np.ndarray = np.zeros((2, 400, 16))
    for step in range(400):
        dice.throw(tf.constant([7, step]))
        for layer, channels in enumerate((ours, theirs)):
            lives[layer, step] = (
                channels.columns(np.arange(16, dtype=np.float32)[None])[0]
                .numpy()[:, None]
                .__eq__(np.arange(16))
                .any(axis=0)
            )
    assert (lives.sum(axis=2) == 8).all()
    # Five standard deviations of 400 throws of a coin.
    assert np.max(np.abs(lives.mean(axis=1) - 0.5)) < 5 * 0.5 / 20
    correlations = np.corrcoef(np.concatenate(lives, axis=1), rowvar=False)[:16, 16:]
    assert np.abs(correlations).max() < 5 / 20


@pytest.mark.parametrize("activation", ["silu", "elu"])
def test_what_is_not_computed_is_what_a_mask_would_have_dropped(activation):
    """Values and gradients are those of ordinary layers with the dropped channels multiplied by 0."""
    dice = Dice()
    first, second = dice.channels(16, 0.45), dice.channels(32, 0.45)
    layers: list[keras.layers.Layer] = [
        Convolution(16, None, first, activation=activation),
        Convolution(32, first, second, activation=activation),
        Merge(5, 32, second, activation=activation),
    ]
    rng = np.random.default_rng(0)
    pixels = tf.constant(rng.random((3, 8, 8, 1), np.float32))
    appended = tf.constant(rng.random((3, 7), np.float32))

    def forward(training: bool, masks):
        maps = pixels
        for layer, mask in zip(layers[:2], masks, strict=True):
            maps = layer(maps, training=training) * mask
        flat = tf.reshape(maps, [3, -1])
        return layers[2](tf.concat([flat, appended], axis=1), training=training)

    forward(False, [1.0, 1.0])
    weights = [weight for layer in layers for weight in layer.trainable_weights]
    for weight in weights:
        weight.assign(rng.normal(0, 0.3, weight.shape))
    for seed in ([1, 2], [1, 3]):
        dice.throw(tf.constant(seed))
        masks = [tf.reduce_sum(some.places, axis=0) * (some.count / some.living) for some in (first, second)]
        answers, gradients = [], []
        for training, dropped in ((True, [1.0, 1.0]), (False, masks)):
            with tf.GradientTape() as tape:
                answer = forward(training, dropped)
                total = tf.reduce_sum(answer * tf.range(1.0, 6.0))
            answers.append(np.asarray(answer))
            gradients.append(tape.gradient(total, [weight.value for weight in weights]))
        np.testing.assert_allclose(answers[0], answers[1], rtol=1e-4, atol=1e-5)
        assert not np.allclose(answers[0], forward(False, [1.0, 1.0]), rtol=1e-2)
        for lean, masked in zip(*gradients, strict=True):
            np.testing.assert_allclose(lean, masked, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", ["silu", "gelu"])
@pytest.mark.parametrize("channels", [1, 4])
def test_a_convolution_at_rest_is_that_of_keras_and_so_are_its_gradients(channels, activation, rng):
    pair = [Convolution(8, activation=activation), keras.layers.Conv2D(8, 3, activation=activation)]
    pixels = tf.constant(rng.random((2, 9, 7, channels), np.float32))
    for layer in pair:
        layer(pixels)
    weights = [rng.normal(0, 1, weight.shape) for weight in pair[0].weights]
    seen = []
    for layer in pair:
        layer.set_weights(weights)
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            maps = layer(pixels)
            total = tf.reduce_sum(tf.square(maps))
        gradients = tape.gradient(total, [pixels, *(weight.value for weight in layer.weights)])
        seen.append([maps, *gradients])
    for ours, theirs in zip(*seen, strict=True):
        np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-4, atol=1e-4)
