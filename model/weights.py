"""Where each layer's weights lie while a model is in training.

The eight towers are alike: those of the encoder and of the decoder on each of the four views. So the weights of the
first convolution of all towers are one stack, those of the second another, and a model of 52 layers has 21 stacks. A
training step computes with stacks, and the optimizer with all of them end to end: a handful of large operations, where
a hundred variables would need thousands of small ones.
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
TOWERS = [f"{model}_{view.covers}" for view in CONTEXT_WINDOWS for model in MODELS]
"""In the order of the stacks: view by view, the encoder's before the decoder's."""
TAPS = 9
"""Weights of a 3 x 3 kernel."""
PIXELS = (WINDOW_SIDE - 2 * len(FILTERS)) ** 2
"""Of a patch's maps after all convolutions, 4 x 4."""
FLAT = PIXELS * FILTERS[-1]
"""Rows of a merge kernel that read these maps; with `skip`, those that read the view itself follow."""
CENTER = 0.45
"""Luma that centered training takes for 0: about the mean of photos. The exact value matters little."""

GAINS: dict[Activation, float] = {
    "relu": 2.0,
    "silu": 2.81,
    "gelu": 2.35,
    "elu": 1.55,
    "tanh": 2.54,
    "leaky_relu": 1.92,
}
"""1 over the mean square of each activation of a standard normal number."""


@dataclass(frozen=True)
class Stack:
    """The weights of layers that are alike.

    Attributes:
        layers: their names in the Keras model.
        shape: of one layer's weights, as a matrix or a vector; a kernel's rows are its inputs.
        hidden: whether these are matrices between hidden layers, which Muon can train.
        answers: whether they make the model's answers: chroma, latent mean or log-variance.
    """

    layers: tuple[str, ...]
    shape: tuple[int, ...]
    hidden: bool = False
    answers: bool = False

    @property
    def size(self) -> int:
        """How many numbers the stack holds."""
        return len(self.layers) * math.prod(self.shape)


def stacks(config: Config) -> dict[str, Stack]:
    """Return the stacks of a model by their names, the convolutions' kernels first, then their biases."""
    kernels, biases = {}, {}
    for depth, (read, made) in enumerate(zip((1, *FILTERS), FILTERS, strict=False)):
        layers = tuple(f"{tower}_conv_{depth}" for tower in TOWERS)
        kernels[f"conv_{depth}/kernel"] = Stack(layers, (TAPS * read, made), hidden=True)
        biases[f"conv_{depth}/bias"] = Stack(layers, (made,))
    view = WINDOW_SIDE * WINDOW_SIDE if config.skip else 0
    seen = len(CONTEXT_WINDOWS) * CONTEXT + config.positions
    others = {
        **_dense("merge", [f"{tower}_merge" for tower in TOWERS], FLAT + view, config.merge_units),
        **_dense("context", [f"{tower}_context" for tower in TOWERS], config.merge_units, CONTEXT),
        **_dense("encoder_hidden", ["encoder_hidden"], seen, HIDDEN[0]),
        **_dense("latent", ["latent_mean", "latent_log_variance"], HIDDEN[0], LATENT, answers=True),
        **_dense("decoder_hidden", ["decoder_hidden"], seen + LATENT, HIDDEN[1]),
        **_dense("chroma", ["chroma"], HIDDEN[1], 2, answers=True),
    }
    return {**kernels, **biases, **others}


def _dense(name: str, layers: list[str], inputs: int, units: int, answers: bool = False) -> dict[str, Stack]:
    kernel = Stack(tuple(layers), (inputs, units), hidden=not answers, answers=answers)
    return {f"{name}/kernel": kernel, f"{name}/bias": Stack(tuple(layers), (units,), answers=answers)}


def parameter_counts(config: Config) -> dict[str, int]:
    """Return how many parameters the model of a configuration has: its encoder, its decoder, and both.

    The layers are those of `model.network`, which takes seconds to build them.
    """
    encoder = decoder = 0
    for stack in stacks(config).values():
        # The latent layers, too, are the encoder's.
        mine = sum(layer.startswith((MODELS[0], "latent")) for layer in stack.layers)
        encoder += mine * math.prod(stack.shape)
        decoder += (len(stack.layers) - mine) * math.prod(stack.shape)
    return {"encoder_parameters": encoder, "decoder_parameters": decoder, "parameters": encoder + decoder}


def first_weights(config: Config, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """Return the weights that training begins with, a stack each: float32 [layers, *shape].

    Biases are 0. With `initial` "glorot" all kernels are drawn as Keras draws them (Glorot and Bengio, "Understanding
    the difficulty of training deep feedforward neural networks", 2010). With "he" the hidden ones keep the
    mean square of what they pass on (He et al., "Delving deep into rectifiers", 2015, with the gain of each
    activation), and those of the answers are 0: the first answers are gray and N(0, 1), for every activation, where
    large ones would sit in the flat ends of tanh.
    """
    drawn = {}
    for name, stack in stacks(config).items():
        shape = (len(stack.layers), *stack.shape)
        if len(stack.shape) == 1 or (stack.answers and config.initial == "he"):
            drawn[name] = np.zeros(shape, np.float32)
            continue
        inputs, units = stack.shape
        outputs = units * (TAPS if name.startswith("conv") else 1)
        variance = GAINS[config.activation] / inputs if config.initial == "he" else 2 / (inputs + outputs)
        limit = math.sqrt(3 * variance)
        drawn[name] = rng.uniform(-limit, limit, shape).astype(np.float32)
    return drawn


def as_layers(weights: Mapping[str, NDArray[np.float32]], centered: bool) -> dict[str, NDArray[np.float32]]:
    """Return the weights of stacks as the Keras model has them, by the paths of its variables.

    Args:
        weights: a stack each: float32 [layers, *shape].
        centered: whether they were trained on views less CENTER. The model reads views as they are: what that changes
            in a layer's sums goes into its biases.
    """
    named = dict(weights)
    if centered:
        first, merge = named["conv_0/kernel"], named["merge/kernel"]
        named["conv_0/bias"] = named["conv_0/bias"] - CENTER * first.sum(axis=1)
        named["merge/bias"] = named["merge/bias"] - CENTER * merge[:, FLAT:].sum(axis=1)
    layers = {}
    for name, stacked in named.items():
        kind = name.rpartition("/")[2]
        for layer, values in zip(_LAYERS[name.rpartition("/")[0]], stacked, strict=True):
            layers[f"{layer}/{kind}"] = values
    return layers


_LAYERS: dict[str, Any] = {name.rpartition("/")[0]: stack.layers for name, stack in stacks(Config()).items()}
