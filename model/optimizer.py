"""Adam and Muon for all weights of a model at once, and the moving average of the weights."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from huetune.data_tools.common.keras_backend import tf
from huetune.model.weights import Stack

BETA_1, BETA_2 = 0.9, 0.999
"""Decay rates of the running means of the gradient (Adam and Muon) and of the squared gradient (Adam)."""
EPSILON = 1e-7
"""Small constant that keeps Adam's and Newton-Schulz's denominators above 0, as in Keras."""
MUON_UPDATE_RMS = 0.5
"""Root mean square of a Muon update divided by the learning rate, about the same as for Adam."""
NEWTON_SCHULZ_COEFFICIENTS = 3.4445, -4.7750, 2.0315
"""Jordan's coefficients a, b and c of the Newton-Schulz iteration, see `orthogonal`."""
NEWTON_SCHULZ_STEPS = 3
"""Iterations of Newton-Schulz in a Muon update. Jordan uses five; here three learn as much, at two thirds of the cost.
"""
AVERAGING_WARMUP_STEPS = 10
"""Warm-up of the average of the weights: after k steps its decay is at most (1 + k) / (AVERAGING_WARMUP_STEPS + k)."""
CONV_KERNELS, CONV_BIASES = "convolutions/kernel", "convolutions/bias"
"""Names of the concatenated kernels and the concatenated biases of all convolutions."""


class Optimizer:
    """Adam, optionally with Muon for the kernels of hidden layers, and an exponential moving average of the weights.

    The stacks of all weights are concatenated into two vectors, one for Adam and one for Muon, so a step is a few
    operations on these vectors. All hyperparameters are variables, so the next trial needs no new trace.

    Muon updates a matrix by a step whose singular values are all about 1. So the directions that most inputs share do
    not dominate the update (Jordan, "Muon: An optimizer for hidden layers in neural networks", 2024), and a layer with
    small gradients learns as fast as the others. A convolution kernel counts as a matrix of 9 x channels rows. The
    update is scaled to the size of Adam's as in Liu et al., "Muon is scalable for LLM training" (2025).

    The moving average of the weights is scored and saved, because it has less noise than the weights after a single
    step (Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992).

    Args:
        stacks: the model's stacks, as `weights.stacks` returns them.
        muon: whether the kernels of hidden layers are trained with Muon.

    Attributes:
        stacks: the model's stacks by name.
        weights: two float32 vectors: the weights that Adam trains, and those that Muon trains.
        steps: float32 scalar, number of steps taken since `reset`.
    """

    def __init__(self, stacks: Mapping[str, Stack], muon: bool):
        self.stacks = dict(stacks)
        self._names: tuple[list[str], list[str]] = [], []
        for name, stack in self.stacks.items():
            self._names[muon and stack.hidden].append(name)
        lengths = [sum(self.stacks[name].size for name in names) for names in self._names]
        self.weights = [tf.Variable(tf.zeros([length])) for length in lengths]
        self._averages = [tf.Variable(tf.zeros([length])) for length in lengths]
        self._means = [tf.Variable(tf.zeros([length])) for length in lengths]
        self._square = tf.Variable(tf.zeros([lengths[0]]))
        self.steps = tf.Variable(0.0)
        self._learning_rate, self._decay, self._weight_decay, self._clip, self._averaging = (
            tf.Variable(0.0) for _ in range(5)
        )

    def reset(
        self,
        weights: Mapping[str, NDArray[np.float32]],
        learning_rate: float,
        decay: float,
        weight_decay: float,
        clip: float,
        averaging: float,
    ) -> None:
        """Initialize all variables for a new training.

        Args:
            weights: initial weights, stacks by name: float32 [layers, *shape].
            learning_rate: learning rate of the first step, above 0.
            decay: the learning rate after k steps is learning_rate / (1 + decay x k); 0 or more.
            weight_decay: decoupled weight decay of the matrices that Muon trains: each step subtracts weight_decay x
                learning rate x weights; 0 or more.
            clip: maximum global norm of the gradients of a step; 0 disables clipping.
            averaging: decay of the moving average of the weights, in [0, 1); 0 uses the last weights.
        """
        for vector, average, names in zip(self.weights, self._averages, self._names, strict=True):
            flat = np.concatenate([np.ravel(weights[name]) for name in names]) if names else np.zeros(0, np.float32)
            vector.assign(flat)
            average.assign(flat)
        for state in (*self._means, self._square, self.steps):
            state.assign(tf.zeros_like(state))
        self._learning_rate.assign(learning_rate)
        self._decay.assign(decay)
        self._weight_decay.assign(weight_decay)
        self._clip.assign(clip)
        self._averaging.assign(averaging)

    @property
    def state(self) -> list[tf.Variable]:
        """The variables that a step changes."""
        return [*self.weights, *self._averages, *self._means, self._square, self.steps]

    @property
    def averages(self) -> dict[str, NDArray[np.float32]]:
        """The moving average of the weights, as stacks by name: float32 [layers, *shape]."""
        averages = {}
        for vector, names in zip(self._averages, self._names, strict=True):
            ends = np.cumsum([self.stacks[name].size for name in names])
            for name, values in zip(names, np.split(vector.numpy(), ends[:-1]), strict=True) if names else ():
                averages[name] = values.reshape(-1, *self.stacks[name].shape)
        return averages

    def unpack(self) -> tuple:
        """Split the two vectors into what the forward pass reads.

        Returns:
            The concatenated kernels and the concatenated biases of all convolutions, float32 vectors, and all other
            stacks by name: float32 [layers, *shape].
        """
        groups: dict[str, Any] = {}
        for vector, names in zip(self.weights, self._names, strict=True):
            sizes: dict[str, int] = {}
            for name in names:
                group = _group(name)
                sizes[group] = sizes.get(group, 0) + self.stacks[name].size
            groups.update(zip(sizes, tf.split(vector, list(sizes.values())) if sizes else (), strict=True))
        kernels, biases = groups.pop(CONV_KERNELS), groups.pop(CONV_BIASES)
        others = {name: tf.reshape(values, [-1, *self.stacks[name].shape]) for name, values in groups.items()}
        return kernels, biases, others

    def apply(self, gradients) -> None:
        """Take a step: clip the gradients, update all weights, and update their moving average.

        Args:
            gradients: gradients of the two vectors in `weights`.
        """
        scale = tf.where(self._clip > 0, tf.minimum(1.0, self._clip / tf.linalg.global_norm(gradients)), 1.0)
        learning_rate = self._learning_rate / (1 + self._decay * self.steps)
        self.steps.assign_add(1.0)
        self._apply_adam(scale * gradients[0], learning_rate)
        if self._names[1]:
            self._apply_muon(scale * gradients[1], learning_rate)
        decay = tf.minimum(self._averaging, (1 + self.steps) / (AVERAGING_WARMUP_STEPS + self.steps))
        for weights, average in zip(self.weights, self._averages, strict=True):
            average.assign(weights + decay * (average - weights))

    def _apply_adam(self, gradient, learning_rate) -> None:
        """Update the first vector. It is one fused operation for all of its weights."""
        tf.raw_ops.ResourceApplyAdam(
            var=self.weights[0].handle,
            m=self._means[0].handle,
            v=self._square.handle,
            beta1_power=BETA_1**self.steps,
            beta2_power=BETA_2**self.steps,
            lr=learning_rate,
            beta1=BETA_1,
            beta2=BETA_2,
            epsilon=EPSILON,
            grad=gradient,
        )

    def _apply_muon(self, gradient, learning_rate) -> None:
        """Update the second vector by the orthogonalized Nesterov momentum of each matrix, and decay its weights."""
        mean = self._means[1].assign_add((1 - BETA_1) * (gradient - self._means[1]))
        momentum = (1 - BETA_1) * gradient + BETA_1 * mean
        stacks = [self.stacks[name] for name in self._names[1]]
        updates = []
        for stack, values in zip(stacks, tf.split(momentum, [stack.size for stack in stacks]), strict=True):
            matrices = tf.reshape(values, [-1, *stack.shape])
            update = orthogonal(matrices) * (MUON_UPDATE_RMS * math.sqrt(max(stack.shape)))
            updates.append(tf.reshape(update, [-1]))
        self.weights[1].assign_sub(learning_rate * (tf.concat(updates, axis=0) + self._weight_decay * self.weights[1]))


