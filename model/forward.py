"""The VAE as it is computed in training: the function of `model.network` from stacks of weights, with dropout.

Keras's model is for whoever uses or saves it. In training, the towers of encoder and decoder read the same views, and
all of them are computed from a few stacks (model.weights) by few, large operations; what a step drops of whole channels
is not computed at all. Without dropout the two are one function: `tests/model/test_forward.py` compares them.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from huetune.data_tools.common.keras_backend import keras, tf
from huetune.data_tools.photos.color import PATCHES_PER_SIDE
from huetune.data_tools.photos.context_windows import CONTEXT_WINDOWS, WINDOW_SIDE
from huetune.model.config import CONTEXT, FILTERS, LATENT, Config
from huetune.model.dropout import StepRandom, bias_places, drops_channels, kernel_places, merge_places
from huetune.model.layers import activate, cut_depth, windows
from huetune.model.weights import FLAT, MODELS, PIXELS, TOWERS

FINAL_MAP_SIDE = WINDOW_SIDE - 2 * len(FILTERS)
"""Side of the feature maps of a patch after all convolutions."""


class Forward:
    """Computes chroma, latent mean and log-variance of patches in training.

    Args:
        config: of the model: `activation`, `skip`, `merge_units`, `batching` and `dropout_of` are read.
        dtype: that the hidden layers compute in.
    """

    def __init__(self, config: Config, dtype: str):
        self._dtype, self._skip, self._units = dtype, config.skip, config.merge_units
        self._whole, self._drops = config.batching == "photos", config.dropout > 0
        self._drops_channels, self._drops_units = drops_channels(config), self._drops and config.dropout_of == "units"
        self._side = config.encoder_side if self._whole else PATCHES_PER_SIDE
        self._activation = keras.activations.get(config.activation)

    def __call__(
        self, weights: Mapping[str, Any], kernels, biases, batch, noise, dice: StepRandom, living
    ) -> tuple[Any, Any, Any]:
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
        merges, of_views = self._merges(weights["merge/kernel"], channels, living[-1])
        # As in the Keras model, the answers are computed in float32, whatever the hidden layers compute in.
        others = {
            name: stack if name.startswith(("latent/", "chroma/")) else self._cast(stack)
            for name, stack in weights.items()
            if name != "merge/kernel"
        }
        corner = dice.corner(PATCHES_PER_SIDE - self._side + 1) if self._side < PATCHES_PER_SIDE else None
        seen = (views, place) if corner is None else self._cropped(views, place, corner)
        features = []
        for model, pixels in enumerate((seen[0], views)):
            towers = range(model, len(TOWERS), len(MODELS))
            maps = [
                self._tower([convolutions[tower] for convolutions in layers], view, pixels[view], living, dice)
                for view, tower in enumerate(towers)
            ]
            maps = [
                self._merge(maps[view], merges[tower], CONTEXT_WINDOWS[view].stride, living[-1])
                for view, tower in enumerate(towers)
            ]
            own = {name: _of_model(others[name], model) for name in ("merge/bias", "context/kernel", "context/bias")}
            of_view = None if of_views is None else _of_model(of_views, model)
            features.append(
                self._features(own, maps, of_view, pixels, self._side if model == 0 else PATCHES_PER_SIDE, dice)
            )
        mean, log_variance = self._latent(others, features[0], seen[1])
        latent = tf.stack([mean, log_variance]) if corner is None else self._spread(mean, log_variance, corner)
        return self._chroma(others, features[1], latent, noise, place, dice), mean, log_variance

    def _cropped(self, views, place, corner) -> tuple[list, Any]:
        """Return the views and positions of the square of patches that begins at a corner: rows and columns of it."""
        cropped = [
            _square(pixels, corner * view.stride, WINDOW_SIDE + (self._side - 1) * view.stride)
            if view.stride
            else pixels
            for view, pixels in zip(CONTEXT_WINDOWS, views, strict=True)
        ]
        grid = tf.reshape(place, [-1, PATCHES_PER_SIDE, PATCHES_PER_SIDE, place.shape[1]])
        return cropped, tf.reshape(_square(grid, corner, self._side), [-1, place.shape[1]])

    def _spread(self, mean, log_variance, corner):
        """Return mean and log-variance of all patches: those that the encoder has not seen have N(0, 1)'s, zeros."""
        square = tf.reshape(tf.stack([mean, log_variance]), [2, -1, self._side, self._side, LATENT])
        rest = [0, PATCHES_PER_SIDE - self._side]
        grid = tf.roll(tf.pad(square, [[0, 0], [0, 0], rest, rest, [0, 0]]), corner, [2, 3])
        return tf.reshape(grid, [2, -1, LATENT])

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

    def _tower(self, convolutions, view: int, pixels, living, dice: StepRandom):
        """Return a tower's maps after all convolutions."""
        stride, maps = CONTEXT_WINDOWS[view].stride, pixels
        cut = cut_depth(stride) if self._whole else None
        for depth, (kernel, bias) in enumerate(convolutions):
            if depth == cut:
                maps = windows(maps, WINDOW_SIDE - 2 * depth, stride, living[depth - 1])
            maps = tf.nn.conv2d(maps, kernel, 1, "VALID")
            maps = activate(self._activation, tf.nn.bias_add(maps, bias))
            if self._drops_units:
                maps = dice.drop(maps)
        return maps

    def _merges(self, stack, channels, living) -> tuple[Sequence[Any], Any]:
        """Return each tower's kernel for its maps, [rows, units], and all towers' kernels for the views, if read."""
        maps, of_view = stack, None
        if self._skip:
            maps, of_view = tf.split(stack, [FLAT, WINDOW_SIDE * WINDOW_SIDE], axis=1)
            of_view = self._cast(of_view)
        if channels is not None:
            rows = tf.reshape(maps, [-1, self._units])
            maps = tf.gather(rows, merge_places(channels[-1])) * tf.cast(FILTERS[-1] / living, tf.float32)
        return tf.unstack(tf.reshape(self._cast(maps), [len(TOWERS), PIXELS * living, self._units])), of_view

    def _merge(self, maps, kernel, stride: int, living):
        """Return the sums of a tower's Dense layer on the maps of each patch: [patches, units].

        On maps of a whole photo, a Dense layer on each window is a convolution whose kernel is as large as the window.
        """
        if maps.shape[1] == FINAL_MAP_SIDE:
            return tf.matmul(tf.reshape(maps, [maps.shape[0], PIXELS * living]), kernel)
        kernel = tf.reshape(kernel, [FINAL_MAP_SIDE, FINAL_MAP_SIDE, living, self._units])
        return tf.reshape(tf.nn.conv2d(maps, kernel, stride, "VALID"), [-1, self._units])

    def _features(self, weights, merged, of_view, views, side: int, dice: StepRandom):
        """Return what a model's towers hand on: [patches, 128].

        All patches of a photo share the view of the whole: its tower has a row a photo, the others a row a patch.
        """
        sizes = [1, len(CONTEXT_WINDOWS) - 1] if self._whole else [len(CONTEXT_WINDOWS)]
        merge_bias, kernel, bias = (tf.split(weights[name], sizes) for name in weights)
        kernels_of_view = None if of_view is None else tf.split(of_view, sizes)
        members, features = iter(range(len(CONTEXT_WINDOWS))), []
        for group, size in enumerate(sizes):
            some = list(itertools.islice(members, size))
            sums = tf.stack([merged[view] for view in some]) + tf.expand_dims(merge_bias[group], 1)
            if kernels_of_view is not None:
                flat = [self._flat_view(views[view], CONTEXT_WINDOWS[view].stride) for view in some]
                sums += tf.matmul(tf.stack(flat), kernels_of_view[group])
            units = self._drop(dice, activate(self._activation, sums))
            sums = tf.matmul(units, kernel[group]) + tf.expand_dims(bias[group], 1)
            handed = activate(self._activation, sums)
            features.append(tf.reshape(tf.transpose(handed, [1, 0, 2]), [-1, size * CONTEXT]))
        if self._whole:
            features[0] = tf.repeat(features[0], side * side, axis=0)
        return tf.concat(features, axis=1)

    def _drop(self, dice: StepRandom, units):
        return dice.drop(units) if self._drops else units

    def _flat_view(self, pixels, stride: int):
        """Return the view of each patch, or of the photo where all share it, flattened: [patches, 196]."""
        if self._whole and stride:
            pixels = tf.image.extract_patches(
                pixels, [1, WINDOW_SIDE, WINDOW_SIDE, 1], [1, stride, stride, 1], [1, 1, 1, 1], "VALID"
            )
        return tf.reshape(pixels, [-1, WINDOW_SIDE * WINDOW_SIDE])

    def _latent(self, weights, features, place) -> list:
        """Return mean and log-variance of the latent vectors, float32 [patches, 120] each."""
        hidden = activate(self._activation, _dense(tf.concat([features, place], axis=1), weights, "encoder_hidden"))
        hidden = tf.cast(hidden, tf.float32)
        return tf.unstack(tf.matmul(hidden, weights["latent/kernel"]) + tf.expand_dims(weights["latent/bias"], 1))

    def _chroma(self, weights, features, latent, noise, place, dice: StepRandom):
        """Return the decoder's answer for a sample of the latent vectors: float32 [patches, 2]."""
        mean, log_variance = tf.unstack(latent)
        sampled = mean + tf.exp(log_variance / 2) * noise
        known = tf.concat([features, self._cast(sampled), place], axis=1)
        hidden = self._drop(dice, activate(self._activation, _dense(known, weights, "decoder_hidden")))
        return tf.tanh(_dense(tf.cast(hidden, tf.float32), weights, "chroma"))


def _square(maps, corner, side: int):
    """Return the square of [n, rows, columns, channels] that begins at a corner.

    XLA compiles a `tf.slice` anew for each place where it begins: that would be a compilation a step.
    """
    rows, columns = tf.unstack(tf.expand_dims(corner, 1) + tf.range(side))
    return tf.gather(tf.gather(maps, rows, axis=1), columns, axis=2)


def _dense(units, weights, name: str):
    kernel, bias = (tf.squeeze(weights[f"{name}/{kind}"], 0) for kind in ("kernel", "bias"))
    return tf.nn.bias_add(tf.matmul(units, kernel), bias)


def _of_model(stack, model: int):
    """The towers of one model: [views x models, ...] -> [views, ...]."""
    return tf.unstack(tf.reshape(stack, [len(CONTEXT_WINDOWS), len(MODELS), *stack.shape[1:]]), axis=1)[model]
