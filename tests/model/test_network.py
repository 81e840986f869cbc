"""The model has the log's size, and is one function for loose boxes and for whole photos."""

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

BOXES = PATCHES_PER_SIDE * PATCHES_PER_SIDE

# DESIGN.md's table: encoder, decoder, all.
PARAMETERS = {
    "model-1": (526_512, 526_818, 1_053_330),
    "model-2": (601_776, 602_082, 1_203_858),
    "model-3": (601_776, 602_082, 1_203_858),
    "model-4": (729_392, 729_698, 1_459_090),
    "model-6": (729_712, 730_178, 1_459_890),
}


@pytest.mark.parametrize("preset", PARAMETERS)
def test_a_preset_has_the_logs_parameters(preset):
    assert tuple(parameter_counts(PRESETS[preset]).values()) == PARAMETERS[preset]


@pytest.mark.parametrize(
    "config",
    [
        *PRESETS.values(),
        Config(skip=False, merge_units=1, positions=7),
        with_recipe(Config(merge_units=300, dropout=0.0), "photos"),
    ],
)
def test_parameter_counts_of_built_networks_are_equal(config):
    """What is calculated holds for what is built."""
    network = build(config)
    built = network.encoder.count_params(), network.decoder.count_params(), network.vae.count_params()
    assert tuple(parameter_counts(config).values()) == built


def _inputs(luma, config):
    """The same boxes twice: as whole photos, and cut out one by one."""
    photos = [view[..., None] for view in shrink(luma)]
    windows = extract_windows(luma, np.arange(len(luma) * BOXES))
    loose = [windows[:, view, :, :, None] for view in range(4)]
    return photos, loose, np.tile(positions(config.positions), (len(luma), 1))


def _shake(model):
    """Biases start at 0, where half of the mistakes one can make with them do not show."""
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if len(weight.shape) == 1:
            weight.assign(rng.normal(0, 0.3, weight.shape))


ALL = [*PRESETS.values(), *(replace(PRESETS["model-2"], activation=name) for name in get_args(Activation))]
VARIANTS = list({config.structure: config for config in ALL}.values())


@pytest.mark.parametrize("config", VARIANTS, ids=lambda config: f"{config.activation}-{config.skip}-{config.positions}")
def test_whole_photos_and_loose_boxes_are_the_same_function(config, roses):
    network = build(config)
    _shake(network.vae)
    photos, loose, place = _inputs(roses.luma[:2], config)
    noise = np.random.default_rng(0).standard_normal((2 * BOXES, LATENT), np.float32)
    for whole, single in zip(network.vae([*photos, place, noise]), network.vae([*loose, place, noise]), strict=True):
        whole, single = np.asarray(whole), np.asarray(single)
        assert np.abs(whole - single).max() < 1e-5
        # Both would also agree if they answered the same for every box.
        assert whole.std(axis=0).mean() > 1e-3


@pytest.mark.parametrize("view", range(4))
def test_a_box_sees_what_its_views_cover_and_nothing_else(view, rng):
    """Change one pixel of one view's shrunk photo: exactly the boxes whose window holds it may answer differently."""
    config = PRESETS["model-2"]
    network = build(config)
    _shake(network.decoder)
    luma = rng.random((1, 112, 112), np.float32)
    photos, _, place = _inputs(luma, config)
    latent = np.zeros((BOXES, LATENT), np.float32)
    before = np.asarray(network.decoder([*photos, place, latent]))
    row, column = [(7, 7), (20, 9), (37, 60), (59, 3)][view]
    photos[view] = photos[view].copy()
    photos[view][0, row, column] += 5
    changed = np.abs(np.asarray(network.decoder([*photos, place, latent])) - before).max(axis=1) > 1e-7
    stride = [0, 2, 4, 8][view]
    boxes = np.arange(PATCHES_PER_SIDE)
    rows, columns = ((boxes * stride <= at) & (at < boxes * stride + 14) for at in (row, column))
    assert (changed.reshape(PATCHES_PER_SIDE, PATCHES_PER_SIDE) == np.outer(rows, columns)).all()


@pytest.mark.parametrize("toggle", [{"skip": False}, {"positions": 7}, {"merge_units": 128}, {"activation": "relu"}])
def test_each_setting_of_the_structure_changes_the_model(toggle):
    def signature(config):
        layers = build(config).vae.get_config()
        return keras.saving.serialize_keras_object(layers)

    config = PRESETS["model-2"]
    assert _without_names(signature(replace(config, **toggle))) != _without_names(signature(config))


def _without_names(node):
    """A model's description without the running numbers in Keras's own layer names."""
    if isinstance(node, dict):
        return {key: _without_names(value) for key, value in node.items() if key not in ("name", "inbound_nodes")}
    if isinstance(node, (list, tuple)):
        return [_without_names(value) for value in node]
    return node if isinstance(node, (int, float, bool)) or node in get_args(Activation) else None


def test_the_whole_model_saves_and_loads_as_a_keras_model(tmp_path, rng):
    config = PRESETS["model-6"]
    vae = build(config).vae
    vae.save(tmp_path / "vae.keras")
    loaded = keras.saving.load_model(tmp_path / "vae.keras")
    photos, _, place = _inputs(rng.random((1, 112, 112), np.float32), config)
    noise = rng.standard_normal((BOXES, LATENT), np.float32)
    for before, after in zip(vae([*photos, place, noise]), loaded([*photos, place, noise]), strict=True):
        np.testing.assert_array_equal(before, after)
