"""The rows of the trial table, made from the studies of a run by a pure function."""

from collections.abc import Iterable, Sequence
from typing import Any

import optuna
from optuna.trial import TrialState

from huetune.data_tools.common.errors import UserError, did_you_mean
from huetune.model.metrics import METRICS, better
from huetune.results.analysis.replicates import ranks, replicates_by_config, replicates_of
from huetune.results.records.epoch_metrics import displayed_metrics
from huetune.results.records.run import Run
from huetune.results.records.study_record import StudyRecord
from huetune.results.records.trial_record import TrialRecord

Row = dict[str, Any]
"""A row of a table: values by the names of the columns."""

COLUMN_ALIASES = {"place": "rank", "plus_minus": "ci_half_width"}
"""Current name of each column by its name in earlier versions, which `--where`, `--sort` and `--columns` accept."""


def rows(study: optuna.Study, replicates: optuna.Study | None = None) -> list[Row]:
    """Return the trials of a study as rows, the best first.

    The metrics of a trial are those of its best epoch. Confirmed finalists come first, by rank, then the other trials
    by score. Trials without a score come last: those that failed, and those without a finished epoch.

    Args:
        study: the study of a search.
        replicates: the study of its replicates; None if there is none.

    Returns:
        Rows with the same columns each, where None means no value: `trial`; `state`; `note`, "at baseline" for a trial
        that is still at the mean-color baseline after its grace period (see `results.records.baseline`); `rank` of a
        confirmed finalist; `score`; `confirmed`, the mean score over fresh seeds, with half the width of its 95%
        interval as `ci_half_width` and the number of seeds as `seeds`; `front`, whether a complete trial is on the
        Pareto front of several objectives; `preset`; `continues`, the number of the trial that this one trains further,
        only if the study has such trials; each searched parameter by its name; `epochs`; `seconds`; the metrics;
        `host`; `error`.
    """
    searched = StudyRecord.of(study)
    objective, objectives, parameters = searched.objective, searched.objectives, searched.parameters
    metrics = dict.fromkeys((*displayed_metrics(), *objectives))
    rank_of = ranks(study, replicates)
    groups = replicates_by_config(replicates)
    front = {trial.number for trial in study.best_trials} if len(objectives) > 1 else None
    table = []
    trials = study.get_trials(deepcopy=False)
    records = list(map(TrialRecord.of, trials))
    extended = any(record.continues is not None for record in records)
    for trial, record in zip(trials, records, strict=True):
        best = record.best_epoch(objective)
        score = None if trial.state == TrialState.FAIL or best is None else best[objective]
        group = replicates_of(trial, groups)
        estimate = group.estimate(objective) if group else None
        table.append(
            {
                "trial": trial.number,
                "state": record.state,
                "note": record.note,
                "rank": rank_of.get(trial.number),
                "score": score,
                "confirmed": estimate.value if estimate else None,
                "ci_half_width": estimate.half_width if estimate else None,
                "seeds": len(group.scores) if group else None,
                "front": None if front is None or trial.state != TrialState.COMPLETE else trial.number in front,
                "preset": record.preset,
                **({"continues": record.continues} if extended else {}),
                **{name: trial.params.get(name) for name in parameters},
                "epochs": len(record.epochs),
                "seconds": sum(epoch.seconds for epoch in record.epochs),
                **{name: best.get(name) if best else None for name in metrics},
                "host": record.host,
                "error": str(record.failure) if record.failure else None,
            }
        )
    by_score = sort(table, "score", descending=not METRICS[objective].minimized)
    return sort(by_score, "rank")


def run_rows(run: Run) -> list[Row]:
    """Return the trials of a run as rows, see `rows`."""
    return rows(*run.snapshot())


def column_name(name: str, columns: Iterable[str]) -> str:
    """Return the current name of a column that may be given by a name of an earlier version.

    Args:
        name: a name that a user typed; returned as it is if it is neither a column nor such a name.
        columns: names of the columns of the table.
    """
    return name if name in columns else COLUMN_ALIASES.get(name, name)


def sort(table: list[Row], column: str, descending: bool = False) -> list[Row]:
    """Return rows sorted by a column; rows without a value come last in both directions.

    Raises:
        UserError: the table has no such column.
    """
    if table:
        column = _require_column(column, table[0])
    present = [row for row in table if row[column] is not None]
    absent = [row for row in table if row[column] is None]

    # A column can contain numbers and text; text comes after numbers.
    def key(row: Row) -> tuple[bool, Any]:
        return isinstance(row[column], str), row[column]

    return sorted(present, key=key, reverse=descending) + absent


def select_columns(table: list[Row], columns: Sequence[str]) -> list[Row]:
    """Return rows with only the given columns, in the given order.

    Raises:
        UserError: the table has no such column.
    """
    if not table:
        return []
    names = [_require_column(column, table[0]) for column in columns]
    return [{name: row[name] for name in names} for row in table]


def _require_column(column: str, columns: Row) -> str:
    name = column_name(column, columns)
    if name not in columns:
        raise UserError(f"no column {column!r}: {did_you_mean(column, columns, 'the columns are')}")
    return name


def winner_row(table: list[Row]) -> Row | None:
    """Return the row of the confirmed winner, or else of the best complete trial; None if no trial is complete.

    Args:
        table: rows as `rows` sorts them, so that the first complete trial is the winner.
    """
    return next((row for row in table if row["state"] == "complete"), None)


def with_baseline(table: list[Row], study: optuna.Study) -> list[Row]:
    """Return one or more rows, as `rows` sorts them, with the row of the mean-color baseline at its rank."""
    objective = StudyRecord.of(study).objective
    baseline = baseline_row(study, list(table[0]))
    ahead = (index for index, row in enumerate(table) if not _is_better(row, baseline, objective))
    index = next(ahead, len(table))
    return [*table[:index], baseline, *table[index:]]


def _is_better(row: Row, baseline: Row, objective: str) -> bool:
    score = row["confirmed"] if row["rank"] else row["score"]
    return score is not None and better(objective, score, baseline["score"])


def baseline_row(study: optuna.Study, columns: Sequence[str]) -> Row:
    """Return the row of the mean-color baseline: a trial below it has learned nothing useful."""
    searched = StudyRecord.of(study)
    score = searched.baseline[searched.objective]
    row = {"trial": "baseline", "state": "mean color", "score": score, **searched.baseline}
    return {column: row.get(column) for column in columns}
