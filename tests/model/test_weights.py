"""The stacks hold exactly the weights of the Keras model, and their first values have the usual scale."""

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
from huetune.model.weights import MEAN_LUMA, TOWERS, initial_weights, parameter_counts, stacks, weights_by_path

STRUCTURES = {
    **{name: config for name, config in PRESETS.items() if name != "model-3"},  # has the structure of model-2
    "small": Config(skip=False, positions=7, merge_units=1, activation="relu"),
    "channel dropout": replace(with_recipe(Config(merge_units=130), "photos"), dropout=0.4, dropout_of="channels"),
    "no dropout": replace(with_recipe(Config(), "photos"), dropout=0.0),
}


def _variance(initializer: type, layers: int, shape: tuple[int, ...]) -> float:
    """Return the mean square of the values that Keras draws for layers of a shape."""
    drawn = [initializer(seed)(shape) for seed in range(layers)]
    return float(np.mean(np.square(drawn)))


@pytest.mark.parametrize("name", STRUCTURES)
def test_stacks_hold_exactly_the_weights_of_the_model(name, rng):
    config = STRUCTURES[name]
    variables = {variable.path: variable.shape for variable in build(config).vae.trainable_variables}
    weights = initial_weights(config, rng)
    assert [(stack.shape, len(stack.layers)) for stack in stacks(config).values()] == [
        (stack.shape[1:], len(stack)) for stack in weights.values()
    ]
    layers = weights_by_path(weights, centered=False)
    assert layers.keys() == variables.keys()
    for path, shape in variables.items():
        # The last axis of a matrix is that of the units, in the model and in the stack.
        assert layers[path].dtype == np.float32 and layers[path].size == np.prod(shape), path
        assert layers[path].shape[-1] == shape[-1] and layers[path].ndim == min(2, len(shape)), path
    assert sum(stack.size for stack in stacks(config).values()) == parameter_counts(config)["parameters"]


def test_stacks_mark_the_matrices_that_muon_trains():
    """These are the matrices between hidden layers, neither biases nor output layers."""
    found = stacks(Config())
    answers = {name for name, stack in found.items() if stack.output}
    assert answers == {f"{layer}/{kind}" for layer in ("latent", "chroma") for kind in ("kernel", "bias")}
    assert {name for name, stack in found.items() if stack.hidden} == {
        name for name in found if name.endswith("/kernel") and name not in answers
    }


@pytest.mark.parametrize(
    ("initial", "initializer"), [("glorot", keras.initializers.GlorotUniform), ("he", keras.initializers.HeUniform)]
)
def test_first_weights_have_the_scale_of_keras(initial, initializer):
    # HeUniform has the gain of relu.
    config = Config(initial=initial, activation="relu", merge_units=33, positions=7)
    shapes = {variable.path: variable.shape for variable in build(config).vae.trainable_variables}
    weights = initial_weights(config, np.random.default_rng(3))
    for name, stack in stacks(config).items():
        if len(stack.shape) == 1 or (initial == "he" and stack.output):
            np.testing.assert_array_equal(weights[name], 0)
            continue
        shape = shapes[f"{stack.layers[0]}/kernel"]
        expected = _variance(initializer, len(stack.layers), shape)
        # Both are samples, and the square of a uniform number has a relative standard deviation of 0.9.
        assert np.mean(np.square(weights[name])) == pytest.approx(expected, rel=5 * 0.9 * np.sqrt(2 / stack.size))
        assert np.abs(weights[name].mean()) < 5 * np.sqrt(expected / stack.size)
        # The values are uniform, so the largest is close to the bound.
        assert 0.95 < np.abs(weights[name]).max() / np.sqrt(3 * expected) < 1.1


@pytest.mark.parametrize("activation", get_args(Activation))
def test_gain_keeps_the_mean_square_through_a_layer(activation, rng):
    """Sums of standard normal inputs have a mean square of 1 again after activation and first weights."""
    config = Config(initial="he", activation=activation)
    kernel = initial_weights(config, rng)["context/kernel"][0]
    units = keras.activations.get(activation)(tf.constant(rng.standard_normal((20000, len(kernel))), tf.float32))
    variance = kernel.var() * len(kernel)
    assert variance * float(tf.reduce_mean(tf.square(units))) == pytest.approx(1, rel=0.05)


def test_first_weights_depend_on_the_seed_and_layer():
    drawn = [initial_weights(Config(), np.random.default_rng(seed)) for seed in (1, 1, 2)]
    kernels = [weights["conv_1/kernel"] for weights in drawn]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert (kernels[0] != kernels[2]).mean() > 0.99
    assert len({kernel.tobytes() for kernel in kernels[0]}) == len(kernels[0])


@pytest.mark.parametrize("skip", [True, False])
def test_as_layers_moves_the_center_of_inputs_into_biases(skip, rng):
    """The outputs for inputs are then those that the unchanged weights give for inputs minus the center."""
    config = Config(skip=skip, dropout=0.0)
    vae, weights = build(config).vae, initial_weights(config, rng)
    before = {name: stack.copy() for name, stack in weights.items()}
    windows = [rng.random((7, 14, 14, 1), np.float32) for _ in range(4)]
    rest = [positions(2)[:7], rng.standard_normal((7, LATENT), np.float32)]
    outputs = []
    for centered in (True, False):
        layers = weights_by_path(weights, centered)
        for variable in vae.trainable_variables:
            variable.assign(layers[variable.path].reshape(variable.shape))
        inputs = [*(values - MEAN_LUMA * (not centered) for values in windows), *rest]
        outputs.append([tf.constant(output) for output in vae(inputs)])
    for ours, theirs in zip(*outputs, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    for name, stack in weights.items():
        np.testing.assert_array_equal(stack, before[name])
    moved = {path for path, values in weights_by_path(weights, True).items() if (values != layers[path]).any()}
    assert moved == {f"{tower}_{layer}/bias" for tower in TOWERS for layer in ("conv_0", "merge")[: 1 + skip]}
