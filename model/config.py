"""The configuration of a model: its structure and how it is trained."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from huetune.data_tools.common.errors import UserError, did_you_mean
from huetune.data_tools.photos.color import PATCHES_PER_SIDE

Activation = Literal["relu", "silu", "gelu", "elu", "tanh", "leaky_relu"]
Recipe = Literal["patches", "photos"]
DropoutTarget = Literal["units", "channels", "dense"]
OptimizerName = Literal["adam", "muon"]
Initializer = Literal["glorot", "he"]
MAX_MERGE_UNITS = 4096
"""The largest `merge_units`, which gives a model of 33 million parameters."""
OLD_RECIPES: dict[str, str] = {"boxes": "patches"}
"""Older names of recipes, which commands and stored configurations may contain, with the current ones."""

FILTERS = (16, 32, 32, 48, 48)
"""Filters of the 3 x 3 convolutions of a tower."""
CONTEXT = 32
"""Units of the last layer of a tower."""
HIDDEN = 64, 96
"""Units of the hidden layer after the towers, of the encoder and of the decoder."""
LATENT = 120
"""Length of a latent vector."""


@dataclass(frozen=True)
class Config:
    """The settings that, with the photos and the seed, determine a model and its training.

    Args:
        mse_weight: weight of the squared error in the loss, above 0.
        activation: of every hidden layer.
        skip: whether each tower has a skip connection: the Dense layer after its convolutions also reads its flattened
            14 x 14 context window.
        merge_units: units of that Dense layer, 1 to 4096.
        positions: number of values that encode the position of a patch, 2 or 7.
        dropout: fraction of the units to drop, in [0, 1).
        dropout_of: what is dropped. "units": single units of convolutions and Dense layers. "channels": whole channels
            of convolutions, which saves their computation and keeps a multiple of 8, and units of Dense layers.
            "dense": units of Dense layers only.
        optimizer: "adam", or "muon", which trains the matrices between hidden layers with Muon and the rest with Adam.
        learning_rate: of the first step, above 0.
        decay: the learning rate after k steps is learning_rate / (1 + decay x k); 0 or more.
        weight_decay: decoupled weight decay of the matrices that Muon trains: each step subtracts weight_decay x
            learning rate x weights; 0 or more, without effect with "adam".
        batching: the recipe. "patches" trains on single patches of any photos, as the experiment log did; "photos" on
            whole photos, whose patches share computation. The older name "boxes" is read as "patches".
        batch_size: patches or photos in a step, 1 or more.
        clip: maximum norm of the gradient of a step; 0 disables clipping.
        flips: whether photos are mirrored left to right at random.
        l2: weight of the L2 penalty on the kernels of all convolutions, 0 or more.
        initial: initial weights. "glorot": as Keras draws them; "he": scaled by the gain of the activation, with 0 for
            the output layers.
        centered: whether training subtracts the mean luma of photos from the context windows. The trained model takes
            the luma as it is.
        encoder_side: side, in patches, of the random square of each photo for which the encoder is computed in a step
            with "photos", 1 to 14. The other patches get their latent vectors from N(0, 1), as at inference.
        averaging: decay of the exponential moving average of the weights, which is scored and saved, in [0, 1); 0 uses
            the last weights.

    Raises:
        UserError: a value is of another type or out of range.
    """

    mse_weight: float = 2.5
    activation: Activation = "silu"
    skip: bool = True
    merge_units: int = 96
    positions: int = 2
    dropout: float = 0.45
    dropout_of: DropoutTarget = "units"
    optimizer: OptimizerName = "adam"
    learning_rate: float = 0.001
    decay: float = 1e-6
    weight_decay: float = 0.0
    batching: Recipe = "patches"
    batch_size: int = 32
    clip: float = 0.0
    flips: bool = False
    l2: float = 0.001
    initial: Initializer = "glorot"
    centered: bool = False
    encoder_side: int = PATCHES_PER_SIDE
    averaging: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "batching", _current_recipe(self.batching))
        for field in fields(self):
            _check_type(field.name, getattr(self, field.name), field.default)
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            _check(name, value, value in choices, f"one of {', '.join(choices)}")
        _check("positions", self.positions, self.positions in (2, 7), "2 or 7")
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
        # A model file may be hostile: it must not be able to request more memory than there is.
        _check("merge_units", self.merge_units, 1 <= self.merge_units <= MAX_MERGE_UNITS, f"1 to {MAX_MERGE_UNITS}")
        _check("batch_size", self.batch_size, self.batch_size >= 1, "1 or more")

    @property
    def structure(self) -> tuple[Any, ...]:
        """The settings that determine the layers. Configurations of the same structure can share a traced model."""
        return self.activation, self.skip, self.merge_units, self.positions

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Config":
        """Return the configuration with the given values, and the defaults for the other settings.

        Args:
            values: by the names of the settings.

        Raises:
            UserError: a name is not a setting, or a value is of another type or out of range.
        """
        names = [field.name for field in fields(cls)]
        for name in values:
            if name not in names:
                raise UserError(f"unknown setting {name!r}: {did_you_mean(name, names, 'known settings are')}")
        return cls(**values)


def with_current_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return stored settings with the values renamed that older versions called otherwise.

    Args:
        values: by the names of the settings, as an older version stored them.
    """
    return {name: _current_recipe(value) if name == "batching" else value for name, value in values.items()}


def _current_recipe(value: Any) -> Any:
    return OLD_RECIPES.get(value, value) if isinstance(value, str) else value


def _check_type(name: str, value: object, default: object) -> None:
    wanted = type(default)
    fits = isinstance(value, (int, float)) if wanted is float else isinstance(value, wanted)
    if not fits or (isinstance(value, bool) and wanted is not bool):
        raise UserError(f"{name} must be {_KINDS[wanted]}, received {value!r}")


def _check(name: str, value: object, fine: bool, wanted: str) -> None:
    if not fine:
        raise UserError(f"{name} must be {wanted}, received {value!r}")


_CHOICES: dict[str, tuple[str, ...]] = {
    "activation": get_args(Activation),
    "batching": get_args(Recipe),
    "dropout_of": get_args(DropoutTarget),
    "optimizer": get_args(OptimizerName),
    "initial": get_args(Initializer),
}
_KINDS: dict[type, str] = {float: "a number", int: "a whole number", bool: "true or false", str: "a word"}
