"""Training a model, epoch by epoch."""

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
"""The number of recently used structures whose traced models a worker keeps: the eight of the default space, and two
more. Each takes about 40 MB."""
COMPILED_FROM = 400
"""Photos from which XLA compiles a card's training step, unless told. Compiling costs a worker a minute a structure; it
saves 20 ms of 30 a step, in which a card waits for the next of a thousand small operations (`tests.benchmarks packing`,
on an H100). 3,000 steps earn it back, eight epochs of 400 photos."""
VALIDATION_SAMPLES = 4
VALIDATION_SEED = 0
"""The same latent vectors for every trial and epoch: what differs between two scores is not their luck in drawing."""


class DivergedError(ArithmeticError):
    """The training diverged: a loss, a weight or a score is not a finite number.

    Args:
        epoch: in which it did, from 1 on.
        detail: which number, and what it is.
    """

    def __init__(self, epoch: int, detail: str):
        super().__init__(epoch, detail)
        self.epoch, self.detail = epoch, detail

    def __str__(self) -> str:
        return f"diverged in epoch {self.epoch}: {self.detail}"


class Trainer:
    """Trains one configuration after another on the same photos.

    Building the layers and tracing the training step take longer than an epoch of a small trial. A trainer keeps them
    for each structure it has met, and `start` only gives every variable of the graph its first value again, from the
    seed: a second trial begins at once, and with the very numbers that a fresh process would have.

    Args:
        training: the photos that weights are learned from.
        validation: the photos that score each epoch.
        compiled: whether XLA compiles the training step; by default, where a GPU has COMPILED_FROM photos to train on.
        dtype_policy: name of the Keras policy by which the layers compute; what is learned and scored stays float32.
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
            compiled = len(training) >= COMPILED_FROM and bool(tf.config.list_logical_devices("GPU"))
        self._compiled, self._dtype_policy = compiled, dtype_policy
        self.mean_chroma = training.chroma.mean(axis=(0, 1, 2))
        self._steps: dict[tuple[Any, ...], Step] = {}

    def start(self, config: Config, seed: int) -> None:
        """Start a new training.

        Args:
            config: its settings.
            seed: of the first weights, the order of the photos, dropout and the latent noise; 0 or more.
        """
        traced = replace(config, batch_size=min(config.batch_size, self._count(config)))
        kind = Step.kind(traced, self._compiled)
        step = self._steps.pop(kind, None) or Step(traced, self._compiled, self._dtype_policy)
        self._steps[kind] = step
        if len(self._steps) > MAX_CACHED_STRUCTURES:
            del self._steps[next(iter(self._steps))]
        self.config, self.seed, self.epochs = config, seed, 0
        self._step = step
        weights, order = np.random.SeedSequence(seed).spawn(2)
        self._step.reset(config, weights)
        self._order = np.random.default_rng(order)

    def epoch(self, on_step: Callable[[int, int], None] = lambda done, total: None) -> dict[str, float]:
        """Train one epoch and score it.

        Args:
            on_step: called after each step with the number of patches done and in the epoch.

        Returns:
            `epoch` (from 1), `boxes` (the number of patches trained on), `train_seconds`, `seconds` (with scoring),
            `train_loss` and its terms `train_mse`, `train_norm`, `train_kl`, `train_l2`, and the metrics of
            `model.metrics.scores`.

        Raises:
            DivergedError: a loss, a weight or a score is no finite number.
        """
        begun = time.perf_counter()
        self._step.totals.assign(tf.zeros_like(self._step.totals))
        boxes = steps = 0
        batches = list(self._batches())
        size = len(batches[0]) * (1 if self.config.batching == "patches" else PATCHES_PER_PHOTO)
        for batch in batches:
            self._step.run(*self._tensors(batch))
            steps, boxes = steps + 1, boxes + size
            on_step(boxes, len(batches) * size)
        totals = self._step.totals.numpy() / steps
        trained = time.perf_counter()
        self.epochs += 1
        figures = {f"train_{name}": float(value) for name, value in zip(loss.LOSS_TERMS, totals, strict=True)}
        self._require_finite(figures)
        if not self._step.finite:
            # The last step's doing, or the encoder's: neither losses nor scores would show it.
            raise DivergedError(self.epochs, "a weight is no finite number")
        self._step.sync_to_model()
        figures |= scores(self.draw(), self.validation.chroma, self.mean_chroma)
        self._require_finite(figures)
        seconds = {"train_seconds": trained - begun, "seconds": time.perf_counter() - begun}
        return {"epoch": self.epochs, "boxes": boxes, **seconds, **figures}

    @property
    def state(self) -> dict[str, np.ndarray]:
        """All that has changed since `start`, see `resume`."""
        order = json.dumps({"order": self._order.bit_generator.state, "epochs": self.epochs})
        arrays = {f"optimizer-{place}": variable.numpy() for place, variable in enumerate(self._step.changing)}
        return {**arrays, "counters": np.array(order)}

    def resume(self, config: Config, seed: int, state: Mapping[str, np.ndarray]) -> None:
        """Resume a training from its state; the next epochs have the same numbers to the last bit.

        Args:
            config: its settings.
            seed: that it was started with.
            state: as another trainer of the same photos had it.

        Raises:
            ValueError: it is the state of something else.
        """
        self.start(config, seed)
        counters = json.loads(str(state["counters"]))
        if len(state) != len(self._step.changing) + 1:
            raise ValueError(f"a state of {len(state)} arrays, not of {len(self._step.changing) + 1}")
        for place, variable in enumerate(self._step.changing):
            variable.assign(state[f"optimizer-{place}"])
        self._step.sync_to_model()
        self._order.bit_generator.state = counters["order"]
        self.epochs = counters["epochs"]

    def draw(self) -> np.ndarray:
        """Return the model's chroma maps of the validation photos: float32 [n, samples, 14, 14, 2]."""
        return self._step.colorizer.draw(self.validation.gray, VALIDATION_SAMPLES, VALIDATION_SEED)

    @property
    def vae(self) -> keras.Model:
        """The model in training."""
        return self._step.network.vae

    def _count(self, config: Config) -> int:
        """What there is to fill batches with: boxes or photos."""
        return len(self.training) * (PATCHES_PER_PHOTO if config.batching == "patches" else 1)

    def _batches(self) -> Iterator[np.ndarray]:
        """The epoch's boxes or photos in a new order; those that fill no batch sit this epoch out, as in the log."""
        count = self._count(self.config)
        size = min(self.config.batch_size, count)
        order = self._order.permutation(count)
        for start in range(0, count - size + 1, size):
            yield order[start : start + size]

    def _tensors(self, batch: np.ndarray):
        place = positions(self.config.positions)
        if self.config.batching == "photos":
            luma, chroma = self._seen(batch)
            views = [view[..., None] for view in shrink(luma)]
            return views, np.tile(place, (len(batch), 1)), chroma.reshape(-1, 2)
        photos, photo = np.unique(batch // PATCHES_PER_PHOTO, return_inverse=True)
        luma, chroma = self._seen(photos)
        boxes = photo * PATCHES_PER_PHOTO + batch % PATCHES_PER_PHOTO
        windows = extract_windows(luma, boxes)
        views = [windows[:, view, :, :, None] for view in range(len(CONTEXT_WINDOWS))]
        return views, place[batch % PATCHES_PER_PHOTO], chroma.reshape(-1, 2)[boxes]

    def _seen(self, photos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Luma and chroma of photos, with `flips` each of them mirrored or not."""
        luma, chroma = self.training.take(photos).luma, self.training.chroma[photos]
        if not self.config.flips:
            return luma, chroma
        mirrored = self._order.random(len(photos)) < 0.5
        luma[mirrored] = luma[mirrored, :, ::-1]
        chroma[mirrored] = chroma[mirrored, :, ::-1]
        return luma, chroma

    def _require_finite(self, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            if not np.isfinite(value):
                raise DivergedError(self.epochs, f"{name} is {value}")
