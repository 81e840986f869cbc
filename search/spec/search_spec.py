"""What is asked of a search. Importing this takes no time: the command has its defaults from here."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from huetune.search.spec.resources import Resources

if TYPE_CHECKING:
    from huetune.search.spec.space import Space

SEARCHERS = ("tpe", "random", "grid", "cmaes", "nsga2")
"""Names of the searchers; `search.tuning.sampler.SAMPLERS` has how each samples."""
SCHEDULERS = ("asha", "hyperband", "median", "none")
"""Names of the schedulers; `search.tuning.schedulers.SCHEDULERS` has what each is of Ray."""


@dataclass(frozen=True)
class Search:
    """What is asked of a search.

    Args:
        name: of the run.
        storage: folder of runs.
        space: what is varied.
        resources: what a trial takes, and where it runs.
        trials: how many, 1 or more.
        epochs: of a complete trial, 1 or more.
        objectives: different keys of `model.metrics.METRICS`. The first one chooses a trial's best epoch; with several
            of them there is no early stopping and no confirmation, for both rank by one.
        searcher: one of `SEARCHERS`.
        scheduler: one of `SCHEDULERS`.
        seed: of the split, the sampler and, with its number added, of each trial; 0 or more.
        warm_start: presets that are tried first.
        study: URL of the study's database; None for SQLite in the run's folder.
        time_budget: seconds, above 0, after which no more trials are started; None for as long as it takes.
        stop_when_flat: trials in a row without a better one that end the search, 1 or more; None for however many.
        confirm: how many finalists, 1 or more, are trained again, and each from how many fresh seeds, 2 or more; None
            for none.
        mlflow: URI of an MLflow to which each trial is logged; None for none.

    Raises:
        UserError: a value outside of these. The command, Python and a run's manifest have it from here.
    """

    name: str
    storage: Path
    space: "Space"
    resources: Resources = field(default_factory=Resources)
    trials: int = 12
    epochs: int = 8
    objectives: tuple[str, ...] = ("chroma_mse",)
    searcher: str = "tpe"
    scheduler: str = "asha"
    seed: int = 0
    warm_start: tuple[str, ...] = ("model-1", "model-2", "model-3")
    study: str | None = None
    time_budget: float | None = None
    stop_when_flat: int | None = None
    confirm: tuple[int, int] | None = None
    mlflow: str | None = None

    def __post_init__(self) -> None:
        from huetune.search.spec.validation import check_search

        check_search(self)
