"""How values and parameters are written in tables, boards and sentences."""

from typing import Any

import optuna
from optuna.trial import FrozenTrial


def format_value(value: Any) -> str:
    """Return a value as text: floats with four significant digits, booleans as yes or no, None as an empty text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


def format_params(trial: optuna.Trial | FrozenTrial) -> str:
    """Return the searched parameters of a trial as one line."""
    return ", ".join(f"{name} {format_value(value)}" for name, value in trial.params.items())
