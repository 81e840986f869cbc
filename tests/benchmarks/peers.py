"""What a competent user would write without huetune: the competitor of each benchmark.

The same model, photos and settings; contexts cut with NumPy once, Keras `fit` in batches of 32, a plain function under
Ray Tune. Nothing here is slow on purpose, save `prepare_slowly` and `colorize_slowly`, which are written as the seed's
program and the usual tutorial are.
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
    """Return the VAE and its decoder in Keras's own layers alone: inputs, weights and answers as of `model.network`."""
    from huetune.data_tools.common.keras_backend import keras
    from huetune.model.network import CONTEXT, FILTERS, LATENT

    layers = keras.layers

    def towers(views, model: str):
        return layers.Concatenate()([tower(view, f"{model}_{view.name.removeprefix('view_')}") for view in views])

    def tower(view, name: str):
        maps = view
        for depth, filters in enumerate(FILTERS):
            l2 = keras.regularizers.L2(config.l2)
            convolve = layers.Conv2D(
                filters, 3, activation=config.activation, kernel_regularizer=l2, name=f"{name}_conv_{depth}"
            )
            maps = layers.Dropout(config.dropout)(convolve(maps))
        flat = layers.Flatten()(maps)
        if config.skip:
            flat = layers.Concatenate()([flat, layers.Flatten()(view)])
        merged = layers.Dense(config.merge_units, config.activation, name=f"{name}_merge")(flat)
        merged = layers.Dropout(config.dropout)(merged)
        return layers.Dense(CONTEXT, config.activation, name=f"{name}_context")(merged)

    views = [keras.Input((14, 14, 1), name=f"view_{covers}") for covers in (112, 56, 28, 14)]
    place, latent, noise = keras.Input((config.positions,)), keras.Input((LATENT,)), keras.Input((LATENT,))
    seen = layers.Concatenate()([towers(views, "encoder"), place])
    hidden = layers.Dense(64, config.activation, name="encoder_hidden")(seen)
    mean = layers.Dense(LATENT, name="latent_mean")(hidden)
    log_variance = layers.Dense(LATENT, name="latent_log_variance")(hidden)

    known = layers.Concatenate()([towers(views, "decoder"), latent, place])
    hidden = layers.Dropout(config.dropout)(layers.Dense(96, config.activation, name="decoder_hidden")(known))
    decoder = keras.Model([*views, place, latent], layers.Dense(2, "tanh", name="chroma")(hidden))

    painted = decoder([*views, place, mean + keras.ops.exp(log_variance / 2) * noise])
    return keras.Model([*views, place, noise], [painted, mean, log_variance]), decoder


def fit(
    photos: PhotoSet, held_out: PhotoSet, config: Config, seed: int, epochs: int, report: Callable[[dict], None]
) -> None:
    """Train with Keras `fit` on materialised contexts, and score the held-out photos after each epoch.

    Args:
        photos: to train on.
        held_out: to score on.
        config: of the model and its training.
        seed: for Keras.
        epochs: how many.
        report: told `epoch`, `seconds` since the model began to be built, without scoring, and `chroma_mse`.
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
                painted, mean, log_variance = self.vae([*inputs, noise], training=True)
                l2 = tf.add_n(self.vae.losses)
                value = loss.loss_terms(chroma, painted, mean, log_variance, config.mse_weight, l2)[0]
            self.optimizer.apply_gradients(
                zip(tape.gradient(value, self.vae.trainable_weights), self.vae.trainable_weights, strict=True)
            )
            return {"loss": value}

    def cut(some: PhotoSet) -> list[np.ndarray]:
        windows = extract_windows(some.luma, np.arange(len(some) * 196))
        place = np.tile(positions(config.positions), (len(some), 1))
        return [*(windows[:, view, :, :, None] for view in range(4)), place]

    schedule = keras.optimizers.schedules.InverseTimeDecay(config.learning_rate, 1, config.decay)
    model = VAE()
    model.compile(optimizer=keras.optimizers.Adam(schedule))
    inputs, chroma = cut(photos), photos.chroma.reshape(-1, 2)
    test = cut(held_out)
    latent = np.random.default_rng(0).standard_normal((len(held_out), 4, LATENT), np.float32)

    class Report(keras.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            self.scoring = 0.0

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            seconds = time.perf_counter() - begun - self.scoring
            before = time.perf_counter()
            drawn = [
                decoder.predict([*test, np.repeat(latent[:, sample], 196, axis=0)], batch_size=512, verbose=0)
                for sample in range(4)
            ]
            mse = float(np.mean([np.square(some - held_out.chroma.reshape(-1, 2)) for some in drawn]))
            self.scoring += time.perf_counter() - before
            report({"epoch": epoch + 1, "seconds": seconds, "chroma_mse": mse})

    model.fit(inputs, chroma, batch_size=config.batch_size, epochs=epochs, verbose=0, callbacks=[Report()])


def tune(photos: PhotoSet, held_out: PhotoSet, configs: list[Config], epochs: int, slots: int) -> None:
    """Run trials as a plain Ray Tune function trainable, `slots` at a time, one thread each."""
    import ray
    from ray import tune

    def trial(config: dict, photos: PhotoSet, held_out: PhotoSet) -> None:
        from huetune.data_tools.common.keras_backend import tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        fit(photos, held_out, Config(**config), 0, epochs, lambda figures: tune.report(figures))

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


def prepare_slowly(photo: np.ndarray) -> np.ndarray:
    """The chroma map of a photo, uint8 [112, 112, 3], pixel by pixel as a tutorial would have it."""
    chroma = np.zeros((14, 14, 2))
    for row in range(112):
        for column in range(112):
            red, green, blue = (value / 255 for value in photo[row, column].tolist())
            hue = 2 * math.pi * colorsys.rgb_to_hsv(red, green, blue)[0]
            saturation = max(red, green, blue) - min(red, green, blue)
            chroma[row // 8, column // 8] += saturation * math.cos(hue) / 64, saturation * math.sin(hue) / 64
    return chroma


def colorize_slowly(network: Any, config: Config, luma: np.ndarray, samples: int) -> np.ndarray:
    """Draw the chroma maps of photos, float32 [n, 112, 112], with a model call a box and sample, as the seed does."""
    from huetune.model.network import LATENT

    place = positions(config.positions)
    windows = extract_windows(luma, np.arange(len(luma) * 196))
    drawn = np.zeros((len(luma), samples, 196, 2), np.float32)
    for photo in range(len(luma)):
        for sample in range(samples):
            latent = np.random.standard_normal((1, LATENT)).astype(np.float32)
            for box in range(196):
                views = [windows[photo * 196 + box, view][None, ..., None] for view in range(4)]
                drawn[photo, sample, box] = network.decoder([*views, place[box : box + 1], latent])[0]
    return drawn
