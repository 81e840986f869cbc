"""All weights in one vector take the very steps that Keras's optimizers take, matrix by matrix."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from model.optimizer import MUON_SCALE, Optimizer, orthogonal

SHAPES = {"a_merge": (24, 6), "b_merge": (24, 6), "c_context": (6, 4), "conv": (3, 3, 2, 5), "chroma": (6, 2)}


def _variables() -> list[keras.Variable]:
    rng = np.random.default_rng(0)
    variables = []
    for layer, shape in SHAPES.items():
        with keras.name_scope(layer):
            variables.append(keras.Variable(rng.standard_normal(shape, np.float32), name="kernel"))
            variables.append(keras.Variable(rng.standard_normal(shape[-1:], np.float32), name="bias"))
    return variables


def _gradients(variables, step: int) -> list[tf.Tensor]:
    """Other numbers for each step and variable, by the variable's own name: optimizers may sort them as they like."""
    rngs = [np.random.default_rng([step, len(variable.path), *map(ord, variable.path)]) for variable in variables]
    pairs = zip(rngs, variables, strict=True)
    return [tf.constant(rng.standard_normal(variable.shape, np.float32)) for rng, variable in pairs]


def _flat(optimizer: Optimizer, step: int) -> list[tf.Tensor]:
    """The same, end to end as the optimizer keeps its weights."""
    flat = tf.concat([tf.reshape(some, [-1]) for some in _gradients(optimizer.variables, step)], axis=0)
    return tf.split(flat, [vector.shape[0] for vector in optimizer.weights])


def _trained(muon: bool, clip: float = 0.0, decay: float = 0.0, steps: int = 4) -> dict[str, np.ndarray]:
    variables = _variables()
    optimizer = Optimizer(variables, muon)
    optimizer.reset([variable.numpy() for variable in optimizer.variables], 0.01, decay, clip)
    apply = tf.function(optimizer.apply)
    for step in range(steps):
        apply(_flat(optimizer, step))
    optimizer.show()
    return {variable.path: variable.numpy() for variable in variables}


def _expected(optimizer: keras.optimizers.Optimizer, steps: int = 4) -> dict[str, np.ndarray]:
    variables = _variables()
    optimizer.build(variables)
    for step in range(steps):
        optimizer.apply(_gradients(variables, step), variables)
    return {variable.path: variable.numpy() for variable in variables}


@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_adam_takes_the_steps_of_keras(clip):
    rate = keras.optimizers.schedules.InverseTimeDecay(0.01, 1, 0.1)
    expected = _expected(keras.optimizers.Adam(rate, global_clipnorm=clip or None))
    for name, weights in _trained(muon=False, clip=clip, decay=0.1).items():
        np.testing.assert_allclose(weights, expected[name], atol=2e-6)


def test_muon_takes_the_steps_of_keras():
    muon = keras.optimizers.Muon(
        0.01,
        momentum=0.9,
        rms_rate=MUON_SCALE,
        weight_decay=0,
        adam_weight_decay=0,
        exclude_layers=["chroma", "bias"],
    )
    expected = _expected(muon)
    for name, weights in _trained(muon=True).items():
        np.testing.assert_allclose(weights, expected[name], atol=1e-4)


def test_muon_leaves_convolutions_biases_and_answers_to_adam():
    adam, muon = _trained(muon=False), _trained(muon=True)
    same = {name for name in adam if np.array_equal(adam[name], muon[name])}
    assert set(adam) - same == {"a_merge/kernel", "b_merge/kernel", "c_context/kernel"}


def test_the_model_shows_what_the_step_computes_with():
    variables = _variables()
    optimizer = Optimizer(variables, muon=True)
    optimizer.reset([variable.numpy() for variable in optimizer.variables], 0.01, 0.0, 0.0)
    before = [variable.numpy() for variable in optimizer.variables]
    optimizer.apply(_flat(optimizer, 0))
    unpacked, kernels = optimizer.unpack()
    for variable, old in zip(optimizer.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), old)
    optimizer.show()
    for variable, weights, old in zip(optimizer.variables, unpacked, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), weights.numpy())
        assert not np.array_equal(weights, old)
    (convolution,) = (variable for variable in variables if variable.path == "conv/kernel")
    np.testing.assert_array_equal(kernels.numpy(), np.ravel(convolution.numpy()))


def test_a_reset_forgets_all():
    variables = _variables()
    optimizer = Optimizer(variables, muon=True)
    first = [variable.numpy() for variable in optimizer.variables]
    runs = []
    for _ in range(2):
        optimizer.reset(first, 0.01, 0.0, 1.0)
        for step in range(3):
            optimizer.apply(_flat(optimizer, step))
        runs.append(np.concatenate([vector.numpy() for vector in optimizer.weights]))
    np.testing.assert_array_equal(runs[0], runs[1])


@pytest.mark.parametrize("shape", [(60, 12), (12, 60), (9, 9)])
def test_orthogonal_keeps_the_singular_vectors_and_evens_out_the_values(shape):
    matrices = np.random.default_rng(0).standard_normal((3, *shape)).astype(np.float32)
    matrices[1] *= 1e-6
    left, _, right = np.linalg.svd(matrices, full_matrices=False)
    seen = np.swapaxes(left, 1, 2) @ orthogonal(tf.constant(matrices)).numpy() @ np.swapaxes(right, 1, 2)
    values = np.diagonal(seen, axis1=1, axis2=2)
    assert values.min() > 0.3 and values.max() < 1.25
    np.testing.assert_allclose(seen, values[:, None] * np.eye(values.shape[1]), atol=2e-3)


def test_zeros_stay_zeros():
    np.testing.assert_array_equal(orthogonal(tf.zeros([1, 4, 3])).numpy(), 0)
