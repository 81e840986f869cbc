"""Training a model on photos, epoch by epoch."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from huetune.data_tools.common.keras_backend import FLOATX, keras, tf
from huetune.data_tools.photos.color import PATCHES_PER_SIDE
from huetune.data_tools.photos.context_windows import CONTEXT_WINDOWS, extract_windows, positions, shrink
from huetune.data_tools.photos.dataset import PhotoSet
from huetune.model import loss
from huetune.model.config import Config
from huetune.model.metrics import scores
from huetune.model.step import Step

PATCHES_PER_PHOTO = PATCHES_PER_SIDE * PATCHES_PER_SIDE
MAX_CACHED_STRUCTURES = 10
"""The number of recently used structures whose traced models a trainer keeps: the eight of the default space, and two
more. Each takes about 40 MB."""
MIN_PHOTOS_TO_COMPILE = 400
"""The number of training photos from which XLA compiles the training step on a GPU by default. Compiling takes a minute
for each structure. It saves 20 of the 30 ms of a step, in which the GPU waits for the next of a thousand small
operations (`tests.benchmarks packing`, on an H100). So it pays off after 3,000 steps, or eight epochs of 400 photos."""
VALIDATION_SAMPLES = 4
"""The number of chroma maps that are predicted for each validation photo."""
VALIDATION_SEED = 0
"""Seed of the validation's latent vectors. It is the same for all trials and epochs, so that scores do not differ by
random draws."""


class DivergedError(ArithmeticError):
    """The training diverged: a loss, a weight or a metric is not a finite number.

    Args:
        epoch: number of the epoch, from 1.
        detail: which number is not finite, as "train_loss is nan".
    """

    def __init__(self, epoch: int, detail: str):
        super().__init__(epoch, detail)
        self.epoch, self.detail = epoch, detail

    def __str__(self) -> str:
        return f"diverged in epoch {self.epoch}: {self.detail}"


class Trainer:
    """Trains one configuration after another on the same photos.

    Building the layers and tracing the training step take longer than an epoch of a small trial. A trainer caches the
    traced step of each structure, and `start` only initializes its variables from the seed. So the next trial of a
    known structure starts at once, and computes the same numbers as in a fresh process.

    Args:
        training: the photos to train on.
        validation: the photos on which the metrics of each epoch are measured.
        compiled: whether XLA compiles the training step; None for on a GPU with `MIN_PHOTOS_TO_COMPILE` training photos
            or more.
        dtype_policy: name of the Keras dtype policy of the hidden layers, as "mixed_bfloat16". Weights and outputs are
            float32.

    Attributes:
        training: the photos to train on.
        validation: the photos on which the metrics of each epoch are measured.
        mean_chroma: float32 [2], the mean chroma of the training photos.
        config: settings of the current training.
        seed: seed of the current training.
        epochs: number of trained epochs of the current training.
    """

    def __init__(
        self,
        training: PhotoSet,
        validation: PhotoSet,
        compiled: bool | None = None,
        dtype_policy: str = FLOATX,
    ):
        self.training, self.validation = training, validation
        if compiled is None:
            compiled = len(training) >= MIN_PHOTOS_TO_COMPILE and bool(tf.config.list_logical_devices("GPU"))
        self._compiled, self._dtype_policy = compiled, dtype_policy
        self.mean_chroma = training.chroma.mean(axis=(0, 1, 2))
        self._steps: dict[tuple[Any, ...], Step] = {}

    def start(self, config: Config, seed: int) -> None:
        """Start a new training.

        Args:
            config: settings of the model and the training.
            seed: seed of the initial weights, the order of the photos, flips, dropout and the latent noise; 0 or more.
        """
        traced = replace(config, batch_size=min(config.batch_size, self._example_count(config)))
        key = Step.cache_key(traced, self._compiled)
        step = self._steps.pop(key, None) or Step(traced, self._compiled, self._dtype_policy)
        self._steps[key] = step
        if len(self._steps) > MAX_CACHED_STRUCTURES:
            del self._steps[next(iter(self._steps))]
        self.config, self.seed, self.epochs = config, seed, 0
        self._step = step
        weights, order = np.random.SeedSequence(seed).spawn(2)
        self._step.reset(config, weights)
        self._order = np.random.default_rng(order)

    def epoch(self, on_step: Callable[[int, int], None] = lambda done, total: None) -> dict[str, float]:
        """Train one epoch, and measure its metrics on the validation photos.

        Args:
            on_step: called after each step with the number of patches done and the number of patches in the epoch.

        Returns:
            `epoch` (from 1), `boxes` (the number of patches trained on), `train_seconds`, `seconds` (training and
            validation), `train_loss` and its terms `train_mse`, `train_norm`, `train_kl`, `train_l2` (means over the
            steps), and the metrics of `huetune.model.metrics.METRICS`.

        Raises:
            DivergedError: a loss, a weight or a metric is not a finite number.
        """
        started = time.perf_counter()
        self._step.totals.assign(tf.zeros_like(self._step.totals))
        patches = steps = 0
        batches = list(self._batches())
        size = len(batches[0]) * (1 if self.config.batching == "patches" else PATCHES_PER_PHOTO)
        for batch in batches:
            self._step.run(*self._tensors(batch))
            steps, patches = steps + 1, patches + size
            on_step(patches, len(batches) * size)
        totals = self._step.totals.numpy() / steps
        trained = time.perf_counter()
        self.epochs += 1
        metrics = {f"train_{name}": float(value) for name, value in zip(loss.LOSS_TERMS, totals, strict=True)}
        self._require_finite(metrics)
        if not self._step.has_finite_weights:
            # The losses were computed before the last update, and the metrics do not depend on the encoder.
            raise DivergedError(self.epochs, "a weight is not finite")
        self._step.sync_to_model()
        metrics |= scores(self.draw(), self.validation.chroma, self.mean_chroma)
        self._require_finite(metrics)
        seconds = {"train_seconds": trained - started, "seconds": time.perf_counter() - started}
        # "boxes" is the stored name of the number of patches.
        return {"epoch": self.epochs, "boxes": patches, **seconds, **metrics}

    @property
    def state(self) -> dict[str, np.ndarray]:
        """Everything that changes in a training, for `resume`, as arrays by the names under which they are stored."""
        counters = json.dumps({"order": self._order.bit_generator.state, "epochs": self.epochs})
        arrays = {f"optimizer-{index}": variable.numpy() for index, variable in enumerate(self._step.state)}
        return {**arrays, "counters": np.array(counters)}

    def resume(self, config: Config, seed: int, state: Mapping[str, np.ndarray]) -> None:
        """Resume a training from its state. The next epochs give the same numbers, to the last bit.

        Args:
            config: settings of the training.
            seed: seed that the training was started with.
            state: `state` of a trainer with the same photos, after an epoch of this training.

        Raises:
            ValueError: the state is that of another model.
        """
        self.start(config, seed)
        counters = json.loads(str(state["counters"]))
        expected = len(self._step.state) + 1
        if len(state) != expected:
            raise ValueError(f"the training state has {len(state)} arrays, expected {expected}")
        for index, variable in enumerate(self._step.state):
            variable.assign(state[f"optimizer-{index}"])
        self._step.sync_to_model()
        self._order.bit_generator.state = counters["order"]
        self.epochs = counters["epochs"]

    def draw(self) -> np.ndarray:
        """Return the predicted chroma maps of the validation photos: float32 [n, samples, 14, 14, 2], -1..1."""
        return self._step.colorizer.draw(self.validation.gray, VALIDATION_SAMPLES, VALIDATION_SEED)

    @property
    def vae(self) -> keras.Model:
        """The Keras model, with the averaged weights after the last epoch."""
        return self._step.network.vae

    def _example_count(self, config: Config) -> int:
        """Return the number of examples that batches consist of: patches or photos."""
        return len(self.training) * (PATCHES_PER_PHOTO if config.batching == "patches" else 1)

    def _batches(self) -> Iterator[np.ndarray]:
        """Yield the indices of the epoch's patches or photos in a new random order, a batch at a time.

        Examples that do not fill a batch are not used in this epoch, as in the experiment log.
        """
        count = self._example_count(self.config)
        size = min(self.config.batch_size, count)
        order = self._order.permutation(count)
        for start in range(0, count - size + 1, size):
            yield order[start : start + size]

    def _tensors(self, batch: np.ndarray):
        """Return the arguments of `Step.run`: images, positions and true chroma of a batch.

        Args:
            batch: indices of photos, or of patches: photo x 196 + row x 14 + column.
        """
        position = positions(self.config.positions)
        if self.config.batching == "photos":
            luma, chroma = self._luma_and_chroma(batch)
            images = [image[..., None] for image in shrink(luma)]
            return images, np.tile(position, (len(batch), 1)), chroma.reshape(-1, 2)
        photos, photo = np.unique(batch // PATCHES_PER_PHOTO, return_inverse=True)
        luma, chroma = self._luma_and_chroma(photos)
        # The same patches, with photos counted in `photos`.
        patches = photo * PATCHES_PER_PHOTO + batch % PATCHES_PER_PHOTO
        windows = extract_windows(luma, patches)
        images = [windows[:, index, :, :, None] for index in range(len(CONTEXT_WINDOWS))]
        return images, position[batch % PATCHES_PER_PHOTO], chroma.reshape(-1, 2)[patches]

    def _luma_and_chroma(self, photos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return luma and chroma of training photos; with the setting `flips`, a random half of them is mirrored.

        Args:
            photos: indices of the photos.
        """
        luma, chroma = self.training.take(photos).luma, self.training.chroma[photos]
        if not self.config.flips:
            return luma, chroma
        mirrored = self._order.random(len(photos)) < 0.5
        luma[mirrored] = luma[mirrored, :, ::-1]
        chroma[mirrored] = chroma[mirrored, :, ::-1]
        return luma, chroma

    def _require_finite(self, metrics: dict[str, float]) -> None:
        """Raise DivergedError if a metric is not a finite number."""
        for name, value in metrics.items():
            if not np.isfinite(value):
                raise DivergedError(self.epochs, f"{name} is {value}")
