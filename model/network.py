"""The VAE: an encoder and a decoder of four towers each, for loose boxes and for whole photos alike.

A tower reads one of the four context views (data_tools.contexts). The views of neighbouring boxes are overlapping
windows of one shrunk photo, and a convolution slides: run over the whole shrunk photo, it computes every box's features
at once, and what neighbours have in common only once. `Windows` then cuts each box's share out of the result.

    shrunk photos [n, side, side, 1] -> convolutions -> Windows -> [n x 196, 4, 4, 48] -> Dense ... a row a box

A loose box is the smallest photo: its view is 14 x 14, the convolutions leave exactly one 4 x 4 window, and `Windows`
has nothing to cut. So the log's batches of loose boxes and whole photos run through the same layers and weights, and
there is no second model to keep in step.
"""

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from data_tools.contexts import VIEWS, WINDOW
from model.config import PRESETS, Config

FILTERS = (16, 32, 32, 48, 48)
LATENT = 120
CONTEXT = 32
"""Features that each tower hands on."""
L2 = 0.001
SHOWN = ("mse_weight", "activation", "skip", "merge_units", "positions")
"""The settings in which presets differ."""


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
        blocks = -(-self.size // self.stride)
        length = (grid + blocks - 1) * self.stride
        shape = [-1 if size is None else size for size in maps.shape]
        padding = [(0, 0)] * len(shape)
        padding[axis] = (0, max(0, length - shape[axis]))
        padded = tf.pad(maps, padding)
        parts = []
        for block in range(blocks):
            start = [0] * len(shape)
            start[axis] = block * self.stride
            size = [-1] * len(shape)
            size[axis] = grid * self.stride
            part = tf.slice(padded, start, size)
            part = tf.reshape(part, [*shape[:axis], grid, self.stride, *shape[axis + 1 :]])
            keep = [-1] * (len(shape) + 1)
            keep[axis + 1] = min(self.stride, self.size - block * self.stride)
            parts.append(tf.slice(part, [0] * (len(shape) + 1), keep))
        return tf.concat(parts, axis=axis + 1)

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
    """

    def __init__(self, rate: float, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.kept = max(1, round(256 * (1 - rate)))
        self.seed_generator = keras.random.SeedGenerator(0)

    def call(self, units, training=False):
        if not training or self.kept == 256:
            return units
        count = tf.size(units)
        words = tf.random.stateless_uniform(
            [(count + 7) // 8], self.seed_generator.next(), None, None, tf.uint64, alg="philox"
        )
        dice = tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:count]
        mask = tf.cast(dice < self.kept, units.dtype) * (256 / self.kept)
        return units * tf.reshape(mask, tf.shape(units))

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


@dataclass(frozen=True)
class Network:
    """The Keras models of one VAE.

    Row k of every [boxes, ...] tensor is box k % 196 of photo k // 196 (for loose boxes: box k).

    Attributes:
        encoder: shrunk photos and positions -> latent mean and log-variance, [boxes, 120] each.
        towers: the decoder's towers: shrunk photos and positions -> context features [boxes, 128].
        head: context features, latent vectors [boxes, 120] and positions -> chroma [boxes, 2], tanh.
        decoder: `head` on `towers`: shrunk photos, positions and latent vectors -> chroma.
        vae: the whole: shrunk photos, positions and standard normal noise [boxes, 120] -> chroma, mean, log-variance.
    """

    encoder: keras.Model
    towers: keras.Model
    head: keras.Model
    decoder: keras.Model
    vae: keras.Model


def build(config: Config) -> Network:
    """Return the model of a configuration, with Keras's own random weights."""
    sides = [None if view.stride else view.side for view in VIEWS]
    views = [keras.Input((side, side, 1), name=f"view_{view.covers}") for side, view in zip(sides, VIEWS, strict=True)]
    place = keras.Input((config.positions,), name="position")
    latent = keras.Input((LATENT,), name="latent")
    noise = keras.Input((LATENT,), name="noise")
    features = keras.Input((len(VIEWS) * CONTEXT,), name="features")

    seen = keras.layers.Concatenate(name="encoder_seen")([_towers(views, place, config, "encoder"), place])
    hidden = keras.layers.Dense(64, config.activation, name="encoder_hidden")(seen)
    mean = keras.layers.Dense(LATENT, name="latent_mean")(hidden)
    log_variance = keras.layers.Dense(LATENT, name="latent_log_variance")(hidden)
    encoder = keras.Model([*views, place], [mean, log_variance], name="encoder")

    towers = keras.Model([*views, place], _towers(views, place, config, "decoder"), name="decoder_towers")
    known = keras.layers.Concatenate(name="decoder_known")([features, latent, place])
    hidden = keras.layers.Dense(96, config.activation, name="decoder_hidden")(known)
    hidden = Dropout(config.dropout, name="decoder_dropout")(hidden)
    chroma = keras.layers.Dense(2, "tanh", name="chroma")(hidden)
    head = keras.Model([features, latent, place], chroma, name="decoder_head")
    decoder = keras.Model([*views, place, latent], head([towers([*views, place]), latent, place]), name="decoder")

    mean, log_variance = encoder([*views, place])
    sampled = mean + keras.ops.exp(log_variance / 2) * noise
    painted = decoder([*views, place, sampled])
    vae = keras.Model([*views, place, noise], [painted, mean, log_variance], name="vae")
    return Network(encoder, towers, head, decoder, vae)


def _towers(views, place, config: Config, model: str):
    outputs = []
    for index, (pixels, view) in enumerate(zip(views, VIEWS, strict=True)):
        features = _tower(pixels, view.stride, config, f"{model}_{view.covers}")
        outputs.append(Share(name=f"{model}_{view.covers}_share")(features, place) if index == 0 else features)
    return keras.layers.Concatenate(name=f"{model}_contexts")(outputs)


def _tower(pixels, stride: int, config: Config, name: str):
    """The features of each window of one view; without a stride, of the one window that all boxes share."""
    layers = keras.layers
    # Windows that overlap little (stride 8 of 14 pixels) are cut after two layers: later, the wide maps between them
    # cost more than the neighbours' shared part saves.
    cut = 2 if stride == 8 else len(FILTERS)
    maps = pixels
    for depth, filters in enumerate(FILTERS):
        if stride and depth == cut:
            maps = Windows(WINDOW - 2 * depth, stride, name=f"{name}_windows")(maps)
        convolve = layers.Conv2D(
            filters,
            3,
            activation=config.activation,
            kernel_regularizer=keras.regularizers.L2(L2),
            name=f"{name}_conv_{depth}",
        )
        maps = Dropout(config.dropout, name=f"{name}_dropout_{depth}")(convolve(maps))
    if stride and cut == len(FILTERS):
        maps = Windows(WINDOW - 2 * cut, stride, name=f"{name}_windows")(maps)
    flat = layers.Flatten(name=f"{name}_flat")(maps)
    if config.skip:
        seen = Windows(WINDOW, stride, name=f"{name}_skip")(pixels) if stride else pixels
        flat = layers.Concatenate(name=f"{name}_with_view")([flat, layers.Flatten(name=f"{name}_view")(seen)])
    merged = layers.Dense(config.merge_units, config.activation, name=f"{name}_merge")(flat)
    merged = Dropout(config.dropout, name=f"{name}_merge_dropout")(merged)
    return layers.Dense(CONTEXT, config.activation, name=f"{name}_context")(merged)


def preset_rows() -> list[dict[str, Any]]:
    """Return the presets as rows: name, settings, and how many parameters their models have."""
    rows = []
    for name, config in PRESETS.items():
        network = build(config)
        settings = {field: getattr(config, field) for field in SHOWN}
        encoder, decoder = network.encoder.count_params(), network.decoder.count_params()
        counts = {"encoder_parameters": encoder, "decoder_parameters": decoder, "parameters": encoder + decoder}
        rows.append({"name": name, **settings, **counts})
    return rows
