"""Validation of a search's specification, storage and database. Ray is not needed, so that errors are shown at once."""

import math
import os
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from huetune.data_tools.cli.options import MAX_COUNT, MAX_SEED
from huetune.data_tools.common.errors import StorageError, UserError, first_line
from huetune.data_tools.common.terminal import is_utf8
from huetune.data_tools.common.url_secrets import has_secret
from huetune.data_tools.photos.source import Source
from huetune.data_tools.storage.atomic import require_writable
from huetune.data_tools.storage.bucket_cache import bucket_path, list_paths, location_of
from huetune.data_tools.storage.run_lock import LOCK_FILE, lock_holder
from huetune.model.metrics import METRICS
from huetune.model.presets import PRESETS
from huetune.results.integrations.mlflow import check_uri
from huetune.results.records.run import (
    MANIFEST,
    STUDY,
    backup_path,
    require_run_name,
    require_utf8_path,
    sqlite_url,
    with_driver,
)
from huetune.results.records.run_photos import PHOTO_LIST_FILE
from huetune.search.spec.resources import Resources
from huetune.search.spec.search_spec import SCHEDULERS, SEARCHERS, Search

DATABASE_TIMEOUT_SECONDS = 4
MAX_DURATION_SECONDS = 100 * 365 * 86400.0
"""Upper bound for duration options, a hundred years; longer durations are typos."""


def check_search(search: Search) -> None:
    """Validate a specification; `Search` calls this for each of its instances.

    Raises:
        UserError: a value is out of range; the message names it and what was expected.
    """
    require_run_name(search.name)
    for option, value, known in (
        ("searcher", search.searcher, SEARCHERS),
        ("scheduler", search.scheduler, SCHEDULERS),
    ):
        if value not in known:
            raise UserError(f"{option} must be one of {', '.join(known)}, received {value!r}")
    for objective in search.objectives:
        if objective not in METRICS.objectives:
            raise UserError(f"objective must be one of {', '.join(METRICS.objectives)}, received {objective!r}")
    if not search.objectives or len(set(search.objectives)) < len(search.objectives):
        raise UserError(f"objective must name different metrics, received {', '.join(search.objectives)!r}")
    if len(search.objectives) > 1 and search.scheduler != "none":
        raise UserError(f"scheduler {search.scheduler!r} ranks by one objective; with several use --scheduler none")
    if len(search.objectives) > 1 and search.confirm:
        raise UserError("confirm ranks by one objective; with several use --confirm none")
    if search.searcher == "cmaes" and (len(search.objectives) > 1 or search.space.range_count < 2):
        raise UserError("searcher cmaes needs one objective and at least two settings with low and high; use tpe")
    if search.mlflow is not None:
        check_uri(search.mlflow)
    for name in search.warm_start:
        if name not in PRESETS:
            raise UserError(f"warm-start must name presets ({', '.join(PRESETS)}), received {name!r}")
    _check_count("trials", search.trials, 1, MAX_COUNT)
    _check_count("epochs", search.epochs, 1, MAX_COUNT)
    _check_count("seed", search.seed, 0, MAX_SEED)
    if search.stop_when_flat is not None:
        _check_count("stop_when_flat", search.stop_when_flat, 1, MAX_COUNT)
    check_seconds("time_budget", search.time_budget)
    if search.confirm is not None and not _is_confirmation(search.confirm):
        raise UserError(f"confirm must be 1 or more finalists with 2 or more seeds each, received {search.confirm!r}")


def _is_confirmation(value: object) -> bool:
    if not (isinstance(value, tuple) and len(value) == 2 and all(map(_is_whole, value))):
        return False
    finalists, seeds = value
    return 1 <= finalists <= MAX_COUNT and 2 <= seeds <= MAX_COUNT


def check_storage(search: Search) -> None:
    """Check, without writing anything, that a search can write its run and its study.

    Raises:
        UserError: the study is not a database URL, or the path of the storage is not UTF-8.
        StorageError: the name is taken, the storage is not writable, or the database cannot be reached.
    """
    require_utf8_path(search.storage.absolute())
    require_utf8_path(search.storage.resolve())
    if url := study_url(search.study):
        _check_database(url)
    folder = (search.storage / search.name).absolute()
    require_unused(folder)
    require_writable(folder)


def check_storage_outside_photos(source: Source, storage: Path) -> None:
    """Check that runs are not stored among the photos: the pictures of one run would be photos of the next.

    Raises:
        UserError: the storage is inside of the folder of photos.
    """
    if source.folder and not source.classes and storage.resolve().is_relative_to(source.folder.resolve()):
        raise UserError(
            f"--storage {location_of(storage)!r}: is inside of {str(source)!r}, so pictures of runs would be taken for "
            "photos; choose another --storage, or pass --classes"
        )


