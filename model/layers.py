"""The layers that Keras does not have, or has slower.

Dropout comes in two kinds. That of single units is a mask (`Dropout`). That of whole channels (`Channels`) saves what
it drops: `Convolution` and `Merge` then compute with the living part of their weights alone. With half of the channels
dropped on both sides, a convolution has a quarter of the work. At rest all layers are the ordinary ones of Keras.
"""

import itertools

from data_tools.backend import keras, tf

WIDTH = 8
"""Whole channels are dropped by so many: a processor's vector holds 8 or 16 numbers, and fewer take as long."""
PIXELS = 16
"""Of a box's maps after all convolutions, 4 x 4."""


class Channels:
    """Dropout of whole channels, which saves their work: what a step drops it does not compute.

    Dropping a channel of a whole photo means leaving out a column of the kernel that makes it and the rows of the
    weights that read it. All boxes and photos of a step lack the same channels.

    Args:
        count: of the channels.
        rate: share of them that is dropped; rounded so that a multiple of WIDTH lives, at least one WIDTH.

    Attributes:
        places: float32 [living, count], a one in each row where a living channel has its place; of the last throw.
    """

    def __init__(self, count: int, rate: float):
        self.count = count
        self.living = min(count, WIDTH * max(1, round(count * (1 - rate) / WIDTH)))
        self.places = tf.eye(self.living, count)

    def columns(self, weights):
        """Return the living columns of the weights that make the channels: [..., count] -> [..., living]."""
        if self.living == self.count:
            return weights
        return tf.matmul(weights, tf.cast(self.places, weights.dtype), transpose_b=True)

    def rows(self, weights):
        """Return the living rows of the weights that read the channels: [..., count, c] -> [..., living, c].

        They are scaled by what was dropped, so that the expectation is that of all channels.
        """
        if self.living == self.count:
            return weights
        return tf.matmul(tf.cast(self.places * (self.count / self.living), weights.dtype), weights)


