"""What is asked of a search, and how its run remembers it."""

import datetime
import json
import sys
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from optuna.distributions import distribution_to_json, json_to_distribution
from sqlalchemy.engine import URL

from data_tools.errors import StorageError, UserError
from data_tools.mirror import place_of
from data_tools.source import Source
from data_tools.split import Split
from model.config import Config
from model.score import OBJECTIVES
from results.machine import code, hardware, versions
from results.run import Run
from results.trials import asked
from search.cluster import Cluster
from search.limits import check_search
from search.sampler import SAMPLERS
from search.schedulers import SCHEDULERS
from search.space import Space

SCHEMA = 2
"""Of the manifest; 1 did not say how its photos are read again."""


@dataclass(frozen=True)
class Search:
    """What is asked of a search.

    Args:
        name: of the run.
        storage: folder of runs.
        space: what is varied.
        cluster: where it runs.
        trials: how many, 1 or more.
        epochs: of a complete trial, 1 or more.
        objectives: different keys of `model.score.OBJECTIVES`. The first one chooses a trial's best epoch; with several
            of them there is no early stopping and no confirmation, for both rank by one.
        searcher: a key of `search.sampler.SAMPLERS`.
        scheduler: a key of `search.schedulers.SCHEDULERS`.
        seed: of the split, the sampler and, with its number added, of each trial.
        warm_start: presets that are tried first.
        study: URL of the study's database; None for SQLite in the run's folder.
        time_budget: seconds after which no more trials are started; None for as long as it takes.
        stop_when_flat: trials in a row without a better one that end the search; None for however many.
        confirm: how many finalists are trained again, and each from how many fresh seeds; None for none.
        mlflow: URI of an MLflow to which each trial is logged; None for none.

    Raises:
        UserError: a value outside of these.
    """

    name: str
    storage: Path
    space: Space
    cluster: Cluster = field(default_factory=Cluster)
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
        for option, value, known in (("searcher", self.searcher, SAMPLERS), ("scheduler", self.scheduler, SCHEDULERS)):
            if value not in known:
                raise UserError(f"{option} must be one of {', '.join(known)}, received {value!r}")
        check_search(self)


def described(search: Search, parts: Split, source: Source, url: URL | None) -> dict[str, Any]:
    """Return the manifest of a search that begins: all that `recalled` and whoever reads its run need to know.

    Args:
        search: what is asked.
        parts: its photos.
        source: where they are from.
        url: of the study's database; None for SQLite in the run's folder.
    """
    options = {option.name: getattr(search, option.name) for option in fields(search)}
    del options["space"], options["cluster"]
    return {
        "schema": SCHEMA,
        "command": sys.argv,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "search": {**options, "storage": place_of(search.storage)},
        "cluster": asdict(search.cluster),
        "directions": {objective: OBJECTIVES[objective] for objective in search.objectives},
        "space": {name: json.loads(distribution_to_json(domain)) for name, domain in search.space.domains.items()},
        "conditions": search.space.conditions,
        "base": asdict(search.space.base),
        "photos": {"source": source.record, "order": parts.order, **parts.summary},
        "study": url and url.render_as_string(),
        "versions": versions(),
        "code": code(),
        "hardware": hardware(),
    }


def recalled(run: Run, address: str | None = None) -> Search:
    """Return what was asked of a run's search, as it stands now.

    Args:
        run: of the search.
        address: of the Ray cluster to go on with; None for this machine or RAY_ADDRESS.

    Raises:
        StorageError: the run does not say.
    """
    manifest, study = run.manifest, run.study()
    if manifest["schema"] < 2:
        raise StorageError(f"run {run.name!r} is of an older huetune, which did not record how to go on with it")
    options: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in manifest["search"].items()
    }
    space = Space(
        {name: json_to_distribution(json.dumps(domain)) for name, domain in manifest["space"].items()},
        Config.of(manifest["base"]),
        {
            name: {other: tuple(values) for other, values in where.items()}
            for name, where in manifest["conditions"].items()
        },
    )
    # An older huetune did not record how many trials: then it is as in the manifest.
    now = {name: value for name, value in asked(study).items() if name in options}
    options |= now if now["trials"] else {"epochs": now["epochs"]}
    options |= {"storage": run.folder.parent, "space": space, "study": manifest["study"]}
    return Search(**options, cluster=Cluster(**{**manifest["cluster"], "address": address}))


def extensible(search: Search) -> dict[str, Any]:
    """What an extension may change, which the study holds."""
    return {name: getattr(search, name) for name in ("trials", "epochs", "time_budget", "stop_when_flat")}
