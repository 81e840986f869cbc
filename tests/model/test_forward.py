"""Training computes the Keras model from stacks of weights, and omits channels that a mask would have set to 0."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import tensorflow as tf

from huetune.data_tools.photos.color import PATCHES_PER_SIDE
from huetune.data_tools.photos.context_windows import extract_windows, positions, shrink
from huetune.model import dropout
from huetune.model.config import FILTERS, LATENT, Activation, Config
from huetune.model.dropout import StepRandom
from huetune.model.forward import Forward
from huetune.model.network import build
from huetune.model.weights import FLAT_MAP_UNITS, KERNEL_PIXELS, MEAN_LUMA, TOWERS, stacks, weights_by_path

PATCHES = PATCHES_PER_SIDE * PATCHES_PER_SIDE
KEEP_ALL = 256
"""The number of byte values that keep a unit: all of them, so that none is dropped."""


def _weights(config: Config, rng) -> dict[str, np.ndarray]:
    """Draw all weights at random. Biases and output layers of zeros would hide half of all mistakes."""
    drawn = {}
    for name, stack in stacks(config).items():
        deviation = 0.2 if len(stack.shape) == 1 else np.sqrt(2 / stack.shape[0])
        drawn[name] = rng.normal(0, deviation, (len(stack.layers), *stack.shape)).astype(np.float32)
    return drawn


def _batch(config: Config, rng) -> tuple:
    """Return context windows and positions of two photos or of random patches of them, and noise."""
    luma, position = rng.random((2, 112, 112), np.float32), positions(config.positions)
    if config.batching == "photos":
        inputs, position = [shrunk[..., None] for shrunk in shrink(luma)], np.tile(position, (2, 1))
    else:
        patches = rng.choice(2 * PATCHES, 20, replace=False)
        windows = extract_windows(luma, patches)
        inputs, position = [windows[:, scale, :, :, None] for scale in range(4)], position[patches % PATCHES]
    return inputs, position, rng.standard_normal((len(position), LATENT), np.float32)


def _outputs(config: Config, weights, batch, random: StepRandom, kept=FILTERS) -> list[tf.Tensor]:
    """Return what training computes: chroma, mean and log-variance."""
    inputs, position, noise = batch
    kernels, biases = (
        tf.concat([tf.reshape(weights[f"conv_{depth}/{kind}"], [-1]) for depth in range(len(FILTERS))], axis=0)
        for kind in ("kernel", "bias")
    )
    others = {name: stack for name, stack in weights.items() if not name.startswith("conv_")}
    inputs = [values - MEAN_LUMA * config.centered for values in inputs]
    forward = Forward(config, "float32")
    return list(forward(others, kernels, biases, (inputs, position), noise, random, kept))


def _set_weights(vae, weights, centered: bool) -> None:
    layers = weights_by_path(weights, centered)
    for variable in vae.trainable_variables:
        variable.assign(layers[variable.path].reshape(variable.shape))


def _assert_close(ours, theirs) -> None:
    for one, other in zip(ours, theirs, strict=True):
        one, other = np.asarray(one), np.asarray(other)
        assert one.shape == other.shape and one.dtype == other.dtype == np.float32
        # Both would also agree if their output was the same for every patch.
        assert other.std(axis=0).mean() > 1e-2
        assert np.abs(one - other).max() < 1e-3 * other.std()


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("activation", get_args(Activation))
def test_forward_without_dropout_equals_the_keras_model(activation, skip, rng):
    """It does for every structure, for whole photos and single patches, with and without centered inputs."""
    odd = skip == (get_args(Activation).index(activation) % 2 == 0)
    config = Config(activation=activation, skip=skip, dropout=0.0)
    config = replace(config, positions=7 if odd else 2, merge_units=33 if odd else 96)
    vae, weights = build(config).vae, _weights(config, rng)
    for centered in (False, True):
        _set_weights(vae, weights, centered)
        for batching in ("photos", "patches"):
            trained = replace(config, batching=batching, centered=centered)
            inputs, position, noise = batch = _batch(trained, rng)
            seen = _outputs(trained, weights, batch, StepRandom([1, 2], KEEP_ALL))
            _assert_close(seen, vae([*inputs, position, noise]))


@pytest.mark.parametrize("side", [1, 7, 13])
def test_forward_with_encoder_side_encodes_only_the_square(side, rng):
    """The latent vectors of patches outside the square are the noise itself, as at inference."""
    config = Config(dropout=0.0, batching="photos", encoder_side=side, positions=7)
    network, weights = build(config), _weights(config, rng)
    _set_weights(network.vae, weights, centered=False)
    inputs, position, noise = batch = _batch(config, rng)
    corners = set()
    for step in range(2):
        seed = tf.constant([1, step])
        row, column = StepRandom(seed, KEEP_ALL).corner(PATCHES_PER_SIDE - side + 1).numpy()
        corners.add((row, column))
        square = np.zeros((2, PATCHES_PER_SIDE, PATCHES_PER_SIDE), bool)
        square[:, row : row + side, column : column + side] = True
        chroma, *latent = _outputs(config, weights, batch, StepRandom(seed, KEEP_ALL))
        expected = [np.asarray(values)[square.ravel()] for values in network.encoder([*inputs, position])]
        _assert_close(latent, expected)
        sampled = noise.copy()
        sampled[square.ravel()] = expected[0] + np.exp(expected[1] / 2) * noise[square.ravel()]
        _assert_close([chroma], [network.decoder([*inputs, position, sampled])])
    assert len(corners) > 1


def _masks(channels, kept) -> dict[str, tf.Tensor]:
    """Return factors of the weights that read channels: 0 for dropped channels, more than 1 for kept ones."""
    masks = {}
    for depth, (indices, count) in enumerate(zip(channels, kept, strict=True)):
        factors: np.ndarray = np.zeros((len(TOWERS), FILTERS[depth]), np.float32)
        np.put_along_axis(factors, indices.numpy(), FILTERS[depth] / count, axis=1)
        last = depth == len(FILTERS) - 1
        rows = np.tile(factors, FLAT_MAP_UNITS // FILTERS[-1] if last else KERNEL_PIXELS)
        masks["merge/kernel" if last else f"conv_{depth + 1}/kernel"] = rows
    return masks


@pytest.mark.parametrize(
    ("changes", "rate", "tensors"),
    [
        ({"batching": "photos"}, 0.45, False),
        ({"batching": "photos", "activation": "elu", "skip": False, "encoder_side": 7}, 0.2, True),
        ({"batching": "photos", "encoder_side": 5}, 0.02, True),
        ({"batching": "patches", "merge_units": 33}, 0.3, True),
    ],
    ids=["photos", "a square of photos", "a rate too small to drop any", "patches"],
)
def test_forward_with_dropped_channels_equals_masked_weights(changes, rate, tensors, rng):
    """Outputs and gradients are those of the full function with weights of 0 for the dropped channels."""
    config = Config(dropout=rate, dropout_of="channels", **changes)
    kept = dropout.kept_channel_counts(rate)
    weights = {name: tf.constant(stack) for name, stack in _weights(config, rng).items()}
    batch, seed = _batch(config, rng), tf.constant([3, 4])
    masks = _masks(StepRandom(seed, KEEP_ALL).kept_channels(kept), kept)
    if skipped := weights["merge/kernel"].shape[1] - FLAT_MAP_UNITS:
        masks["merge/kernel"] = np.pad(masks["merge/kernel"], [(0, 0), (0, skipped)], constant_values=1)

    def masked() -> dict[str, tf.Tensor]:
        return {name: stack * masks[name][..., None] if name in masks else stack for name, stack in weights.items()}

    counts = [tf.constant(count) for count in kept] if tensors else kept
    seen = []
    for omitted in (True, False):
        with tf.GradientTape() as tape:
            tape.watch(weights)
            random = StepRandom(seed, KEEP_ALL)
            if omitted:
                outputs = _outputs(config, weights, batch, random, counts)
            else:
                random.kept_channels(kept)  # The next draw is then that of the same square.
                outputs = _outputs(replace(config, dropout=0.0), masked(), batch, random)
            total = sum(tf.reduce_mean(tf.square(values)) for values in outputs)
        seen.append((outputs, tape.gradient(total, weights)))
    (outputs, gradients), (expected, masked_gradients) = seen
    _assert_close(outputs, expected)
    for name, gradient in masked_gradients.items():
        error = np.abs(gradients[name] - gradient).max()
        assert error < 1e-4 * np.abs(gradient).max(), name
    if kept != FILTERS:
        whole = _outputs(replace(config, dropout=0.0), weights, batch, StepRandom(seed, KEEP_ALL))
        assert not any(np.allclose(one, other, rtol=0.1) for one, other in zip(outputs, whole, strict=True))


class _Recorder(StepRandom):
    """StepRandom that records the shapes of the tensors that it drops single units of."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.shapes: list[tuple[int, ...]] = []

    def drop_units(self, units):
        self.shapes.append(tuple(units.shape))
        return super().drop_units(units)


@pytest.mark.parametrize("batching", ["photos", "patches"])
@pytest.mark.parametrize(
    ("of", "rate", "expected"),
    [
        ("units", 0.0, 0),
        ("units", 0.02, 40),
        ("channels", 0.0, 0),
        ("channels", 0.02, 0),
        ("channels", 0.4, 0),
        ("dense", 0.4, 0),
    ],
)
def test_forward_drops_units_of_maps_only_with_units_dropout(of, rate, expected, batching, rng):
    """It drops none for channel dropout whose rate is too small for one channel."""
    config = Config(batching=batching, dropout=rate, dropout_of=of, merge_units=5)
    random = _Recorder([1, 2], dropout.kept_byte_values(rate))
    _outputs(config, _weights(config, rng), _batch(config, rng), random, dropout.kept_channel_counts(rate))
    assert sum(len(shape) == 4 for shape in random.shapes) == expected
    # Units of Dense layers are dropped one by one with every kind of dropout.
    assert any(len(shape) < 4 for shape in random.shapes) == (rate > 0)
