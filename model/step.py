"""The training step of one model structure, traced once as a `tf.function` and reused for other settings."""

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
from huetune.model.weights import MEAN_LUMA, initial_weights, stacks, weights_by_path


class Step:
    """The traced training step of one structure, with everything that a trial may change in variables.

    A Python constant in the graph would need a new trace for each of its values, which takes seconds.

    Args:
        config: its structure and recipe are traced; all other settings are set by `reset`.
        compiled: whether XLA compiles the step.
        dtype_policy: name of the Keras dtype policy of the hidden layers.

    Attributes:
        network: the Keras models. `sync_to_model` copies the trained weights to them.
        colorizer: colorizes with the decoder of `network`.
        totals: float32 [5], the terms of the loss, in the order of `loss.LOSS_TERMS`, summed over the steps since it
            was last set to 0.
        run: the `tf.function` that takes one training step. Its arguments are the batch, all float32: a list of four
            images [n, side, side, 1], one for each of `CONTEXT_WINDOWS` (shrunk photos, or the context windows of
            single patches), positions [patches, 2 or 7] and true chroma [patches, 2].
    """

    def __init__(self, config: Config, compiled: bool, dtype_policy: str):
        self.network = build(config, dtype_policy)
        self.colorizer = Colorizer(self.network, config)
        self.totals = tf.Variable(tf.zeros([len(loss.LOSS_TERMS)]))
        self._optimizer = Optimizer(stacks(config), muon=config.optimizer == "muon")
        self._forward = Forward(config, keras.dtype_policies.get(dtype_policy).compute_dtype)
        # XLA compiles fixed shapes, so the numbers of kept channels are constants of a compiled step.
        self._compiled_counts = dropout.kept_channel_counts(config.dropout) if compiled else None
        # Not int32: TensorFlow keeps int32 variables of a GPU in host memory, which a compiled step cannot access.
        self._kept_counts = tf.Variable(tf.zeros([len(dropout.kept_channel_counts(0.0))], tf.int64))
        self._kept_byte_values = tf.Variable(0, dtype=tf.int64)
        self._mse_weight, self._l2, self._mean_luma = (tf.Variable(0.0) for _ in range(3))
        self._seed = tf.Variable(0, dtype=tf.int64)
        single = config.batching == "patches"
        patches = config.batch_size * (1 if single else PATCHES_PER_SIDE**2)
        sides = [WINDOW_SIDE if single else window.side for window in CONTEXT_WINDOWS]
        images = [tf.TensorSpec([config.batch_size, side, side, 1]) for side in sides]
        signature = [images, tf.TensorSpec([patches, config.positions]), tf.TensorSpec([patches, 2])]
        self.run = tf.function(self._run, input_signature=signature, autograph=False, jit_compile=compiled or None)

    @staticmethod
    def cache_key(config: Config, compiled: bool) -> tuple[Any, ...]:
        """Return a key that is equal for configurations that can share a traced step.

        Args:
            config: all settings.
            compiled: whether XLA compiles the step.
        """
        dropout_of = config.dropout_of if config.dropout > 0 else None
        counts = dropout.kept_channel_counts(config.dropout) if compiled and dropout_of == "channels" else None
        encoder_side = config.encoder_side if config.batching == "photos" else None
        recipe = config.batching, config.batch_size, encoder_side, config.optimizer
        return config.structure, recipe, dropout_of, counts

    def reset(self, config: Config, seed: np.random.SeedSequence) -> None:
        """Initialize all variables for a new training, as a fresh process would.

        Args:
            config: settings with the same `cache_key` as those of the constructor.
            seed: seed of the initial weights, dropout and the latent noise.
        """
        rng = np.random.default_rng(seed)
        weights = initial_weights(config, rng)
        self._optimizer.reset(
            weights, config.learning_rate, config.decay, config.weight_decay, config.clip, config.averaging
        )
        self._seed.assign(int(rng.integers(2**31)))
        self._kept_counts.assign(dropout.kept_channel_counts(config.dropout))
        self._kept_byte_values.assign(dropout.kept_byte_values(config.dropout))
        self._mse_weight.assign(config.mse_weight)
        self._l2.assign(config.l2)
        self._mean_luma.assign(MEAN_LUMA if config.centered else 0.0)
        self.sync_to_model()

    @property
    def state(self) -> list[tf.Variable]:
        """The variables that a step changes. All others follow from the configuration and the seed."""
        return self._optimizer.state

    @property
    def has_finite_weights(self) -> bool:
        """Whether every weight is a finite number."""
        return all(bool(np.isfinite(weights.numpy()).all()) for weights in self._optimizer.weights)

    def sync_to_model(self) -> None:
        """Copy the averaged weights to the Keras models, which are scored and saved."""
        values = weights_by_path(self._optimizer.averages, bool(self._mean_luma.numpy() != 0))
        for variable in self.network.vae.trainable_variables:
            variable.assign(values[variable.path].reshape(variable.shape))

    def _run(self, images, positions, chroma):
        """Take one training step: forward pass, loss, gradients, and an update by the optimizer."""
        seed = tf.stack([tf.cast(self._seed, tf.int32), tf.cast(self._optimizer.steps, tf.int32) + 1])
        kept_counts = self._compiled_counts or tf.unstack(tf.cast(self._kept_counts, tf.int32))
        rng = StepRandom(seed, self._kept_byte_values)
        noise = rng.normal([chroma.shape[0], LATENT])
        centered = [image - self._mean_luma for image in images]
        with tf.GradientTape() as tape:
            kernels, biases, weights = self._optimizer.unpack()
            outputs = self._forward(weights, kernels, biases, (centered, positions), noise, rng, kept_counts)
            l2 = self._l2 * tf.reduce_sum(tf.square(kernels))
            terms = loss.loss_terms(chroma, *outputs, self._mse_weight, l2)
            total = terms[0]
        self._optimizer.apply(tape.gradient(total, self._optimizer.weights))
        self.totals.assign_add(terms)
