"""What the towers are made of that Keras does not have, or has slower: for the Keras model and for training alike."""

from huetune.data_tools.common.keras_backend import keras, tf


def activate(activation, units):
    """Return the activation of units; `activation` is one of Keras's functions."""
    # Keras's own computes the sigmoid again for the gradient, and TensorFlow keeps its graph for ever: what has a
    # gradient of its own is registered by name and never let go.
    return units * tf.sigmoid(units) if activation is keras.activations.silu else activation(units)


def cut_depth(stride: int) -> int | None:
    """Return before which convolution windows so many pixels apart are cut, None where it is after all of them.

    Windows that overlap little are cut where they no longer overlap at all: from there on, what lies between them would
    be computed for nothing.
    """
    return 3 if stride == 8 else None


def windows(maps, size: int, stride: int, channels):
    """Cut the window of each patch out of maps: [n, side, side, c] -> [n x patches, size, size, c].

    A window of up to k strides is k neighboring blocks side by side: reshapes and a concatenation, whose gradients cost
    next to nothing on a CPU, where those of a gather are slower than the convolutions.

    Args:
        maps: their sides are known, and the number of pictures need not be.
        size: pixels along each side of a window.
        stride: pixels from one window to the next.
        channels: of the maps: an integer or an int32 scalar.
    """
    side = maps.shape[1]
    grid = (side - size) // stride + 1
    rows = _cut(maps, [-1, side, side, channels], grid, size, stride, axis=1)
    both = _cut(rows, [-1, grid, size, side, channels], grid, size, stride, axis=3)
    # The number of channels may be a tensor, from which TensorFlow cannot tell how many windows there are.
    count = -1 if maps.shape[0] is None else maps.shape[0] * grid * grid
    return tf.reshape(tf.transpose(both, [0, 1, 3, 2, 4, 5]), [count, size, size, channels])


def _cut(maps, shape: list, grid: int, size: int, stride: int, axis: int):
    """Split an axis into [grid, size]."""
    blocks = -(-size // stride)
    length = (grid + blocks - 1) * stride
    if length > shape[axis]:
        padding = [(0, 0)] * len(shape)
        padding[axis] = (0, length - shape[axis])
        maps = tf.pad(maps, padding)
    parts = []
    for block in range(blocks):
        start = [0] * len(shape)
        start[axis] = block * stride
        extent = [-1] * len(shape)
        extent[axis] = grid * stride
        part = maps if blocks == 1 else tf.slice(maps, start, extent)
        part = tf.reshape(part, [*shape[:axis], grid, stride, *shape[axis + 1 :]])
        if (rest := size - block * stride) < stride:
            keep = [-1] * (len(shape) + 1)
            keep[axis + 1] = rest
            part = tf.slice(part, [0] * (len(shape) + 1), keep)
        parts.append(part)
    return parts[0] if blocks == 1 else tf.concat(parts, axis=axis + 1)


@keras.saving.register_keras_serializable("huetune")
class Windows(keras.layers.Layer):
    """Cut the window of each patch out of feature maps: [n, side, side, c] -> [n x patches, size, size, c].

    Args:
        size: pixels along each side of a window.
        stride: pixels from one window to the next.
    """

    def __init__(self, size: int, stride: int, **kwargs):
        super().__init__(**kwargs)
        self.size, self.stride = size, stride

    def call(self, maps):
        # A loose patch's view is its one window.
        return maps if maps.shape[1] == self.size else windows(maps, self.size, self.stride, maps.shape[3])

    def compute_output_shape(self, shape):
        return (None, self.size, self.size, shape[3])

    def get_config(self):
        return {**super().get_config(), "size": self.size, "stride": self.stride}


@keras.saving.register_keras_serializable("huetune")
class Share(keras.layers.Layer):
    """Give what each photo has once to each of its patches: [n, c] and [n x patches, p] -> [n x patches, c]."""

    def call(self, photos, patches):
        return tf.repeat(photos, tf.shape(patches)[0] // tf.shape(photos)[0], axis=0)

    def compute_output_shape(self, photos_shape, patches_shape):
        return (patches_shape[0], photos_shape[1])


@keras.saving.register_keras_serializable("huetune")
class Convolution(keras.layers.Conv2D):
    """A 3 x 3 convolution, without padding, and its activation.

    Args:
        filters: as for Keras.
    """

    def __init__(self, filters: int, **kwargs):
        super().__init__(filters, **{"kernel_size": 3, **kwargs})

    def call(self, maps):
        convolved = tf.nn.conv2d(maps, tf.convert_to_tensor(self.kernel), 1, "VALID")
        return activate(self.activation, tf.nn.bias_add(convolved, tf.convert_to_tensor(self.bias)))


@keras.saving.register_keras_serializable("huetune")
class Dense(keras.layers.Dense):
    """Keras's own with the activation of this module."""

    def call(self, units):
        return activate(self.activation, tf.nn.bias_add(tf.matmul(units, self.kernel), self.bias))
