"""The settings of one model and its training, and the presets that the seed's log names."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from huetune.data_tools.common.errors import UserError, did_you_mean
from huetune.data_tools.photos.color import PATCHES_PER_SIDE

Activation = Literal["relu", "silu", "gelu", "elu", "tanh", "leaky_relu"]
Batching = Literal["boxes", "photos"]
Dropped = Literal["units", "channels", "dense"]
Optimizer = Literal["adam", "muon"]
Initial = Literal["glorot", "he"]
MOST_UNITS = 4096
"""Of a model of 33 million parameters."""

FILTERS = (16, 32, 32, 48, 48)
"""Of a tower's 3 x 3 convolutions."""
CONTEXT = 32
"""Features that each tower hands on."""
HIDDEN = 64, 96
"""Units of the hidden layer of the encoder and of the decoder, after their towers."""
LATENT = 120


@dataclass(frozen=True)
class Config:
    """Everything that decides a model and its training, save the photos and the seed.

    Args:
        mse_weight: weight of the squared error in the loss, above 0.
        activation: of every hidden layer.
        skip: whether each tower also hands on its flattened 14 x 14 view.
        merge_units: units of the Dense layer that ends a tower's convolutions, 1 to 4096.
        positions: values that tell where a box lies, 2 or 7.
        dropout: share of the units dropped, 0 up to but not including 1.
        dropout_of: what convolutions drop: "units" one by one; whole "channels", whose work is then saved, and of which
            a multiple of 8 is kept; or nothing, where "dense" says that only Dense layers drop units.
        optimizer: "adam"; "muon" trains the hidden Dense layers with Muon, all else with Adam.
        learning_rate: of the first step, above 0.
        decay: the learning rate after k steps is learning_rate / (1 + decay x k); 0 or more.
        weight_decay: share of the matrices that Muon trains, times the learning rate, that each step takes off them
            (decoupled from the loss); 0 or more, and without effect under Adam.
        batching: "boxes" trains on loose boxes, as the log did; "photos" on whole photos, whose boxes share work.
        batch_size: boxes or photos a step, 1 or more.
        clip: largest norm of a step's gradient; 0 clips nothing.
        flips: whether photos are mirrored left to right at random.
        l2: weight of the squared kernels of all convolutions in the loss, 0 or more.
        initial: the first weights: "glorot", as Keras draws them; or "he", with answers that start at 0.
        centered: whether training subtracts the luma of a usual photo from the views; the trained model does not.
        encoder_side: patches along each side of the square, anew for each step, for which the encoder is computed with
            whole photos, 1 to 14; all others get their latent vectors from N(0, 1), as at inference.
        averaging: share that the average of the weights, which is scored and kept, keeps of itself in a step; 0 up to
            but not including 1, and 0 keeps the last weights.

    Raises:
        UserError: a value outside of these, in one line.
    """

    mse_weight: float = 2.5
    activation: Activation = "silu"
    skip: bool = True
    merge_units: int = 96
    positions: int = 2
    dropout: float = 0.45
    dropout_of: Dropped = "units"
    optimizer: Optimizer = "adam"
    learning_rate: float = 0.001
    decay: float = 1e-6
    weight_decay: float = 0.0
    batching: Batching = "boxes"
    batch_size: int = 32
    clip: float = 0.0
    flips: bool = False
    l2: float = 0.001
    initial: Initial = "glorot"
    centered: bool = False
    encoder_side: int = PATCHES_PER_SIDE
    averaging: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_type(field.name, getattr(self, field.name), field.default)
        _check("activation", self.activation, self.activation in get_args(Activation), _one_of(get_args(Activation)))
        _check("batching", self.batching, self.batching in get_args(Batching), _one_of(get_args(Batching)))
        _check("dropout_of", self.dropout_of, self.dropout_of in get_args(Dropped), _one_of(get_args(Dropped)))
        _check("optimizer", self.optimizer, self.optimizer in get_args(Optimizer), _one_of(get_args(Optimizer)))
        _check("positions", self.positions, self.positions in (2, 7), "2 or 7")
        _check("initial", self.initial, self.initial in get_args(Initial), _one_of(get_args(Initial)))
        for name in ("dropout", "averaging"):
            value = getattr(self, name)
            _check(name, value, 0 <= value < 1, "0 up to but not including 1")
        for name in ("decay", "weight_decay", "clip", "l2"):
            value = getattr(self, name)
            _check(name, value, 0 <= value < math.inf, "0 or more")
        for name in ("mse_weight", "learning_rate"):
            value = getattr(self, name)
            _check(name, value, 0 < value < math.inf, "above 0")
        _check(
            "encoder_side", self.encoder_side, 1 <= self.encoder_side <= PATCHES_PER_SIDE, f"1 to {PATCHES_PER_SIDE}"
        )
        # A model file may come from anyone: none is to ask for more memory than there is.
        _check("merge_units", self.merge_units, 1 <= self.merge_units <= MOST_UNITS, f"1 to {MOST_UNITS}")
        _check("batch_size", self.batch_size, self.batch_size >= 1, "1 or more")

    @property
    def structure(self) -> tuple[Any, ...]:
        """What decides the layers: two configurations of one structure can share one traced model."""
        return self.activation, self.skip, self.merge_units, self.positions

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Config":
        """Return the configuration with the given values, the defaults elsewhere.

        Raises:
            UserError: a name that is none of the fields, or a bad value.
        """
        names = [field.name for field in fields(cls)]
        for name in values:
            if name not in names:
                raise UserError(f"unknown setting {name!r}: {did_you_mean(name, names, 'known settings are')}")
        return cls(**values)


