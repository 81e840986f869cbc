"""The self-test of an export accepts its own model and no other."""

import numpy as np
import pytest

from huetune.data_tools.common.errors import CheckpointError
from huetune.model import self_test
from huetune.model.colorizer import Colorizer
from huetune.model.config import Config
from huetune.model.network import build

CONFIG = Config(merge_units=4)


@pytest.fixture(scope="module")
def network():
    return build(CONFIG)


@pytest.fixture
def self_test_file(network, tmp_path):
    self_test.write(tmp_path / "probe.npz", Colorizer(network, CONFIG))
    return tmp_path / "probe.npz"


def test_check_of_another_model_with_equal_weights_passes(self_test_file, network):
    other = build(CONFIG)
    other.vae.set_weights(network.vae.get_weights())
    self_test.check(self_test_file, Colorizer(other, CONFIG))


@pytest.mark.parametrize("layer", ["decoder_towers", "decoder_head"])
def test_check_of_a_changed_decoder_weight_fails(layer, self_test_file, network):
    other = build(CONFIG)
    other.vae.set_weights(network.vae.get_weights())
    part = other.towers if layer == "decoder_towers" else other.head
    kernel = part.trainable_weights[-2]
    kernel.assign(np.asarray(kernel) + 0.01)
    with pytest.raises(CheckpointError, match="its colors differ from those of its self-test by"):
        self_test.check(self_test_file, Colorizer(other, CONFIG))


def test_check_with_rounding_differences_passes(self_test_file, network):
    """Processors round differently, which weights that differ in their last bits imitate."""
    other = build(CONFIG)
    other.vae.set_weights([weight * np.float32(1 + 1e-6) for weight in network.vae.get_weights()])
    self_test.check(self_test_file, Colorizer(other, CONFIG))
