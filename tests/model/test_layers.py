"""Convolutions equal those of Keras, and windows equal those that NumPy cuts."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from huetune.model.layers import Convolution, cut_windows


@pytest.mark.parametrize("activation", ["silu", "gelu"])
@pytest.mark.parametrize("channels", [1, 4])
def test_convolution_and_its_gradients_equal_those_of_keras(channels, activation, rng):
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


@pytest.mark.parametrize(("side", "size", "stride"), [(40, 14, 2), (30, 4, 2), (56, 4, 4), (112, 8, 8), (108, 4, 8)])
@pytest.mark.parametrize("channels", [3, tf.constant(3)], ids=["a number", "a tensor"])
def test_windows_equal_those_that_numpy_cuts(side, size, stride, channels, rng):
    maps = rng.random((2, side, side, 3), np.float32)
    sliding = np.lib.stride_tricks.sliding_window_view(maps, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    expected = np.moveaxis(sliding, 3, -1).reshape(-1, size, size, 3)
    np.testing.assert_array_equal(cut_windows(tf.constant(maps), size, stride, channels), expected)
