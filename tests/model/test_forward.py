"""Training computes the Keras model from stacks of weights, and leaves out what a mask would have dropped."""

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
from huetune.model.weights import CENTER, FLAT, TAPS, TOWERS, as_layers, stacks

BOXES = PATCHES_PER_SIDE * PATCHES_PER_SIDE
ALL = 256
"""Values of a byte that keep a unit: none is dropped."""


def _weights(config: Config, rng) -> dict[str, np.ndarray]:
    """Random ones, biases and answers too: zeros would hide half of all mistakes."""
    drawn = {}
    for name, stack in stacks(config).items():
        deviation = 0.2 if len(stack.shape) == 1 else np.sqrt(2 / stack.shape[0])
        drawn[name] = rng.normal(0, deviation, (len(stack.layers), *stack.shape)).astype(np.float32)
    return drawn


def _batch(config: Config, rng) -> tuple:
    """Views and positions of two photos, or of patches from anywhere in them; and noise."""
    luma, place = rng.random((2, 112, 112), np.float32), positions(config.positions)
    if config.batching == "photos":
        views, place = [view[..., None] for view in shrink(luma)], np.tile(place, (2, 1))
    else:
        boxes = rng.choice(2 * BOXES, 20, replace=False)
        windows = extract_windows(luma, boxes)
        views, place = [windows[:, view, :, :, None] for view in range(4)], place[boxes % BOXES]
    return views, place, rng.standard_normal((len(place), LATENT), np.float32)


def _answers(config: Config, weights, batch, dice: StepRandom, living=FILTERS) -> list[tf.Tensor]:
    """What training computes: chroma, mean and log-variance."""
    views, place, noise = batch
    kernels, biases = (
        tf.concat([tf.reshape(weights[f"conv_{depth}/{kind}"], [-1]) for depth in range(len(FILTERS))], axis=0)
        for kind in ("kernel", "bias")
    )
    others = {name: stack for name, stack in weights.items() if not name.startswith("conv_")}
    views = [view - CENTER * config.centered for view in views]
    forward = Forward(config, "float32")
    return list(forward(others, kernels, biases, (views, place), noise, dice, living))


def _set(vae, weights, centered: bool) -> None:
    layers = as_layers(weights, centered)
    for variable in vae.trainable_variables:
        variable.assign(layers[variable.path].reshape(variable.shape))


def _assert_close(ours, theirs) -> None:
    for one, other in zip(ours, theirs, strict=True):
        one, other = np.asarray(one), np.asarray(other)
        assert one.shape == other.shape and one.dtype == other.dtype == np.float32
        # Both would also agree if they answered the same for every patch.
        assert other.std(axis=0).mean() > 1e-2
        assert np.abs(one - other).max() < 1e-3 * other.std()


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("activation", get_args(Activation))
def test_forward_without_dropout_is_the_keras_model(activation, skip, rng):
    """Of every structure, for whole photos and loose patches, on centered views and on others."""
    odd = skip == (get_args(Activation).index(activation) % 2 == 0)
    config = Config(activation=activation, skip=skip, dropout=0.0)
    config = replace(config, positions=7 if odd else 2, merge_units=33 if odd else 96)
    vae, weights = build(config).vae, _weights(config, rng)
    for centered in (False, True):
        _set(vae, weights, centered)
        for batching in ("photos", "patches"):
            trained = replace(config, batching=batching, centered=centered)
            views, place, noise = batch = _batch(trained, rng)
            _assert_close(_answers(trained, weights, batch, StepRandom([1, 2], ALL)), vae([*views, place, noise]))


@pytest.mark.parametrize("side", [1, 7, 13])
def test_forward_with_a_square_encodes_it_and_no_other_patch(side, rng):
    """Latent vectors of the patches outside of it are the noise itself, as at inference."""
    config = Config(dropout=0.0, batching="photos", encoder_side=side, positions=7)
    network, weights = build(config), _weights(config, rng)
    _set(network.vae, weights, centered=False)
    views, place, noise = batch = _batch(config, rng)
    corners = set()
    for step in range(2):
        seed = tf.constant([1, step])
        row, column = StepRandom(seed, ALL).corner(PATCHES_PER_SIDE - side + 1).numpy()
        corners.add((row, column))
        square = np.zeros((2, PATCHES_PER_SIDE, PATCHES_PER_SIDE), bool)
        square[:, row : row + side, column : column + side] = True
        chroma, *latent = _answers(config, weights, batch, StepRandom(seed, ALL))
        expected = [np.asarray(some)[square.ravel()] for some in network.encoder([*views, place])]
        _assert_close(latent, expected)
        sampled = noise.copy()
        sampled[square.ravel()] = expected[0] + np.exp(expected[1] / 2) * noise[square.ravel()]
        _assert_close([chroma], [network.decoder([*views, place, sampled])])
    assert len(corners) > 1


