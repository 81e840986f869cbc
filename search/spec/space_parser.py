"""The parser of search spaces: from a mapping, as in a space file, to a `Space` whose points are all valid."""

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from decimal import Decimal
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from huetune.data_tools.common.errors import UserError, did_you_mean
from huetune.model.config import Config
from huetune.search.spec.domains import MAX_POINTS, all_values, contains
from huetune.search.spec.space import Space

DEFAULT_SPACE = {
    "mse_weight": {"low": 1.0, "high": 8.0, "log": True},
    "activation": {"choices": ["relu", "silu", "gelu", "elu"]},
    "skip": {"choices": [True, False]},
}
"""What a search without a space file varies, in the form of a space file."""
KEYS = ("low", "high", "log", "step", "choices", "value", "where")
MAX_MAGNITUDE = 10**15
"""Above it not every whole number is a float."""
MAX_LISTED_VALUES = 8
"""A note lists the values of a range up to this many, and abbreviates longer lists."""


class SpaceError(UserError):
    """An error in the description of a space.

    Args:
        setting: the name of the setting.
        reason: the message.
        key: the key in the setting's table that is wrong; None for the table itself.
    """

    def __init__(self, setting: str, reason: str, key: str | None = None):
        super().__init__(reason)
        self.setting, self.key = setting, key


def parse_space(record: Mapping[str, Any], base: Config) -> Space:
    """Return the space that a mapping such as `DEFAULT_SPACE` describes.

    Every value of a choice or of a range of whole numbers, and both ends of every other range, make a valid
    configuration.

    Args:
        record: a dictionary for each setting.
        base: the values of the settings that the record does not name.

    Raises:
        SpaceError: a setting is unknown, or its domain is malformed, empty or has invalid values.
        UserError: nothing is searched.
    """
    names = [field.name for field in fields(Config)]
    domains: dict[str, BaseDistribution] = {}
    fixed: dict[str, Any] = {}
    conditions: dict[str, Any] = {}
    notes: list[str] = []
    for name, entry in record.items():
        if name == "batching":
            raise SpaceError(name, "batching: is chosen with --batching, for it brings its own rates and batch size")
        if name not in names:
            raise SpaceError(name, f"unknown setting {name!r}: {did_you_mean(name, names)}")
        if not isinstance(entry, Mapping):
            raise SpaceError(name, f"{name}: must be a table such as [{name}] with low and high, choices, or value")
        for key in entry:
            if key not in KEYS:
                raise SpaceError(name, f"{name}: unknown key {key!r}: {did_you_mean(key, KEYS)}", key)
            for value in entry[key] if isinstance(entry[key], list) else [entry[key]]:
                if isinstance(value, int) and abs(value) > MAX_MAGNITUDE:
                    raise SpaceError(name, f"{name}: a number of {len(str(value))} digits is too large", key)
        if set(entry) == {"value"}:
            fixed[name] = _as_field_type(name, entry["value"])
        else:
            domains[name] = _domain(name, {key: value for key, value in entry.items() if key != "where"}, notes)
        if "where" in entry:
            conditions[name] = entry["where"]
    checked = {name: _condition(name, condition, domains, conditions) for name, condition in conditions.items()}
    # Settings without a condition come first, because their values decide which of the others are searched.
    domains = {name: domains[name] for name in sorted(domains, key=lambda name: name in checked)}
    for name, values in [
        *((name, [value]) for name, value in fixed.items()),
        *((name, _values_to_validate(domain)) for name, domain in domains.items()),
    ]:
        for value in values:
            try:
                replace(base, **{name: value})
            except UserError as error:
                key = next(key for key in ("value", "choices", "low") if key in record[name])
                raise SpaceError(name, str(error), "high" if value == record[name].get("high") else key) from None
    if not domains:
        raise UserError("nothing to search: give at least one setting low and high, or choices")
    return Space(domains, replace(base, **fixed), checked, tuple(notes))


def _condition(
    name: str, condition: Any, domains: Mapping[str, BaseDistribution], conditions: Mapping[str, Any]
) -> dict[str, tuple[Any, ...]]:
    def refuse(reason: str) -> SpaceError:
        return SpaceError(name, f"{name}: {reason}", "where")

    if not isinstance(condition, Mapping) or not condition:
        raise refuse(f"where must be a table of settings and values, as in {{ skip = true }}, received {condition!r}")
    if name not in domains:
        raise refuse("where needs low and high, or choices; it does not go with a fixed value")
    checked: dict[str, tuple[Any, ...]] = {}
    for other, wanted in condition.items():
        if other not in domains:
            hint = did_you_mean(other, [known for known in domains if known != name])
            raise refuse(f"where names {other!r}, which is not searched: {hint}")
        if other == name or other in conditions:
            raise refuse(f"where must name a setting that is always searched, received {other!r}")
        checked[other] = tuple(wanted) if isinstance(wanted, list) else (wanted,)
        if not checked[other]:
            raise refuse(f"where lists no value of {other}, so {name} would never be searched")
        domain = domains[other]
        if isinstance(domain, FloatDistribution) and domain.step is None:
            raise refuse(
                f"where needs exact values of {other}, which is a range without a step; give {other} choices or a step"
            )
        for value in checked[other]:
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not (number or isinstance(domain, CategoricalDistribution)) or not contains(domain, value):
                raise refuse(f"where requires {other} to be {value!r}, which is not among its values")
    return checked


