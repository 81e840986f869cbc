"""The search space: a domain for each searched setting, the conditions between settings, and the points that follow."""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution

from huetune.data_tools.common.errors import UserError
from huetune.model.config import Config
from huetune.model.presets import with_preset
from huetune.search.spec.domains import MAX_POINTS, all_values, contains, grid_values, is_among


@dataclass(frozen=True)
class Space:
    """A search space. A point of it is a mapping from the names of settings to values.

    Attributes:
        domains: Optuna's distribution for each searched field of `Config`.
        base: the value of every field that is not searched.
        conditions: for a field that is searched only where other fields have certain values: these fields and values.
            Elsewhere the field has its value of `base`.
        notes: warnings for the author of the space, one line each.
    """

    domains: Mapping[str, BaseDistribution]
    base: Config
    conditions: Mapping[str, Mapping[str, tuple[Any, ...]]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> float:
        """The number of different points; infinity if there are more than `MAX_POINTS`."""
        values = {name: listed for name, domain in self.domains.items() if (listed := all_values(domain)) is not None}
        count = self._count(values) if len(values) == len(self.domains) else math.inf
        return count if count <= MAX_POINTS else math.inf

    @property
    def range_count(self) -> int:
        """The number of settings that have a range instead of choices."""
        return sum(not isinstance(domain, CategoricalDistribution) for domain in self.domains.values())

    def is_searched(self, name: str, point: Mapping[str, Any]) -> bool:
        """Return whether the other values of a point meet the condition of a setting; true without a condition."""
        return all(is_among(point[other], values) for other, values in self.conditions.get(name, {}).items())

    def active_settings(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Return a point without the settings whose conditions its other values do not meet."""
        return {name: point[name] for name in self.domains if self.is_searched(name, point)}

    def config(self, parameters: Mapping[str, Any]) -> Config:
        """Return the configuration of a point of the space."""
        return replace(self.base, **parameters)

    def preset_point(self, preset: str) -> dict[str, Any] | None:
        """Return the point of a preset, or None if the preset is outside of the space.

        Only the model of the preset counts. How it is trained (its batching and learning rate, for example) is that of
        `base`.
        """
        config = with_preset(self.base, preset)
        point = self.active_settings({name: getattr(config, name) for name in self.domains})
        # Settings that are not searched, or ruled out by a condition, have the value of the base, not of the preset.
        if self.config(point) != config:
            return None
        return point if all(contains(self.domains[name], value) for name, value in point.items()) else None

    def grid_points(self) -> list[dict[str, Any]]:
        """Return every point of a grid search; see `grid_values` for how long ranges are cut.

        Raises:
            UserError: there are more than `MAX_POINTS`.
        """
        values = {name: grid_values(domain) for name, domain in self.domains.items()}
        if (count := self._count(values)) > MAX_POINTS:
            raise UserError(f"a grid of this space has {count:,} points, more than {MAX_POINTS:,}; use tpe")
        return list(self._points(values))

    def all_points(self) -> list[dict[str, Any]]:
        """Return every point of a space of finite `size`."""
        return list(self._points({name: all_values(domain) or [] for name, domain in self.domains.items()}))

    def _points(self, values: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
        """Yield every point of these values; a setting with a condition is only in the points that meet it."""
        for point in self._product({name: values[name] for name in self.domains if name not in self.conditions}):
            for conditional in self._product(self._conditional_values(point, values)):
                yield point | conditional

    def _count(self, values: Mapping[str, list[Any]]) -> int:
        """Return the number of points, or a lower bound of it if there are more than `MAX_POINTS`."""
        always = {name: values[name] for name in self.domains if name not in self.conditions}
        if (count := math.prod(map(len, always.values()))) > MAX_POINTS:
            return count
        return sum(
            math.prod(map(len, self._conditional_values(point, values).values())) for point in self._product(always)
        )

    def _conditional_values(self, point: Mapping[str, Any], values: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        """Return the values of those settings whose conditions the point meets."""
        return {name: values[name] for name in self.conditions if self.is_searched(name, point)}

    @staticmethod
    def _product(values: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
        for combination in itertools.product(*values.values()):
            yield dict(zip(values, combination, strict=True))