def _masks(channels, living) -> dict[str, tf.Tensor]:
    """What multiplies the weights that read channels: 0 for those of dropped ones, more than 1 for all others."""
    masks = {}
    for depth, (places, count) in enumerate(zip(channels, living, strict=True)):
        lives: np.ndarray = np.zeros((len(TOWERS), FILTERS[depth]), np.float32)
        np.put_along_axis(lives, places.numpy(), FILTERS[depth] / count, axis=1)
        last = depth == len(FILTERS) - 1
        rows = np.tile(lives, FLAT // FILTERS[-1] if last else TAPS)
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
    ids=["photos", "a square of photos", "photos, too little to drop any", "patches"],
)
def test_forward_leaves_out_what_a_mask_would_have_dropped(changes, rate, tensors, rng):
    """Values and gradients are those of the full function whose weights do not read the dropped channels."""
    config = Config(dropout=rate, dropout_of="channels", **changes)
    living = dropout.kept_channels(rate)
    weights = {name: tf.constant(stack) for name, stack in _weights(config, rng).items()}
    batch, seed = _batch(config, rng), tf.constant([3, 4])
    masks = _masks(StepRandom(seed, ALL).channels(living), living)
    if skipped := weights["merge/kernel"].shape[1] - FLAT:
        masks["merge/kernel"] = np.pad(masks["merge/kernel"], [(0, 0), (0, skipped)], constant_values=1)

    def masked() -> dict[str, tf.Tensor]:
        return {name: stack * masks[name][..., None] if name in masks else stack for name, stack in weights.items()}

    counts = [tf.constant(count) for count in living] if tensors else living
    seen = []
    for lean in (True, False):
        with tf.GradientTape() as tape:
            tape.watch(weights)
            dice = StepRandom(seed, ALL)
            if lean:
                answers = _answers(config, weights, batch, dice, counts)
            else:
                dice.channels(living)  # The next draw is then that of the same square.
                answers = _answers(replace(config, dropout=0.0), masked(), batch, dice)
            total = sum(tf.reduce_mean(tf.square(some)) for some in answers)
        seen.append((answers, tape.gradient(total, weights)))
    (answers, gradients), (expected, masked_gradients) = seen
    _assert_close(answers, expected)
    for name, gradient in masked_gradients.items():
        error = np.abs(gradients[name] - gradient).max()
        assert error < 1e-4 * np.abs(gradient).max(), name
    if living != FILTERS:
        whole = _answers(replace(config, dropout=0.0), weights, batch, StepRandom(seed, ALL))
        assert not any(np.allclose(one, other, rtol=0.1) for one, other in zip(answers, whole, strict=True))


class _Recorder(StepRandom):
    """StepRandom that also note the shapes of what they drop single units of."""

    def __init__(self, *words):
        super().__init__(*words)
        self.shapes: list[tuple[int, ...]] = []

    def drop(self, units):
        self.shapes.append(tuple(units.shape))
        return super().drop(units)


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
def test_forward_drops_units_of_maps_only_where_told_to(of, rate, expected, batching, rng):
    """Not where channels are to be dropped and the rate is too small for one."""
    config = Config(batching=batching, dropout=rate, dropout_of=of, merge_units=5)
    dice = _Recorder([1, 2], dropout.kept_byte_values(rate))
    _answers(config, _weights(config, rng), _batch(config, rng), dice, dropout.kept_channels(rate))
    assert sum(len(shape) == 4 for shape in dice.shapes) == expected
    # Those of the Dense layers are dropped one by one in any case.
    assert any(len(shape) < 4 for shape in dice.shapes) == (rate > 0)
