"""Adam and Muon on all weights of a model at once."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from data_tools.backend import keras, tf

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

    All weights lie end to end in two vectors, Adam's and Muon's, those of equal matrices side by side: a step is a
    handful of passes over them, where a hundred layers' variables would take a thousand small operations. The model
    computes with `unpacked`, its own variables hold what `show` last put there. Every number that a trial may set is a
    variable, so that another trial needs no new trace.

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

        def order(variable: keras.Variable) -> tuple[tuple[int, ...], bool]:
            return matrix(variable), len(variable.shape) != 4

        self.variables = sorted(variables, key=order)
        sizes = [math.prod(variable.shape) for variable in self.variables]
        adams = sum(not matrix(variable) for variable in self.variables)
        self._sizes = sizes[:adams], sizes[adams:]
        self._convolutions = sum(len(variable.shape) == 4 for variable in self.variables)
        self._matrices = [
            (shape, len(list(members))) for shape, members in itertools.groupby(map(matrix, self.variables[adams:]))
        ]
        self.weights = [tf.Variable(tf.zeros([sum(some)])) for some in self._sizes]
        self._means = [tf.Variable(tf.zeros([sum(some)])) for some in self._sizes]
        self._square = tf.Variable(tf.zeros([sum(self._sizes[0])]))
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
        flat = np.concatenate([np.ravel(some) for some in weights])
        for vector, values in zip(self.weights, np.split(flat, [sum(self._sizes[0])]), strict=True):
            vector.assign(values)
        for state in (*self._means, self._square, self.steps):
            state.assign(tf.zeros_like(state))
        self._rate.assign(rate)
        self._decay.assign(decay)
        self._clip.assign(clip)
        self.show()

    @property
    def state(self) -> list[tf.Variable]:
        """All that a step changes."""
        return [*self.weights, *self._means, self._square, self.steps]

    def unpack(self):
        """Return the weights as tensors, one a variable, and those of all convolutions' kernels end to end."""
        adams, muons = self._sizes
        kernels, others = tf.split(self.weights[0], [sum(adams[: self._convolutions]), -1])
        flat = tf.split(kernels, adams[: self._convolutions]) + tf.split(others, adams[self._convolutions :])
        if muons:
            flat += tf.split(self.weights[1], muons)
        return [tf.reshape(part, variable.shape) for part, variable in zip(flat, self.variables, strict=True)], kernels

    def show(self) -> None:
        """Put the weights into the model's variables."""
        for variable, weights in zip(self.variables, self.unpack()[0], strict=True):
            variable.assign(weights)

    def apply(self, gradients) -> None:
        """Take a step.

        Args:
            gradients: of `self.weights`.
        """
        scale = tf.where(self._clip > 0, tf.minimum(1.0, self._clip / tf.linalg.global_norm(gradients)), 1.0)
        rate = self._rate / (1 + self._decay * self.steps)
        self.steps.assign_add(1.0)
        self._adam(scale * gradients[0], rate)
        if self._matrices:
            self._muon(scale * gradients[1], rate)

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
        steps = []
        sizes = [math.prod(shape) * count for shape, count in self._matrices]
        for (shape, _), part in zip(self._matrices, tf.split(ahead, sizes), strict=True):
            step = orthogonal(tf.reshape(part, [-1, *shape])) * (MUON_SCALE * math.sqrt(max(shape)))
            steps.append(tf.reshape(step, [-1]))
        self.weights[1].assign_sub(rate * tf.concat(steps, axis=0))


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
    gram = tf.matmul(matrices, matrices, transpose_a=True)
    product = None
    for step in range(steps):
        factor = a * one + tf.matmul(gram, b * one + c * gram)
        product = factor if product is None else tf.matmul(product, factor)
        if step < steps - 1:
            gram = tf.matmul(factor, tf.matmul(gram, factor))
    return tf.matmul(matrices, product)
