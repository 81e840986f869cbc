"""The VAE: an encoder and a decoder of four towers each, for single patches and for whole photos alike.

A tower reads one of the four context views (data_tools.photos.context_windows). The views of neighboring patches are
overlapping windows of one shrunk photo, and a convolution slides: run over the whole shrunk photo, it computes every
patch's features at once, and what neighbors have in common only once. `Windows` then cuts each patch's share out of
the result.

    shrunk photos [n, side, side, 1] -> convolutions -> Windows -> [n x 196, 4, 4, 48] -> Dense ... a row a patch

A single patch is computed like the smallest photo: its context window is 14 x 14, the convolutions leave exactly one
4 x 4 window, and `Windows` has nothing to cut. So the recipes for single patches and for photos use the same layers and
weights, and there is no second model to keep consistent.

Training has a graph of its own (model.forward); the dropout layers here say what it drops, and do nothing at rest.
"""

from dataclasses import dataclass

from huetune.data_tools.common.keras_backend import FLOATX, keras, own_settings
from huetune.data_tools.photos.context_windows import CONTEXT_WINDOWS, WINDOW_SIDE
from huetune.model.config import CONTEXT, FILTERS, HIDDEN, LATENT, Config
from huetune.model.dropout import kept_channels
from huetune.model.layers import Convolution, Dense, Share, Windows, cut_depth


@dataclass(frozen=True)
class Network:
    """The Keras models of one VAE.

    Row k of every [patches, ...] tensor is patch k % 196 of photo k // 196 (for single patches: patch k).

    Attributes:
        encoder: shrunk photos and positions -> latent mean and log-variance, [patches, 120] each.
        towers: the decoder's towers: shrunk photos and positions -> context features [patches, 128].
        head: context features, latent vectors [patches, 120] and positions -> chroma [patches, 2], tanh.
        decoder: `head` on `towers`: shrunk photos, positions and latent vectors -> chroma.
        vae: the whole: shrunk photos, positions and standard normal noise [patches, 120] -> chroma, mean, log-variance.
    """

    encoder: keras.Model
    towers: keras.Model
    head: keras.Model
    decoder: keras.Model
    vae: keras.Model


def build(config: Config, dtype_policy: str = FLOATX) -> Network:
    """Return the model of a configuration, with Keras's own random weights.

    Args:
        config: its settings.
        dtype_policy: name of the Keras policy by which the layers compute; weights and outputs are float32.
    """
    with own_settings(dtype_policy):
        return _build(config)


def _build(config: Config) -> Network:
    sides = [None if view.stride else view.side for view in CONTEXT_WINDOWS]
    views = [
        keras.Input((side, side, 1), name=f"view_{view.covers}")
        for side, view in zip(sides, CONTEXT_WINDOWS, strict=True)
    ]
    place = keras.Input((config.positions,), name="position")
    latent = keras.Input((LATENT,), name="latent")
    noise = keras.Input((LATENT,), name="noise")
    features = keras.Input((len(CONTEXT_WINDOWS) * CONTEXT,), name="features")

    seen = keras.layers.Concatenate(name="encoder_seen")([_towers(views, place, config, "encoder"), place])
    hidden = Dense(HIDDEN[0], config.activation, name="encoder_hidden")(seen)
    mean = keras.layers.Dense(LATENT, dtype="float32", name="latent_mean")(hidden)
    log_variance = keras.layers.Dense(LATENT, dtype="float32", name="latent_log_variance")(hidden)
    encoder = keras.Model([*views, place], [mean, log_variance], name="encoder")

    towers = keras.Model([*views, place], _towers(views, place, config, "decoder"), name="decoder_towers")
    known = keras.layers.Concatenate(name="decoder_known")([features, latent, place])
    hidden = Dense(HIDDEN[1], config.activation, name="decoder_hidden")(known)
    if config.dropout:
        hidden = keras.layers.Dropout(config.dropout, name="decoder_dropout")(hidden)
    chroma = keras.layers.Dense(2, "tanh", dtype="float32", name="chroma")(hidden)
    head = keras.Model([features, latent, place], chroma, name="decoder_head")
    decoder = keras.Model([*views, place, latent], head([towers([*views, place]), latent, place]), name="decoder")

    mean, log_variance = encoder([*views, place])
    sampled = mean + keras.ops.exp(log_variance / 2) * noise
    painted = decoder([*views, place, sampled])
    vae = keras.Model([*views, place, noise], [painted, mean, log_variance], name="vae")
    return Network(encoder, towers, head, decoder, vae)


def _towers(views, place, config: Config, model: str):
    outputs = []
    for index, (pixels, view) in enumerate(zip(views, CONTEXT_WINDOWS, strict=True)):
        features = _tower(pixels, view.stride, config, f"{model}_{view.covers}")
        outputs.append(Share(name=f"{model}_{view.covers}_share")(features, place) if index == 0 else features)
    return keras.layers.Concatenate(name=f"{model}_contexts")(outputs)


def _tower(pixels, stride: int, config: Config, name: str):
    """The features of each window of one view; without a stride, of the one window that all patches share."""
    layers = keras.layers
    cut = cut_depth(stride) or len(FILTERS)
    maps, alive = pixels, kept_channels(config.dropout)
    for depth, filters in enumerate(FILTERS):
        if stride and depth == cut:
            maps = Windows(WINDOW_SIDE - 2 * depth, stride, name=f"{name}_windows")(maps)
        maps = Convolution(filters, activation=config.activation, name=f"{name}_conv_{depth}")(maps)
        if config.dropout_of == "units" and config.dropout:
            maps = layers.Dropout(config.dropout, name=f"{name}_dropout_{depth}")(maps)
        elif config.dropout_of == "channels" and alive[depth] < filters:
            maps = layers.SpatialDropout2D(1 - alive[depth] / filters, name=f"{name}_dropout_{depth}")(maps)
    if stride and cut == len(FILTERS):
        maps = Windows(WINDOW_SIDE - 2 * cut, stride, name=f"{name}_windows")(maps)
    flat = layers.Flatten(name=f"{name}_flat")(maps)
    if config.skip:
        seen = Windows(WINDOW_SIDE, stride, name=f"{name}_skip")(pixels) if stride else pixels
        flat = layers.Concatenate(name=f"{name}_with_view")([flat, layers.Flatten(name=f"{name}_view")(seen)])
    merged = Dense(config.merge_units, config.activation, name=f"{name}_merge")(flat)
    if config.dropout:
        merged = layers.Dropout(config.dropout, name=f"{name}_merge_dropout")(merged)
    return Dense(CONTEXT, config.activation, name=f"{name}_context")(merged)
