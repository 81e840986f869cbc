"""The VAE: an encoder and a decoder of four towers each, for single patches and for whole photos alike.

Each tower reads one of the four context windows of a patch (see `huetune.data_tools.photos.context_windows`). The
windows of neighboring patches are overlapping parts of one shrunk photo. A convolution of the whole shrunk photo
computes the feature maps of all patches at once, and those of overlapping pixels only once. The layer `Windows` then
cuts the maps of each patch out of the result.

    shrunk photos [n, side, side, 1] -> convolutions -> Windows -> [n x 196, 4, 4, 48] -> Dense -> ... (a row per patch)

A single patch is computed like the smallest photo: its context window is 14 x 14, the convolutions leave exactly one
4 x 4 window, and `Windows` has nothing to cut. So the recipes for single patches and for photos use the same layers and
weights, and there is no second model to keep consistent.

Training computes the same function with `model.forward`. The dropout layers here show what training drops; huetune
never calls these models with `training=True`.
"""

from dataclasses import dataclass

from huetune.data_tools.common.keras_backend import FLOATX, keras, own_settings
from huetune.data_tools.photos.context_windows import CONTEXT_WINDOWS, WINDOW_SIDE
from huetune.model.config import CONTEXT, FILTERS, HIDDEN, LATENT, Config
from huetune.model.dropout import kept_channel_counts
from huetune.model.layers import Convolution, Dense, Share, Windows, cut_depth


@dataclass(frozen=True)
class Network:
    """The Keras models of one VAE, which share their layers.

    Images are four tensors, one for each context window: shrunk photos [n, side, side, 1] with sides 14, 40, 66 and
    118, 0..1, or the context windows of single patches [patches, 14, 14, 1]. Positions are [patches, 2 or 7], 0..1.
    Row k of every [patches, ...] tensor is patch k % 196 of photo k // 196, or single patch k.

    Attributes:
        encoder: images and positions -> mean and log-variance of the latent vectors, [patches, 120] each.
        towers: the decoder's towers: images and positions -> context features [patches, 128].
        head: context features, latent vectors [patches, 120] and positions -> chroma [patches, 2], -1..1.
        decoder: `towers` followed by `head`: images, positions and latent vectors -> chroma.
        vae: the whole model: images, positions and standard normal noise [patches, 120] -> chroma, mean and
            log-variance.
    """

    encoder: keras.Model
    towers: keras.Model
    head: keras.Model
    decoder: keras.Model
    vae: keras.Model


def build(config: Config, dtype_policy: str = FLOATX) -> Network:
    """Build the Keras models of a configuration, with random weights as Keras draws them.

    Args:
        config: `activation`, `skip`, `merge_units` and `positions` determine the layers; `dropout` and `dropout_of`
            determine the dropout layers.
        dtype_policy: name of the Keras dtype policy of the hidden layers; weights and outputs are float32.
    """
    with own_settings(dtype_policy):
        return _build(config)


