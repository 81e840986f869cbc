"""The peer of the benchmarks is the same model: what it is compared in is the way, not the work."""

from dataclasses import replace

import numpy as np
import pytest

from huetune.data_tools.photos.context_windows import extract_windows, positions
from huetune.model.network import LATENT, build
from huetune.model.presets import PRESETS
from tests.benchmarks import peers


@pytest.mark.parametrize("config", [PRESETS["model-2"], replace(PRESETS["model-6"], skip=False)], ids=["2", "6"])
def test_the_peer_is_the_same_function_of_the_same_weights(config, rng):
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
    boxes = np.arange(5, 196, 20)
    windows = extract_windows(rng.random((1, 112, 112), np.float32), boxes)
    inputs = [*(windows[:, view, :, :, None] for view in range(4)), positions(config.positions)[boxes]]
    noise = rng.standard_normal((len(boxes), LATENT), np.float32)
    for seen, expected in zip(vae([*inputs, noise]), ours.vae([*inputs, noise]), strict=True):
        np.testing.assert_allclose(seen, expected, atol=1e-5)
    np.testing.assert_allclose(decoder([*inputs, noise]), ours.decoder([*inputs, noise]), atol=1e-5)


def test_the_peer_drops_and_regularises_as_the_model_is_meant_to():
    vae, _ = peers.build(PRESETS["model-2"])
    layers = {layer.name: layer for layer in vae._flatten_layers() if layer.weights or hasattr(layer, "rate")}
    kinds = [type(layer).__name__ for layer in layers.values()]
    assert kinds.count("Dropout") == 8 * 6 + 1 and kinds.count("Conv2D") == 8 * 5
    assert all(layer.rate == 0.45 for layer in layers.values() if type(layer).__name__ == "Dropout")
    kernels = [weight.numpy() for weight in vae.trainable_weights if len(weight.shape) == 4]
    assert float(sum(vae.losses)) == pytest.approx(0.001 * sum(np.square(kernel).sum() for kernel in kernels), rel=1e-4)