def _group(name: str) -> str:
    """Return the name of the group that a stack is unpacked with. All convolutions form one group of each kind."""
    layer, _, kind = name.rpartition("/")
    return f"convolutions/{kind}" if layer.startswith("conv_") else name


def orthogonal(matrices, steps: int = NEWTON_SCHULZ_STEPS):
    """Return matrices with the same singular vectors and with singular values of about 1.

    This is the Newton-Schulz iteration X <- X (a + b X'X + c (X'X)^2) with Jordan's coefficients. All factors are
    polynomials of the first X'X, so the small square factors are multiplied with each other first, and the tall X is
    multiplied only once, with their product.

    Args:
        matrices: float32 [n, rows, columns].
        steps: number of iterations, 1 or more. Singular values are compared with their root sum of squares: after 5
            iterations, all that were above a hundredth of it are between 0.6 and 1.3; after 3, all that were above a
            fiftieth of it.

    Returns:
        float32 [n, rows, columns]. A matrix of zeros stays zero.
    """
    if matrices.shape[1] < matrices.shape[2]:
        return tf.linalg.matrix_transpose(orthogonal(tf.linalg.matrix_transpose(matrices), steps))
    a, b, c = NEWTON_SCHULZ_COEFFICIENTS
    matrices /= tf.norm(matrices, axis=(1, 2), keepdims=True) + EPSILON
    identity = tf.eye(matrices.shape[2])
    gram = tf.matmul(matrices, matrices, transpose_a=True)
    product = None
    for step in range(steps):
        factor = a * identity + tf.matmul(gram, b * identity + c * gram)
        product = factor if product is None else tf.matmul(product, factor)
        if step < steps - 1:
            gram = tf.matmul(factor, tf.matmul(gram, factor))
    return tf.matmul(matrices, product)
