"""What a search may vary: one mapping from the name of a setting to its domain."""

import codecs
import itertools
import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from huetune.data_tools.common.errors import UserError, nearest
from huetune.model.config import Config, like

GRID_POINTS = 5
"""Values that a grid search takes of a range, a float's with a step excepted."""
FARTHEST = 10**15
"""The largest whole number that is taken: those above are no floats any more."""
LARGEST = 1_000_000
"""Bytes of the largest file that is taken for a space."""
MOST_SHOWN = 8
"""Values of a range that a note names one by one."""
MOST_POINTS = 20_000
"""Points of the largest space that is counted."""


@dataclass(frozen=True)
class Space:
    """A search space.

    Attributes:
        domains: Optuna's distribution for each searched field of `Config`.
        base: the value of every field that is not searched.
        conditions: for a field that is searched only where others have certain values, these fields and values;
            elsewhere it keeps its value of `base`.
        notes: what whoever wrote it may not expect of it, a line each.
    """

    domains: Mapping[str, BaseDistribution]
    base: Config
    conditions: Mapping[str, Mapping[str, tuple[Any, ...]]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> float:
        """How many different points there are: infinite where they are too many to come to an end."""
        values = {name: some for name, domain in self.domains.items() if (some := _values(domain)) is not None}
        count = self._count(values) if len(values) == len(self.domains) else math.inf
        return count if count <= MOST_POINTS else math.inf

    @property
    def ranges(self) -> int:
        """How many settings have low and high, and not choices."""
        return sum(not isinstance(domain, CategoricalDistribution) for domain in self.domains.values())

    def searched(self, name: str, point: Mapping[str, Any]) -> bool:
        """Whether a setting is searched where others have the values of a point."""
        return all(_among(point[other], values) for other, values in self.conditions.get(name, {}).items())

    def active(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Return a point without the settings that its other values rule out."""
        return {name: point[name] for name in self.domains if self.searched(name, point)}

    def config(self, parameters: Mapping[str, Any]) -> Config:
        """Return the configuration of a point of the space."""
        return replace(self.base, **parameters)

    def point(self, preset: str) -> dict[str, Any] | None:
        """Return a preset as a point of the space; None where the space does not hold it.

        Only what the model is must agree; how it is trained (batching, rates) stays the search's own.
        """
        config = like(self.base, preset)
        point = self.active({name: getattr(config, name) for name in self.domains})
        # What is not searched, or ruled out by a condition, keeps its value of the base, which may not be the preset's.
        if self.config(point) != config:
            return None
        return point if all(_holds(self.domains[name], value) for name, value in point.items()) else None

    def grid(self) -> list[dict[str, Any]]:
        """Return every point of a grid search, long ranges cut into five values.

        Raises:
            UserError: they are too many for anyone.
        """
        values = {name: _grid_values(domain) for name, domain in self.domains.items()}
        if (count := self._count(values)) > MOST_POINTS:
            raise UserError(f"a grid of this space has {count:,} points, more than {MOST_POINTS:,}; use tpe")
        return list(self._points(values))

    def points(self) -> list[dict[str, Any]]:
        """Return every point of a space of finite size."""
        return list(self._points({name: _values(domain) or [] for name, domain in self.domains.items()}))

    def _points(self, values: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
        """Every point of these values, those of a setting only where others are as its condition wants."""
        for point in self._combined({name: values[name] for name in self.domains if name not in self.conditions}):
            for inner in self._combined(self._inner(point, values)):
                yield point | inner

    def _count(self, values: Mapping[str, list[Any]]) -> int:
        """How many points these are, or where they are too many to count at least how many."""
        always = {name: values[name] for name in self.domains if name not in self.conditions}
        if (count := math.prod(map(len, always.values()))) > MOST_POINTS:
            return count
        return sum(math.prod(map(len, self._inner(point, values).values())) for point in self._combined(always))

    def _inner(self, point: Mapping[str, Any], values: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        """The values of the settings that have conditions, which a point meets."""
        return {name: values[name] for name in self.conditions if self.searched(name, point)}

    @staticmethod
    def _combined(values: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
        for some in itertools.product(*values.values()):
            yield dict(zip(values, some, strict=True))


def _among(value: Any, values: tuple[Any, ...]) -> bool:
    """Whether a value is one of others, 1 and True told apart, and floats that differ by a rounding error not."""
    return any(
        isinstance(value, bool) == isinstance(other, bool)
        and (value == other or (isinstance(value, float) and isinstance(other, float) and math.isclose(value, other)))
        for other in values
    )


def _values(domain: BaseDistribution) -> list[Any] | None:
    """All values of a domain, None where they are too many to count."""
    if isinstance(domain, CategoricalDistribution):
        return list(domain.choices)
    if isinstance(domain, IntDistribution):
        values = range(domain.low, domain.high + 1, domain.step)
        return list(values) if len(values) <= MOST_POINTS else None
    assert isinstance(domain, FloatDistribution)
    return None if domain.step is None else _grid_values(domain)


def _holds(domain: BaseDistribution, value: Any) -> bool:
    if isinstance(domain, CategoricalDistribution):
        return _among(value, domain.choices)
    assert isinstance(domain, (FloatDistribution, IntDistribution))
    steps = (value - domain.low) / (domain.step or 1)
    return domain.low <= value <= domain.high and (domain.step is None or math.isclose(steps, round(steps)))


def _grid_values(domain: BaseDistribution) -> list[Any]:
    if isinstance(domain, CategoricalDistribution):
        return list(domain.choices)
    if isinstance(domain, IntDistribution):
        places = [(near - domain.low) / domain.step for near in _spaced(domain.low, domain.high, domain.log)]
        return sorted({domain.low + math.ceil(place - 0.5) * domain.step for place in places})
    assert isinstance(domain, FloatDistribution)
    if domain.step is None:
        return _spaced(domain.low, domain.high, domain.log)
    count = math.floor((domain.high - domain.low) / domain.step + 1e-9) + 1
    return [min(domain.low + index * domain.step, domain.high) for index in range(count)]


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

    A table a setting: `low` and `high`, with `log` or `step` if wanted; or `choices`; or a fixed `value`. With
    `where` it is searched only where other settings have certain values, and has its usual value elsewhere. A range
    whose `step` does not divide it ends at the last step within it, which the space notes.

        [mse_weight]
        low = 1.0
        high = 8.0
        log = true

        [activation]
        choices = ["relu", "silu"]

        [merge_units]
        low = 64
        high = 160
        step = 32
        where = { skip = true }

        [positions]
        value = 7

    Raises:
        UserError: the file cannot be read or is no space.
    """
    try:
        if not path.is_file() and path.exists():
            raise UserError(f"space {str(path)!r}: is not a file")
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise UserError(f"space {str(path)!r}: is no space, those are smaller than {LARGEST:,} bytes")
        if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or (len(content) > 1 and b"\0" in content[:2]):
            raise UserError(f"space {str(path)!r}: is no UTF-8, perhaps UTF-16; save it as UTF-8")
        # Some editors write a mark before the first letter.
        text = content.decode("utf-8-sig")
        record = tomllib.loads(text)
    except OSError as error:
        raise UserError(f"space {str(path)!r}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"space {str(path)!r}, line {line}: is no UTF-8; save it as UTF-8") from None
    except RecursionError:
        raise UserError(f"space {str(path)!r}: not TOML: nested too deep") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"space {str(path)!r}: not TOML: {error}") from None
    try:
        return parse(record, base)
    except SpaceError as error:
        raise UserError(f"space {str(path)!r}, line {_line(text, error.setting, error.key)}: {error}") from None
    except UserError as error:
        raise UserError(f"space {str(path)!r}: {error}") from None


class SpaceError(UserError):
    """What is wrong with a space, and where: the setting, and the key of its table if it is one of them."""

    def __init__(self, setting: str, reason: str, key: str | None = None):
        super().__init__(reason)
        self.setting, self.key = setting, key


def _line(text: str, setting: str, key: str | None) -> int:
    """The line of a key in a TOML text, or of its table where the key has no line of its own: tomllib does not tell."""

    def named(name: str) -> str:
        return rf"[\"']?{re.escape(name)}[\"']?"

    table = re.compile(rf"\s*(\[\s*{named(setting)}\s*\]|{named(setting)}\s*[.=])")
    found = 0
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if table.match(line):
            found, inside = found or number, True
        elif re.match(r"\s*\[", line):
            inside = False
        if inside and key and re.match(rf"\s*({named(setting)}\s*\.\s*)?{named(key)}\s*[.=]", line):
            return number
    return found or 1


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
    conditions: dict[str, Any] = {}
    notes: list[str] = []
    for name, entry in record.items():
        if name == "batching":
            raise SpaceError(name, "batching: is chosen with --batching, for it brings its own rates and batch size")
        if name not in names:
            raise SpaceError(name, f"unknown setting {name!r}: {nearest(name, names)}")
        if not isinstance(entry, Mapping):
            raise SpaceError(name, f"{name}: must be a table such as [{name}] with low and high, choices, or value")
        for key in entry:
            if key not in KEYS:
                raise SpaceError(name, f"{name}: unknown key {key!r}: {nearest(key, KEYS)}", key)
            for value in entry[key] if isinstance(entry[key], list) else [entry[key]]:
                if isinstance(value, int) and abs(value) > FARTHEST:
                    raise SpaceError(name, f"{name}: a number of {len(str(value))} digits is beyond all bounds", key)
        if set(entry) == {"value"}:
            fixed[name] = _like_field(name, entry["value"])
        else:
            domains[name] = _domain(name, {key: value for key, value in entry.items() if key != "where"}, notes)
        if "where" in entry:
            conditions[name] = entry["where"]
    checked = {name: _condition(name, condition, domains, conditions) for name, condition in conditions.items()}
    # Those that conditions look at come first, for their values decide about the others.
    domains = {name: domains[name] for name in sorted(domains, key=lambda name: name in checked)}
    for name, values in [
        *((name, [value]) for name, value in fixed.items()),
        *((name, _to_check(domain)) for name, domain in domains.items()),
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


KEYS = ("low", "high", "log", "step", "choices", "value", "where")


def _condition(
    name: str, condition: Any, domains: Mapping[str, BaseDistribution], conditions: Mapping[str, Any]
) -> dict[str, tuple[Any, ...]]:
    if not isinstance(condition, Mapping) or not condition:
        raise SpaceError(
            name, f"{name}: where must say which values, as in {{ skip = true }}, got {condition!r}", "where"
        )
    if name not in domains:
        raise SpaceError(name, f"{name}: where goes with low and high, or choices, not with a fixed value", "where")
    checked: dict[str, tuple[Any, ...]] = {}
    for other, wanted in condition.items():
        if other not in domains:
            hint = nearest(other, [known for known in domains if known != name])
            raise SpaceError(name, f"{name}: where names {other!r}, which is not searched: {hint}", "where")
        if other == name or other in conditions:
            raise SpaceError(name, f"{name}: where must name a setting that is always searched, got {other!r}", "where")
        checked[other] = tuple(wanted) if isinstance(wanted, list) else (wanted,)
        if not checked[other]:
            raise SpaceError(name, f"{name}: where lists no value of {other}, so it is never searched", "where")
        domain = domains[other]
        if isinstance(domain, FloatDistribution) and domain.step is None:
            hint = f"give {other} choices or a step"
            raise SpaceError(
                name, f"{name}: where wants exact values of {other}, which is any number of a range; {hint}", "where"
            )
        for value in checked[other]:
            if not _possible(domains[other], value):
                raise SpaceError(name, f"{name}: where wants {other} to be {value!r}, which it never is", "where")
    return checked


def _kind(name: str) -> Any:
    """The type of a setting."""
    return next(field.type for field in fields(Config) if field.name == name)


def _like_field(name: str, value: Any) -> Any:
    """A value as its setting has it: 4 and 4.0 are one weight, a preset's and a file's must not be two."""
    return float(value) if _kind(name) is float and type(value) is int else value


def _domain(name: str, entry: Mapping[str, Any], notes: list[str]) -> BaseDistribution:
    kind = _kind(name)
    if set(entry) == {"choices"}:
        choices = entry["choices"]
        if not isinstance(choices, list) or not choices:
            raise SpaceError(
                name, f"{name}: choices must be a list of at least one value, received {choices!r}", "choices"
            )
        if not all(isinstance(choice, (str, bool, int, float)) for choice in choices):
            raise SpaceError(
                name, f"{name}: choices must be words, numbers, true or false, received {choices!r}", "choices"
            )
        different = [_like_field(name, choice) for choice in choices]
        if len({(type(choice), choice) for choice in different}) < len(choices):
            raise SpaceError(name, f"{name}: choices must differ, received {choices!r}", "choices")
        return CategoricalDistribution(different)
    if not {"low", "high"} <= set(entry) <= {"low", "high", "log", "step"}:
        given = ", ".join(sorted(entry))
        raise SpaceError(name, f"{name}: give low and high (with log or step), choices, or value; received {given}")
    low, high, log, step = entry["low"], entry["high"], entry.get("log", False), entry.get("step")
    numbers = [low, high] if step is None else [low, high, step]
    if any(isinstance(number, bool) or not isinstance(number, (int, float)) for number in numbers):
        raise SpaceError(name, f"{name}: low, high and step must be numbers, received {dict(entry)!r}", "low")
    if not isinstance(log, bool):
        raise SpaceError(name, f"{name}: log must be true or false, received {log!r}", "log")
    if not low < high or not all(map(math.isfinite, numbers)):
        remedy = "; to fix it, give value instead" if low == high else ""
        raise SpaceError(name, f"{name}: low must be below high, received {low!r} and {high!r}{remedy}", "low")
    if step is not None and step <= 0:
        raise SpaceError(name, f"{name}: step must be above 0, received {step!r}", "step")
    if log and low <= 0:
        raise SpaceError(name, f"{name}: log needs low above 0, received {low!r}; leave log away or raise low", "low")
    if log and step is not None and not (kind is int and step == 1):
        raise SpaceError(name, f"{name}: log and step do not go together; leave one of them away", "step")
    if step is not None and (high - low) / step > MOST_POINTS:
        raise SpaceError(name, f"{name}: step {step!r} makes more than {MOST_POINTS:,} values; leave it away", "step")
    whole = kind is int
    if whole and any(number != int(number) for number in numbers):
        raise SpaceError(name, f"{name}: takes whole numbers, received {dict(entry)!r}", "low")
    high = high if step is None else _last(name, low, high, step, notes)
    if whole:
        return IntDistribution(int(low), int(high), log, int(step or 1))
    return FloatDistribution(float(low), float(high), log, None if step is None else float(step))


def _last(name: str, low: float, high: float, step: float, notes: list[str]) -> float:
    """The last value of a range in steps; it is noted where that is not the range's end, which Optuna would warn of."""
    # As Optuna counts: 0.6 is three steps of 0.2 from 0, which binary fractions deny.
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
        shown = values if len(values) <= MOST_SHOWN else [*values[:3], "...", values[-1]]
        notes.append(
            f"{name}: steps of {step!r} from {low!r} do not end at {high!r}; the values are {', '.join(shown)}"
        )
    return float(last)


def _possible(domain: BaseDistribution, value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (number or isinstance(domain, CategoricalDistribution)) and _holds(domain, value)


def _to_check(domain: BaseDistribution) -> list[Any]:
    """All values of words and whole numbers, of which some between two fine ones may be wrong; of others the ends."""
    values = None if isinstance(domain, FloatDistribution) else _values(domain)
    if values is None:
        assert isinstance(domain, (FloatDistribution, IntDistribution))
        return [domain.low, domain.high]
    return values
