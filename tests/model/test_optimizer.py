"""The optimizer keeps all weights in two vectors and takes the steps that Keras takes matrix by matrix."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from huetune.model.optimizer import AVERAGING_WARMUP_STEPS, MUON_UPDATE_RMS, NEWTON_SCHULZ_STEPS, Optimizer, orthogonal
from huetune.model.weights import Stack

STACKS = {
    "conv_0/kernel": Stack(("a_conv_0", "b_conv_0"), (9, 5), hidden=True),
    "conv_1/kernel": Stack(("a_conv_1", "b_conv_1"), (45, 7), hidden=True),
    "conv_0/bias": Stack(("a_conv_0", "b_conv_0"), (5,)),
    "conv_1/bias": Stack(("a_conv_1", "b_conv_1"), (7,)),
    "merge/kernel": Stack(("a_merge", "b_merge"), (24, 6), hidden=True),
    "merge/bias": Stack(("a_merge", "b_merge"), (6,)),
    "context/kernel": Stack(("a_context", "b_context"), (6, 4), hidden=True),
    "context/bias": Stack(("a_context", "b_context"), (4,)),
    "chroma/kernel": Stack(("chroma",), (4, 2), output=True),
    "chroma/bias": Stack(("chroma",), (2,), output=True),
}
HIDDEN = {name for name, stack in STACKS.items() if stack.hidden}
STEPS = 4
LEARNING_RATE = 0.01


def _random_stacks(step: int) -> dict[str, np.ndarray]:
    """Return the first weights for step 0, or the gradients of another step, one array for each stack."""
    rng = np.random.default_rng(step)
    return {name: rng.standard_normal((len(stack.layers), *stack.shape), np.float32) for name, stack in STACKS.items()}


def _started(muon: bool, **settings: float) -> Optimizer:
    optimizer = Optimizer(STACKS, muon)
    optimizer.reset(
        _random_stacks(0),
        **(
            {"learning_rate": LEARNING_RATE, "decay": 0.0, "weight_decay": 0.0, "clip": 0.0, "averaging": 0.0}
            | settings
        ),
    )
    return optimizer


def _weights(optimizer: Optimizer) -> dict[str, np.ndarray]:
    """Return the weights that a step computes with, one array for each stack."""
    kernels, biases, others = optimizer.unpack()
    weights = {name: stack.numpy() for name, stack in others.items()}
    for flat, kind in ((kernels, "kernel"), (biases, "bias")):
        names = [f"conv_{depth}/{kind}" for depth in range(2)]
        parts = np.split(flat.numpy(), [STACKS[names[0]].size])
        weights |= {name: part.reshape(2, *STACKS[name].shape) for name, part in zip(names, parts, strict=True)}
    return weights


def _flat(optimizer: Optimizer, gradients: dict[str, np.ndarray]) -> list[tf.Tensor]:
    """Return gradients in the layout of the optimizer's weights, as those of the sum of weights times gradients."""
    with tf.GradientTape() as tape:
        kernels, biases, others = optimizer.unpack()
        total = tf.add_n([tf.reduce_sum(stack * gradients[name]) for name, stack in others.items()])
        for flat, kind in ((kernels, "kernel"), (biases, "bias")):
            total += tf.reduce_sum(
                flat * np.concatenate([gradients[f"conv_{depth}/{kind}"].ravel() for depth in (0, 1)])
            )
    return tape.gradient(total, optimizer.weights)


def _trained(muon: bool, **settings: float) -> dict[str, np.ndarray]:
    """Return the weights after STEPS steps, one array for each stack."""
    optimizer = _started(muon, **settings)
    apply = tf.function(optimizer.apply)
    for step in range(1, STEPS + 1):
        apply(_flat(optimizer, _random_stacks(step)))
    return optimizer.averages


def _expected(optimizer: Any) -> dict[str, np.ndarray]:
    """Take the same steps with an optimizer of Keras, with one variable for each layer."""
    variables: dict[str, list[keras.Variable]] = {}
    for name, values in _random_stacks(0).items():
        layer, _, kind = name.rpartition("/")
        with keras.name_scope(layer):
            variables[name] = [keras.Variable(one, name=kind) for one in values]
    optimizer.build([variable for layers in variables.values() for variable in layers])
    for step in range(1, STEPS + 1):
        gradients = _random_stacks(step)
        pairs = [(tf.constant(g), v) for name in STACKS for g, v in zip(gradients[name], variables[name], strict=True)]
        optimizer.apply(*zip(*pairs, strict=True))
    return {name: np.stack([variable.numpy() for variable in layers]) for name, layers in variables.items()}


@pytest.mark.parametrize("clip", [0.0, 0.5, 1e6])
def test_adam_takes_the_same_steps_as_keras(clip):
    rate = keras.optimizers.schedules.InverseTimeDecay(LEARNING_RATE, 1, 0.1)
    expected = _expected(keras.optimizers.Adam(rate, global_clipnorm=clip or None))
    for name, weights in _trained(muon=False, clip=clip, decay=0.1).items():
        np.testing.assert_allclose(weights, expected[name], atol=2e-6, err_msg=name)


@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_muon_takes_the_same_steps_as_keras(clip):
    """It also trains the kernels of convolutions, which are matrices here; Adam trains everything else."""
    muon = keras.optimizers.Muon(
        keras.optimizers.schedules.InverseTimeDecay(LEARNING_RATE, 1, 0.1),
        momentum=0.9,
        rms_rate=MUON_UPDATE_RMS,
        ns_steps=NEWTON_SCHULZ_STEPS,
        weight_decay=0,
        adam_weight_decay=0,
        exclude_layers=["chroma", "bias"],
        global_clipnorm=clip or None,
    )
    expected = _expected(muon)
    for name, weights in _trained(muon=True, clip=clip, decay=0.1).items():
        np.testing.assert_allclose(weights, expected[name], atol=1e-4, err_msg=name)


