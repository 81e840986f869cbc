"""The searchers and schedulers that are replayed: those of huetune, Ray Tune's OptunaSearch, and Optuna alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from huetune.model.presets import PRESETS
from huetune.model.recipes import with_recipe
from huetune.search.spec.space import Space
from huetune.search.spec.space_parser import parse_space
from huetune.search.tuning.sampler import Sampler
from huetune.search.tuning.schedulers import SCHEDULERS
from huetune.search.tuning.searcher import StudySearcher
from huetune.search.tuning.stopping_rule import Budget
from huetune.search.tuning.study_writer import StudyWriter
from huetune.search.tuning.trial_queue import Job, grid_jobs
from huetune.search.tuning.trial_result import SCORE
from tests.benchmarks.table import EPOCHS, GRID

OBJECTIVE = "chroma_mse"
MAX_TRIALS = 400
"""The number of trials after which a replay gives up."""
LOW, HIGH = GRID["mse_weight"][0] / 2**0.5, GRID["mse_weight"][-1] * 2**0.5
"""The searched range of the loss weight. Each recorded weight represents an equal share of it, on a log scale."""


def table_space(grid: bool = False) -> Space:
    """Return the space of the recorded table, with the loss weight as a range unless a grid is searched."""
    record: dict[str, Any] = {name: {"choices": values} for name, values in GRID.items()}
    if not grid:
        record["mse_weight"] = {"low": LOW, "high": HIGH, "log": True}
    return parse_space(record, with_recipe(PRESETS["model-2"], "photos"))


def huetune_searcher(kind: str, seed: int, trials: int = MAX_TRIALS, presets: Sequence[str] = ()) -> StudySearcher:
    """Return the searcher of huetune with its study in memory, because a database only costs time here."""
    space = table_space(kind == "grid")
    searcher = StudySearcher(
        StudyWriter(optuna.create_study(sampler=optuna.samplers.RandomSampler(), direction="minimize")),
        Path("/nonexistent"),
        space=space,
        sampler=None if kind == "grid" else Sampler(space, kind, ["minimize"], seed, trials),
        budget=Budget(trials),
        epochs=EPOCHS,
        seed=seed,
        objectives=[OBJECTIVE],
    )
    if kind == "grid":
        searcher.enqueue(grid_jobs(space, seed))
    for preset in presets:
        point = space.preset_point(preset)
        assert point
        searcher.enqueue([Job(space.config(point), point)])
    return searcher


def make_scheduler(name: str) -> TrialScheduler:
    """Return a scheduler of huetune by its name, which minimizes the best score so far."""
    scheduler = SCHEDULERS[name](EPOCHS)
    scheduler.set_search_properties(SCORE, "min")
    return scheduler


def ray_optuna_searcher(seed: int) -> OptunaSearch:
    """Return Ray Tune's own OptunaSearch, set up as in its documentation."""
    return OptunaSearch(space=_sample_point, metric=SCORE, mode="min", seed=seed)


def _sample_point(trial: optuna.Trial) -> None:
    trial.suggest_float("mse_weight", LOW, HIGH, log=True)
    for name in ("activation", "skip"):
        trial.suggest_categorical(name, GRID[name])


class _PlainOptuna(Searcher):
    """Optuna's ask-and-tell interface with its default sampler and its median pruner, for several workers."""

    def __init__(self, seed: int):
        super().__init__(metric=SCORE, mode="min")
        pruner = optuna.pruners.MedianPruner(n_warmup_steps=2)
        self.study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed), pruner=pruner)
        self.running: dict[str, optuna.Trial] = {}

    def suggest(self, trial_id: str) -> dict[str, Any]:
        self.running[trial_id] = self.study.ask()
        _sample_point(self.running[trial_id])
        return self.running[trial_id].params

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Do nothing: `_Pruner` has reported the result already."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        assert result
        is_complete = result["epoch"] == EPOCHS
        self.study.tell(
            self.running.pop(trial_id),
            result[SCORE] if is_complete else None,
            TrialState.COMPLETE if is_complete else TrialState.PRUNED,
        )

    def save(self, checkpoint_path: str) -> None: ...

    def restore(self, checkpoint_path: str) -> None: ...


class _Pruner:
    """Optuna's pruner with the interface of a scheduler of Ray Tune."""

    def __init__(self, searcher: _PlainOptuna):
        self._searcher = searcher

    def on_trial_add(self, controller: Any, trial: Trial) -> None: ...

    def on_trial_complete(self, controller: Any, trial: Trial, result: dict[str, Any]) -> None: ...

    def on_trial_result(self, controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        optuna_trial = self._searcher.running[trial.trial_id]
        optuna_trial.report(result[SCORE], result["epoch"])
        return TrialScheduler.STOP if optuna_trial.should_prune() else TrialScheduler.CONTINUE


def searcher_and_scheduler(name: str, seed: int) -> tuple[Searcher, Any]:
    """Return the searcher and the scheduler of a search of `SEARCH_NAMES`."""
    if name == "Optuna and its median pruner":
        searcher = _PlainOptuna(seed)
        return searcher, _Pruner(searcher)
    if name == RAY_OPTUNA:
        return ray_optuna_searcher(seed), make_scheduler("asha")
    if name == DEFAULT:
        return huetune_searcher("tpe", seed, presets=["model-1", "model-2", "model-3"]), make_scheduler("asha")
    kind, _, scheduler = name.partition(" + ")
    return huetune_searcher(kind, seed), make_scheduler(scheduler or "none")


DEFAULT, RAY_OPTUNA = "ours by default", "stock OptunaSearch + asha"
"""By default huetune tries the presets of the experiment log first, which is a good start; `tpe + asha` does not."""
SEARCH_NAMES = (
    "random",
    "grid",
    "tpe",
    "tpe + asha",
    "tpe + hyperband",
    "tpe + median",
    DEFAULT,
    RAY_OPTUNA,
    "Optuna and its median pruner",
)
