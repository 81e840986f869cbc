"""Training against plain Keras: seconds until a held-out error, for structures of the default space."""

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from huetune.data_tools.photos.split import Split
from huetune.model.config import Config
from huetune.model.presets import PRESETS
from huetune.model.recipes import with_recipe
from tests.benchmarks import peers
from tests.benchmarks.processes import side_by_side

PEER = PRESETS["model-2"]
PEER_EPOCHS, OUR_EPOCHS = 5, 40
PEER_RATES = 0.0005, 0.001, 0.002
"""Learning rates of which the peer has the best."""

Curve = Sequence[Mapping[str, float]]
"""An epoch each: `seconds` since the start, with building and tracing, without scoring, and `chroma_mse`."""


class Structure(NamedTuple):
    """What of the default space decides the layers."""

    activation: str
    skip: bool

    def __str__(self) -> str:
        return f"{self.activation}{', skip' if self.skip else ''}"

    @property
    def config(self) -> Config:
        """The peer's configuration, at its own rate."""
        settings: dict[str, Any] = self._asdict()
        return replace(PEER, **settings)


MAIN = Structure("silu", True)
"""The one that all figures are reported of."""


def training(parts: Split, seeds: Mapping[Structure, int]) -> dict[str, Any]:
    """Measure seconds until the peer's best held-out error, and boxes a second; start-up and tracing count for both.

    The peer has the best of three learning rates, for each seed that with the lowest best error; the time of the search
    for it is not counted. Ours has its one recipe.

    Args:
        parts: the photos.
        seeds: how many, for each structure that is measured.
    """
    runs = [(structure, seed) for structure, count in seeds.items() for seed in range(count)]
    tasks = [
        (parts, replace(structure.config, learning_rate=rate), seed) for structure, seed in runs for rate in PEER_RATES
    ]
    curves = iter(side_by_side(_peer_curve, tasks))
    theirs = {run: {rate: next(curves) for rate in PEER_RATES} for run in runs}
    targets = [_error(_best_epoch(_best_curve(theirs[run]))) for run in runs]
    goals = [
        (parts, with_recipe(structure.config, "photos"), seed, target)
        for (structure, seed), target in zip(runs, targets, strict=True)
    ]
    ours = dict(zip(runs, side_by_side(_our_curve, goals), strict=True))
    return compared(theirs, ours, len(parts.training) * 196)


def _peer_curve(parts: Split, config: Config, seed: int) -> list[dict]:
    curve: list[dict] = []
    peers.fit(parts.training, parts.validation, config, seed, PEER_EPOCHS, curve.append)
    return curve


def _our_curve(parts: Split, config: Config, seed: int, target: float) -> list[dict]:
    from huetune.model.trainer import DivergedError, Trainer

    trainer = Trainer(parts.training, parts.validation)
    begun = time.perf_counter()
    trainer.start(config, seed)
    seconds = time.perf_counter() - begun
    curve: list[dict] = []
    # At least two: the first holds the tracing, and says nothing of the throughput.
    while len(curve) < 2 or (_reaching(curve, target) is None and len(curve) < OUR_EPOCHS):
        try:
            figures = trainer.epoch()
        except DivergedError:
            break
        seconds += figures["train_seconds"]
        curve.append({"epoch": figures["epoch"], "seconds": seconds, "chroma_mse": figures["chroma_mse"]})
    return curve


def compared(
    theirs: Mapping[tuple[Structure, int], Mapping[float, Curve]],
    ours: Mapping[tuple[Structure, int], Curve],
    boxes: int,
) -> dict[str, Any]:
    """Return the figures of some runs: of MAIN, and which structure has the median and which the worst ratio.

    Args:
        theirs: the peer's curve of each structure and seed, by its learning rate.
        ours: our curve of each.
        boxes: of an epoch.
    """
    structures = {
        structure: _figures(
            [theirs[run] for run in theirs if run[0] == structure],
            [ours[run] for run in theirs if run[0] == structure],
            boxes,
        )
        for structure in dict.fromkeys(structure for structure, _ in theirs)
    }
    ratios = {str(structure): figures["training"] for structure, figures in structures.items()}
    ordered = sorted(ratios, key=lambda name: ratios[name])
    named = {"worst_structure": ordered[0], "median_structure": ordered[(len(ordered) - 1) // 2]}
    return {
        **structures.get(MAIN, {}),
        **{place: {name: ratios[name]} for place, name in named.items()},
        "structures": {str(structure): figures for structure, figures in structures.items() if structure != MAIN},
        "curves": {
            "ours": {f"{structure}, seed {seed}": curve for (structure, seed), curve in ours.items()},
            "peer": {f"{structure}, seed {seed}": by_rate for (structure, seed), by_rate in theirs.items()},
        },
    }


def _figures(theirs: Sequence[Mapping[float, Curve]], ours: Sequence[Curve], boxes: int) -> dict[str, Any]:
    """The figures of one structure, a seed each."""
    rivals = [_best_curve(by_rate) for by_rate in theirs]
    best = [_best_epoch(curve) for curve in rivals]
    ends = [_reaching(curve, _error(epoch)) for curve, epoch in zip(ours, best, strict=True)]
    seconds = [end["seconds"] if end else _in_vain(curve) for end, curve in zip(ends, ours, strict=True)]
    ratios = [epoch["seconds"] / taken for epoch, taken in zip(best, seconds, strict=True)]
    rates = [[_rate(curve, boxes) for curve in curves if len(curve) > 1] for curves in (ours, rivals)]
    medians = [statistics.median(some) if some else math.nan for some in rates]
    return {
        "training": statistics.median(ratios),
        "training_spread": [min(ratios), max(ratios)],
        "reached": sum(end is not None for end in ends),
        "seconds": [seconds, [epoch["seconds"] for epoch in best]],
        "peer_rates": [_best_rate(by_rate) for by_rate in theirs],
        "throughput": medians[0] / medians[1],
        "boxes_a_second": medians,
    }


def _in_vain(curve: Curve) -> float:
    """The seconds that count where ours never came so far: all it took, so the true ratio is lower still."""
    # Where it diverged, it never would have come.
    return curve[-1]["seconds"] if len(curve) == OUR_EPOCHS else math.inf


def _best_rate(by_rate: Mapping[float, Curve]) -> float:
    return min(by_rate, key=lambda rate: _error(_best_epoch(by_rate[rate])))


def _best_curve(by_rate: Mapping[float, Curve]) -> Curve:
    return by_rate[_best_rate(by_rate)]


def _best_epoch(curve: Curve) -> Mapping[str, float]:
    return min(curve, key=_error)


def _error(epoch: Mapping[str, float]) -> float:
    """Its held-out error; Keras goes on where it is no number."""
    return math.inf if math.isnan(epoch["chroma_mse"]) else epoch["chroma_mse"]


def _reaching(curve: Curve, target: float) -> Mapping[str, float] | None:
    return next((epoch for epoch in curve if epoch["chroma_mse"] <= target), None)


def _rate(curve: Curve, boxes: int) -> float:
    """Boxes a second from the second epoch on, when all is traced."""
    return boxes * (len(curve) - 1) / (curve[-1]["seconds"] - curve[0]["seconds"])
