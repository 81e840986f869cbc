"""Reads studies directly from a SQLite file, without the time that Optuna takes to import SQLAlchemy and Alembic."""

import contextlib
import functools
import json
import math
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.trial import FrozenTrial, TrialState

SCHEMA_REVISION = "v3.2.0.a"
"""Revision of Optuna's database schema, since Optuna 3.2."""
MAX_CACHED_DISTRIBUTIONS = 1024
"""Number of parsed distributions that are cached, because each trial repeats those of its study."""
Studies = tuple[optuna.Study, optuna.Study | None]
"""The study of a search and that of its replicates, or None, both read at the same time."""
_NOT_FINITE = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}


class _ReadTrial(FrozenTrial):
    """A trial that has no other owner, so that Optuna's storage can take it without a deep copy, which is slow."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "_ReadTrial":
        return self


def read_studies(path: Path, names: Sequence[str]) -> list[optuna.Study | None]:
    """Read studies into memory, all in one transaction.

    Args:
        path: the SQLite file.
        names: names of the studies.

    Returns:
        A study for each name; None for a name that no study has.

    Raises:
        ValueError: the tables have another revision, or contain what Optuna does not write.
        sqlite3.Error: the file cannot be read.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    uri = f"file:{quote(str(path))}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=60)) as database:
        database.execute("BEGIN")
        if (revision := database.execute("SELECT version_num FROM alembic_version").fetchall()) != [(SCHEMA_REVISION,)]:
            raise ValueError(f"{str(path)!r}: tables of revision {revision}, not {SCHEMA_REVISION}")
        known = dict(database.execute("SELECT study_name, study_id FROM studies"))
        return [_study(database, name, known[name]) if name in known else None for name in names]


def _study(database: sqlite3.Connection, name: str, number: int) -> optuna.Study:
    directions = database.execute(
        "SELECT direction FROM study_directions WHERE study_id = ? ORDER BY objective", [number]
    )
    study = optuna.create_study(
        study_name=name,
        storage=optuna.storages.InMemoryStorage(),
        directions=[direction.lower() for (direction,) in directions],
    )
    for key, value in database.execute(
        "SELECT key, value_json FROM study_user_attributes WHERE study_id = ? ORDER BY key", [number]
    ):
        study.set_user_attr(key, json.loads(value))
    study.add_trials(_trials(database, number))
    return study


def _trials(database: sqlite3.Connection, study: int) -> Iterable[FrozenTrial]:
    def rows_of(table: str, columns: str, order: str = "2") -> dict[int, list[tuple[Any, ...]]]:
        """Return the rows of each trial by its id, sorted by default by the first of the columns."""
        found = defaultdict(list)
        query = f"SELECT trial_id, {columns} FROM {table} JOIN trials USING (trial_id) WHERE study_id = ?"
        for trial, *row in database.execute(f"{query} ORDER BY {order}", [study]):
            found[trial].append(tuple(row))
        return found

    params = rows_of("trial_params", "param_name, param_value, distribution_json", "param_id")
    values = rows_of("trial_values", "objective, value, value_type")
    steps = rows_of("trial_intermediate_values", "step, intermediate_value, intermediate_value_type")
    user = rows_of("trial_user_attributes", "key, value_json")
    system = rows_of("trial_system_attributes", "key, value_json")
    columns = "trial_id, number, state, datetime_start, datetime_complete"
    for trial, number, state, start, complete in database.execute(
        f"SELECT {columns} FROM trials WHERE study_id = ? ORDER BY trial_id", [study]
    ):
        distributions = {name: _distribution(text) for name, _, text in params[trial]}
        yield _ReadTrial(
            number=number,
            trial_id=trial,
            state=TrialState[state],
            value=None,
            values=[_number(value, kind) for _, value, kind in values[trial]] or None,
            datetime_start=_local(start),
            datetime_complete=_local(complete),
            params={name: distributions[name].to_external_repr(value) for name, value, _ in params[trial]},
            distributions=distributions,
            user_attrs={key: json.loads(value) for key, value in user[trial]},
            system_attrs={key: json.loads(value) for key, value in system[trial]},
            intermediate_values={step: _number(value, kind) for step, value, kind in steps[trial]},
        )


@functools.lru_cache(MAX_CACHED_DISTRIBUTIONS)
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)


def _number(value: float | None, kind: str) -> float:
    return value if value is not None else _NOT_FINITE[kind]


def _local(stored: str | None) -> datetime | None:
    """Return a stored time as Optuna does: it stores UTC and returns local time, both without an offset."""
    return datetime.fromisoformat(stored).replace(tzinfo=UTC).astimezone().replace(tzinfo=None) if stored else None
