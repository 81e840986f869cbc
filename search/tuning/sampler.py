"""Draws the points of a search with Optuna's samplers, each point once.

The sampler works on an Optuna study of its own, in memory, which is told everything that the run's study is told. So
a duplicate draw leaves no trace in the run's study, and a suggestion needs no round trips to a database, of which
Optuna makes one for each running trial.
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
"""The searched parameters of a configuration, by name."""

MAX_DRAWS = 16
"""Draws without a new point, after which a new point is chosen at random."""
MAX_REMEMBERED_TRIALS = 1000
"""Ended trials that stay in the sampler's memory once it holds twice as many: the best ones and the newest ones. TPE
reads the whole memory for each suggestion."""


def _tpe(seed: int, trials: int) -> BaseSampler:
    # By default TPE starts after ten random trials, which is most of a small search. In replays five were best.
    return TPESampler(seed=seed, n_startup_trials=5, multivariate=True, constant_liar=True)


def _random(seed: int, trials: int) -> BaseSampler:
    return RandomSampler(seed=seed)


def _cmaes(seed: int, trials: int) -> BaseSampler:
    return CmaEsSampler(seed=seed, n_startup_trials=5, warn_independent_sampling=False)


def _nsga2(seed: int, trials: int) -> BaseSampler:
    return NSGAIISampler(seed=seed, population_size=min(50, max(4, trials // 5)))


# The points of a grid are enqueued as jobs, so its sampler draws nothing.
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
        space: the search space.
        kind: a key of `SAMPLERS` that suits the space and the directions, which `Search` validates.
        directions: "minimize" or "maximize" for each objective.
        seed: seeds all draws.
        trials: expected number of trials, from which NSGA-II derives its population size.
    """

    def __init__(
        self, space: Space, kind: str, directions: Sequence[Literal["minimize", "maximize"]], seed: int, trials: int
    ):
        self._space, self._directions = space, directions
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._sampler = SAMPLERS[kind](seed, trials)
        self._samples_jointly = kind in ("cmaes", "nsga2")
        self._size = space.size
        self._random = random.Random(seed)
        self._fallback = RandomSampler(seed=seed)
        self._known: set[tuple] = set()
        self._pending: dict[tuple, optuna.Trial] = {}
        self._memory = self._new_memory([])

    @property
    def exhausted(self) -> bool:
        """Whether every point of the space was drawn or added."""
        return len(self._known) >= self._size

    def add(self, point: Mapping[str, Any]) -> None:
        """Add a point that was chosen elsewhere, so that it is not drawn and `tell` may follow."""
        self._memory.enqueue_trial(dict(point))
        self._ask()

    def draw(self) -> Point:
        """Return a new point; only while the space is not exhausted."""
        for _ in range(MAX_DRAWS):
            if (point := self._ask()) is not None:
                return point
        # The sampler draws only known points, perhaps because the space has few.
        if self._size < math.inf:
            point = self._random.choice([point for point in self._space.all_points() if _key(point) not in self._known])
            self.add(point)
            return point
        self._memory.sampler = self._fallback
        while (point := self._ask()) is None:
            pass
        self._memory.sampler = self._sampler
        return point

    def tell(self, point: Mapping[str, Any], values: Sequence[float] | None, curve: Mapping[int, float]) -> None:
        """Learn from an ended trial.

        Args:
            point: the point of the trial, which was drawn or added before.
            values: the objectives of a complete trial; None for a pruned or failed one.
            curve: the best value so far of the first objective, by epoch; pruned trials are compared by it. Empty
                for a failed trial, from which the sampler learns nothing.
        """
        # When an extension continues an ended trial, its point is told a second time.
        trial = self._pending.pop(_key(point), None) or self._enqueue(point)
        if len(self._directions) == 1:
            for epoch, value in curve.items():
                trial.report(value, epoch)
        state = TrialState.COMPLETE if values is not None else TrialState.PRUNED if curve else TrialState.FAIL
        self._memory.tell(trial, values, state)
        trials = self._memory.get_trials(deepcopy=False)
        if len(trials) > 2 * MAX_REMEMBERED_TRIALS:
            ended = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
            best = {trial.number for trial in _best_first(ended, self._directions)[: MAX_REMEMBERED_TRIALS // 2]}
            recent = {trial.number for trial in ended[-MAX_REMEMBERED_TRIALS // 2 :]}
            self._memory = self._new_memory([trial for trial in ended if trial.number in best | recent])

    def _new_memory(self, ended: Sequence[FrozenTrial]) -> optuna.Study:
        """Return a study in memory with some ended trials, and with all pending ones."""
        memory = optuna.create_study(directions=self._directions, sampler=self._sampler)
        memory.add_trials(ended)
        for key, trial in self._pending.items():
            memory.enqueue_trial(trial.params)
            self._pending[key] = self._new_trial(memory)
            for name, domain in trial.distributions.items():
                _suggest(self._pending[key], name, domain)
        return memory

    def _new_trial(self, memory: optuna.Study) -> optuna.Trial:
        trial = memory.ask()
        if self._samples_jointly:
            # CMA-ES and NSGA-II learn only from trials that they have drawn a point for, even if it is replaced by an
            # enqueued one.
            _ = trial.relative_params
        return trial

    def _enqueue(self, point: Mapping[str, Any]) -> optuna.Trial:
        self._memory.enqueue_trial(dict(point))
        return self._suggest_all()

    def _suggest_all(self) -> optuna.Trial:
        trial = self._new_trial(self._memory)
        for name, domain in self._space.domains.items():
            if self._space.is_searched(name, trial.params):
                _suggest(trial, name, domain)
        return trial

    def _ask(self) -> Point | None:
        """Draw a point, or the enqueued one; return None if it is known."""
        trial = self._suggest_all()
        point = trial.params
        if _key(point) in self._known:
            self._memory.tell(trial, state=TrialState.FAIL)
            return None
        self._known.add(_key(point))
        self._pending[_key(point)] = trial
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
    """Return what equal points have in common; floats are rounded, since those on a step differ by rounding errors."""
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
