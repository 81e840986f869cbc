"""The program that a competent user would write without huetune, to which the benchmarks compare huetune.

It has the same model, photos and settings. It cuts the context windows once with NumPy, trains with Keras `fit` in
batches of 32, and searches with a plain function under Ray Tune. Only `prepare_by_loop` and `colorize_by_loop` could
easily be faster: they are written like the program of the experiment log and like usual tutorials.
"""

import colorsys
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from huetune.data_tools.photos.context_windows import extract_windows, positions
from huetune.data_tools.photos.dataset import PhotoSet
from huetune.model.config import Config

if TYPE_CHECKING:
    from huetune.data_tools.common.keras_backend import keras


def build(config: Config) -> tuple["keras.Model", "keras.Model"]:
    """Return VAE and decoder made of Keras's own layers, with the inputs, weights and outputs of `model.network`."""
    from huetune.data_tools.common.keras_backend import keras
    from huetune.model.network import CONTEXT, FILTERS, LATENT

    layers = keras.layers

    def towers(windows, model: str):
        names = [f"{model}_{window.name.removeprefix('window_')}" for window in windows]
        return layers.Concatenate()([tower(window, name) for window, name in zip(windows, names, strict=True)])

    def tower(window, name: str):
        maps = window
        for depth, filters in enumerate(FILTERS):
            l2 = keras.regularizers.L2(config.l2)
            convolve = layers.Conv2D(
                filters, 3, activation=config.activation, kernel_regularizer=l2, name=f"{name}_conv_{depth}"
            )
            maps = layers.Dropout(config.dropout)(convolve(maps))
        flat = layers.Flatten()(maps)
        if config.skip:
            flat = layers.Concatenate()([flat, layers.Flatten()(window)])
        merged = layers.Dense(config.merge_units, config.activation, name=f"{name}_merge")(flat)
        merged = layers.Dropout(config.dropout)(merged)
        return layers.Dense(CONTEXT, config.activation, name=f"{name}_context")(merged)

    windows = [keras.Input((14, 14, 1), name=f"window_{pixels}") for pixels in (112, 56, 28, 14)]
    position, latent, noise = keras.Input((config.positions,)), keras.Input((LATENT,)), keras.Input((LATENT,))
    features = layers.Concatenate()([towers(windows, "encoder"), position])
    hidden = layers.Dense(64, config.activation, name="encoder_hidden")(features)
    mean = layers.Dense(LATENT, name="latent_mean")(hidden)
    log_variance = layers.Dense(LATENT, name="latent_log_variance")(hidden)

    features = layers.Concatenate()([towers(windows, "decoder"), latent, position])
    hidden = layers.Dropout(config.dropout)(layers.Dense(96, config.activation, name="decoder_hidden")(features))
    decoder = keras.Model([*windows, position, latent], layers.Dense(2, "tanh", name="chroma")(hidden))

    predicted = decoder([*windows, position, mean + keras.ops.exp(log_variance / 2) * noise])
    return keras.Model([*windows, position, noise], [predicted, mean, log_variance]), decoder


