"""The manifest of a run: everything that is needed to continue its search, and to know how it was made."""

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
from huetune.data_tools.storage.bucket_cache import location_of
from huetune.model.config import Config
from huetune.model.metrics import METRICS
from huetune.results.records.provenance import code, hardware, versions
from huetune.results.records.run import Run
from huetune.results.records.study_record import RequestedBudget, StudyRecord
from huetune.search.spec.resources import Resources
from huetune.search.spec.search_spec import Search
from huetune.search.spec.space import Space

SCHEMA = 2
"""Version of the manifest; version 1 did not record how the photos are read."""


def make_manifest(search: Search, parts: Split, source: Source, url: URL | None) -> dict[str, Any]:
    """Return the manifest of a new search, with everything that `load_search` and readers of the run need.

    Args:
        search: the specification.
        parts: the photos.
        source: where the photos were read from.
        url: URL of the study's database; None for SQLite in the run's folder.
    """
    options = {option.name: getattr(search, option.name) for option in fields(search)}
    del options["space"], options["resources"]
    return {
        "schema": SCHEMA,
        "command": sys.argv,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "search": {**options, "storage": location_of(search.storage)},
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


def load_search(run: Run, address: str | None = None) -> Search:
    """Return the specification of a run's search, with the budget of its latest extension.

    Args:
        run: run of the search.
        address: address of the Ray cluster that continues it; None for RAY_ADDRESS or this machine.

    Raises:
        StorageError: the manifest has an older schema, which lacks what is needed.
        UserError: the manifest has a value that `Search` refuses.
    """
    manifest, study = run.manifest, run.study()
    if manifest["schema"] < 2:
        raise StorageError(
            f"run {run.name!r} was made by an older version of huetune, which did not record how to continue it; "
            "start a new search"
        )
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
    options |= {name: value for name, value in vars(StudyRecord.of(study).requested).items() if name in options}
    options |= {"storage": run.folder.parent, "space": space, "study": manifest["study"]}
    return Search(**options, resources=load_resources(run, address))


def load_resources(run: Run, address: str | None) -> Resources:
    """Return the resources of a run's trials, with another address.

    Args:
        run: run of a search.
        address: address of the cluster, as in `Resources`.

    Raises:
        UserError: a value of the manifest is out of range.
    """
    return Resources(**{**run.manifest["cluster"], "address": address})


def requested_budget(search: Search, further: tuple[int, ...] = ()) -> RequestedBudget:
    """Return the part of a specification that an extension can change, and that is therefore stored in the study.

    Args:
        search: the specification.
        further: numbers of the trials that are trained further.
    """
    return RequestedBudget(search.trials, search.epochs, search.time_budget, search.stop_when_flat, further)
