"""The presets have their sizes of the experiment log, and a network is one function of patches and of photos."""

from dataclasses import replace
from typing import get_args

import keras
import numpy as np
import pytest

from huetune.data_tools.photos.color import PATCHES_PER_SIDE
from huetune.data_tools.photos.context_windows import extract_windows, positions, shrink
from huetune.model.config import Activation, Config
from huetune.model.network import LATENT, build
from huetune.model.presets import PRESETS
from huetune.model.recipes import with_recipe
from huetune.model.weights import parameter_counts

PATCHES = PATCHES_PER_SIDE * PATCHES_PER_SIDE

# The models of the experiment log: encoder, decoder, all.
PARAMETERS = {
    "model-1": (526_512, 526_818, 1_053_330),
    "model-2": (601_776, 602_082, 1_203_858),
    "model-3": (601_776, 602_082, 1_203_858),
    "model-4": (729_392, 729_698, 1_459_090),
    "model-6": (729_712, 730_178, 1_459_890),
}


@pytest.mark.parametrize("preset", PARAMETERS)
def test_preset_has_the_parameters_of_the_experiment_log(preset):
    assert tuple(parameter_counts(PRESETS[preset]).values()) == PARAMETERS[preset]


@pytest.mark.parametrize(
    "config",
    [
        *PRESETS.values(),
        Config(skip=False, merge_units=1, positions=7),
        with_recipe(Config(merge_units=300, dropout=0.0), "photos"),
    ],
)
def test_parameter_counts_equal_those_of_built_networks(config):
    network = build(config)
    built = network.encoder.count_params(), network.decoder.count_params(), network.vae.count_params()
    assert tuple(parameter_counts(config).values()) == built


def _inputs(luma, config):
    """Return the inputs of all patches twice, as shrunk photos and as windows of each patch, and their positions."""
    photos = [shrunk[..., None] for shrunk in shrink(luma)]
    windows = extract_windows(luma, np.arange(len(luma) * PATCHES))
    patches = [windows[:, scale, :, :, None] for scale in range(4)]
    return photos, patches, np.tile(positions(config.positions), (len(luma), 1))


def _randomize_biases(model):
    """Draw the biases at random. They start at 0, which would hide many mistakes."""
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if len(weight.shape) == 1:
            weight.assign(rng.normal(0, 0.3, weight.shape))


CONFIGS = [*PRESETS.values(), *(replace(PRESETS["model-2"], activation=name) for name in get_args(Activation))]
STRUCTURES = list({config.structure: config for config in CONFIGS}.values())


@pytest.mark.parametrize(
    "config", STRUCTURES, ids=lambda config: f"{config.activation}-{config.skip}-{config.positions}"
)
def test_network_gives_equal_outputs_for_photos_and_patches(config, roses):
    network = build(config)
    _randomize_biases(network.vae)
    photos, patches, position = _inputs(roses.luma[:2], config)
    noise = np.random.default_rng(0).standard_normal((2 * PATCHES, LATENT), np.float32)
    outputs = network.vae([*photos, position, noise]), network.vae([*patches, position, noise])
    for whole, single in zip(*outputs, strict=True):
        whole, single = np.asarray(whole), np.asarray(single)
        assert np.abs(whole - single).max() < 1e-5
        # Both would also agree if their output was the same for every patch.
        assert whole.std(axis=0).mean() > 1e-3


@pytest.mark.parametrize("scale", range(4))
def test_network_output_of_a_patch_depends_only_on_its_windows(scale, rng):
    """After a change of one pixel of one shrunk photo only patches differ whose window contains that pixel."""
    config = PRESETS["model-2"]
    network = build(config)
    _randomize_biases(network.decoder)
    luma = rng.random((1, 112, 112), np.float32)
    photos, _, position = _inputs(luma, config)
    latent = np.zeros((PATCHES, LATENT), np.float32)
    before = np.asarray(network.decoder([*photos, position, latent]))
    row, column = [(7, 7), (20, 9), (37, 60), (59, 3)][scale]
    photos[scale] = photos[scale].copy()
    photos[scale][0, row, column] += 5
    changed = np.abs(np.asarray(network.decoder([*photos, position, latent])) - before).max(axis=1) > 1e-7
    stride = [0, 2, 4, 8][scale]
    indices = np.arange(PATCHES_PER_SIDE)
    rows, columns = ((indices * stride <= at) & (at < indices * stride + 14) for at in (row, column))
    assert (changed.reshape(PATCHES_PER_SIDE, PATCHES_PER_SIDE) == np.outer(rows, columns)).all()


@pytest.mark.parametrize("change", [{"skip": False}, {"positions": 7}, {"merge_units": 128}, {"activation": "relu"}])
def test_build_with_another_structure_setting_differs(change):
    def signature(config):
        layers = build(config).vae.get_config()
        return keras.saving.serialize_keras_object(layers)

    config = PRESETS["model-2"]
    assert _without_names(signature(replace(config, **change))) != _without_names(signature(config))


def _without_names(node):
    """Remove the running numbers in Keras's layer names from the description of a model."""
    if isinstance(node, dict):
        return {key: _without_names(value) for key, value in node.items() if key not in ("name", "inbound_nodes")}
    if isinstance(node, (list, tuple)):
        return [_without_names(value) for value in node]
    return node if isinstance(node, (int, float, bool)) or node in get_args(Activation) else None


def test_network_is_saved_and_loaded_by_keras(tmp_path, rng):
    config = PRESETS["model-6"]
    vae = build(config).vae
    vae.save(tmp_path / "vae.keras")
    loaded = keras.saving.load_model(tmp_path / "vae.keras")
    photos, _, position = _inputs(rng.random((1, 112, 112), np.float32), config)
    noise = rng.standard_normal((PATCHES, LATENT), np.float32)
    inputs = [*photos, position, noise]
    for before, after in zip(vae(inputs), loaded(inputs), strict=True):
        np.testing.assert_array_equal(before, after)
