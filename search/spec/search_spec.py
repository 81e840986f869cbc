"""`Search`, the specification of a search. It imports quickly, because the command takes its defaults from here."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from huetune.search.spec.resources import Resources

if TYPE_CHECKING:
    from huetune.search.spec.space import Space

SEARCHERS = ("tpe", "random", "grid", "cmaes", "nsga2")
"""Names of the searchers; `huetune.search.tuning.sampler.SAMPLERS` implements them."""
SCHEDULERS = ("asha", "hyperband", "median", "none")
"""Names of the schedulers; `huetune.search.tuning.schedulers.SCHEDULERS` implements them."""


@dataclass(frozen=True)
class Search:
    """The specification of a search, which is validated when it is created.

    Args:
        name: name of the run.
        storage: folder of runs.
        space: the search space.
        resources: what a trial takes, and where it runs.
        trials: the trial budget, 1 or more.
        epochs: epochs of a complete trial, 1 or more.
        objectives: different keys of `huetune.model.metrics.METRICS`. The first one decides which epoch of a trial is
            the best. With several objectives there is no early stopping and no confirmation, because both rank by one.
        searcher: one of `SEARCHERS`.
        scheduler: one of `SCHEDULERS`.
        seed: seed of the split and the sampler, 0 or more; the seed of a trial is this plus its number.
        warm_start: presets that are tried first.
        study: URL of the study's database; None for SQLite in the run's folder.
        time_budget: seconds, above 0, after which no more trials are started; None for no limit.
        stop_when_flat: end the search after this many trials in a row without a better score, 1 or more; None for no
            limit.
        confirm: number of finalists, 1 or more, and number of fresh seeds from which each is retrained, 2 or more;
            None for no confirmation.
        mlflow: URI of an MLflow server or folder to which each trial is logged; None to log nothing.

    Raises:
        UserError: a value is out of range. This is the only validation, for the command, Python and manifests alike.
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
