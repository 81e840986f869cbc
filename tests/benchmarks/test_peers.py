"""The peer of the benchmarks trains the same model, so that only the methods are compared."""

from dataclasses import replace

import numpy as np
import pytest

from huetune.data_tools.photos.context_windows import extract_windows, positions
from huetune.model.network import LATENT, build
from huetune.model.presets import PRESETS
from tests.benchmarks import peers


@pytest.mark.parametrize("config", [PRESETS["model-2"], replace(PRESETS["model-6"], skip=False)], ids=["2", "6"])
def test_peer_with_equal_weights_equals_our_network(config, rng):
    ours = build(config)
    vae, decoder = peers.build(config)
    weights = {weight.path: weight for weight in ours.vae.trainable_weights}
    assert {weight.path: weight.shape for weight in vae.trainable_weights} == {
        path: weight.shape for path, weight in weights.items()
    }
    for weight in vae.trainable_weights:
        value = rng.normal(0, 0.1, weight.shape)
        weight.assign(value)
        weights[weight.path].assign(value)
    patches = np.arange(5, 196, 20)
    windows = extract_windows(rng.random((1, 112, 112), np.float32), patches)
    inputs = [*(windows[:, scale, :, :, None] for scale in range(4)), positions(config.positions)[patches]]
    noise = rng.standard_normal((len(patches), LATENT), np.float32)
    for seen, expected in zip(vae([*inputs, noise]), ours.vae([*inputs, noise]), strict=True):
        np.testing.assert_allclose(seen, expected, atol=1e-5)
    np.testing.assert_allclose(decoder([*inputs, noise]), ours.decoder([*inputs, noise]), atol=1e-5)


def test_peer_has_the_dropout_and_l2_of_the_experiment_log():
    vae, _ = peers.build(PRESETS["model-2"])
    layers = {layer.name: layer for layer in vae._flatten_layers() if layer.weights or hasattr(layer, "rate")}
    kinds = [type(layer).__name__ for layer in layers.values()]
    assert kinds.count("Dropout") == 8 * 6 + 1 and kinds.count("Conv2D") == 8 * 5
    assert all(layer.rate == 0.45 for layer in layers.values() if type(layer).__name__ == "Dropout")
    kernels = [weight.numpy() for weight in vae.trainable_weights if len(weight.shape) == 4]
    assert float(sum(vae.losses)) == pytest.approx(0.001 * sum(np.square(kernel).sum() for kernel in kernels), rel=1e-4)
