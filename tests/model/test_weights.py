"""The stacks hold all weights of the Keras model and no others, and begin as the literature says."""

from dataclasses import replace
from typing import get_args

import keras
import numpy as np
import pytest
import tensorflow as tf

from huetune.data_tools.photos.context_windows import positions
from huetune.model.config import LATENT, Activation, Config
from huetune.model.network import build
from huetune.model.presets import PRESETS
from huetune.model.recipes import with_recipe
from huetune.model.weights import CENTER, TOWERS, as_layers, first_weights, parameter_counts, stacks

STRUCTURES = {
    **{name: config for name, config in PRESETS.items() if name != "model-3"},  # of model-2's structure
    "a lean one": Config(skip=False, positions=7, merge_units=1, activation="relu"),
    "whole channels dropped": replace(
        with_recipe(Config(merge_units=130), "photos"), dropout=0.4, dropout_of="channels"
    ),
    "nothing dropped": replace(with_recipe(Config(), "photos"), dropout=0.0),
}


def _variance(initializer: type, layers: int, shape: tuple[int, ...]) -> float:
    """Of what Keras draws for layers of this shape."""
    drawn = [initializer(seed)(shape) for seed in range(layers)]
    return float(np.mean(np.square(drawn)))


@pytest.mark.parametrize("name", STRUCTURES)
def test_stacks_hold_exactly_the_weights_of_the_model(name, rng):
    config = STRUCTURES[name]
    variables = {variable.path: variable.shape for variable in build(config).vae.trainable_variables}
    weights = first_weights(config, rng)
    assert [(stack.shape, len(stack.layers)) for stack in stacks(config).values()] == [
        (some.shape[1:], len(some)) for some in weights.values()
    ]
    layers = as_layers(weights, centered=False)
    assert layers.keys() == variables.keys()
    for path, shape in variables.items():
        # Of a matrix the last axis counts units, in the model and in the stack.
        assert layers[path].dtype == np.float32 and layers[path].size == np.prod(shape), path
        assert layers[path].shape[-1] == shape[-1] and layers[path].ndim == min(2, len(shape)), path
    assert sum(stack.size for stack in stacks(config).values()) == parameter_counts(config)["parameters"]


def test_stacks_say_what_muon_trains():
    """Matrices between hidden layers: neither biases nor the model's answers."""
    found = stacks(Config())
    answers = {name for name, stack in found.items() if stack.answers}
    assert answers == {f"{layer}/{kind}" for layer in ("latent", "chroma") for kind in ("kernel", "bias")}
    assert {name for name, stack in found.items() if stack.hidden} == {
        name for name in found if name.endswith("/kernel") and name not in answers
    }


@pytest.mark.parametrize(
    ("initial", "initializer"), [("glorot", keras.initializers.GlorotUniform), ("he", keras.initializers.HeUniform)]
)
def test_first_weights_have_the_scale_of_keras(initial, initializer):
    # He's own gain is that of relu.
    config = Config(initial=initial, activation="relu", merge_units=33, positions=7)
    shapes = {variable.path: variable.shape for variable in build(config).vae.trainable_variables}
    weights = first_weights(config, np.random.default_rng(3))
    for name, stack in stacks(config).items():
        if len(stack.shape) == 1 or (initial == "he" and stack.answers):
            np.testing.assert_array_equal(weights[name], 0)
            continue
        shape = shapes[f"{stack.layers[0]}/kernel"]
        expected = _variance(initializer, len(stack.layers), shape)
        # Both are measured: the square of a uniform number has a relative deviation of 0.9.
        assert np.mean(np.square(weights[name])) == pytest.approx(expected, rel=5 * 0.9 * np.sqrt(2 / stack.size))
        assert np.abs(weights[name].mean()) < 5 * np.sqrt(expected / stack.size)
        # Uniform ones: nearly as large as they may be, and never larger.
        assert 0.95 < np.abs(weights[name]).max() / np.sqrt(3 * expected) < 1.1


@pytest.mark.parametrize("activation", get_args(Activation))
def test_gain_keeps_the_mean_square_of_what_a_layer_passes_on(activation, rng):
    """Units of standard normal sums, weighted by the first weights, have sums of the same mean square again."""
    config = Config(initial="he", activation=activation)
    kernel = first_weights(config, rng)["context/kernel"][0]
    units = keras.activations.get(activation)(tf.constant(rng.standard_normal((20000, len(kernel))), tf.float32))
    variance = kernel.var() * len(kernel)
    assert variance * float(tf.reduce_mean(tf.square(units))) == pytest.approx(1, rel=0.05)


def test_first_weights_follow_the_seed_and_no_two_layers_agree():
    drawn = [first_weights(Config(), np.random.default_rng(seed)) for seed in (1, 1, 2)]
    kernels = [weights["conv_1/kernel"] for weights in drawn]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert (kernels[0] != kernels[2]).mean() > 0.99
    assert len({kernel.tobytes() for kernel in kernels[0]}) == len(kernels[0])


@pytest.mark.parametrize("skip", [True, False])
def test_as_layers_puts_the_center_of_the_views_into_biases(skip, rng):
    """The model then answers on views as it would, without, on views less the center."""
    config = Config(skip=skip, dropout=0.0)
    vae, weights = build(config).vae, first_weights(config, rng)
    before = {name: stack.copy() for name, stack in weights.items()}
    views = [rng.random((7, 14, 14, 1), np.float32) for _ in range(4)]
    rest = [positions(2)[:7], rng.standard_normal((7, LATENT), np.float32)]
    answers = []
    for centered in (True, False):
        layers = as_layers(weights, centered)
        for variable in vae.trainable_variables:
            variable.assign(layers[variable.path].reshape(variable.shape))
        answers.append(
            [tf.constant(some) for some in vae([*(view - CENTER * (not centered) for view in views), *rest])]
        )
    for ours, others in zip(*answers, strict=True):
        np.testing.assert_allclose(ours, others, atol=1e-5)
    for name, stack in weights.items():
        np.testing.assert_array_equal(stack, before[name])
    moved = {path for path, values in as_layers(weights, True).items() if (values != layers[path]).any()}
    assert moved == {f"{tower}_{layer}/bias" for tower in TOWERS for layer in ("conv_0", "merge")[: 1 + skip]}
