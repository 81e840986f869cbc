"""Adam and Muon on all weights of a model at once."""

import itertools
import math
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

BETAS = 0.9, 0.999
"""How much of the past the running means of the gradient and of its square keep."""
EPSILON = 1e-7
MUON_SCALE = 0.5
"""Root mean square of a step of Muon's weights, in learning rates: about that of Adam's."""
NEWTON_SCHULZ = 3.4445, -4.7750, 2.0315
ANSWERS = ("chroma", "latent_mean", "latent_log_variance")
"""Layers that are no hidden ones: as usual with Muon, Adam trains them."""


class Optimizer:
    """Adam, with Muon for the matrices of the hidden Dense layers where it is asked for.

    All weights lie end to end in one vector, those of equal matrices side by side: a step is a handful of passes over
    it, where a hundred layers' variables would take a thousand small operations. Every number that a trial may set is
    a variable, so that another trial needs no new trace.

    Muon gives a matrix a step whose singular values are all about 1, so that what few inputs have in common does not
    drown what tells them apart (Jordan, "Muon: An optimizer for hidden layers in neural networks", 2024). Grey pixels
    are such inputs: their mean is most of them. It is scaled to Adam's size as in Liu et al., "Muon is scalable for LLM
    training" (2025).

    Args:
        variables: the model's trainable ones.
        muon: whether hidden matrices are trained with Muon.
    """

    def __init__(self, variables: Sequence[keras.Variable], muon: bool):
        def matrix(variable: keras.Variable) -> tuple[int, ...]:
            hidden = len(variable.shape) == 2 and not variable.path.startswith(ANSWERS)
            return tuple(variable.shape) if muon and hidden else ()

        self.variables = sorted(variables, key=matrix)
        self._sizes = [math.prod(variable.shape) for variable in self.variables]
        groups = itertools.groupby(map(matrix, self.variables))
        self._groups = [(shape, len(list(members)) * math.prod(shape)) for shape, members in groups if shape]
        total, muons = sum(self._sizes), sum(size for _, size in self._groups)
        self._adams = total - muons
        self.weights, self._mean = tf.Variable(tf.zeros([total])), tf.Variable(tf.zeros([total]))
        self._square = tf.Variable(tf.zeros([self._adams]))
        self.steps = tf.Variable(0.0)
        self._rate, self._decay, self._clip = tf.Variable(0.0), tf.Variable(0.0), tf.Variable(0.0)

    def reset(self, weights: Sequence[np.ndarray], rate: float, decay: float, clip: float) -> None:
        """Start anew.

        Args:
            weights: the first, one array a variable, in the order of `self.variables`.
            rate: the learning rate of the first step, above 0.
            decay: after k steps the learning rate is rate / (1 + decay x k).
            clip: largest norm of a gradient; 0 clips nothing.
        """
        self.weights.assign(_flat(weights))
        self._show()
        for state in (self._mean, self._square, self.steps):
            state.assign(tf.zeros_like(state))
        self._rate.assign(rate)
        self._decay.assign(decay)
        self._clip.assign(clip)

    def apply(self, gradients) -> None:
        """Take a step; gradients in the order of `self.variables`. Part of a graph."""
        gradient = _flat(gradients)
        scale = tf.minimum(1.0, self._clip / tf.norm(gradient))
        gradient *= tf.where(self._clip > 0, scale, 1.0)
        rate = self._rate / (1 + self._decay * self.steps)
        self.steps.assign_add(1.0)
        self._mean.assign_add((1 - BETAS[0]) * (gradient - self._mean))
        parts = [self._adam(gradient[: self._adams])]
        start = self._adams
        for shape, size in self._groups:
            parts.append(self._muon(gradient[start : start + size], self._mean[start : start + size], shape))
            start += size
        self.weights.assign_sub(rate * tf.concat(parts, axis=0))
        self._show()

    def _adam(self, gradient):
        self._square.assign_add((1 - BETAS[1]) * (tf.square(gradient) - self._square))
        unbias = tf.sqrt(1 - BETAS[1] ** self.steps) / (1 - BETAS[0] ** self.steps)
        return unbias * self._mean[: self._adams] / (tf.sqrt(self._square) + EPSILON)

    def _muon(self, gradient, mean, shape: tuple[int, ...]):
        ahead = (1 - BETAS[0]) * gradient + BETAS[0] * mean
        step = orthogonal(tf.reshape(ahead, [-1, *shape])) * (MUON_SCALE * math.sqrt(max(shape)))
        return tf.reshape(step, [-1])

    def _show(self) -> None:
        """Put the vector's weights into the layers."""
        for variable, part in zip(self.variables, tf.split(self.weights, self._sizes), strict=True):
            variable.assign(tf.reshape(part, variable.shape))


def orthogonal(matrices, steps: int = 5):
    """Return matrices with the same singular vectors and singular values of about 1.

    The Newton-Schulz iteration X <- X (a + b X'X + c (X'X)^2) with Jordan's coefficients. Its factors are polynomials
    of the first X'X: they are multiplied among themselves, small squares, and only their product with the tall X.

    Args:
        matrices: float32 [n, rows, columns].
        steps: of the iteration; after 5, all singular values above a hundredth of their root sum of squares have come
            to 0.6 to 1.3.

    Returns:
        float32 [n, rows, columns]; zeros for zeros.
    """
    if matrices.shape[1] < matrices.shape[2]:
        return tf.linalg.matrix_transpose(orthogonal(tf.linalg.matrix_transpose(matrices), steps))
    a, b, c = NEWTON_SCHULZ
    matrices /= tf.norm(matrices, axis=(1, 2), keepdims=True) + EPSILON
    one = tf.eye(matrices.shape[2])
    gram, product = tf.matmul(matrices, matrices, transpose_a=True), one
    for _ in range(steps):
        factor = a * one + b * gram + c * tf.matmul(gram, gram)
        product = tf.matmul(product, factor)
        gram = tf.matmul(factor, tf.matmul(gram, factor))
    return tf.matmul(matrices, product)


def _flat(tensors):
    return tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], axis=0)
