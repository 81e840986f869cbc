"""The manifest: how a run remembers what was asked of its search."""

import datetime
import json
import sys
from dataclasses import asdict, fields
from typing import Any

from optuna.distributions import distribution_to_json, json_to_distribution
from sqlalchemy.engine import URL

from huetune.data_tools.common.errors import StorageError
from huetune.data_tools.photos.source import Source
from huetune.data_tools.photos.split import Split
from huetune.data_tools.storage.bucket_cache import place_of
from huetune.model.config import Config
from huetune.model.metrics import METRICS
from huetune.results.records.provenance import code, hardware, versions
from huetune.results.records.run import Run
from huetune.results.records.trial_records import Asked, StudyRecord
from huetune.search.spec.resources import Resources
from huetune.search.spec.search_spec import Search
from huetune.search.spec.space import Space

SCHEMA = 2
"""Of the manifest; 1 did not say how its photos are read again."""


def described(search: Search, parts: Split, source: Source, url: URL | None) -> dict[str, Any]:
    """Return the manifest of a search that begins: all that `recalled` and whoever reads its run need to know.

    Args:
        search: what is asked.
        parts: its photos.
        source: where they are from.
        url: of the study's database; None for SQLite in the run's folder.
    """
    options = {option.name: getattr(search, option.name) for option in fields(search)}
    del options["space"], options["resources"]
    return {
        "schema": SCHEMA,
        "command": sys.argv,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "search": {**options, "storage": place_of(search.storage)},
        "cluster": asdict(search.resources),
        "directions": {objective: METRICS.objectives[objective] for objective in search.objectives},
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
        UserError: it holds a value that `Search` refuses.
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
    options |= {name: value for name, value in vars(StudyRecord.of(study).asked).items() if name in options}
    options |= {"storage": run.folder.parent, "space": space, "study": manifest["study"]}
    return Search(**options, resources=recalled_resources(run, address))


def recalled_resources(run: Run, address: str | None) -> Resources:
    """Return what a trial of a run takes, at another address.

    Raises:
        UserError: the manifest holds a value outside of its range.
    """
    return Resources(**{**run.manifest["cluster"], "address": address})


def asked(search: Search, further: tuple[int, ...] = ()) -> Asked:
    """Return what an extension may change, which the study holds.

    Args:
        search: what is asked.
        further: the numbers of the trials that are trained further.
    """
    return Asked(search.trials, search.epochs, search.time_budget, search.stop_when_flat, further)
