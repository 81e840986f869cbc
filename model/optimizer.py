"""Adam and Muon on all weights of a model at once."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from huetune.data_tools.common.keras_backend import tf
from huetune.model.weights import Stack

BETAS = 0.9, 0.999
"""Decay rates of the running means of the gradient and of its square."""
EPSILON = 1e-7
MUON_SCALE = 0.5
"""Root mean square of a step of Muon's weights, in learning rates: about that of Adam's."""
NEWTON_SCHULZ = 3.4445, -4.7750, 2.0315
NEWTON_SCHULZ_STEPS = 3
"""Iterations of Newton-Schulz. Jordan uses five; here three learn as much, at two thirds of the cost."""
AVERAGING_WARMUP_STEPS = 10
"""Warm-up of the average of the weights: after k steps its decay is at most (1 + k) / (AVERAGING_WARMUP_STEPS + k)."""


class Optimizer:
    """Adam, with Muon for the matrices of the hidden layers where it is asked for, and an average of the weights.

    All weights lie end to end in two vectors, Adam's and Muon's, stack by stack: a step is a handful of passes over
    them. Every number that a trial may set is a variable, so that another trial needs no new trace.

    Muon gives a matrix a step whose singular values are all about 1, so that what few inputs have in common does not
    drown what tells them apart (Jordan, "Muon: An optimizer for hidden layers in neural networks", 2024), and so that
    no layer stands still because its gradient is small. A convolution's kernel is a matrix of 9 x channels rows. The
    step is scaled to Adam's size as in Liu et al., "Muon is scalable for LLM training" (2025).

    The average of the weights over the last steps (Polyak and Juditsky, "Acceleration of stochastic approximation by
    averaging", 1992) is what is scored and kept: it has less of the noise of single steps.

    Args:
        stacks: the model's, as `model.weights.stacks` returns them.
        muon: whether hidden matrices are trained with Muon.
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
        self._rate, self._decay, self._weight_decay, self._clip, self._averaging = (tf.Variable(0.0) for _ in range(5))

    def reset(
        self,
        weights: Mapping[str, NDArray[np.float32]],
        rate: float,
        decay: float,
        weight_decay: float,
        clip: float,
        averaging: float,
    ) -> None:
        """Start anew.

        Args:
            weights: the first ones, a stack each: float32 [layers, *shape].
            rate: the learning rate of the first step, above 0.
            decay: after k steps the learning rate is rate / (1 + decay x k).
            weight_decay: share of the hidden matrices, times the learning rate, that a step takes off them; 0 or more.
            clip: largest norm of a gradient; 0 clips nothing.
            averaging: share of the average that a step keeps, 0 up to but not including 1; 0 averages nothing.
        """
        for vector, average, names in zip(self.weights, self._averages, self._names, strict=True):
            flat = np.concatenate([np.ravel(weights[name]) for name in names]) if names else np.zeros(0, np.float32)
            vector.assign(flat)
            average.assign(flat)
        for state in (*self._means, self._square, self.steps):
            state.assign(tf.zeros_like(state))
        self._rate.assign(rate)
        self._decay.assign(decay)
        self._weight_decay.assign(weight_decay)
        self._clip.assign(clip)
        self._averaging.assign(averaging)

    @property
    def state(self) -> list[tf.Variable]:
        """All that a step changes."""
        return [*self.weights, *self._averages, *self._means, self._square, self.steps]

    @property
    def averages(self) -> dict[str, NDArray[np.float32]]:
        """The average of the weights, a stack each: float32 [layers, *shape]."""
        named = {}
        for vector, names in zip(self._averages, self._names, strict=True):
            ends = np.cumsum([self.stacks[name].size for name in names])
            for name, part in zip(names, np.split(vector.numpy(), ends[:-1]), strict=True) if names else ():
                named[name] = part.reshape(-1, *self.stacks[name].shape)
        return named

    def unpack(self) -> tuple:
        """Return the convolutions' kernels and their biases, each end to end, and all other stacks by name."""
        parts: dict[str, Any] = {}
        for vector, names in zip(self.weights, self._names, strict=True):
            sizes: dict[str, int] = {}
            for name in names:
                part = _part(name)
                sizes[part] = sizes.get(part, 0) + self.stacks[name].size
            parts.update(zip(sizes, tf.split(vector, list(sizes.values())) if sizes else (), strict=True))
        kernels, biases = parts.pop(KERNELS), parts.pop(BIASES)
        named = {name: tf.reshape(part, [-1, *self.stacks[name].shape]) for name, part in parts.items()}
        return kernels, biases, named

    def apply(self, gradients) -> None:
        """Take a step.

        Args:
            gradients: of `self.weights`.
        """
        scale = tf.where(self._clip > 0, tf.minimum(1.0, self._clip / tf.linalg.global_norm(gradients)), 1.0)
        rate = self._rate / (1 + self._decay * self.steps)
        self.steps.assign_add(1.0)
        self._adam(scale * gradients[0], rate)
        if self._names[1]:
            self._muon(scale * gradients[1], rate)
        kept = tf.minimum(self._averaging, (1 + self.steps) / (AVERAGING_WARMUP_STEPS + self.steps))
        for weights, average in zip(self.weights, self._averages, strict=True):
            average.assign(weights + kept * (average - weights))

    def _adam(self, gradient, rate) -> None:
        tf.raw_ops.ResourceApplyAdam(
            var=self.weights[0].handle,
            m=self._means[0].handle,
            v=self._square.handle,
            beta1_power=BETAS[0] ** self.steps,
            beta2_power=BETAS[1] ** self.steps,
            lr=rate,
            beta1=BETAS[0],
            beta2=BETAS[1],
            epsilon=EPSILON,
            grad=gradient,
        )

    def _muon(self, gradient, rate) -> None:
        mean = self._means[1].assign_add((1 - BETAS[0]) * (gradient - self._means[1]))
        ahead = (1 - BETAS[0]) * gradient + BETAS[0] * mean
        stacks = [self.stacks[name] for name in self._names[1]]
        steps = []
        for stack, part in zip(stacks, tf.split(ahead, [stack.size for stack in stacks]), strict=True):
            step = orthogonal(tf.reshape(part, [-1, *stack.shape])) * (MUON_SCALE * math.sqrt(max(stack.shape)))
            steps.append(tf.reshape(step, [-1]))
        self.weights[1].assign_sub(rate * (tf.concat(steps, axis=0) + self._weight_decay * self.weights[1]))


KERNELS, BIASES = "convolutions/kernel", "convolutions/bias"


def _part(name: str) -> str:
    """The part of a vector that a stack is read with: the convolutions' are read together."""
    layer, _, kind = name.rpartition("/")
    return f"convolutions/{kind}" if layer.startswith("conv_") else name


def orthogonal(matrices, steps: int = NEWTON_SCHULZ_STEPS):
    """Return matrices with the same singular vectors and singular values of about 1.

    The Newton-Schulz iteration X <- X (a + b X'X + c (X'X)^2) with Jordan's coefficients. Its factors are polynomials
    of the first X'X: they are multiplied among themselves, small squares, and only their product with the tall X.

    Args:
        matrices: float32 [n, rows, columns].
        steps: of the iteration. After 5, all singular values above a hundredth of their root sum of squares have come
            to 0.6 to 1.3; after 3, those above a fiftieth have.

    Returns:
        float32 [n, rows, columns]; zeros for zeros.
    """
    if matrices.shape[1] < matrices.shape[2]:
        return tf.linalg.matrix_transpose(orthogonal(tf.linalg.matrix_transpose(matrices), steps))
    a, b, c = NEWTON_SCHULZ
    matrices /= tf.norm(matrices, axis=(1, 2), keepdims=True) + EPSILON
    one = tf.eye(matrices.shape[2])
    gram = tf.matmul(matrices, matrices, transpose_a=True)
    product = None
    for step in range(steps):
        factor = a * one + tf.matmul(gram, b * one + c * gram)
        product = factor if product is None else tf.matmul(product, factor)
        if step < steps - 1:
            gram = tf.matmul(factor, tf.matmul(gram, factor))
    return tf.matmul(matrices, product)