def fit(
    photos: PhotoSet, held_out: PhotoSet, config: Config, seed: int, epochs: int, report: Callable[[dict], None]
) -> None:
    """Train with Keras `fit` on context windows that are all in memory, and measure held-out photos after each epoch.

    Args:
        photos: Training photos.
        held_out: Validation photos.
        config: Settings of the model and its training.
        seed: Seed of Keras.
        epochs: Number of epochs.
        report: Called after each epoch with `epoch`, `chroma_mse` and `seconds`, the time since the start of building
            the model without the time of measuring.
    """
    from huetune.data_tools.common.keras_backend import keras, tf
    from huetune.model import loss
    from huetune.model.network import LATENT

    begun = time.perf_counter()
    keras.utils.set_random_seed(seed)
    vae, decoder = build(config)

    class VAE(keras.Model):
        def __init__(self):
            super().__init__()
            self.vae = vae

        def train_step(self, data):
            inputs, chroma = data
            noise = tf.random.normal([tf.shape(chroma)[0], LATENT])
            with tf.GradientTape() as tape:
                predicted, mean, log_variance = self.vae([*inputs, noise], training=True)
                l2 = tf.add_n(self.vae.losses)
                value = loss.loss_terms(chroma, predicted, mean, log_variance, config.mse_weight, l2)[0]
            self.optimizer.apply_gradients(
                zip(tape.gradient(value, self.vae.trainable_weights), self.vae.trainable_weights, strict=True)
            )
            return {"loss": value}

    def inputs_of(photo_set: PhotoSet) -> list[np.ndarray]:
        windows = extract_windows(photo_set.luma, np.arange(len(photo_set) * 196))
        position = np.tile(positions(config.positions), (len(photo_set), 1))
        return [*(windows[:, scale, :, :, None] for scale in range(4)), position]

    schedule = keras.optimizers.schedules.InverseTimeDecay(config.learning_rate, 1, config.decay)
    model = VAE()
    model.compile(optimizer=keras.optimizers.Adam(schedule))
    inputs, chroma = inputs_of(photos), photos.chroma.reshape(-1, 2)
    held_out_inputs = inputs_of(held_out)
    latent = np.random.default_rng(0).standard_normal((len(held_out), 4, LATENT), np.float32)

    class Report(keras.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            self.scoring = 0.0

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            seconds = time.perf_counter() - begun - self.scoring
            before = time.perf_counter()
            drawn = [
                decoder.predict(
                    [*held_out_inputs, np.repeat(latent[:, sample], 196, axis=0)], batch_size=512, verbose=0
                )
                for sample in range(4)
            ]
            mse = float(np.mean([np.square(prediction - held_out.chroma.reshape(-1, 2)) for prediction in drawn]))
            self.scoring += time.perf_counter() - before
            report({"epoch": epoch + 1, "seconds": seconds, "chroma_mse": mse})

    model.fit(inputs, chroma, batch_size=config.batch_size, epochs=epochs, verbose=0, callbacks=[Report()])


def tune(photos: PhotoSet, held_out: PhotoSet, configs: list[Config], epochs: int, slots: int) -> None:
    """Run trials as a plain function trainable of Ray Tune, `slots` in parallel, with one thread each."""
    import ray
    from ray import tune

    def trial(config: dict, photos: PhotoSet, held_out: PhotoSet) -> None:
        from huetune.data_tools.common.keras_backend import tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        fit(photos, held_out, Config(**config), 0, epochs, lambda metrics: tune.report(metrics))

    ray.init(num_cpus=slots, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        tune.Tuner(
            tune.with_parameters(trial, photos=photos, held_out=held_out),
            param_space=tune.grid_search([asdict(config) for config in configs]),
            tune_config=tune.TuneConfig(max_concurrent_trials=slots),
            run_config=tune.RunConfig(verbose=0),
        ).fit()
    finally:
        ray.shutdown()


def prepare_by_loop(photo: np.ndarray) -> np.ndarray:
    """Return the chroma map of a photo, uint8 [112, 112, 3], with a loop over pixels as in a tutorial."""
    chroma = np.zeros((14, 14, 2))
    for row in range(112):
        for column in range(112):
            red, green, blue = (value / 255 for value in photo[row, column].tolist())
            hue = 2 * math.pi * colorsys.rgb_to_hsv(red, green, blue)[0]
            saturation = max(red, green, blue) - min(red, green, blue)
            chroma[row // 8, column // 8] += saturation * math.cos(hue) / 64, saturation * math.sin(hue) / 64
    return chroma


def colorize_by_loop(network: Any, config: Config, luma: np.ndarray, samples: int) -> np.ndarray:
    """Return chroma maps of photos, float32 [n, 112, 112], with one call of the decoder for each patch and sample.

    The program of the experiment log does so.
    """
    from huetune.model.network import LATENT

    position = positions(config.positions)
    windows = extract_windows(luma, np.arange(len(luma) * 196))
    drawn = np.zeros((len(luma), samples, 196, 2), np.float32)
    for photo in range(len(luma)):
        for sample in range(samples):
            latent = np.random.standard_normal((1, LATENT)).astype(np.float32)
            for patch in range(196):
                inputs = [windows[photo * 196 + patch, scale][None, ..., None] for scale in range(4)]
                drawn[photo, sample, patch] = network.decoder([*inputs, position[patch : patch + 1], latent])[0]
    return drawn
