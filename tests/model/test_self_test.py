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
def written(network, tmp_path):
    self_test.write(tmp_path / "probe.npz", Colorizer(network, CONFIG))
    return tmp_path / "probe.npz"


def test_the_same_weights_in_another_model_pass(written, network):
    other = build(CONFIG)
    other.vae.set_weights(network.vae.get_weights())
    self_test.check(written, Colorizer(other, CONFIG))


@pytest.mark.parametrize("layer", ["decoder_towers", "decoder_head"])
def test_one_other_weight_of_the_decoder_is_noticed(layer, written, network):
    other = build(CONFIG)
    other.vae.set_weights(network.vae.get_weights())
    part = other.towers if layer == "decoder_towers" else other.head
    kernel = part.trainable_weights[-2]
    kernel.assign(np.asarray(kernel) + 0.01)
    with pytest.raises(CheckpointError, match="its colors differ from those of its self-test by"):
        self_test.check(written, Colorizer(other, CONFIG))


def test_what_processors_do_differently_passes(written, network):
    """Weights that are off by a few of their last bits stand for it."""
    other = build(CONFIG)
    other.vae.set_weights([weight * np.float32(1 + 1e-6) for weight in network.vae.get_weights()])
    self_test.check(written, Colorizer(other, CONFIG))
