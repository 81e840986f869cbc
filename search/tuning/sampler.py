"""Where the points of a search come from: Optuna's samplers, asked so that no point comes twice.

The sampler learns in a study of its own, in memory, into which all goes that the real study is told. There a draft
that was drawn before leaves no trace in the record, and a suggestion costs no round trips to a database, of which
Optuna needs one for each running trial.
"""

import math
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from huetune.search.spec.space import Space

Point = dict[str, Any]

DRAFTS = 16
"""How often the sampler is asked for a point that is not known yet, before any unknown one is taken."""
MEMORY = 1000
"""Ended trials that the sampler learns from. TPE looks at all of them for each suggestion."""


def _tpe(seed: int, trials: int) -> BaseSampler:
    # Optuna's own ten random trials before TPE begins would be most of a small search; five were best in replays.
    return TPESampler(seed=seed, n_startup_trials=5, multivariate=True, constant_liar=True)


def _random(seed: int, trials: int) -> BaseSampler:
    return RandomSampler(seed=seed)


def _cmaes(seed: int, trials: int) -> BaseSampler:
    return CmaEsSampler(seed=seed, n_startup_trials=5, warn_independent_sampling=False)


def _nsga2(seed: int, trials: int) -> BaseSampler:
    return NSGAIISampler(seed=seed, population_size=min(50, max(4, trials // 5)))


# A grid's points are enqueued one by one; nothing is left to sample.
SAMPLERS: dict[str, Callable[[int, int], BaseSampler]] = {
    "tpe": _tpe,
    "random": _random,
    "grid": _random,
    "cmaes": _cmaes,
    "nsga2": _nsga2,
}


class Sampler:
    """Draws points of a space, each of them once.

    Args:
        space: what is searched.
        kind: a key of `SAMPLERS`, which `Search` has found fit for the space and the directions.
        directions: "minimize" or "maximize", one an objective.
        seed: of all draws.
        trials: how many are expected.
    """

    def __init__(
        self, space: Space, kind: str, directions: Sequence[Literal["minimize", "maximize"]], seed: int, trials: int
    ):
        self._space, self._directions = space, directions
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._sampler = SAMPLERS[kind](seed, trials)
        self._whole = kind in ("cmaes", "nsga2")
        self._size = space.size
        self._random = random.Random(seed)
        self._fallback = RandomSampler(seed=seed)
        self._known: set[tuple] = set()
        self._drawn: dict[tuple, optuna.Trial] = {}
        self._memory = self._remember([])

    @property
    def exhausted(self) -> bool:
        """Whether every point was drawn."""
        return len(self._known) >= self._size

    def add(self, point: Mapping[str, Any]) -> None:
        """Take note of a point that somebody else chose."""
        self._memory.enqueue_trial(dict(point))
        self._ask()

    def draw(self) -> Point:
        """Return a point that was not drawn before; only while the space is not exhausted."""
        for _ in range(DRAFTS):
            if (point := self._ask()) is not None:
                return point
        # The sampler insists on what is known: it may have only few points to insist on.
        if self._size < math.inf:
            point = self._random.choice([point for point in self._space.all_points() if _key(point) not in self._known])
            self.add(point)
            return point
        self._memory.sampler = self._fallback
        while (point := self._ask()) is None:
            pass
        self._memory.sampler = self._sampler
        return point

    def tell(self, point: Mapping[str, Any], values: Sequence[float] | None, epochs: Mapping[int, float]) -> None:
        """Learn from a trial.

        Args:
            point: as drawn or added.
            values: of the objectives, of a complete trial; None for one that was pruned or failed.
            epochs: the best value so far of the first objective, by epoch: by these pruned trials are compared. Empty
                for a trial that failed, from which nothing is learned.
        """
        # A point comes again where a trial that has ended is trained further.
        trial = self._drawn.pop(_key(point), None) or self._again(point)
        if len(self._directions) == 1:
            for epoch, value in epochs.items():
                trial.report(value, epoch)
        state = TrialState.COMPLETE if values is not None else TrialState.PRUNED if epochs else TrialState.FAIL
        self._memory.tell(trial, values, state)
        trials = self._memory.get_trials(deepcopy=False)
        if len(trials) > 2 * MEMORY:
            ended = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
            best = {trial.number for trial in _best_first(ended, self._directions)[: MEMORY // 2]}
            recent = {trial.number for trial in ended[-MEMORY // 2 :]}
            self._memory = self._remember([trial for trial in ended if trial.number in best | recent])

    def _remember(self, ended: Sequence[FrozenTrial]) -> optuna.Study:
        """A memory of some trials, and of all that are drawn and not yet told."""
        memory = optuna.create_study(directions=self._directions, sampler=self._sampler)
        memory.add_trials(ended)
        for key, trial in self._drawn.items():
            memory.enqueue_trial(trial.params)
            self._drawn[key] = self._asked(memory)
            for name, domain in trial.distributions.items():
                _suggest(self._drawn[key], name, domain)
        return memory

    def _asked(self, memory: optuna.Study) -> optuna.Trial:
        trial = memory.ask()
        if self._whole:
            # These learn only from trials that they drew a point for, also where that gives way to somebody else's.
            _ = trial.relative_params
        return trial

    def _again(self, point: Mapping[str, Any]) -> optuna.Trial:
        self._memory.enqueue_trial(dict(point))
        return self._suggested()

    def _suggested(self) -> optuna.Trial:
        trial = self._asked(self._memory)
        for name, domain in self._space.domains.items():
            if self._space.is_searched(name, trial.params):
                _suggest(trial, name, domain)
        return trial

    def _ask(self) -> Point | None:
        trial = self._suggested()
        point = trial.params
        if _key(point) in self._known:
            self._memory.tell(trial, state=TrialState.FAIL)
            return None
        self._known.add(_key(point))
        self._drawn[_key(point)] = trial
        return point


def _suggest(trial: optuna.Trial, name: str, domain: BaseDistribution) -> None:
    if isinstance(domain, CategoricalDistribution):
        trial.suggest_categorical(name, domain.choices)
    elif isinstance(domain, IntDistribution):
        trial.suggest_int(name, domain.low, domain.high, step=domain.step, log=domain.log)
    else:
        assert isinstance(domain, FloatDistribution)
        trial.suggest_float(name, domain.low, domain.high, step=domain.step, log=domain.log)


def _key(point: Mapping[str, Any]) -> tuple:
    """What makes two points one; floats lie on their steps up to a rounding error only."""
    return tuple(
        (name, float(f"{value:.12g}") if isinstance(value, float) else repr(value))
        for name, value in sorted(point.items())
    )


def _best_first(trials: Sequence[FrozenTrial], directions: Sequence[str]) -> list[FrozenTrial]:
    sign = 1 if directions[0] == "minimize" else -1

    def rank(trial: FrozenTrial) -> tuple[float, float]:
        if trial.values:
            return -math.inf, sign * trial.values[0]
        epoch, value = max(trial.intermediate_values.items(), default=(0, 0.0))
        return -epoch, sign * value

    return sorted(trials, key=rank)
