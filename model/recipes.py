"""The recipes: how a model is trained, for each value of the setting `batching`."""

from dataclasses import replace
from typing import Any

from huetune.data_tools.photos.color import PATCHES_PER_SIDE
from huetune.model.config import Config, DropoutTarget, Recipe

RECIPES: dict[Recipe, dict[str, Any]] = {
    "patches": {
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
"""The settings of each recipe: that of the experiment log, and one for whole photos with which every structure learns,
whatever its activation, `skip` and loss weight (`python -m tests.benchmarks structures`).

The patches of a photo are alike, so an epoch of whole photos has few steps for the work that it costs, and each step
must make progress:

- Muon changes every hidden matrix, the convolutions' kernels included, by an equal share, so no layer stops learning
  because its gradients are small. The L2 penalty is weak, so that it cannot shrink a kernel to zero.
- Centered context windows and scaled initial weights keep what all photos have in common from hiding the differences
  between them. Output layers that start at 0 stay out of the flat ends of tanh.
- Dropout is applied to the units of Dense layers only. Dropping whole channels in five consecutive layers is more noise
  than most activations can learn with.
- Flips reduce overfitting to few photos. Clipping, decay and weight averaging limit the effect of an unusual photo.
- The encoder sees the same photo as the decoder, so its output becomes N(0, 1) within an epoch, as the loss demands.
  A quarter of the patches is enough to keep it there.
"""

_DROPOUT_TARGETS: dict[DropoutTarget, str] = {
    "units": "units",
    "channels": "channels",
    "dense": "units of Dense layers only",
}


def with_recipe(config: Config, recipe: Recipe) -> Config:
    """Return a configuration with the settings of a recipe; its model stays the same.

    Args:
        config: whose model is kept.
        recipe: a key of `RECIPES`, which becomes the setting `batching`.
    """
    return replace(config, batching=recipe, **RECIPES[recipe])


def describe_recipes() -> str:
    """Return a line that states that the recipe is not part of a preset, and what each recipe sets."""
    recipes = {name: with_recipe(Config(), name) for name in RECIPES}
    each = "; ".join(
        f"{name}: dropout {config.dropout:g} of {_DROPOUT_TARGETS[config.dropout_of]}, {config.optimizer}, "
        f"{config.learning_rate:g}"
        for name, config in recipes.items()
    )
    return (
        "presets are the models of the experiment log; dropout, optimizer and learning rate belong to the recipe "
        f"(--batching): {each}"
    )
