"""The presets: the models that the experiment log names, without how they are trained."""

from dataclasses import replace
from typing import Any

from huetune.model.config import Config
from huetune.model.weights import parameter_counts

PRESET_SETTINGS = ("mse_weight", "activation", "skip", "merge_units", "positions")
"""The settings in which presets differ. The other settings belong to the recipe, see `huetune.model.recipes`."""

PRESETS: dict[str, Config] = {
    "model-1": Config(mse_weight=4.0, skip=False),
    "model-2": Config(),
    "model-3": Config(mse_weight=4.0),
    "model-4": Config(mse_weight=2.0, merge_units=128),
    "model-6": Config(merge_units=128, positions=7),
}
"""The models of the experiment log by name, with its recipe, "patches"."""


def with_preset(config: Config, preset: str) -> Config:
    """Return a configuration with the model of a preset and its own recipe.

    Args:
        config: whose recipe is kept.
        preset: a key of `PRESETS`.
    """
    return replace(config, **{name: getattr(PRESETS[preset], name) for name in PRESET_SETTINGS})


def preset_rows() -> list[dict[str, Any]]:
    """Return the presets as table rows: name, settings and parameter counts."""
    return [
        {"name": name, **{field: getattr(config, field) for field in PRESET_SETTINGS}, **parameter_counts(config)}
        for name, config in PRESETS.items()
    ]
