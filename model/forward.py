"""The forward pass of the VAE in training: the same function as the Keras model, computed from stacks, with dropout.

`network.build` makes the Keras model, which is scored, saved and used. Training computes the same outputs with fewer,
larger operations: the weights come as stacks (see `model.weights`), and dropped channels are not computed at all.
`tests/model/test_forward.py` checks that without dropout the outputs of both are equal.

The steps, with the names of the Keras model's layers:

- Eight towers, one for the encoder and one for the decoder in each of the four context windows: five convolutions
  (`*_conv_0` to `*_conv_4`), a Dense layer that merges their feature maps (`*_merge`; with `skip` it reads the context
  window, too), and a Dense layer of 32 units (`*_context`).
- The encoder: the features of its four towers and the position -> `encoder_hidden` -> latent mean and log-variance.
- The decoder: the features of its four towers, a sample of the latent distribution and the position ->
  `decoder_hidden` -> chroma.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from huetune.data_tools.common.keras_backend import keras, tf
from huetune.data_tools.photos.color import PATCHES_PER_SIDE
from huetune.data_tools.photos.context_windows import CONTEXT_WINDOWS, WINDOW_SIDE
from huetune.model.config import CONTEXT, FILTERS, LATENT, Config
from huetune.model.dropout import StepRandom, bias_indices, drops_channels, kernel_indices, merge_row_indices
from huetune.model.layers import activate, cut_depth, cut_windows
from huetune.model.weights import FINAL_MAP_PIXELS, FINAL_MAP_SIDE, FLAT_MAP_UNITS, KERNEL_PIXELS, MODELS, TOWERS


class Forward:
    """Computes chroma, latent mean and log-variance of patches in training.

    Args:
        config: of the model: `activation`, `skip`, `merge_units`, `batching`, `dropout`, `dropout_of` and
            `encoder_side` are used.
        dtype: name of the type in which the hidden layers compute, as "float32".
    """

    def __init__(self, config: Config, dtype: str):
        self._dtype, self._skip, self._merge_units = dtype, config.skip, config.merge_units
        self._whole_photos, self._drops = config.batching == "photos", config.dropout > 0
        self._drops_channels = drops_channels(config)
        self._drops_map_units = self._drops and config.dropout_of == "units"
        self._encoder_side = config.encoder_side if self._whole_photos else PATCHES_PER_SIDE
        self._activation = keras.activations.get(config.activation)

    def __call__(
        self, weights: Mapping[str, Any], kernels, biases, batch, noise, rng: StepRandom, kept_counts
    ) -> tuple[Any, Any, Any]:
        """Return the outputs of a batch.

        Args:
            weights: float32 stacks [layers, *shape] of the Dense layers, by name.
            kernels: float32 vector: the stacks of all convolution kernels, concatenated.
            biases: float32 vector: the stacks of all convolution biases, concatenated.
            batch: (images, positions), both float32. The images are a list of four tensors, one for each of
                `CONTEXT_WINDOWS`: shrunk photos [n, side, side, 1] with batching "photos", context windows
                [patches, 14, 14, 1] with "patches". The positions are [patches, 2 or 7], 0..1.
            noise: float32 [patches, 120], standard normal numbers.
            rng: random numbers of this step.
            kept_counts: for each of the five convolutions the number of kept channels: an integer or an int32 scalar.
                It is used only if channels are dropped.

        Returns:
            Chroma [patches, 2], -1..1, and mean and log-variance of the latent vectors of the patches that the encoder
            computes, [encoded patches, 120] each. All are float32.
        """
        images, positions = [self._cast(image) for image in batch[0]], self._cast(batch[1])
        if not self._drops_channels:
            kept_counts = FILTERS
        kept_channels = rng.kept_channels(kept_counts) if self._drops_channels else None
        convolutions = self._convolutions(kernels, biases, kept_channels, kept_counts)
        map_kernels, window_kernels = self._merge_kernels(weights["merge/kernel"], kept_channels, kept_counts[-1])
        # As in the Keras model, the output layers compute in float32, whatever the hidden layers compute in.
        others = {
            name: stack if name.startswith(("latent/", "chroma/")) else self._cast(stack)
            for name, stack in weights.items()
            if name != "merge/kernel"
        }
        cropped = self._encoder_side < PATCHES_PER_SIDE
        corner = rng.corner(PATCHES_PER_SIDE - self._encoder_side + 1) if cropped else None
        encoder_inputs = (images, positions) if corner is None else self._crop(images, positions, corner)
        encoder_images, encoder_positions = encoder_inputs
        features = []
        for model, model_images in enumerate((encoder_images, images)):
            # The towers of a model, one for each context window, are every second one of all towers.
            towers = range(model, len(TOWERS), len(MODELS))
            maps = [
                self._tower([layer[tower] for layer in convolutions], index, model_images[index], kept_counts, rng)
                for index, tower in enumerate(towers)
            ]
            maps = [
                self._merge(maps[index], map_kernels[tower], CONTEXT_WINDOWS[index].stride, kept_counts[-1])
                for index, tower in enumerate(towers)
            ]
            own = {name: _of_model(others[name], model) for name in ("merge/bias", "context/kernel", "context/bias")}
            own_kernels = None if window_kernels is None else _of_model(window_kernels, model)
            side = self._encoder_side if model == 0 else PATCHES_PER_SIDE
            features.append(self._features(own, maps, own_kernels, model_images, side, rng))
        mean, log_variance = self._latent(others, features[0], encoder_positions)
        latent = tf.stack([mean, log_variance]) if corner is None else self._uncrop(mean, log_variance, corner)
        return self._chroma(others, features[1], latent, noise, positions, rng), mean, log_variance

    def _crop(self, images, positions, corner) -> tuple[list, Any]:
        """Return the images and positions of the square of patches that the encoder computes.

        Args:
            images: shrunk photos, [n, side, side, 1] each.
            positions: [n x 196, 2 or 7].
            corner: int32 [2], row and column of the square's first patch.
        """
        cropped = [
            _square(image, corner * window.stride, WINDOW_SIDE + (self._encoder_side - 1) * window.stride)
            if window.stride
            else image
            for window, image in zip(CONTEXT_WINDOWS, images, strict=True)
        ]
        grid = tf.reshape(positions, [-1, PATCHES_PER_SIDE, PATCHES_PER_SIDE, positions.shape[1]])
        return cropped, tf.reshape(_square(grid, corner, self._encoder_side), [-1, positions.shape[1]])

    def _uncrop(self, mean, log_variance, corner):
        """Return mean and log-variance of all patches: [2, n x 196, 120].

        The patches outside the encoder's square get 0 for both, which is the distribution N(0, 1).
        """
        square = tf.reshape(tf.stack([mean, log_variance]), [2, -1, self._encoder_side, self._encoder_side, LATENT])
        padding = [0, PATCHES_PER_SIDE - self._encoder_side]
        grid = tf.roll(tf.pad(square, [[0, 0], [0, 0], padding, padding, [0, 0]]), corner, [2, 3])
        return tf.reshape(grid, [2, -1, LATENT])

    def _cast(self, values):
        return tf.cast(values, self._dtype)

    def _convolutions(self, kernels, biases, kept_channels, kept_counts) -> list[list[tuple[Any, Any]]]:
        """Return the kernel [3, 3, inputs, outputs] and bias [outputs] of each tower in each of the five convolutions.

        Inputs and outputs are the kept channels only.
        """
        if kept_channels is not None:
            indices = kernel_indices(kept_channels)
            kernels = tf.gather(kernels, tf.concat([tf.reshape(of_layer, [-1]) for of_layer in indices], 0))
            indices = bias_indices(kept_channels)
            biases = tf.gather(biases, tf.concat([tf.reshape(of_layer, [-1]) for of_layer in indices], 0))
        sizes = [
            len(TOWERS) * KERNEL_PIXELS * inputs * outputs
            for inputs, outputs in zip((1, *kept_counts), kept_counts, strict=False)
        ]
        kernels = tf.split(self._cast(kernels), sizes, num=len(FILTERS))
        biases = tf.split(self._cast(biases), [len(TOWERS) * outputs for outputs in kept_counts], num=len(FILTERS))
        layers = []
        for depth, outputs in enumerate(kept_counts):
            inputs, kernel = 1, kernels[depth]
            if depth and kept_channels is not None:
                # Scaled by all channels / kept channels, so that the expected sums are those without dropout.
                kernel *= self._cast(FILTERS[depth - 1] / kept_counts[depth - 1])
            if depth:
                inputs = kept_counts[depth - 1]
            by_tower = tf.unstack(tf.reshape(kernel, [len(TOWERS), 3, 3, inputs, outputs]))
            biases_by_tower = tf.unstack(tf.reshape(biases[depth], [len(TOWERS), outputs]))
            layers.append(list(zip(by_tower, biases_by_tower, strict=True)))
        return layers

    def _tower(self, convolutions, index: int, image, kept_counts, rng: StepRandom):
        """Return the feature maps of a tower after all convolutions.

        Args:
            convolutions: (kernel, bias) of each convolution of the tower.
            index: of the context window that the tower reads.
            image: shrunk photos [n, side, side, 1] or context windows [patches, 14, 14, 1].
            kept_counts: for each convolution the number of kept channels.
            rng: random numbers of this step.
        """
        stride, maps = CONTEXT_WINDOWS[index].stride, image
        cut = cut_depth(stride) if self._whole_photos else None
        for depth, (kernel, bias) in enumerate(convolutions):
            if depth == cut:
                maps = cut_windows(maps, WINDOW_SIDE - 2 * depth, stride, kept_counts[depth - 1])
            maps = tf.nn.conv2d(maps, kernel, 1, "VALID")
            maps = activate(self._activation, tf.nn.bias_add(maps, bias))
            if self._drops_map_units:
                maps = rng.drop_units(maps)
        return maps

    def _merge_kernels(self, stack, kept_channels, kept_count) -> tuple[Sequence[Any], Any]:
        """Split the kernels of the merge layers by what they read: feature maps or, with `skip`, the context window.

        Args:
            stack: float32 [towers, inputs, units].
            kept_channels: for each convolution the indices of the kept channels; None if no channels are dropped.
            kept_count: number of kept channels of the last convolution.

        Returns:
            For each tower the kernel [16 x kept channels, units] that reads the feature maps, and the kernels
            [towers, 196, units] that read the context windows; None without `skip`.
        """
        map_kernels, window_kernels = stack, None
        if self._skip:
            map_kernels, window_kernels = tf.split(stack, [FLAT_MAP_UNITS, WINDOW_SIDE * WINDOW_SIDE], axis=1)
            window_kernels = self._cast(window_kernels)
        if kept_channels is not None:
            rows = tf.reshape(map_kernels, [-1, self._merge_units])
            kept_rows = tf.gather(rows, merge_row_indices(kept_channels[-1]))
            map_kernels = kept_rows * tf.cast(FILTERS[-1] / kept_count, tf.float32)
        by_tower = tf.reshape(self._cast(map_kernels), [len(TOWERS), FINAL_MAP_PIXELS * kept_count, self._merge_units])
        return tf.unstack(by_tower), window_kernels

    def _merge(self, maps, kernel, stride: int, kept_count):
        """Return the product of the feature maps of each patch and the merge layer's kernel: [patches, units].

        On the maps of a whole photo, a Dense layer on each patch's window is a convolution with a kernel of the
        window's size.
        """
        if maps.shape[1] == FINAL_MAP_SIDE:
            return tf.matmul(tf.reshape(maps, [maps.shape[0], FINAL_MAP_PIXELS * kept_count]), kernel)
        kernel = tf.reshape(kernel, [FINAL_MAP_SIDE, FINAL_MAP_SIDE, kept_count, self._merge_units])
        return tf.reshape(tf.nn.conv2d(maps, kernel, stride, "VALID"), [-1, self._merge_units])

    def _features(self, weights, merged, window_kernels, images, side: int, rng: StepRandom):
        """Return the context features of a model, the concatenated outputs of its four towers: [patches, 128].

        In whole photos, all patches share the first context window, which covers the whole photo. Its tower has one row
        for each photo, and the other towers have one row for each patch, so the two groups are computed separately.

        Args:
            weights: "merge/bias", "context/kernel" and "context/bias", in this order, [4, ...] each.
            merged: for each tower [rows, units]: the products that `_merge` returns.
            window_kernels: [4, 196, units]; None without `skip`.
            images: the shrunk photos or context windows that the towers read.
            side: patches along each side of the square that is computed.
            rng: random numbers of this step.
        """
        sizes = [1, len(CONTEXT_WINDOWS) - 1] if self._whole_photos else [len(CONTEXT_WINDOWS)]
        merge_bias, kernel, bias = (tf.split(weights[name], sizes) for name in weights)
        grouped_kernels = None if window_kernels is None else tf.split(window_kernels, sizes)
        indices, features = iter(range(len(CONTEXT_WINDOWS))), []
        for group, size in enumerate(sizes):
            members = list(itertools.islice(indices, size))
            sums = tf.stack([merged[index] for index in members]) + tf.expand_dims(merge_bias[group], 1)
            if grouped_kernels is not None:
                windows = [self._flat_windows(images[index], CONTEXT_WINDOWS[index].stride) for index in members]
                sums += tf.matmul(tf.stack(windows), grouped_kernels[group])
            units = self._drop_units(rng, activate(self._activation, sums))
            sums = tf.matmul(units, kernel[group]) + tf.expand_dims(bias[group], 1)
            outputs = activate(self._activation, sums)
            features.append(tf.reshape(tf.transpose(outputs, [1, 0, 2]), [-1, size * CONTEXT]))
        if self._whole_photos:
            features[0] = tf.repeat(features[0], side * side, axis=0)
        return tf.concat(features, axis=1)

    def _drop_units(self, rng: StepRandom, units):
        return rng.drop_units(units) if self._drops else units

    def _flat_windows(self, image, stride: int):
        """Return the flattened context windows: [patches, 196], or [photos, 196] if all patches share one."""
        if self._whole_photos and stride:
            image = tf.image.extract_patches(
                image, [1, WINDOW_SIDE, WINDOW_SIDE, 1], [1, stride, stride, 1], [1, 1, 1, 1], "VALID"
            )
        return tf.reshape(image, [-1, WINDOW_SIDE * WINDOW_SIDE])

    def _latent(self, weights, features, positions) -> list:
        """Return mean and log-variance of the latent vectors: float32 [encoded patches, 120] each."""
        inputs = tf.concat([features, positions], axis=1)
        hidden = activate(self._activation, _dense(inputs, weights, "encoder_hidden"))
        hidden = tf.cast(hidden, tf.float32)
        return tf.unstack(tf.matmul(hidden, weights["latent/kernel"]) + tf.expand_dims(weights["latent/bias"], 1))

    def _chroma(self, weights, features, latent, noise, positions, rng: StepRandom):
        """Return the chroma that the decoder predicts for a sample of the latent vectors: float32 [patches, 2]."""
        mean, log_variance = tf.unstack(latent)
        sampled = mean + tf.exp(log_variance / 2) * noise
        inputs = tf.concat([features, self._cast(sampled), positions], axis=1)
        hidden = self._drop_units(rng, activate(self._activation, _dense(inputs, weights, "decoder_hidden")))
        return tf.tanh(_dense(tf.cast(hidden, tf.float32), weights, "chroma"))


def _square(maps, corner, side: int):
    """Return the square of [n, rows, columns, channels] that begins at a corner: [n, side, side, channels].

    It is not a `tf.slice`, because XLA would compile the step again for each new corner.
    """
    rows, columns = tf.unstack(tf.expand_dims(corner, 1) + tf.range(side))
    return tf.gather(tf.gather(maps, rows, axis=1), columns, axis=2)


def _dense(units, weights, name: str):
    """Return the sums of a single Dense layer, without its activation."""
    kernel, bias = (tf.squeeze(weights[f"{name}/{kind}"], 0) for kind in ("kernel", "bias"))
    return tf.nn.bias_add(tf.matmul(units, kernel), bias)


def _of_model(stack, model: int):
    """Return the part of a stack of towers that belongs to the encoder (0) or the decoder (1): [8, ...] -> [4, ...]."""
    return tf.unstack(tf.reshape(stack, [len(CONTEXT_WINDOWS), len(MODELS), *stack.shape[1:]]), axis=1)[model]