def _build(config: Config) -> Network:
    # The names "view_...", "..._seen" and "..._known" are part of saved models, so they stay as they are.
    sides = [None if window.stride else window.side for window in CONTEXT_WINDOWS]
    images = [
        keras.Input((side, side, 1), name=f"view_{window.covers}")
        for side, window in zip(sides, CONTEXT_WINDOWS, strict=True)
    ]
    position = keras.Input((config.positions,), name="position")
    latent = keras.Input((LATENT,), name="latent")
    noise = keras.Input((LATENT,), name="noise")
    features = keras.Input((len(CONTEXT_WINDOWS) * CONTEXT,), name="features")

    encoder_features = _towers(images, position, config, "encoder")
    inputs = keras.layers.Concatenate(name="encoder_seen")([encoder_features, position])
    hidden = Dense(HIDDEN[0], config.activation, name="encoder_hidden")(inputs)
    mean = keras.layers.Dense(LATENT, dtype="float32", name="latent_mean")(hidden)
    log_variance = keras.layers.Dense(LATENT, dtype="float32", name="latent_log_variance")(hidden)
    encoder = keras.Model([*images, position], [mean, log_variance], name="encoder")

    towers = keras.Model([*images, position], _towers(images, position, config, "decoder"), name="decoder_towers")
    inputs = keras.layers.Concatenate(name="decoder_known")([features, latent, position])
    hidden = Dense(HIDDEN[1], config.activation, name="decoder_hidden")(inputs)
    if config.dropout:
        hidden = keras.layers.Dropout(config.dropout, name="decoder_dropout")(hidden)
    chroma = keras.layers.Dense(2, "tanh", dtype="float32", name="chroma")(hidden)
    head = keras.Model([features, latent, position], chroma, name="decoder_head")
    decoder_chroma = head([towers([*images, position]), latent, position])
    decoder = keras.Model([*images, position, latent], decoder_chroma, name="decoder")

    mean, log_variance = encoder([*images, position])
    sampled = mean + keras.ops.exp(log_variance / 2) * noise
    predicted = decoder([*images, position, sampled])
    vae = keras.Model([*images, position, noise], [predicted, mean, log_variance], name="vae")
    return Network(encoder, towers, head, decoder, vae)


def _towers(images, position, config: Config, model: str):
    """Return the concatenated context features [patches, 128] of the four towers of the encoder or the decoder.

    Args:
        images: the four Keras inputs of `Network`.
        position: Keras input; its rows are counted to repeat the features of the whole photo for each patch.
        config: settings of the model.
        model: "encoder" or "decoder", the prefix of the layer names.
    """
    outputs = []
    for index, (image, window) in enumerate(zip(images, CONTEXT_WINDOWS, strict=True)):
        features = _tower(image, window.stride, config, f"{model}_{window.covers}")
        outputs.append(Share(name=f"{model}_{window.covers}_share")(features, position) if index == 0 else features)
    return keras.layers.Concatenate(name=f"{model}_contexts")(outputs)


def _tower(image, stride: int, config: Config, name: str):
    """Return the features of one tower: [patches, 32], or [photos, 32] if all patches of a photo share one window.

    Args:
        image: Keras input of the tower.
        stride: pixels between the context windows of neighboring patches; 0 if all patches share one.
        config: settings of the model.
        name: the prefix of the layer names.
    """
    layers = keras.layers
    cut = cut_depth(stride) or len(FILTERS)
    maps, kept_counts = image, kept_channel_counts(config.dropout)
    for depth, filters in enumerate(FILTERS):
        if stride and depth == cut:
            maps = Windows(WINDOW_SIDE - 2 * depth, stride, name=f"{name}_windows")(maps)
        maps = Convolution(filters, activation=config.activation, name=f"{name}_conv_{depth}")(maps)
        if config.dropout_of == "units" and config.dropout:
            maps = layers.Dropout(config.dropout, name=f"{name}_dropout_{depth}")(maps)
        elif config.dropout_of == "channels" and kept_counts[depth] < filters:
            maps = layers.SpatialDropout2D(1 - kept_counts[depth] / filters, name=f"{name}_dropout_{depth}")(maps)
    if stride and cut == len(FILTERS):
        maps = Windows(WINDOW_SIDE - 2 * cut, stride, name=f"{name}_windows")(maps)
    flat = layers.Flatten(name=f"{name}_flat")(maps)
    if config.skip:
        window = Windows(WINDOW_SIDE, stride, name=f"{name}_skip")(image) if stride else image
        flat = layers.Concatenate(name=f"{name}_with_view")([flat, layers.Flatten(name=f"{name}_view")(window)])
    merged = Dense(config.merge_units, config.activation, name=f"{name}_merge")(flat)
    if config.dropout:
        merged = layers.Dropout(config.dropout, name=f"{name}_merge_dropout")(merged)
    return Dense(CONTEXT, config.activation, name=f"{name}_context")(merged)
