"""What a search may be asked for: said at once, for importing Ray takes longer than all that is asked here."""

import math
import os
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from data_tools.console import MOST, is_utf8
from data_tools.errors import StorageError, UserError, in_a_line
from data_tools.folder import require_place
from data_tools.mirror import bucket_of, listed, place_of
from data_tools.secret import holds_secret
from data_tools.source import Source
from model.config import PRESETS
from model.score import OBJECTIVES
from results.lock import LOCK, holder
from results.mlflow import check_uri
from results.photos import FILES
from results.run import MANIFEST, STUDY, check_name, check_path, copy_of, sqlite_url, with_driver
from search.sampler import Sampler

PATIENCE = 4
"""Seconds that a database may take to answer."""
LONGEST = 100 * 365 * 86400.0
"""Seconds that nobody waits: what is said to take longer is a slip."""


def check_search(asked: Any) -> None:
    """Make sure that a search makes sense, as far as that can be said without Ray.

    Args:
        asked: has the attributes of `Search`.

    Raises:
        UserError: it does not.
    """
    check_name(asked.name)
    for objective in asked.objectives:
        if objective not in OBJECTIVES:
            raise UserError(f"objective must be one of {', '.join(OBJECTIVES)}, received {objective!r}")
    if not asked.objectives or len(set(asked.objectives)) < len(asked.objectives):
        raise UserError(f"objective must name different figures, received {', '.join(asked.objectives)!r}")
    if len(asked.objectives) > 1 and asked.scheduler != "none":
        raise UserError(f"scheduler {asked.scheduler!r} ranks by one objective; with several use --scheduler none")
    if len(asked.objectives) > 1 and asked.confirm:
        raise UserError("confirm ranks by one objective; with several use --confirm none")
    if asked.mlflow is not None:
        check_uri(asked.mlflow)
    for name in asked.warm_start:
        if name not in PRESETS:
            raise UserError(f"warm-start must name presets ({', '.join(PRESETS)}), received {name!r}")
    for option, low, high in (
        ("trials", 1, MOST),
        ("epochs", 1, MOST),
        ("seed", 0, math.inf),
        ("stop_when_flat", 1, MOST),
        ("time_budget", 0, LONGEST),
    ):
        check_number(option, getattr(asked, option), low, high)
    if asked.confirm:
        finalists, seeds = asked.confirm
        if not (1 <= finalists <= MOST and 2 <= seeds <= MOST):
            raise UserError(
                f"confirm must be 1 or more finalists with 2 or more seeds each, received {asked.confirm!r}"
            )
    # What it cannot search it says when it is made.
    Sampler(asked.space, asked.searcher, [OBJECTIVES[name] for name in asked.objectives], asked.seed, asked.trials)


def check_place(asked: Any) -> None:
    """Make sure that a search has a place to write to, and make nothing.

    Args:
        asked: has the attributes of `Search`.

    Raises:
        UserError: the study is no database URL, or the path of the storage is not UTF-8.
        StorageError: the name is taken, the storage cannot be written, or the database cannot be reached.
    """
    check_path(asked.storage.absolute())
    check_path(asked.storage.resolve())
    if url := study_url(asked.study):
        _check_database(url)
    folder = (asked.storage / asked.name).absolute()
    require_free(folder)
    require_place(folder)


def check_apart(source: Source, storage: Path) -> None:
    """Refuse runs among the photos: the pictures that one search makes would be photos of the next.

    Raises:
        UserError: they would be.
    """
    if source.folder and not source.classes and storage.resolve().is_relative_to(source.folder.resolve()):
        raise UserError(
            f"--storage {place_of(storage)!r}: lies in {str(source)!r}, so pictures of runs would be taken for photos; "
            "choose another place, or name --classes"
        )


def require_free(folder: Path) -> None:
    """Refuse the folder of another run.

    Raises:
        StorageError: there is one.
    """
    if bucket := bucket_of(folder):
        bucket.reach()
    if listed(folder, MANIFEST) if bucket else os.path.lexists(folder) and not left_over(folder):
        by = holder(folder) if folder.is_dir() else None
        raise StorageError(
            f"{place_of(folder)!r}: exists already{f', in the hands of {by}' if by else ''}; choose another --name"
        )


def left_over(folder: Path) -> bool:
    """Whether a folder holds nothing but what is left of a search that died before it was described.

    So does the mirror of a run that is not in the bucket any more.
    """
    if bucket_of(folder):
        return folder.is_dir() and not listed(folder, MANIFEST)
    copy = copy_of(Path(STUDY))
    ours = (LOCK, f"{STUDY}*", f"{copy}*", f".{STUDY}*", f".{copy}*", FILES, f".{FILES}*", f".{MANIFEST}*")
    return folder.is_dir() and all(any(path.match(name) for name in ours) for path in folder.iterdir())


def study_url(study: str | None) -> URL | None:
    """Return where the study is to be, None for a file in the run's folder.

    Raises:
        UserError: it is no database URL, or holds a password.
    """
    if study is None:
        return None
    if not is_utf8(study):
        raise UserError(f"--study {study!r}: must be UTF-8; choose another name")
    try:
        url = make_url(study)
    except ArgumentError:
        raise UserError(f"--study {study!r}: not a database URL such as postgresql://host/name") from None
    if holds_secret(url):
        raise UserError("--study: the URL holds a password, which would be written down; use ~/.pgpass or PGPASSWORD")
    return sqlite_url(Path(url.database)) if url.drivername == "sqlite" and url.database else url


def _check_database(url: URL) -> None:
    shown = url.render_as_string()
    if url.drivername.startswith("sqlite"):
        if not url.database or url.database == ":memory:":
            raise UserError(f"--study {shown!r}: a database in memory would be gone with the search; name a file")
        if not Path(url.database).parent.is_dir():
            raise StorageError(f"--study {shown!r}: {str(Path(url.database).parent)!r} is not a folder")
        return
    try:
        engine = create_engine(with_driver(url), connect_args={"connect_timeout": PATIENCE})
        engine.connect().close()
    except (NoSuchModuleError, ImportError) as error:
        raise UserError(f"--study {shown!r}: no such database is known here ({in_a_line(error)})") from None
    except Exception as error:  # SQLAlchemy, or what its driver thinks of such an address
        reason = in_a_line(getattr(error, "orig", None) or error)
        raise StorageError(f"--study {shown!r}: cannot be reached ({reason})") from None


def check_cluster(asked: Any) -> None:
    """Make sure that what a trial takes makes sense.

    Args:
        asked: has the attributes of `Cluster`.

    Raises:
        UserError: it does not.
    """
    if not 0 < asked.cpus_per_trial < math.inf:
        raise UserError(f"cpus-per-trial must be above 0, received {asked.cpus_per_trial!r}")
    if not 0 <= asked.gpus_per_trial < math.inf:
        raise UserError(f"gpus-per-trial must be 0 or more, received {asked.gpus_per_trial!r}")
    check_number("trial_timeout", asked.trial_timeout, 0, LONGEST)


def check_number(option: str, value: float | None, low: float, high: float) -> None:
    """Make sure that a number, if there is one, is from low to high.

    Raises:
        UserError: it is not.
    """
    if value is None or low <= value <= high:
        return
    wanted = f"{low:,} or more" if value < low else f"{high:,.0f} or less"
    raise UserError(f"{option.replace('_', '-')} must be {wanted}, received {value!r}")