def require_unused(folder: Path) -> None:
    """Check that a run's folder does not exist yet, except for what `is_half_created` accepts.

    Raises:
        StorageError: it exists; the message names the process that has locked it, if there is one.
    """
    if bucket := bucket_path(folder):
        bucket.check_reachable()
    if list_paths(folder, MANIFEST) if bucket else os.path.lexists(folder) and not is_half_created(folder):
        by = lock_holder(folder) if folder.is_dir() else None
        raise StorageError(
            f"{location_of(folder)!r}: exists already{f', locked by {by}' if by else ''}; choose another --name"
        )


def is_half_created(folder: Path) -> bool:
    """Return whether a folder has only files of a search that died before it had written its manifest.

    The same is true of the local copy of a run that is no longer in its bucket.
    """
    if bucket_path(folder):
        return folder.is_dir() and not list_paths(folder, MANIFEST)
    copy = backup_path(Path(STUDY))
    ours = (
        LOCK_FILE,
        f"{STUDY}*",
        f"{copy}*",
        f".{STUDY}*",
        f".{copy}*",
        PHOTO_LIST_FILE,
        f".{PHOTO_LIST_FILE}*",
        f".{MANIFEST}*",
    )
    return folder.is_dir() and all(any(path.match(name) for name in ours) for path in folder.iterdir())


def study_url(study: str | None) -> URL | None:
    """Return the URL of the study's database, or None for a file in the run's folder.

    Raises:
        UserError: it is not a database URL, or contains a password.
    """
    if study is None:
        return None
    if not is_utf8(study):
        raise UserError(f"--study {study!r}: must be UTF-8; choose another name")
    try:
        url = make_url(study)
    except ArgumentError:
        raise UserError(f"--study {study!r}: not a database URL such as postgresql://host/name") from None
    if has_secret(url):
        raise UserError(
            "--study: the URL contains a password, which would be stored with the run; use ~/.pgpass or PGPASSWORD"
        )
    return sqlite_url(Path(url.database)) if url.drivername == "sqlite" and url.database else url


def _check_database(url: URL) -> None:
    shown = url.render_as_string()
    if url.drivername.startswith("sqlite"):
        if not url.database or url.database == ":memory:":
            raise UserError(f"--study {shown!r}: a database in memory is lost when the search ends; name a file")
        if not Path(url.database).parent.is_dir():
            raise StorageError(f"--study {shown!r}: {str(Path(url.database).parent)!r} is not a folder")
        return
    url = with_driver(url)
    try:
        engine = create_engine(url, connect_args={"connect_timeout": DATABASE_TIMEOUT_SECONDS})
        engine.connect().close()
    except (NoSuchModuleError, ImportError) as error:
        raise UserError(
            f"--study {shown!r}: no driver for this kind of database is installed ({first_line(error)})"
        ) from None
    except Exception as error:  # SQLAlchemy's, or any error of a driver
        reason = first_line(getattr(error, "orig", None) or error)
        raise StorageError(f"--study {shown!r}: cannot be reached ({reason})") from None


def check_resources(resources: Resources) -> None:
    """Validate the resources of a trial; `Resources` calls this for each of its instances.

    Raises:
        UserError: a value is out of range; the message names it and what was expected.
    """
    cpus, gpus = resources.cpus_per_trial, resources.gpus_per_trial
    if not (_is_number(cpus) and 0 < cpus < math.inf):
        raise UserError(f"cpus-per-trial must be above 0, received {cpus!r}")
    if not (_is_number(gpus) and 0 <= gpus < math.inf):
        raise UserError(f"gpus-per-trial must be 0 or more, received {gpus!r}")
    check_seconds("trial_timeout", resources.trial_timeout)


def check_seconds(option: str, value: float | None) -> None:
    """Validate a duration.

    Args:
        option: name of the option, for the message.
        value: seconds, above 0 and up to `MAX_DURATION_SECONDS`; None for no limit.

    Raises:
        UserError: it is out of range; the message names the option and what was expected.
    """
    if value is None or (_is_number(value) and 0 < value <= MAX_DURATION_SECONDS):
        return
    wanted = f"{MAX_DURATION_SECONDS:,.0f} or less" if _is_number(value) and value > MAX_DURATION_SECONDS else "above 0"
    raise UserError(f"{option.replace('_', '-')} must be {wanted}, received {value!r}")


def _check_count(option: str, value: int, low: int, high: int) -> None:
    if not _is_whole(value):
        wanted = "a whole number"
    elif low <= value <= high:
        return
    else:
        wanted = f"{low:,} or more" if value < low else f"{high:,} or less"
    raise UserError(f"{option.replace('_', '-')} must be {wanted}, received {value!r}")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
