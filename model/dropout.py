"""The randomness of dropout: which channels live in a step, and which units.

Dropping a channel of a whole photo means leaving out a column of the kernel that makes it and the rows of the weights
that read it: what is dropped is not computed. All patches and photos of a step lack the same channels. Loose patches
drop single units instead, each its own, as the experiment log did.
"""

import itertools
import math
from typing import Any

import numpy as np

from huetune.data_tools.common.keras_backend import tf
from huetune.model.config import FILTERS, Config
from huetune.model.weights import PIXELS, TOWERS

WIDTH = 8
"""Channels are dropped by so many: a processor's vector holds 8 or 16 numbers, and fewer take as long."""
PHILOX = 1
"""TensorFlow's number for the algorithm of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011).
Its numbers are a function of a key and a counter: one operation a draw, where `tf.random` derives seeds by thirty."""
BYTE = 256
"""Values of the random byte that decides on a unit; the rate of dropout is rounded to a 256th."""


def living(rate: float) -> tuple[int, ...]:
    """Return how many channels of each convolution live in a step: a multiple of WIDTH, at least one WIDTH.

    Args:
        rate: share of the channels to drop, 0 up to but not including 1.
    """
    return tuple(min(count, WIDTH * max(1, round(count * (1 - rate) / WIDTH))) for count in FILTERS)


def drops_channels(config: Config) -> bool:
    """Return whether training leaves out whole channels; one answer for all rates above 0, which then share a trace."""
    return config.dropout_of == "channels" and config.dropout > 0


def kept(rate: float) -> int:
    """Return how many of the BYTE values keep a unit, 1 or more."""
    return max(1, round(BYTE * (1 - rate)))


class Dice:
    """The random numbers of one training step.

    Args:
        seed: int32 [2], of this step alone.
        kept: values of a byte that keep a unit: int64 scalar, 1 to 256.

    The order of the draws decides what they are, so the graph must be traced in the same order each time.
    """

    def __init__(self, seed, kept):
        self._key, self._kept = tf.reshape(tf.bitcast(seed, tf.uint64), [1]), kept
        self._numbers = itertools.count()

    def normal(self, shape):
        """Draw standard normal numbers."""
        return tf.raw_ops.StatelessRandomNormalV2(shape=shape, **self._next())

    def channels(self, counts) -> list:
        """Draw which channels live.

        Args:
            counts: of the living channels of each convolution: integers or int32 scalars.

        Returns:
            For each convolution int32 [towers, count]: their places among all.
        """
        lots = tf.raw_ops.StatelessRandomUniformV2(shape=[len(TOWERS), sum(FILTERS)], **self._next())
        return [
            tf.math.top_k(some, count, sorted=False).indices
            for some, count in zip(tf.split(lots, FILTERS, axis=1), counts, strict=True)
        ]

    def corner(self, places: int):
        """Draw where a square begins: int32 [2], row and column, each 0 up to but not including `places`."""
        return tf.raw_ops.StatelessRandomUniformIntV2(shape=[2], minval=0, maxval=places, **self._next())

    def drop(self, units):
        """Drop single units, and scale the others by what the rounded rate drops.

        A byte of randomness is drawn for each: Keras's own dropout draws 32 bits, and in training that costs a third
        as much as all convolutions together.
        """
        count = math.prod(units.shape)
        words = tf.raw_ops.StatelessRandomUniformFullIntV2(shape=[-(-count // 8)], dtype=tf.uint64, **self._next())
        numbers = tf.reshape(tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:count], units.shape)
        lives = numbers <= tf.cast(self._kept - 1, tf.uint8)
        return units * (tf.cast(lives, units.dtype) * tf.cast(BYTE / self._kept, units.dtype))

    def _next(self) -> dict[str, Any]:
        """Return the key of the step, and a counter that no other draw of the step comes near."""
        counter = np.array([0, next(self._numbers)], np.uint64)
        return {"key": self._key, "counter": tf.constant(counter), "alg": PHILOX}


def kernel_places(channels) -> list:
    """Return where the living weights of each convolution lie among all convolutions' kernels, end to end.

    Args:
        channels: as `Dice.channels` returns them.

    Returns:
        For each convolution int32 [towers, 9, read, made]; the first one reads one channel.
    """
    places, before = [], 0
    reads = [np.zeros((len(TOWERS), 1), np.int32), *channels[:-1]]
    for inputs, units, read, made in zip((1, *FILTERS), FILTERS, reads, channels, strict=False):
        size = 9 * inputs * units
        corners = before + np.arange(len(TOWERS) * 9, dtype=np.int32).reshape(-1, 9, 1, 1) * (inputs * units)
        places.append(corners + (read * units)[:, None, :, None] + made[:, None, None, :])
        before += len(TOWERS) * size
    return places


def bias_places(channels) -> list:
    """Return where the living biases of each convolution lie among all convolutions' biases, end to end.

    Args:
        channels: as `Dice.channels` returns them.

    Returns:
        For each convolution int32 [towers, made].
    """
    places, before = [], 0
    for units, made in zip(FILTERS, channels, strict=True):
        places.append(before + np.arange(len(TOWERS), dtype=np.int32)[:, None] * units + made)
        before += len(TOWERS) * units
    return places


def merge_places(channels) -> Any:
    """Return which rows of the towers' merge kernels, end to end, read living channels: int32 [rows].

    Args:
        channels: int32 [towers, living], of the last convolution.
    """
    pixels = np.arange(len(TOWERS) * PIXELS, dtype=np.int32).reshape(-1, PIXELS, 1)
    return tf.reshape(pixels * FILTERS[-1] + channels[:, None, :], [-1])
