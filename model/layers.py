"""Parts of the towers that Keras lacks or computes more slowly, for both `model.network` and `model.forward`."""

from huetune.data_tools.common.keras_backend import keras, tf


def activate(activation, units):
    """Apply an activation to units.

    Args:
        activation: activation function, as `keras.activations.get` returns it.
        units: float tensor of any shape.
    """
    # TensorFlow's silu, which Keras uses, has a custom gradient. It computes the sigmoid a second time, and TensorFlow
    # registers each custom gradient by name and never releases its graph.
    return units * tf.sigmoid(units) if activation is keras.activations.silu else activation(units)


def cut_depth(stride: int) -> int | None:
    """Return the index of the convolution before which feature maps are cut into windows; None for after all of them.

    Windows that overlap little are cut as soon as they no longer overlap, because from then on the pixels between them
    would be computed in vain.

    Args:
        stride: pixels between the context windows of neighboring patches.
    """
    return 3 if stride == 8 else None


def cut_windows(maps, size: int, stride: int, channels):
    """Cut the window of each patch out of feature maps: [n, side, side, c] -> [n x patches, size, size, c].

    A window whose size is at most k strides consists of k neighboring blocks of one stride. So reshapes and a
    concatenation are enough, whose gradients cost little on a CPU; the gradients of a gather are slower than the
    convolutions.

    Args:
        maps: float [n, side, side, c]. `side` is static; n need not be.
        size: pixels along each side of a window.
        stride: pixels between neighboring windows.
        channels: number of channels c: an integer or an int32 scalar.
    """
    side = maps.shape[1]
    grid = (side - size) // stride + 1
    rows = _split_axis(maps, [-1, side, side, channels], grid, size, stride, axis=1)
    windows = _split_axis(rows, [-1, grid, size, side, channels], grid, size, stride, axis=3)
    # If the number of channels is a tensor, TensorFlow cannot infer the number of windows from it.
    count = -1 if maps.shape[0] is None else maps.shape[0] * grid * grid
    return tf.reshape(tf.transpose(windows, [0, 1, 3, 2, 4, 5]), [count, size, size, channels])


def _split_axis(maps, shape: list, grid: int, size: int, stride: int, axis: int):
    """Split an axis into [grid, size]: as many overlapping windows as fit.

    Args:
        maps: tensor of the shape.
        shape: sizes of the axes; -1 for an unknown one.
        grid: number of windows along the axis.
        size: pixels of a window along the axis.
        stride: pixels between neighboring windows.
        axis: the axis to split.
    """
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
    """Cuts the window of each patch out of feature maps: [n, side, side, c] -> [n x patches, size, size, c].

    Maps that already have the size of a window, those of single patches, are returned unchanged.

    Args:
        size: pixels along each side of a window.
        stride: pixels between neighboring windows.
    """

    def __init__(self, size: int, stride: int, **kwargs):
        super().__init__(**kwargs)
        self.size, self.stride = size, stride

    def call(self, maps):
        return maps if maps.shape[1] == self.size else cut_windows(maps, self.size, self.stride, maps.shape[3])

    def compute_output_shape(self, shape):
        return (None, self.size, self.size, shape[3])

    def get_config(self):
        return {**super().get_config(), "size": self.size, "stride": self.stride}


@keras.saving.register_keras_serializable("huetune")
class Share(keras.layers.Layer):
    """Repeats the features of each photo for each of its patches: [n, c] -> [n x patches, c].

    The second input is any tensor with one row for each patch, [n x patches, p].
    """

    def call(self, photos, patches):
        return tf.repeat(photos, tf.shape(patches)[0] // tf.shape(photos)[0], axis=0)

    def compute_output_shape(self, photos_shape, patches_shape):
        return (patches_shape[0], photos_shape[1])


@keras.saving.register_keras_serializable("huetune")
class Convolution(keras.layers.Conv2D):
    """A 3 x 3 convolution without padding, followed by `activate`.

    Args:
        filters: number of output channels, as for `keras.layers.Conv2D`.
    """

    def __init__(self, filters: int, **kwargs):
        super().__init__(filters, **{"kernel_size": 3, **kwargs})

    def call(self, maps):
        convolved = tf.nn.conv2d(maps, tf.convert_to_tensor(self.kernel), 1, "VALID")
        return activate(self.activation, tf.nn.bias_add(convolved, tf.convert_to_tensor(self.bias)))


@keras.saving.register_keras_serializable("huetune")
class Dense(keras.layers.Dense):
    """Keras's Dense layer, followed by `activate`."""

    def call(self, units):
        return activate(self.activation, tf.nn.bias_add(tf.matmul(units, self.kernel), self.bias))
