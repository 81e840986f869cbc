"""What a searcher is to do, and when it has done enough."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from huetune.model.config import Config
from huetune.search.spec.space import Space
from huetune.search.tuning.sampler import Point


@dataclass(frozen=True)
class Job:
    """A training to be asked for.

    Attributes:
        config: what is trained.
        point: its place in the space, if it is one of a search.
        seed: that it trains from; None for the next of the search.
        attributes: what else the study is to know of it; `continues` is the number of a trial that it takes further.
    """

    config: Config
    point: Point = field(default_factory=dict)
    seed: int | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Budget:
    """When a search asks for no more trials; those that run then come to their own end.

    Args:
        trials: in all, those that the study has already among them, 1 or more.
        seconds: of searching, what came before an interruption counted in; None for as long as it takes.
        flat: so many ended trials in a row without a better one; None for however many.
    """

    trials: int
    seconds: float | None = None
    flat: int | None = None


def grid_jobs(space: Space, seed: int) -> list[Job]:
    """Return all points of a space's grid in a random order, so that a part of it is a fair sample of the whole."""
    points = space.grid_points()
    random.Random(seed).shuffle(points)
    return [Job(space.config(point), point) for point in points]