class Dice:
    """The random numbers of all dropout in a model, thrown anew for each step.

    What channels live is thrown for all layers at once: a throw for each would be hundreds of small operations.
    """

    def __init__(self) -> None:
        self._channels: list[Channels] = []
        self._numbers = itertools.count()
        self.throw(tf.zeros([2], tf.int32))

    def channels(self, count: int, rate: float) -> Channels:
        """Return the channels that a layer makes; for the arguments see `Channels`."""
        self._channels.append(Channels(count, rate))
        return self._channels[-1]

    def number(self) -> int:
        """Return the number by which the next layer asks for bytes."""
        return next(self._numbers)

    def throw(self, seed) -> None:
        """Throw anew. In the graph of a training step, this comes before the layers.

        Args:
            seed: int32 [2], of this step alone.
        """
        self._seed = seed
        for (count, living), group in _grouped(self._channels):
            lots = tf.random.stateless_uniform([len(group), count], tf.random.fold_in(seed, -count), alg="philox")
            places = tf.one_hot(tf.math.top_k(lots, living).indices, count)
            for channels, place in zip(group, tf.unstack(places), strict=True):
                channels.places = place

    def bytes(self, number: int, count):
        """Return a random byte for each unit of a layer: uint8 [count]."""
        seed = tf.random.fold_in(self._seed, number)
        words = tf.random.stateless_uniform([(count + 7) // 8], seed, None, None, tf.uint64, alg="philox")
        return tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:count]


def _grouped(channels: list[Channels]):
    def sizes(some: Channels) -> tuple[int, int]:
        return some.count, some.living

    return [(key, list(group)) for key, group in itertools.groupby(sorted(channels, key=sizes), sizes)]


@keras.saving.register_keras_serializable("huetune")
class Windows(keras.layers.Layer):
    """Cut the window of each box out of feature maps: [n, side, side, c] -> [n x boxes, size, size, c].

    Args:
        size: pixels along each side of a window.
        stride: pixels from one window to the next.
    """

    def __init__(self, size: int, stride: int, **kwargs):
        super().__init__(**kwargs)
        self.size, self.stride = size, stride

    def call(self, maps):
        side, channels = maps.shape[1], maps.shape[3]
        if side == self.size:
            return maps
        grid = (side - self.size) // self.stride + 1
        rows = self._cut(maps, grid, axis=1)
        both = self._cut(rows, grid, axis=3)
        return tf.reshape(tf.transpose(both, [0, 1, 3, 2, 4, 5]), [-1, self.size, self.size, channels])

    def _cut(self, maps, grid: int, axis: int):
        """Split an axis into [grid, size].

        A window of up to k strides is k neighbouring blocks side by side: reshapes and a concatenation, whose gradients
        cost next to nothing on a CPU, where those of a gather are slower than the convolutions.
        """
        shape = [-1 if size is None else size for size in maps.shape]
        blocks = -(-self.size // self.stride)
        length = (grid + blocks - 1) * self.stride
        if length > shape[axis]:
            padding = [(0, 0)] * len(shape)
            padding[axis] = (0, length - shape[axis])
            maps = tf.pad(maps, padding)
        parts = []
        for block in range(blocks):
            start = [0] * len(shape)
            start[axis] = block * self.stride
            size = [-1] * len(shape)
            size[axis] = grid * self.stride
            part = maps if blocks == 1 else tf.slice(maps, start, size)
            part = tf.reshape(part, [*shape[:axis], grid, self.stride, *shape[axis + 1 :]])
            if (rest := self.size - block * self.stride) < self.stride:
                keep = [-1] * (len(shape) + 1)
                keep[axis + 1] = rest
                part = tf.slice(part, [0] * (len(shape) + 1), keep)
            parts.append(part)
        return parts[0] if blocks == 1 else tf.concat(parts, axis=axis + 1)

    def compute_output_shape(self, shape):
        return (None, self.size, self.size, shape[3])

    def get_config(self):
        return {**super().get_config(), "size": self.size, "stride": self.stride}


@keras.saving.register_keras_serializable("huetune")
class Share(keras.layers.Layer):
    """Give what each photo has once to each of its boxes: [n, c] and [n x boxes, p] -> [n x boxes, c]."""

    def call(self, photos, boxes):
        return tf.repeat(photos, tf.shape(boxes)[0] // tf.shape(photos)[0], axis=0)

    def compute_output_shape(self, photos_shape, boxes_shape):
        return (boxes_shape[0], photos_shape[1])


@keras.saving.register_keras_serializable("huetune")
class Dropout(keras.layers.Layer):
    """Dropout for which a byte of randomness is drawn for each unit, not a float.

    Keras's own draws 32 bits, and in training that costs a third as much as all convolutions together. The rate is
    rounded to 1/256, and what is kept is scaled by exactly what the rounded rate drops, so the expectation is that of
    the whole layer.

    Args:
        rate: share of the units dropped, 0 up to but not including 1.
        dice: of the model.
    """

    def __init__(self, rate: float, dice: Dice | None = None, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.dice = dice or Dice()
        self.number = self.dice.number()
        self.kept = max(1, round(256 * (1 - rate)))

    def call(self, units, training=False):
        if not training or self.kept == 256:
            return units
        dice = self.dice.bytes(self.number, tf.size(units))
        mask = tf.cast(dice < self.kept, units.dtype) * (256 / self.kept)
        return units * tf.reshape(mask, tf.shape(units))

    def compute_output_shape(self, shape):
        return shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


@keras.saving.register_keras_serializable("huetune")
class Convolution(keras.layers.Conv2D):
    """A 3 x 3 convolution, without padding, and its activation; in training, of the living channels alone.

    Args:
        filters: as for Keras.
        read: the channels that it reads, where whole channels are dropped.
        made: the channels that it makes, likewise.
    """

    def __init__(self, filters: int, read: Channels | None = None, made: Channels | None = None, **kwargs):
        super().__init__(filters, **{"kernel_size": 3, **kwargs})
        self.read, self.made = read, made

    def build(self, shape):
        super().build(shape)
        self.input_spec = None  # in training, fewer channels come than at rest

    def call(self, maps, training=False):
        kernel, bias = tf.convert_to_tensor(self.kernel), tf.convert_to_tensor(self.bias)
        if training and self.read:
            kernel = self.read.rows(kernel)
        if training and self.made:
            kernel, bias = self.made.columns(kernel), tf.reshape(self.made.columns(tf.reshape(bias, [1, -1])), [-1])
        convolved = _of_grey(maps, kernel) if maps.shape[3] == 1 else tf.nn.conv2d(maps, kernel, 1, "VALID")
        return _activate(self.activation, tf.nn.bias_add(convolved, bias))


def _activate(activation, units):
    # Keras's own computes the sigmoid again for the gradient, and TensorFlow keeps its graph for ever: what has a
    # gradient of its own is registered by name and never let go.
    return units * tf.sigmoid(units) if activation is keras.activations.silu else activation(units)


def _of_grey(pixels, kernel):
    """Convolve pictures of one channel, as a product of matrices: convolutions are made for many channels."""
    rows, columns = (side - 2 for side in pixels.shape[1:3])
    taps = [pixels[:, row : row + rows, column : column + columns, 0] for row in range(3) for column in range(3)]
    product = tf.matmul(tf.reshape(tf.stack(taps), [9, -1]), tf.reshape(kernel, [9, -1]), transpose_a=True)
    return tf.reshape(product, [-1, rows, columns, kernel.shape[3]])


@keras.saving.register_keras_serializable("huetune")
class Dense(keras.layers.Dense):
    """Keras's own with the activation of this module."""

    def call(self, units):
        return _activate(self.activation, tf.nn.bias_add(tf.matmul(units, self.kernel), self.bias))


@keras.saving.register_keras_serializable("huetune")
class Merge(keras.layers.Dense):
    """A Dense layer on the flattened maps of a box and whatever is appended; in training, on the living channels alone.

    Args:
        units: as for Keras.
        channels: of the maps, 4 x 4 pixels each.
        read: the channels, where whole channels are dropped.
    """

    def __init__(self, units: int, channels: int, read: Channels | None = None, **kwargs):
        super().__init__(units, **kwargs)
        self.channels, self.read = channels, read

    def build(self, shape):
        super().build(shape)
        self.input_spec = None  # in training, fewer channels come than at rest

    def call(self, flat, training=False):
        kernel = tf.convert_to_tensor(self.kernel)
        if training and self.read:
            size = PIXELS * self.channels
            maps, others = tf.split(kernel, [size, kernel.shape[0] - size])
            maps = self.read.rows(tf.reshape(maps, [PIXELS, self.channels, self.units]))
            kernel = tf.concat([tf.reshape(maps, [-1, self.units]), others], axis=0)
        return _activate(self.activation, tf.nn.bias_add(tf.matmul(flat, kernel), self.bias))

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}
