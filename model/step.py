"""One step of training, traced once a structure."""

from typing import Any

import numpy as np

from huetune.data_tools.common.keras_backend import keras, tf
from huetune.data_tools.photos.color import PATCHES_PER_SIDE
from huetune.data_tools.photos.context_windows import CONTEXT_WINDOWS, WINDOW_SIDE
from huetune.model import dropout, loss
from huetune.model.colorizer import Colorizer
from huetune.model.config import LATENT, Config
from huetune.model.dropout import StepRandom
from huetune.model.forward import Forward
from huetune.model.network import build
from huetune.model.optimizer import Optimizer
from huetune.model.weights import CENTER, as_layers, first_weights, stacks


class Step:
    """The traced training step of one structure, with everything that a trial may change in variables.

    Constants of the graph would need a new trace, seconds long, for each new value.

    Args:
        config: its structure and recipe are traced; all other settings are set by `reset`.
        compiled: whether XLA compiles the step.
        dtype_policy: name of the Keras policy by which the layers compute.

    Attributes:
        network: the Keras models; their weights are those of the last `sync_to_model`.
        colorizer: of the network.
        totals: float32 [5], sums of the terms of the loss since they were set to 0, in the order of `loss.LOSS_TERMS`.
        run: takes the views, positions and chroma of a batch, and makes a step.
    """

    def __init__(self, config: Config, compiled: bool, dtype_policy: str):
        self.network = build(config, dtype_policy)
        self.colorizer = Colorizer(self.network, config)
        self.totals = tf.Variable(tf.zeros([len(loss.LOSS_TERMS)]))
        self._optimizer = Optimizer(stacks(config), muon=config.optimizer == "muon")
        self._forward = Forward(config, keras.dtype_policies.get(dtype_policy).compute_dtype)
        self._compiled = dropout.kept_channels(config.dropout) if compiled else None
        # No int32: on a card TensorFlow keeps those with the host, where a compiled step may not reach.
        self._living, self._kept = (
            tf.Variable(tf.zeros([len(dropout.kept_channels(0.0))], tf.int64)),
            tf.Variable(0, dtype=tf.int64),
        )
        self._mse_weight, self._l2, self._center = (tf.Variable(0.0) for _ in range(3))
        self._seed = tf.Variable(0, dtype=tf.int64)
        size, boxes = config.batch_size, 1 if config.batching == "patches" else PATCHES_PER_SIDE**2
        sides = [WINDOW_SIDE if config.batching == "patches" else view.side for view in CONTEXT_WINDOWS]
        views = [tf.TensorSpec([size, side, side, 1]) for side in sides]
        signature = [views, tf.TensorSpec([size * boxes, config.positions]), tf.TensorSpec([size * boxes, 2])]
        self.run = tf.function(self._run, input_signature=signature, autograph=False, jit_compile=compiled or None)

    @staticmethod
    def kind(config: Config, compiled: bool) -> tuple[Any, ...]:
        """Return the key by which configurations can share a traced step."""
        drops = config.dropout_of if config.dropout > 0 else None
        shapes = dropout.kept_channels(config.dropout) if compiled and drops == "channels" else None
        side = config.encoder_side if config.batching == "photos" else None
        way = config.batching, config.batch_size, side, config.optimizer
        return config.structure, way, drops, shapes

    def reset(self, config: Config, seed: np.random.SeedSequence) -> None:
        """Give every variable the value that a fresh process would give it."""
        rng = np.random.default_rng(seed)
        weights = first_weights(config, rng)
        self._optimizer.reset(
            weights, config.learning_rate, config.decay, config.weight_decay, config.clip, config.averaging
        )
        self._seed.assign(int(rng.integers(2**31)))
        self._living.assign(dropout.kept_channels(config.dropout))
        self._kept.assign(dropout.kept_byte_values(config.dropout))
        self._mse_weight.assign(config.mse_weight)
        self._l2.assign(config.l2)
        self._center.assign(CENTER if config.centered else 0.0)
        self.sync_to_model()

    @property
    def changing(self) -> list[tf.Variable]:
        """The variables that a step changes; everything else follows from the configuration and the seed."""
        return self._optimizer.state

    @property
    def finite(self) -> bool:
        """Whether every weight is a finite number."""
        return all(bool(np.isfinite(weights.numpy()).all()) for weights in self._optimizer.weights)

    def sync_to_model(self) -> None:
        """Copy the average of the weights to the Keras models, which colorize and are saved."""
        layers = as_layers(self._optimizer.averages, bool(self._center.numpy() != 0))
        for variable in self.network.vae.trainable_variables:
            variable.assign(layers[variable.path].reshape(variable.shape))

    def _run(self, views, place, chroma):
        seed = tf.stack([tf.cast(self._seed, tf.int32), tf.cast(self._optimizer.steps, tf.int32) + 1])
        living = self._compiled or tf.unstack(tf.cast(self._living, tf.int32))
        dice = StepRandom(seed, self._kept)
        noise = dice.normal([chroma.shape[0], LATENT])
        centered = [view - self._center for view in views]
        with tf.GradientTape() as tape:
            kernels, biases, weights = self._optimizer.unpack()
            answers = self._forward(weights, kernels, biases, (centered, place), noise, dice, living)
            l2 = self._l2 * tf.reduce_sum(tf.square(kernels))
            parts = loss.loss_terms(chroma, *answers, self._mse_weight, l2)
            total = parts[0]
        self._optimizer.apply(tape.gradient(total, self._optimizer.weights))
        self.totals.assign_add(parts)
