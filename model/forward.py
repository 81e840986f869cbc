"""The VAE as it is computed in training: the function of `model.network` from stacks of weights, with dropout.

Keras's model is for whoever uses or saves it. In training, the towers of encoder and decoder read the same views, and
all of them are computed from a few stacks (model.weights) by few, large operations; what a step drops of whole channels
is not computed at all. Without dropout the two are one function: `tests/model/test_forward.py` compares them.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from data_tools.backend import keras, tf
from data_tools.colour import GRID
from data_tools.contexts import VIEWS, WINDOW
from model.config import CONTEXT, FILTERS, Config
from model.dropout import Dice, bias_places, drops_channels, kernel_places, merge_places
from model.layers import activate, cut_depth, of_taps, taps_of, windows
from model.weights import FLAT, MODELS, PIXELS, TOWERS

EDGE = WINDOW - 2 * len(FILTERS)
"""Pixels along each side of a patch's maps after all convolutions."""


class Forward:
    """Computes chroma, latent mean and log-variance of patches in training.

    Args:
        config: of the model: `activation`, `skip`, `merge_units`, `batching` and `dropout_of` are read.
        dtype: that the hidden layers compute in.
    """

    def __init__(self, config: Config, dtype: str):
        self._dtype, self._skip, self._units = dtype, config.skip, config.merge_units
        self._whole, self._drops = config.batching == "photos", config.dropout > 0
        self._drops_channels = drops_channels(config)
        self._activation = keras.activations.get(config.activation)

    def __call__(self, weights: Mapping[str, Any], kernels, biases, batch, noise, dice: Dice, living) -> tuple:
        """Return chroma [patches, 2], latent mean and log-variance [patches, 120], all float32.

        Args:
            weights: stacks by name, all but the convolutions'.
            kernels: float32, of all convolutions, end to end.
            biases: likewise.
            batch: the views, shrunk photos [n, side, side, 1] or those of loose patches [n, 14, 14, 1], and the
                positions [patches, 2 or 7].
            noise: standard normal [patches, 120].
            dice: of this step.
            living: how many channels of each convolution live: integers or int32 scalars.
        """
        views, place = [self._cast(view) for view in batch[0]], self._cast(batch[1])
        if not self._drops_channels:
            living = FILTERS
        channels = dice.channels(living) if self._drops_channels else None
        layers = self._convolutions(kernels, biases, channels, living)
        maps = [
            self._tower([convolutions[tower] for convolutions in layers], tower, views, taps, living, dice)
            for view, pixels in enumerate(views)
            for taps in [taps_of(pixels)]
            for tower in range(len(MODELS) * view, len(MODELS) * (view + 1))
        ]
        others = {name: self._cast(stack) for name, stack in weights.items() if name != "merge/kernel"}
        merges, of_view = self._merges(weights["merge/kernel"], channels, living[-1])
        features = self._features(others, maps, merges, of_view, views, living[-1], dice)
        return self._answers(others, features, place, noise, dice)

    def _cast(self, values):
        return tf.cast(values, self._dtype)

    def _convolutions(self, kernels, biases, channels, living) -> list[list[tuple[Any, Any]]]:
        """Return kernel [3, 3, read, made] and bias [made] of each convolution's towers, the living part alone."""
        if channels is not None:
            kernels = tf.gather(kernels, tf.concat([tf.reshape(some, [-1]) for some in kernel_places(channels)], 0))
            biases = tf.gather(biases, tf.concat([tf.reshape(some, [-1]) for some in bias_places(channels)], 0))
        sizes = [len(TOWERS) * 9 * read * made for read, made in zip((1, *living), living, strict=False)]
        kernels = tf.split(self._cast(kernels), sizes, num=len(FILTERS))
        biases = tf.split(self._cast(biases), [len(TOWERS) * made for made in living], num=len(FILTERS))
        layers = []
        for depth, made in enumerate(living):
            read, kernel = 1, kernels[depth]
            if depth and channels is not None:
                # What is left stands for what is dropped: the expectation is that of all channels.
                kernel *= self._cast(FILTERS[depth - 1] / living[depth - 1])
            if depth:
                read = living[depth - 1]
            stacked = tf.unstack(tf.reshape(kernel, [len(TOWERS), 3, 3, read, made]))
            layers.append(list(zip(stacked, tf.unstack(tf.reshape(biases[depth], [len(TOWERS), made])), strict=True)))
        return layers

    def _tower(self, convolutions, tower: int, views, taps, living, dice: Dice):
        """Return a tower's maps after all convolutions."""
        index = tower // len(MODELS)
        stride, maps = VIEWS[index].stride, views[index]
        cut = cut_depth(stride) if self._whole else None
        for depth, (kernel, bias) in enumerate(convolutions):
            if depth == cut:
                maps = windows(maps, WINDOW - 2 * depth, stride, living[depth - 1])
            maps = tf.nn.conv2d(maps, kernel, 1, "VALID") if depth else of_taps(taps, maps, kernel)
            maps = activate(self._activation, tf.nn.bias_add(maps, bias))
            if self._drops and not self._drops_channels:
                maps = dice.drop(maps)
        return maps

    def _merges(self, stack, channels, living) -> tuple[Sequence[Any], Any]:
        """Return each tower's kernel for its maps, [rows, units], and all towers' kernels for the views, if read."""
        maps, of_view = stack, None
        if self._skip:
            maps, of_view = tf.split(stack, [FLAT, WINDOW * WINDOW], axis=1)
            of_view = tf.reshape(self._cast(of_view), [len(VIEWS), len(MODELS), -1, self._units])
        if channels is not None:
            rows = tf.reshape(maps, [-1, self._units])
            maps = tf.gather(rows, merge_places(channels[-1])) * tf.cast(FILTERS[-1] / living, tf.float32)
        return tf.unstack(tf.reshape(self._cast(maps), [len(TOWERS), PIXELS * living, self._units])), of_view

    def _features(self, weights, maps, merges, of_view, views, living, dice: Dice):
        """Return what the towers of each model hand on: [models, patches, 128]."""
        # All patches of a photo share the view of the whole: its towers have a row a photo, the others a row a patch.
        sizes = [1, len(VIEWS) - 1] if self._whole else [len(VIEWS)]
        merge_bias, kernel, bias = (
            tf.split(tf.reshape(weights[name], [len(VIEWS), len(MODELS), -1, units]), sizes)
            for name, units in (("merge/bias", self._units), ("context/kernel", CONTEXT), ("context/bias", CONTEXT))
        )
        of_view = None if of_view is None else tf.split(of_view, sizes)
        towers, features = itertools.count(), []
        for group, size in enumerate(sizes):
            members = list(itertools.islice(towers, size * len(MODELS)))
            merged = tf.stack([self._merge(maps[tower], merges[tower], tower, living) for tower in members])
            merged = tf.reshape(merged, [size, len(MODELS), -1, self._units]) + merge_bias[group]
            if of_view is not None:
                flat = [self._flat_view(views[view], VIEWS[view].stride) for view in _views_of(members)]
                merged += tf.matmul(tf.stack(flat)[:, None], of_view[group])
            merged = self._drop(dice, activate(self._activation, merged))
            handed = activate(self._activation, tf.matmul(merged, kernel[group]) + bias[group])
            features.append(tf.reshape(tf.transpose(handed, [1, 2, 0, 3]), [len(MODELS), -1, size * CONTEXT]))
        if self._whole:
            features[0] = tf.repeat(features[0], GRID * GRID, axis=1)
        return tf.concat(features, axis=2)

    def _drop(self, dice: Dice, units):
        return dice.drop(units) if self._drops else units

    def _merge(self, maps, kernel, tower: int, living):
        """Return the sums of a tower's Dense layer on the maps of each patch: [patches, units].

        On maps of a whole photo, a Dense layer on each window is a convolution whose kernel is as large as the window.
        """
        if maps.shape[1] == EDGE:
            return tf.matmul(tf.reshape(maps, [-1, PIXELS * living]), kernel)
        kernel = tf.reshape(kernel, [EDGE, EDGE, living, self._units])
        return tf.reshape(tf.nn.conv2d(maps, kernel, VIEWS[tower // len(MODELS)].stride, "VALID"), [-1, self._units])

    def _flat_view(self, pixels, stride: int):
        """Return the view of each patch, or of the photo where all share it, flattened: [patches, 196]."""
        if self._whole and stride:
            pixels = tf.image.extract_patches(
                pixels, [1, WINDOW, WINDOW, 1], [1, stride, stride, 1], [1, 1, 1, 1], "VALID"
            )
        return tf.reshape(pixels, [-1, WINDOW * WINDOW])

    def _answers(self, weights, features, place, noise, dice: Dice) -> tuple:
        def dense(units, name: str):
            kernel, bias = (tf.squeeze(weights[f"{name}/{kind}"], 0) for kind in ("kernel", "bias"))
            return tf.nn.bias_add(tf.matmul(units, kernel), bias)

        encoded, decoded = tf.unstack(features)
        hidden = activate(self._activation, dense(tf.concat([encoded, place], axis=1), "encoder_hidden"))
        latent = tf.matmul(hidden, weights["latent/kernel"]) + tf.expand_dims(weights["latent/bias"], 1)
        mean, log_variance = tf.unstack(tf.cast(latent, tf.float32))
        sampled = mean + tf.exp(log_variance / 2) * noise
        known = tf.concat([decoded, self._cast(sampled), place], axis=1)
        hidden = self._drop(dice, activate(self._activation, dense(known, "decoder_hidden")))
        return tf.tanh(tf.cast(dense(hidden, "chroma"), tf.float32)), mean, log_variance


def _views_of(towers: list[int]) -> range:
    return range(towers[0] // len(MODELS), towers[-1] // len(MODELS) + 1)
