"""Measure the seconds until a validation error beside plain Keras, for structures of the default space."""

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
"""Learning rates, of which the best one counts for the peer."""

Curve = Sequence[Mapping[str, float]]
"""Epochs with `chroma_mse` and `seconds` since the start, which include building and tracing, but not scoring."""


class Structure(NamedTuple):
    """The settings of the default space that change the layers."""

    activation: str
    skip: bool

    def __str__(self) -> str:
        return f"{self.activation}{', skip' if self.skip else ''}"

    @property
    def config(self) -> Config:
        """The configuration of the peer with its default learning rate."""
        settings: dict[str, Any] = self._asdict()
        return replace(PEER, **settings)


MAIN = Structure("silu", True)
"""The structure whose results are reported in full."""


def training(parts: Split, seeds: Mapping[Structure, int]) -> dict[str, Any]:
    """Measure the seconds until the peer's best validation error, and patches a second; both include start and tracing.

    For each seed the peer has the one of three learning rates with the lowest error; the time to find it is not
    counted. huetune has only its recipe.

    Args:
        parts: The photos.
        seeds: The number of seeds for each structure that is measured.
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
    # At least two epochs, because the first includes tracing and gives no throughput.
    while len(curve) < 2 or (_first_epoch_below(curve, target) is None and len(curve) < OUR_EPOCHS):
        try:
            metrics = trainer.epoch()
        except DivergedError:
            break
        seconds += metrics["train_seconds"]
        curve.append({"epoch": metrics["epoch"], "seconds": seconds, "chroma_mse": metrics["chroma_mse"]})
    return curve


def compared(
    theirs: Mapping[tuple[Structure, int], Mapping[float, Curve]],
    ours: Mapping[tuple[Structure, int], Curve],
    patches: int,
) -> dict[str, Any]:
    """Return the results of MAIN and of all other structures, and which have the median and the worst ratio.

    Args:
        theirs: The curves of the peer by structure and seed, and by learning rate.
        ours: The curves of huetune by structure and seed.
        patches: The number of patches in an epoch.
    """
    structures = {
        structure: _results(
            [theirs[run] for run in theirs if run[0] == structure],
            [ours[run] for run in theirs if run[0] == structure],
            patches,
        )
        for structure in dict.fromkeys(structure for structure, _ in theirs)
    }
    ratios = {str(structure): results["training"] for structure, results in structures.items()}
    ordered = sorted(ratios, key=lambda name: ratios[name])
    structure_names = {"worst_structure": ordered[0], "median_structure": ordered[(len(ordered) - 1) // 2]}
    return {
        **structures.get(MAIN, {}),
        **{key: {name: ratios[name]} for key, name in structure_names.items()},
        "structures": {str(structure): results for structure, results in structures.items() if structure != MAIN},
        "curves": {
            "ours": {f"{structure}, seed {seed}": curve for (structure, seed), curve in ours.items()},
            "peer": {f"{structure}, seed {seed}": by_rate for (structure, seed), by_rate in theirs.items()},
        },
    }


def _results(theirs: Sequence[Mapping[float, Curve]], ours: Sequence[Curve], patches: int) -> dict[str, Any]:
    """Return the results of one structure from the curves of its seeds."""
    peer_curves = [_best_curve(by_rate) for by_rate in theirs]
    best = [_best_epoch(curve) for curve in peer_curves]
    ends = [_first_epoch_below(curve, _error(epoch)) for curve, epoch in zip(ours, best, strict=True)]
    seconds = [end["seconds"] if end else _unreached_seconds(curve) for end, curve in zip(ends, ours, strict=True)]
    ratios = [epoch["seconds"] / taken for epoch, taken in zip(best, seconds, strict=True)]
    rates = [
        [_patches_per_second(curve, patches) for curve in curves if len(curve) > 1] for curves in (ours, peer_curves)
    ]
    medians = [statistics.median(values) if values else math.nan for values in rates]
    return {
        "training": statistics.median(ratios),
        "training_spread": [min(ratios), max(ratios)],
        "reached": sum(end is not None for end in ends),
        "seconds": [seconds, [epoch["seconds"] for epoch in best]],
        "peer_rates": [_best_rate(by_rate) for by_rate in theirs],
        "throughput": medians[0] / medians[1],
        "patches_per_second": medians,
    }


def _unreached_seconds(curve: Curve) -> float:
    """Return the seconds that count if huetune never reached the target: all of them, so the true ratio is lower."""
    # A run that diverged would never reach the target.
    return curve[-1]["seconds"] if len(curve) == OUR_EPOCHS else math.inf


def _best_rate(by_rate: Mapping[float, Curve]) -> float:
    return min(by_rate, key=lambda rate: _error(_best_epoch(by_rate[rate])))


def _best_curve(by_rate: Mapping[float, Curve]) -> Curve:
    return by_rate[_best_rate(by_rate)]


def _best_epoch(curve: Curve) -> Mapping[str, float]:
    return min(curve, key=_error)


def _error(epoch: Mapping[str, float]) -> float:
    """Return the validation error of an epoch; infinity if it is NaN, after which Keras continues."""
    return math.inf if math.isnan(epoch["chroma_mse"]) else epoch["chroma_mse"]


def _first_epoch_below(curve: Curve, target: float) -> Mapping[str, float] | None:
    return next((epoch for epoch in curve if epoch["chroma_mse"] <= target), None)


def _patches_per_second(curve: Curve, patches: int) -> float:
    """Return patches a second from the second epoch on, when everything is traced."""
    return patches * (len(curve) - 1) / (curve[-1]["seconds"] - curve[0]["seconds"])