def _check_type(name: str, value: object, default: object) -> None:
    wanted = type(default)
    fits = isinstance(value, (int, float)) if wanted is float else isinstance(value, wanted)
    if not fits or (isinstance(value, bool) and wanted is not bool):
        raise UserError(f"{name} must be {_KINDS[wanted]}, received {value!r}")


def _check(name: str, value: object, fine: bool, wanted: str) -> None:
    if not fine:
        raise UserError(f"{name} must be {wanted}, received {value!r}")


def _one_of(words: tuple[str, ...]) -> str:
    return f"one of {', '.join(words)}"


_KINDS: dict[type, str] = {float: "a number", int: "a whole number", bool: "true or false", str: "a word"}

_MODEL_2 = Config()
PRESETS: dict[str, Config] = {
    "model-1": replace(_MODEL_2, mse_weight=4.0, skip=False),
    "model-2": _MODEL_2,
    "model-3": replace(_MODEL_2, mse_weight=4.0),
    "model-4": replace(_MODEL_2, mse_weight=2.0, merge_units=128),
    "model-6": replace(_MODEL_2, merge_units=128, positions=7),
}
"""The log's models by name, in the log's own way of training."""

MODEL = ("mse_weight", "activation", "skip", "merge_units", "positions")
"""The settings in which presets differ; how a model is trained is not among them."""

BATCHINGS: dict[Batching, dict[str, Any]] = {
    "boxes": {
        "dropout_of": "units",
        "batch_size": 32,
        "optimizer": "adam",
        "learning_rate": 0.001,
        "decay": 1e-6,
        "weight_decay": 0.0,
        "clip": 0.0,
        "flips": False,
        "dropout": 0.45,
        "l2": 0.001,
        "initial": "glorot",
        "centered": False,
        "encoder_side": PATCHES_PER_SIDE,
        "averaging": 0.0,
    },
    "photos": {
        "dropout_of": "dense",
        "batch_size": 1,
        "optimizer": "muon",
        "learning_rate": 0.002,
        "decay": 0.002,
        "weight_decay": 0.0,
        "clip": 1.0,
        "flips": True,
        "dropout": 0.45,
        "l2": 0.0001,
        "initial": "he",
        "centered": True,
        "encoder_side": 7,
        "averaging": 0.99,
    },
}
"""What each way of batching is trained with: the log's own way, and a recipe for whole photos by which every structure
learns, whatever its activation, `skip` and loss weight (`tests.benchmarks structures`).

The patches of a photo are alike, so its steps are few for the work they cost, and each must count. Muon moves every
hidden matrix, the convolutions' kernels among them, by an equal share: no layer stands still because its gradients are
small, and a weak L2 cannot shrink it to nothing. Centered views and scaled first weights keep what photos have in
common from drowning what tells them apart; answers that start at 0 stay out of the flat ends of tanh. Only Dense layers
drop units: whole channels of a photo, dropped in five layers one after the other, are more noise than most activations
learn through. Flips keep the few photos from being learned by heart; clipping, decay and the average of the weights
keep one odd photo from spoiling the rest. The encoder sees the same photo as the decoder, so its answer comes to
N(0, 1) within an epoch, as the loss asks; a quarter of the patches is enough to hold it there.
"""


def like(config: Config, preset: str) -> Config:
    """Return a configuration with a preset's model, trained as before."""
    return replace(config, **{name: getattr(PRESETS[preset], name) for name in MODEL})


def batched(config: Config, batching: Batching) -> Config:
    """Return a configuration with a way of batching and all that goes with it."""
    return replace(config, batching=batching, **BATCHINGS[batching])


_DROPPED: dict[Dropped, str] = {"units": "units", "channels": "channels", "dense": "units of Dense layers alone"}


def recipes_line() -> str:
    """Return in a line that presets say nothing of the training, and what each way of training has of its own."""
    recipes = ((batching, batched(_MODEL_2, batching)) for batching in BATCHINGS)
    each = "; ".join(
        f"{name}: dropout {config.dropout:g} of {_DROPPED[config.dropout_of]}, {config.optimizer}, "
        f"{config.learning_rate:g}"
        for name, config in recipes
    )
    return (
        "presets are the log's models; each way of training (--batching) has its own dropout, optimizer and learning "
        f"rate: {each}"
    )
