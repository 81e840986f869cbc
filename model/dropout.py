"""The random numbers of a training step: dropped channels and units, latent noise and the square of the encoder.

A dropped channel is not computed: the columns of its kernel and the rows of the weights that read it are omitted. All
patches and photos of a step drop the same channels. The recipe "patches" drops single units instead, for each patch
separately, as the experiment log did.
"""

import itertools
import math
from typing import Any

import numpy as np

from huetune.data_tools.common.keras_backend import tf
from huetune.model.config import FILTERS, Config
from huetune.model.weights import PIXELS, TOWERS

CHANNEL_GROUP = 8
"""Channels are dropped in groups of this size, because the vectors of a processor hold 8 or 16 numbers."""
PHILOX = 1
"""TensorFlow's number of the algorithm of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011). Its
numbers are a function of a key and a counter. A draw is one operation, where `tf.random` derives
seeds by thirty."""
BYTE_VALUES = 256
"""Number of values of the random byte that decides on a unit; the dropout rate is rounded to a 256th."""


def kept_channels(rate: float) -> tuple[int, ...]:
    """Return how many channels of each convolution are kept in a step: at least one group, and whole groups.

    Args:
        rate: fraction of the channels to drop, in [0, 1).
    """
    return tuple(min(count, CHANNEL_GROUP * max(1, round(count * (1 - rate) / CHANNEL_GROUP))) for count in FILTERS)


def drops_channels(config: Config) -> bool:
    """Return whether whole channels are dropped. All rates above 0 give the same result, so they share a trace."""
    return config.dropout_of == "channels" and config.dropout > 0


def kept_byte_values(rate: float) -> int:
    """Return how many of the values of a random byte keep a unit, 1 to `BYTE_VALUES`."""
    return max(1, round(BYTE_VALUES * (1 - rate)))


class StepRandom:
    """The random numbers of one training step.

    Args:
        seed: int32 [2], of this step alone.
        kept: number of values of a byte that keep a unit: int64 scalar, 1 to 256.

    The numbers depend on the order of the draws, so the graph must be traced in the same order each time.
    """

    def __init__(self, seed, kept):
        self._key, self._kept = tf.reshape(tf.bitcast(seed, tf.uint64), [1]), kept
        self._numbers = itertools.count()

    def normal(self, shape):
        """Draw standard normal numbers."""
        return tf.raw_ops.StatelessRandomNormalV2(shape=shape, **self._next())

    def channels(self, counts) -> list:
        """Draw which channels are kept.

        Args:
            counts: numbers of kept channels of each convolution: integers or int32 scalars.

        Returns:
            For each convolution int32 [towers, count]: the indices of the kept channels.
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
        """Drop single units, and scale the others so that the expectation stays the same at the rounded rate.

        A byte of randomness is drawn for each: Keras's own dropout draws 32 bits, and in training that costs a third
        as much as all convolutions together.
        """
        count = math.prod(units.shape)
        words = tf.raw_ops.StatelessRandomUniformFullIntV2(shape=[-(-count // 8)], dtype=tf.uint64, **self._next())
        numbers = tf.reshape(tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:count], units.shape)
        is_kept = numbers <= tf.cast(self._kept - 1, tf.uint8)
        return units * (tf.cast(is_kept, units.dtype) * tf.cast(BYTE_VALUES / self._kept, units.dtype))

    def _next(self) -> dict[str, Any]:
        """Return the key of the step, and a counter that is far from those of the other draws of the step."""
        counter = np.array([0, next(self._numbers)], np.uint64)
        return {"key": self._key, "counter": tf.constant(counter), "alg": PHILOX}


def kernel_places(channels) -> list:
    """Return the indices of the kept weights of each convolution in the concatenated kernels of all convolutions.

    Args:
        channels: as `StepRandom.channels` returns them.

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
    """Return the indices of the kept biases of each convolution in the concatenated biases of all convolutions.

    Args:
        channels: as `StepRandom.channels` returns them.

    Returns:
        For each convolution int32 [towers, made].
    """
    places, before = [], 0
    for units, made in zip(FILTERS, channels, strict=True):
        places.append(before + np.arange(len(TOWERS), dtype=np.int32)[:, None] * units + made)
        before += len(TOWERS) * units
    return places


def merge_places(channels) -> Any:
    """Return the rows of the concatenated merge kernels of the towers that read kept channels: int32 [rows].

    Args:
        channels: int32 [towers, kept], of the last convolution.
    """
    pixels = np.arange(len(TOWERS) * PIXELS, dtype=np.int32).reshape(-1, PIXELS, 1)
    return tf.reshape(pixels * FILTERS[-1] + channels[:, None, :], [-1])
