"""The weights of a model during training: stacks of the weights of layers with equal shapes.

The encoder and the decoder have a tower for each of the four context windows. The eight towers have the same layers, so
the weights of the first convolution of all towers are one stack, those of the second convolution another, and so on: a
model of 52 layers has 21 stacks. The training step computes with stacks, and the optimizer with all of them
concatenated. Both need a few large operations, where a hundred variables would need thousands of small ones.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from huetune.data_tools.photos.context_windows import CONTEXT_WINDOWS, WINDOW_SIDE
from huetune.model.config import CONTEXT, FILTERS, HIDDEN, LATENT, Activation, Config

MODELS = "encoder", "decoder"
"""Prefixes of the layer names of the encoder and the decoder, in the order of the stacks."""
TOWERS = [f"{model}_{window.covers}" for window in CONTEXT_WINDOWS for model in MODELS]
"""Names of the eight towers in the order of the stacks: for each context window the encoder's, then the decoder's."""
KERNEL_PIXELS = 9
"""Pixels of the 3 x 3 kernel of a convolution."""
FINAL_MAP_SIDE = WINDOW_SIDE - 2 * len(FILTERS)
"""Pixels along each side, 4, of the feature maps of a patch after all convolutions."""
FINAL_MAP_PIXELS = FINAL_MAP_SIDE**2
"""Pixels, 16, of the feature maps of a patch after all convolutions."""
FLAT_MAP_UNITS = FINAL_MAP_PIXELS * FILTERS[-1]
"""Length, 768, of the flattened feature maps of a patch after all convolutions. The first so many rows of a merge
kernel read the maps; with `skip`, the rows that read the flattened context window follow."""
MEAN_LUMA = 0.45
"""Luma that is subtracted from the context windows in centered training, about the mean of photos. Its exact value
matters little."""

VARIANCE_GAINS: dict[Activation, float] = {
    "relu": 2.0,
    "silu": 2.81,
    "gelu": 2.35,
    "elu": 1.55,
    "tanh": 2.54,
    "leaky_relu": 1.92,
}
"""Factor of the variance of "he" initial weights for each activation f: 1 / E[f(x)^2] for a standard normal x."""


@dataclass(frozen=True)
class Stack:
    """Kernels or biases of layers with equal shapes: an array [layers, *shape].

    Attributes:
        layers: names of the layers in the Keras model.
        shape: shape of one layer's weights: (inputs, units) of a kernel, as a matrix; (units,) of a bias. The inputs of
            a convolution are its kernel's pixels x channels.
        hidden: whether these are kernels of hidden layers, which Muon can train.
        output: whether these are weights of the output layers: chroma, latent mean and latent log-variance.
    """

    layers: tuple[str, ...]
    shape: tuple[int, ...]
    hidden: bool = False
    output: bool = False

    @property
    def size(self) -> int:
        """Number of weights in the stack."""
        return len(self.layers) * math.prod(self.shape)


def stacks(config: Config) -> dict[str, Stack]:
    """Return the stacks of a model by name, as `conv_0/kernel`: the kernels of all convolutions come first, then their
    biases, then the Dense layers.

    Args:
        config: `skip`, `merge_units` and `positions` determine the shapes.
    """
    kernels, biases = {}, {}
    for depth, (inputs, outputs) in enumerate(zip((1, *FILTERS), FILTERS, strict=False)):
        layers = tuple(f"{tower}_conv_{depth}" for tower in TOWERS)
        kernels[f"conv_{depth}/kernel"] = Stack(layers, (KERNEL_PIXELS * inputs, outputs), hidden=True)
        biases[f"conv_{depth}/bias"] = Stack(layers, (outputs,))
    window_units = WINDOW_SIDE * WINDOW_SIDE if config.skip else 0
    features = len(CONTEXT_WINDOWS) * CONTEXT + config.positions
    others = {
        **_dense("merge", [f"{tower}_merge" for tower in TOWERS], FLAT_MAP_UNITS + window_units, config.merge_units),
        **_dense("context", [f"{tower}_context" for tower in TOWERS], config.merge_units, CONTEXT),
        **_dense("encoder_hidden", ["encoder_hidden"], features, HIDDEN[0]),
        **_dense("latent", ["latent_mean", "latent_log_variance"], HIDDEN[0], LATENT, output=True),
        **_dense("decoder_hidden", ["decoder_hidden"], features + LATENT, HIDDEN[1]),
        **_dense("chroma", ["chroma"], HIDDEN[1], 2, output=True),
    }
    return {**kernels, **biases, **others}


def _dense(name: str, layers: list[str], inputs: int, units: int, output: bool = False) -> dict[str, Stack]:
    """Return the two stacks, kernels and biases, of Dense layers with equal shapes."""
    kernel = Stack(tuple(layers), (inputs, units), hidden=not output, output=output)
    return {f"{name}/kernel": kernel, f"{name}/bias": Stack(tuple(layers), (units,), output=output)}


def parameter_counts(config: Config) -> dict[str, int]:
    """Return the numbers of parameters of the encoder, the decoder and the whole model of a configuration.

    They are calculated from the stacks, because `network.build` takes seconds to build the layers.
    """
    encoder = decoder = 0
    for stack in stacks(config).values():
        # The latent layers belong to the encoder, too.
        encoder_layers = sum(layer.startswith((MODELS[0], "latent")) for layer in stack.layers)
        encoder += encoder_layers * math.prod(stack.shape)
        decoder += (len(stack.layers) - encoder_layers) * math.prod(stack.shape)
    return {"encoder_parameters": encoder, "decoder_parameters": decoder, "parameters": encoder + decoder}


def initial_weights(config: Config, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """Draw the initial weights of a training.

    Biases are 0. With `initial` "glorot" all kernels are drawn as Keras draws them (Glorot and Bengio, "Understanding
    the difficulty of training deep feedforward neural networks", 2010). With "he" the kernels of hidden layers are
    scaled so that the mean square of the units stays the same from layer to layer (He et al., "Delving deep into
    rectifiers", 2015, with the gain of each activation), and the kernels of the output layers are 0. For every
    activation, the first outputs are then gray and N(0, 1); large first outputs would be where tanh is nearly flat.

    Args:
        config: its settings.
        rng: source of the random numbers.

    Returns:
        Stacks by name: float32 [layers, *shape].
    """
    drawn = {}
    for name, stack in stacks(config).items():
        shape = (len(stack.layers), *stack.shape)
        if len(stack.shape) == 1 or (stack.output and config.initial == "he"):
            drawn[name] = np.zeros(shape, np.float32)
            continue
        inputs, units = stack.shape
        outputs = units * (KERNEL_PIXELS if name.startswith("conv") else 1)
        variance = VARIANCE_GAINS[config.activation] / inputs if config.initial == "he" else 2 / (inputs + outputs)
        limit = math.sqrt(3 * variance)
        drawn[name] = rng.uniform(-limit, limit, shape).astype(np.float32)
    return drawn


def weights_by_path(weights: Mapping[str, NDArray[np.float32]], centered: bool) -> dict[str, NDArray[np.float32]]:
    """Return the weights in stacks by the paths of the Keras model's variables, as `encoder_112_conv_0/kernel`.

    Args:
        weights: stacks by name: float32 [layers, *shape].
        centered: whether they were trained on context windows from which `MEAN_LUMA` was subtracted. The Keras model
            takes the luma as it is, so the biases of the layers that read it are changed to give the same sums.

    Returns:
        Float32 arrays: matrices [inputs, units], also of convolutions, and vectors [units].
    """
    named = dict(weights)
    if centered:
        first, merge = named["conv_0/kernel"], named["merge/kernel"]
        named["conv_0/bias"] = named["conv_0/bias"] - MEAN_LUMA * first.sum(axis=1)
        named["merge/bias"] = named["merge/bias"] - MEAN_LUMA * merge[:, FLAT_MAP_UNITS:].sum(axis=1)
    by_path = {}
    for name, stack in named.items():
        group, _, kind = name.rpartition("/")
        for layer, values in zip(_LAYERS[group], stack, strict=True):
            by_path[f"{layer}/{kind}"] = values
    return by_path


_LAYERS: dict[str, Any] = {name.rpartition("/")[0]: stack.layers for name, stack in stacks(Config()).items()}
"""Layer names by the first part of a stack's name, as "conv_0". They are the same for all configurations."""
