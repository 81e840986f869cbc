"""Training a model, epoch by epoch."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from data_tools.backend import FLOATX, keras, tf
from data_tools.colour import GRID
from data_tools.contexts import VIEWS, WINDOW, contexts, positions, shrunk
from data_tools.photos import PhotoSet
from model import loss
from model.colorizer import Colorizer
from model.config import Config
from model.network import LATENT, build
from model.optimizer import Optimizer
from model.score import scores

BOXES = GRID * GRID
KEPT = 4
"""Structures that a worker keeps ready, the last ones used: each holds a model and its optimizer."""
COMPILED_FROM = 400
"""Photos from which XLA compiles a card's training step, unless told. Compiling costs a worker a minute a structure; it
saves 20 ms of 30 a step, in which a card waits for the next of a thousand small operations (`tests.benchmarks packing`,
on an H100). 3,000 steps earn it back, eight epochs of 400 photos."""
L2 = 0.001
"""Weight of the squared kernels of all convolutions in the loss."""
VALIDATION_SAMPLES = 4
VALIDATION_SEED = 0
"""The same latent vectors for every trial and epoch: what differs between two scores is not their luck in drawing."""


class DivergedError(ArithmeticError):
    """Training left the finite numbers: no later epoch can mend it."""


class Trainer:
    """Trains one configuration after another on the same photos.

    Building the layers and tracing the training step take longer than an epoch of a small trial. A trainer keeps them
    for each structure it has met, and `start` only gives every variable of the graph its first value again, from the
    seed: a second trial begins at once, and with the very numbers that a fresh process would have.

    Args:
        training: the photos that weights are learnt from.
        validation: the photos that score each epoch.
        compiled: whether XLA compiles the training step; by default, where a GPU has COMPILED_FROM photos to train on.
        dtype_policy: name of the Keras policy by which the layers compute; what is learnt and scored stays float32.
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
        self._steps: dict[tuple[Any, ...], _Step] = {}

    def start(self, config: Config, seed: int) -> None:
        """Begin a model anew.

        Args:
            config: its settings.
            seed: of the first weights, the order of the photos, dropout and the latent noise; 0 or more.
        """
        kind = (config.structure, config.batching, config.dropout_of, config.optimizer)
        step = self._steps.pop(kind, None) or _Step(config, self._compiled, self._dtype_policy)
        self._steps[kind] = step
        if len(self._steps) > KEPT:
            del self._steps[next(iter(self._steps))]
        self.config, self.seed, self.epochs = config, seed, 0
        self._step = step
        weights, order = np.random.SeedSequence(seed).spawn(2)
        self._step.reset(config, weights)
        self._order = np.random.default_rng(order)

    def epoch(self, on_step: Callable[[int, int], None] = lambda done, boxes: None) -> dict[str, float]:
        """Train one epoch and score it.

        Args:
            on_step: told after each step how many boxes are done, of how many.

        Returns:
            `epoch` (from 1), `boxes` trained on, `train_seconds`, `seconds` (with scoring), `train_loss` and its parts
            `train_mse`, `train_norm`, `train_kl`, `train_l2`, and the figures of `model.score.scores`.

        Raises:
            DivergedError: a loss, a weight or a score is no finite number.
        """
        begun = time.perf_counter()
        self._step.totals.assign(tf.zeros_like(self._step.totals))
        boxes = steps = 0
        batches = list(self._batches())
        size = len(batches[0]) * (1 if self.config.batching == "boxes" else BOXES)
        for batch in batches:
            self._step.run(*self._tensors(batch))
            steps, boxes = steps + 1, boxes + size
            on_step(boxes, len(batches) * size)
        totals = self._step.totals.numpy() / steps
        trained = time.perf_counter()
        self.epochs += 1
        figures = {f"train_{name}": float(value) for name, value in zip(loss.PARTS, totals, strict=True)}
        self._require_finite(figures)
        if not self._step.finite:
            # The last step's doing, or the encoder's: neither losses nor scores would show it.
            raise DivergedError(f"diverged in epoch {self.epochs}: a weight is no finite number")
        self._step.show()
        figures |= scores(self.draw(), self.validation.chroma, self.mean_chroma)
        self._require_finite(figures)
        seconds = {"train_seconds": trained - begun, "seconds": time.perf_counter() - begun}
        return {"epoch": self.epochs, "boxes": boxes, **seconds, **figures}

    @property
    def state(self) -> dict[str, np.ndarray]:
        """All that has changed since `start`, to go on from later: see `go_on`."""
        order = json.dumps({"order": self._order.bit_generator.state, "epochs": self.epochs})
        arrays = {f"optimizer-{place}": variable.numpy() for place, variable in enumerate(self._step.changing)}
        return {**arrays, "counters": np.array(order)}

    def go_on(self, config: Config, seed: int, state: Mapping[str, np.ndarray]) -> None:
        """Take up a model where its training was left: what follows is the same to the last bit.

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
        self._step.show()
        self._order.bit_generator.state = counters["order"]
        self.epochs = counters["epochs"]

    def draw(self) -> np.ndarray:
        """Return the model's chroma maps of the validation photos: float32 [n, samples, 14, 14, 2]."""
        return self._step.colorizer.draw(self.validation.grey, VALIDATION_SAMPLES, VALIDATION_SEED)

    @property
    def vae(self) -> keras.Model:
        """The model in training."""
        return self._step.network.vae

    def _batches(self) -> Iterator[np.ndarray]:
        """The epoch's boxes or photos in a new order; those that fill no batch sit this epoch out, as in the log."""
        count = len(self.training) * (BOXES if self.config.batching == "boxes" else 1)
        size = min(self.config.batch_size, count)
        order = self._order.permutation(count)
        for start in range(0, count - size + 1, size):
            yield order[start : start + size]

    def _tensors(self, batch: np.ndarray):
        place = positions(self.config.positions)
        if self.config.batching == "photos":
            luma, chroma = self._seen(batch)
            views = [view[..., None] for view in shrunk(luma)]
            return views, np.tile(place, (len(batch), 1)), chroma.reshape(-1, 2)
        photos, photo = np.unique(batch // BOXES, return_inverse=True)
        luma, chroma = self._seen(photos)
        boxes = photo * BOXES + batch % BOXES
        windows = contexts(luma, boxes)
        views = [windows[:, view, :, :, None] for view in range(len(VIEWS))]
        return views, place[batch % BOXES], chroma.reshape(-1, 2)[boxes]

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
                raise DivergedError(f"diverged in epoch {self.epochs}: {name} is {value}")


class _Step:
    """The traced training step of one structure, with everything that a trial may change in variables.

    Constants of the graph would need a new trace, seconds long, for each new value.
    """

    def __init__(self, config: Config, compiled: bool, dtype_policy: str):
        self.network = build(config, dtype_policy)
        self.colorizer = Colorizer(self.network, config)
        self.totals = tf.Variable(tf.zeros([len(loss.PARTS)]))
        self._optimizer = Optimizer(self.network.vae.trainable_variables, muon=config.optimizer == "muon")
        # No int32: on a card TensorFlow keeps those with the host, where a compiled step may not reach.
        self._mse_weight, self._seed = tf.Variable(0.0), tf.Variable(0, dtype=tf.int64)
        loose = config.batching == "boxes"
        sides = [WINDOW if loose else view.side for view in VIEWS]
        views = [tf.TensorSpec([None, side, side, 1]) for side in sides]
        place, chroma = tf.TensorSpec([None, config.positions]), tf.TensorSpec([None, 2])
        signature = [views, place, chroma]
        self.run = tf.function(self._run, input_signature=signature, autograph=False, jit_compile=compiled or None)

    def reset(self, config: Config, seed: np.random.SeedSequence) -> None:
        """Give every variable the value that a fresh process would give it."""
        rng = np.random.default_rng(seed)
        weights = []
        for variable in self._optimizer.variables:
            glorot = keras.initializers.GlorotUniform(int(rng.integers(2**31)))
            weights.append(glorot(variable.shape, FLOATX) if len(variable.shape) > 1 else tf.zeros(variable.shape))
        self._optimizer.reset(weights, config.learning_rate, config.decay, config.clip)
        self._seed.assign(int(rng.integers(2**31)))
        self._mse_weight.assign(config.mse_weight)

    @property
    def changing(self) -> list[tf.Variable]:
        """What a step changes; all else follows from the configuration and the seed."""
        return self._optimizer.state

    @property
    def finite(self) -> bool:
        """Whether every weight is a finite number."""
        return all(bool(np.isfinite(weights.numpy()).all()) for weights in self._optimizer.weights)

    def show(self) -> None:
        """Put the weights into the model, where whoever colorizes or saves will look for them."""
        self._optimizer.show()

    def _run(self, views, place, chroma):
        seed = tf.stack([tf.cast(self._seed, tf.int32), tf.cast(self._optimizer.steps, tf.int32) + 1])
        self.network.dice.throw(seed)
        noise = tf.random.stateless_normal([tf.shape(chroma)[0], LATENT], seed)
        with tf.GradientTape() as tape:
            unpacked, kernels = self._optimizer.unpack()
            with keras.StatelessScope(state_mapping=zip(self._optimizer.variables, unpacked, strict=True)):
                painted, mean, log_variance = self.network.vae([*views, place, noise], training=True)
            l2 = L2 * tf.reduce_sum(tf.square(kernels))
            parts = loss.parts(chroma, painted, mean, log_variance, self._mse_weight, l2)
            total = parts[0]
        self._optimizer.apply(tape.gradient(total, self._optimizer.weights))
        self.totals.assign_add(parts)