def _field_type(name: str) -> Any:
    return next(field.type for field in fields(Config) if field.name == name)


def _as_field_type(name: str, value: Any) -> Any:
    """Return a whole number as a float for a setting that is a float: 4 and 4.0 are one configuration."""
    return float(value) if _field_type(name) is float and type(value) is int else value


def _domain(name: str, entry: Mapping[str, Any], notes: list[str]) -> BaseDistribution:
    if set(entry) == {"choices"}:
        return _choices(name, entry["choices"])
    if not {"low", "high"} <= set(entry) <= {"low", "high", "log", "step"}:
        given = ", ".join(sorted(entry))
        raise SpaceError(name, f"{name}: give low and high (with log or step), choices, or value; received {given}")
    return _range(name, entry, notes)


def _choices(name: str, choices: Any) -> CategoricalDistribution:
    if not isinstance(choices, list) or not choices:
        raise SpaceError(name, f"{name}: choices must be a list of at least one value, received {choices!r}", "choices")
    if not all(isinstance(choice, (str, bool, int, float)) for choice in choices):
        raise SpaceError(
            name, f"{name}: choices must be strings, numbers, true or false, received {choices!r}", "choices"
        )
    converted = [_as_field_type(name, choice) for choice in choices]
    if len({(type(choice), choice) for choice in converted}) < len(choices):
        raise SpaceError(name, f"{name}: choices must differ, received {choices!r}", "choices")
    return CategoricalDistribution(converted)


def _range(name: str, entry: Mapping[str, Any], notes: list[str]) -> IntDistribution | FloatDistribution:
    low, high, log, step = entry["low"], entry["high"], entry.get("log", False), entry.get("step")
    numbers = [low, high] if step is None else [low, high, step]
    if any(isinstance(number, bool) or not isinstance(number, (int, float)) for number in numbers):
        raise SpaceError(name, f"{name}: low, high and step must be numbers, received {dict(entry)!r}", "low")
    if not isinstance(log, bool):
        raise SpaceError(name, f"{name}: log must be true or false, received {log!r}", "log")
    if not low < high or not all(map(math.isfinite, numbers)):
        remedy = "; for a fixed value, give value instead" if low == high else ""
        raise SpaceError(name, f"{name}: low must be below high, received {low!r} and {high!r}{remedy}", "low")
    if step is not None and step <= 0:
        raise SpaceError(name, f"{name}: step must be above 0, received {step!r}", "step")
    if log and low <= 0:
        raise SpaceError(name, f"{name}: log needs low above 0, received {low!r}; remove log or raise low", "low")
    whole = _field_type(name) is int
    if log and step is not None and not (whole and step == 1):
        raise SpaceError(name, f"{name}: log and step cannot be combined; remove one of them", "step")
    if step is not None and (high - low) / step > MAX_POINTS:
        raise SpaceError(name, f"{name}: step {step!r} makes more than {MAX_POINTS:,} values; remove it", "step")
    if whole and any(number != int(number) for number in numbers):
        raise SpaceError(name, f"{name}: must have whole numbers, received {dict(entry)!r}", "low")
    high = high if step is None else _last_step(name, low, high, step, notes)
    if whole:
        return IntDistribution(int(low), int(high), log, int(step or 1))
    return FloatDistribution(float(low), float(high), log, None if step is None else float(step))


def _last_step(name: str, low: float, high: float, step: float, notes: list[str]) -> float:
    """Return the last value of a range in steps, and add a note if that is below `high`; Optuna would warn twice."""
    # Counted in decimals as Optuna does: 0.6 is three steps of 0.2 from 0, but not in binary fractions.
    first, end, each = (Decimal(str(number)) for number in (low, high, step))
    count = int((end - first) // each)
    if count == 0:
        remedy = f"give a step of {high - low:.6g} or less, or value = {low!r}"
        raise SpaceError(
            name, f"{name}: step {step!r} is longer than the range, so only {low!r} would be tried; {remedy}", "step"
        )
    last = first + count * each
    if last != end:
        values = [f"{float(first + index * each):.6g}" for index in range(count + 1)]
        listed = values if len(values) <= MAX_LISTED_VALUES else [*values[:3], "...", values[-1]]
        notes.append(
            f"{name}: steps of {step!r} from {low!r} do not end at {high!r}; the values are {', '.join(listed)}"
        )
    return float(last)


def _values_to_validate(domain: BaseDistribution) -> list[Any]:
    """Return all choices or whole numbers, of which one between two valid ones may be invalid; of floats both ends."""
    values = None if isinstance(domain, FloatDistribution) else all_values(domain)
    if values is None:
        assert isinstance(domain, (FloatDistribution, IntDistribution))
        return [domain.low, domain.high]
    return values
