"""What a search may vary: one mapping from the name of a setting to its domain."""

import difflib
import itertools
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from data_tools.errors import UserError
from model.config import PRESETS, Config

MODEL = ("mse_weight", "activation", "skip", "merge_units", "positions", "dropout")
"""The settings that tell one preset from another."""
GRID_POINTS = 5
"""Values that a grid search takes of a range, a float's with a step excepted."""


@dataclass(frozen=True)
class Space:
    """A search space.

    Attributes:
        domains: Optuna's distribution for each searched field of `Config`.
        base: the value of every field that is not searched.
    """

    domains: Mapping[str, BaseDistribution]
    base: Config

    def config(self, parameters: Mapping[str, Any]) -> Config:
        """Return the configuration of a point of the space."""
        return replace(self.base, **parameters)

    def point(self, preset: str) -> dict[str, Any] | None:
        """Return a preset as a point of the space; None where the space does not hold it.

        Only what the model is must agree; how it is trained (batching, rates) stays the search's own.
        """
        model = {name: getattr(PRESETS[preset], name) for name in MODEL}
        if any(getattr(self.base, name) != value for name, value in model.items() if name not in self.domains):
            return None
        config = replace(self.base, **model)
        point = {name: getattr(config, name) for name in self.domains}
        return point if all(_holds(domain, point[name]) for name, domain in self.domains.items()) else None

    def grid(self) -> list[dict[str, Any]]:
        """Return every point of a grid search, long ranges cut into five values."""
        values = [_grid_values(domain) for domain in self.domains.values()]
        return [dict(zip(self.domains, point, strict=True)) for point in itertools.product(*values)]


def _holds(domain: BaseDistribution, value: Any) -> bool:
    if isinstance(domain, CategoricalDistribution):
        return value in domain.choices
    assert isinstance(domain, (FloatDistribution, IntDistribution))
    steps = (value - domain.low) / (domain.step or 1)
    return domain.low <= value <= domain.high and (domain.step is None or math.isclose(steps, round(steps)))


def _grid_values(domain: BaseDistribution) -> list[Any]:
    if isinstance(domain, CategoricalDistribution):
        return list(domain.choices)
    if isinstance(domain, IntDistribution):
        values = list(range(domain.low, domain.high + 1, domain.step))
        wanted = _spaced(domain.low, domain.high, domain.log)
        return sorted({min(values, key=lambda value: abs(value - near)) for near in wanted})
    assert isinstance(domain, FloatDistribution)
    if domain.step is None:
        return _spaced(domain.low, domain.high, domain.log)
    count = math.floor((domain.high - domain.low) / domain.step + 1e-9) + 1
    return [domain.low + index * domain.step for index in range(count)]


def _spaced(low: float, high: float, log: bool) -> list[float]:
    shares = [index / (GRID_POINTS - 1) for index in range(GRID_POINTS)]
    inner = [low * (high / low) ** share if log else low + share * (high - low) for share in shares[1:-1]]
    return [low, *inner, high]


DEFAULT = {
    "mse_weight": {"low": 1.0, "high": 8.0, "log": True},
    "activation": {"choices": ["relu", "silu", "gelu", "elu"]},
    "skip": {"choices": [True, False]},
}
"""The default space, as a space file says it."""


def read_space(path: Path, base: Config) -> Space:
    """Read a space from a TOML file.

    A table a setting: `low` and `high`, with `log` or `step` if wanted; or `choices`; or a fixed `value`.

        [mse_weight]
        low = 1.0
        high = 8.0
        log = true

        [activation]
        choices = ["relu", "silu"]

        [merge_units]
        value = 128

    Raises:
        UserError: the file cannot be read or is no space.
    """
    try:
        record = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"space {str(path)!r}: cannot be read ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"space {str(path)!r}: not TOML: {error}") from None
    try:
        return parse(record, base)
    except UserError as error:
        raise UserError(f"space {str(path)!r}: {error}") from None


def parse(record: Mapping[str, Any], base: Config) -> Space:
    """Return the space that a mapping like `DEFAULT` describes, every end of it a valid configuration.

    Args:
        record: a dictionary for each setting.
        base: the fields that are not named.

    Raises:
        UserError: an unknown setting, or a domain that is wrong, empty, or leaves the valid values.
    """
    names = [field.name for field in fields(Config)]
    domains: dict[str, BaseDistribution] = {}
    fixed: dict[str, Any] = {}
    for name, entry in record.items():
        if name == "batching":
            raise UserError("batching: is chosen with --batching, for it brings its own rates and batch size")
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"
            raise UserError(f"unknown setting {name!r}: {hint}")
        if not isinstance(entry, Mapping):
            raise UserError(f"{name}: must be a table such as [{name}] with low and high, choices, or value")
        if set(entry) == {"value"}:
            fixed[name] = entry["value"]
        else:
            domains[name] = _domain(name, entry)
    for name, values in [
        *((name, [value]) for name, value in fixed.items()),
        *((name, _ends(domain)) for name, domain in domains.items()),
    ]:
        for value in values:
            try:
                replace(base, **{name: value})
            except UserError as error:
                raise UserError(str(error)) from None
    if not domains:
        raise UserError("nothing to search: give at least one setting low and high, or choices")
    return Space(domains, replace(base, **fixed))


def _domain(name: str, entry: Mapping[str, Any]) -> BaseDistribution:
    if set(entry) == {"choices"}:
        choices = entry["choices"]
        if not isinstance(choices, list) or not choices:
            raise UserError(f"{name}: choices must be a list of at least one value, received {choices!r}")
        if not all(isinstance(choice, (str, bool, int, float)) for choice in choices):
            raise UserError(f"{name}: choices must be words, numbers, true or false, received {choices!r}")
        if len({(type(choice), choice) for choice in choices}) < len(choices):
            raise UserError(f"{name}: choices must differ, received {choices!r}")
        return CategoricalDistribution(choices)
    if not {"low", "high"} <= set(entry) <= {"low", "high", "log", "step"}:
        raise UserError(
            f"{name}: give low and high (with log or step), choices, or value; received {', '.join(sorted(entry))}"
        )
    low, high, log, step = entry["low"], entry["high"], entry.get("log", False), entry.get("step")
    numbers = [low, high] if step is None else [low, high, step]
    if any(isinstance(number, bool) or not isinstance(number, (int, float)) for number in numbers):
        raise UserError(f"{name}: low, high and step must be numbers, received {dict(entry)!r}")
    if not isinstance(log, bool):
        raise UserError(f"{name}: log must be true or false, received {log!r}")
    if not low < high or not all(map(math.isfinite, numbers)):
        raise UserError(f"{name}: low must be below high, received {low!r} and {high!r}")
    whole = next(field.type for field in fields(Config) if field.name == name) is int
    if whole and any(number != int(number) for number in numbers):
        raise UserError(f"{name}: takes whole numbers, received {dict(entry)!r}")
    try:
        if whole:
            return IntDistribution(int(low), int(high), log, int(step or 1))
        return FloatDistribution(float(low), float(high), log, None if step is None else float(step))
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None


def _ends(domain: BaseDistribution) -> list[Any]:
    if isinstance(domain, CategoricalDistribution):
        return list(domain.choices)
    assert isinstance(domain, (FloatDistribution, IntDistribution))
    return [domain.low, domain.high]