def test_muon_trains_biases_and_output_layers_with_adam():
    adam, muon = _trained(muon=False), _trained(muon=True)
    assert {name for name in STACKS if not np.array_equal(adam[name], muon[name])} == HIDDEN


def test_muon_changes_every_matrix_by_the_learning_rate():
    """The change does not depend on the size of the gradient, so every layer learns."""
    optimizer = _started(muon=True)
    gradients = _random_stacks(1)
    for number, name in enumerate(sorted(HIDDEN)):
        gradients[name] *= 10.0 ** (-2 * number)
    optimizer.apply(_flat(optimizer, gradients))
    before, after = _random_stacks(0), optimizer.averages
    for name in HIDDEN:
        # The root mean square of the change; it is not 1 because `orthogonal` gives singular values of 0.6 to 1.3.
        change = np.sqrt(np.mean(np.square(after[name] - before[name]), axis=(1, 2))) / (
            LEARNING_RATE * MUON_UPDATE_RMS
        )
        assert (change > 0.5).all() and (change < 1.3).all(), name


@pytest.mark.parametrize("muon", [True, False])
def test_weight_decay_shrinks_only_the_matrices_of_muon(muon):
    """The share does not depend on the gradient, as the size of the step does not either."""
    optimizers = [_started(muon, weight_decay=weight_decay) for weight_decay in (0.0, 5.0)]
    for optimizer in optimizers:
        optimizer.apply(_flat(optimizer, _random_stacks(1)))
    plain, decayed = (_weights(optimizer) for optimizer in optimizers)
    for name, first in _random_stacks(0).items():
        share = LEARNING_RATE * 5.0 if muon and name in HIDDEN else 0.0
        np.testing.assert_allclose(plain[name] - decayed[name], share * first, atol=1e-5)


@pytest.mark.parametrize("muon", [True, False])
@pytest.mark.parametrize("averaging", [0.0, 0.5, 0.99])
def test_averages_equal_those_of_a_plain_loop(averaging, muon):
    """In the first steps the average is close to the weights; with a share of 0 it equals the last ones to the bit."""
    optimizer = _started(muon, averaging=averaging)
    expected = _weights(optimizer)
    for step in range(1, 16):
        optimizer.apply(_flat(optimizer, _random_stacks(step)))
        share = min(averaging, (1 + step) / (AVERAGING_WARMUP_STEPS + step))
        expected = {name: share * expected[name] + (1 - share) * last for name, last in _weights(optimizer).items()}
    averages, last = optimizer.averages, _weights(optimizer)
    assert averages.keys() == STACKS.keys()
    for name, average in averages.items():
        np.testing.assert_allclose(average, expected[name], atol=1e-5)
        assert np.array_equal(average, last[name]) == (averaging == 0)


@pytest.mark.parametrize("muon", [True, False])
def test_unpack_after_reset_returns_the_given_stacks(muon):
    weights = _weights(_started(muon))
    assert weights.keys() == STACKS.keys()
    for name, first in _random_stacks(0).items():
        np.testing.assert_array_equal(weights[name], first)


def test_unpack_returns_weights_and_averages_their_average():
    """A step computes with the weights themselves; the model gets their average."""
    optimizer = _started(muon=True, averaging=0.9)
    optimizer.apply(_flat(optimizer, _random_stacks(1)))
    weights, averages, first = _weights(optimizer), optimizer.averages, _random_stacks(0)
    for name, stack in weights.items():
        assert not np.array_equal(stack, averages[name]) and not np.array_equal(averages[name], first[name])


@pytest.mark.parametrize("muon", [True, False])
def test_reset_restores_the_first_state(muon):
    optimizer = Optimizer(STACKS, muon)
    runs = []
    for settings in ((0.01, 0.1, 0.5, 1.0, 0.9), (0.5, 0.0, 0.0, 0.0, 0.0), (0.01, 0.1, 0.5, 1.0, 0.9)):
        optimizer.reset(_random_stacks(0), *settings)
        for name, average in optimizer.averages.items():
            np.testing.assert_array_equal(average, _random_stacks(0)[name])
        for step in range(1, 4):
            optimizer.apply(_flat(optimizer, _random_stacks(step)))
        runs.append([variable.numpy() for variable in optimizer.state])
    for first, other, repeated in zip(*runs, strict=True):
        np.testing.assert_array_equal(first, repeated)
        assert first.size < 2 or not np.array_equal(first, other)


@pytest.mark.parametrize("shape", [(60, 12), (12, 60), (9, 9)])
def test_orthogonal_keeps_singular_vectors_and_evens_out_values(shape):
    matrices = np.random.default_rng(0).standard_normal((3, *shape)).astype(np.float32)
    matrices[1] *= 1e-6
    left, _, right = np.linalg.svd(matrices, full_matrices=False)
    seen = np.swapaxes(left, 1, 2) @ orthogonal(tf.constant(matrices)).numpy() @ np.swapaxes(right, 1, 2)
    values = np.diagonal(seen, axis1=1, axis2=2)
    assert values.min() > 0.3 and values.max() < 1.25
    np.testing.assert_allclose(seen, values[:, None] * np.eye(values.shape[1]), atol=2e-3)


def test_orthogonal_of_zeros_is_zeros():
    np.testing.assert_array_equal(orthogonal(tf.zeros([1, 4, 3])).numpy(), 0)
