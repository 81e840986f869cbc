"""The random numbers of a training step: dropped channels and units, latent noise, and the encoder's square of patches.

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
from huetune.model.weights import FINAL_MAP_PIXELS, KERNEL_PIXELS, TOWERS

CHANNEL_MULTIPLE = 8
"""The number of kept channels is a multiple of this, because the vectors of a processor hold 8 or 16 numbers."""
PHILOX_ALGORITHM = 1
"""TensorFlow's number of the Philox generator (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011),
whose numbers are a function of a key and a counter. Each draw is one operation; `tf.random` needs thirty to derive its
seeds."""
BYTE_VALUES = 256
"""Number of values of the random byte that decides whether a unit is kept. The dropout rate is rounded to a 256th."""


def kept_channel_counts(rate: float) -> tuple[int, ...]:
    """Return the number of kept channels of each of the five convolutions: a positive multiple of `CHANNEL_MULTIPLE`.

    Args:
        rate: fraction of the channels to drop, in [0, 1).
    """
    return tuple(
        min(count, CHANNEL_MULTIPLE * max(1, round(count * (1 - rate) / CHANNEL_MULTIPLE))) for count in FILTERS
    )


def drops_channels(config: Config) -> bool:
    """Return whether whole channels of convolutions are dropped.

    The result is the same for all rates above 0, so configurations that differ in the rate alone share a trace.
    """
    return config.dropout_of == "channels" and config.dropout > 0


def kept_byte_values(rate: float) -> int:
    """Return the number of values of a random byte that keep a unit, 1 to `BYTE_VALUES`.

    Args:
        rate: fraction of the units to drop, in [0, 1).
    """
    return max(1, round(BYTE_VALUES * (1 - rate)))


class StepRandom:
    """The random numbers of one training step.

    The numbers depend on the seed and the order of the draws, so the graph must be traced in the same order each time.

    Args:
        seed: int32 [2], different for each step of a training.
        kept_byte_values: int64 scalar, 1 to 256: number of values of a random byte that keep a unit.
    """

    def __init__(self, seed, kept_byte_values):
        self._key, self._kept_byte_values = tf.reshape(tf.bitcast(seed, tf.uint64), [1]), kept_byte_values
        self._draw_numbers = itertools.count()

    def normal(self, shape):
        """Draw standard normal numbers: float32 of a shape."""
        return tf.raw_ops.StatelessRandomNormalV2(shape=shape, **self._next())

    def kept_channels(self, counts) -> list:
        """Draw the channels that each tower keeps.

        Args:
            counts: for each convolution the number of kept channels: an integer or an int32 scalar.

        Returns:
            For each convolution int32 [towers, count]: the indices of the kept channels, in no particular order.
        """
        priorities = tf.raw_ops.StatelessRandomUniformV2(shape=[len(TOWERS), sum(FILTERS)], **self._next())
        return [
            tf.math.top_k(layer_priorities, count, sorted=False).indices
            for layer_priorities, count in zip(tf.split(priorities, FILTERS, axis=1), counts, strict=True)
        ]

    def corner(self, limit: int):
        """Draw the top left corner of a square: int32 [2], row and column, each 0 to `limit` - 1."""
        return tf.raw_ops.StatelessRandomUniformIntV2(shape=[2], minval=0, maxval=limit, **self._next())

    def drop_units(self, units):
        """Set units to 0 at random, and scale the others so that their expectation stays the same.

        A random byte is drawn for each unit. Keras's Dropout draws 32 bits, which in training costs a third as much
        time as all convolutions together.

        Args:
            units: float tensor of any static shape.

        Returns:
            A tensor of the same shape and type. The expectation is exact for the rounded dropout rate.
        """
        count = math.prod(units.shape)
        words = tf.raw_ops.StatelessRandomUniformFullIntV2(shape=[-(-count // 8)], dtype=tf.uint64, **self._next())
        random_bytes = tf.reshape(tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:count], units.shape)
        is_kept = random_bytes <= tf.cast(self._kept_byte_values - 1, tf.uint8)
        return units * (tf.cast(is_kept, units.dtype) * tf.cast(BYTE_VALUES / self._kept_byte_values, units.dtype))

    def _next(self) -> dict[str, Any]:
        """Return the key of the step, and a counter that is far from those of the other draws of the step."""
        counter = np.array([0, next(self._draw_numbers)], np.uint64)
        return {"key": self._key, "counter": tf.constant(counter), "alg": PHILOX_ALGORITHM}


def kernel_indices(kept_channels) -> list:
    """Return the indices of the kept weights of each convolution in the concatenated kernels of all convolutions.

    Args:
        kept_channels: as returned by `StepRandom.kept_channels`.

    Returns:
        For each convolution int32 [towers, 9, kept inputs, kept outputs]. The first convolution has one input channel.
    """
    indices, offset = [], 0
    kept_inputs = [np.zeros((len(TOWERS), 1), np.int32), *kept_channels[:-1]]
    for inputs, outputs, kept_in, kept_out in zip((1, *FILTERS), FILTERS, kept_inputs, kept_channels, strict=False):
        size = KERNEL_PIXELS * inputs * outputs
        pixels = np.arange(len(TOWERS) * KERNEL_PIXELS, dtype=np.int32).reshape(-1, KERNEL_PIXELS, 1, 1)
        starts = offset + pixels * (inputs * outputs)
        indices.append(starts + (kept_in * outputs)[:, None, :, None] + kept_out[:, None, None, :])
        offset += len(TOWERS) * size
    return indices


def bias_indices(kept_channels) -> list:
    """Return the indices of the kept biases of each convolution in the concatenated biases of all convolutions.

    Args:
        kept_channels: as returned by `StepRandom.kept_channels`.

    Returns:
        For each convolution int32 [towers, kept outputs].
    """
    indices, offset = [], 0
    for outputs, kept in zip(FILTERS, kept_channels, strict=True):
        indices.append(offset + np.arange(len(TOWERS), dtype=np.int32)[:, None] * outputs + kept)
        offset += len(TOWERS) * outputs
    return indices


def merge_row_indices(kept_channels) -> Any:
    """Return the rows of the concatenated merge kernels of all towers that read kept channels: int32 [rows].

    Args:
        kept_channels: int32 [towers, count]: the kept channels of the last convolution.
    """
    pixels = np.arange(len(TOWERS) * FINAL_MAP_PIXELS, dtype=np.int32).reshape(-1, FINAL_MAP_PIXELS, 1)
    return tf.reshape(pixels * FILTERS[-1] + kept_channels[:, None, :], [-1])
