"""The trial table: a pure function from the study to rows, and its formats."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console, Group
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from huetune.data_tools.common.errors import UserError, did_you_mean
from huetune.data_tools.common.terminal import printable
from huetune.model.metrics import METRICS, better
from huetune.results.analysis.replicates import of_trial, places, replicated
from huetune.results.records.run import Run
from huetune.results.records.study_record import StudyRecord
from huetune.results.records.trial_record import TrialRecord

Row = dict[str, Any]

ENDED = ("complete", "pruned", "failed")


def measures() -> tuple[str, ...]:
    """Return the names of what is shown of a trial's best epoch: its training loss and its metrics."""
    return "train_loss", *METRICS.shown


def settings(trial: optuna.Trial | FrozenTrial) -> str:
    """Return a trial's parameters in one short line."""
    return ", ".join(f"{name} {shown(value)}" for name, value in trial.params.items())


def rows(study: optuna.Study, replicates: optuna.Study | None = None) -> list[Row]:
    """Return the trials of a study as rows, the best first.

    A trial's figures are those of its best epoch. A failed trial has no score, whatever it reached before, and comes
    last; so do trials without a finished epoch. Confirmed finalists come first, by their confirmed score.

    Args:
        study: of a search.
        replicates: study of what was trained again.

    Returns:
        Dictionaries with the same keys each, None where there is nothing: `trial`, `state`; `note`: "at baseline" for a
        trial that is still at the mean-color baseline after its grace, see `results.records.baseline`; `place` of a
        finalist; `score`; `confirmed`: the mean over fresh seeds, with half the width of its 95 % interval as
        `plus_minus` and how many as `seeds`; `front`: whether a complete trial is on the Pareto front of several
        objectives; `preset`; `continues`, only where there are such trials: the number of the one that a trial trains
        further; each searched parameter by its name, `epochs`, `seconds`, the metrics, `host`, `error`.
    """
    searched = StudyRecord.of(study)
    objective, objectives, parameters = searched.objective, searched.objectives, searched.parameters
    figures_shown = dict.fromkeys((*measures(), *objectives))
    place = places(study, replicates)
    again = replicated(replicates)
    front = {trial.number for trial in study.best_trials} if len(objectives) > 1 else None
    table = []
    trials = study.get_trials(deepcopy=False)
    records = list(map(TrialRecord.of, trials))
    extended = any(record.continues is not None for record in records)
    for trial, record in zip(trials, records, strict=True):
        best = record.best_epoch(objective)
        score = None if trial.state == TrialState.FAIL or best is None else best[objective]
        group = of_trial(trial, again)
        estimate = group.estimate(objective) if group else None
        table.append(
            {
                "trial": trial.number,
                "state": record.state,
                "note": record.note,
                "place": place.get(trial.number),
                "score": score,
                "confirmed": estimate.value if estimate else None,
                "plus_minus": estimate.half if estimate else None,
                "seeds": len(group.scores) if group else None,
                "front": None if front is None or trial.state != TrialState.COMPLETE else trial.number in front,
                "preset": record.preset,
                **({"continues": record.continues} if extended else {}),
                **{name: trial.params.get(name) for name in parameters},
                "epochs": len(record.epochs),
                "seconds": sum(epoch.seconds for epoch in record.epochs),
                **{name: best.get(name) if best else None for name in figures_shown},
                "host": record.host,
                "error": str(record.failure) if record.failure else None,
            }
        )
    ordered = sort(table, "score", descending=not METRICS[objective].minimized)
    return sort(ordered, "place")


def run_rows(run: Run) -> list[Row]:
    """Return the trials of a run, as `rows` does."""
    return rows(*run.snapshot())


def sort(table: list[Row], column: str, descending: bool = False) -> list[Row]:
    """Return rows ordered by a column; rows without a value come last either way."""
    if table:
        _check_column(column, table[0])
    present = [row for row in table if row[column] is not None]
    absent = [row for row in table if row[column] is None]

    # Numbers and words can meet in one column: words come after.
    def key(row: Row) -> tuple[bool, Any]:
        return isinstance(row[column], str), row[column]

    return sorted(present, key=key, reverse=descending) + absent


def choose(table: list[Row], columns: Sequence[str]) -> list[Row]:
    """Return rows with the given columns only, in that order."""
    for column in columns:
        if table:
            _check_column(column, table[0])
    return [{column: row[column] for column in columns} for row in table]


def _check_column(column: str, columns: Row) -> None:
    if column not in columns:
        raise UserError(f"no column {column!r}: {did_you_mean(column, columns, 'the columns are')}")


def winner(table: list[Row]) -> Row | None:
    """Return the confirmed winner, or else the best complete trial.

    Others are no candidates: nobody knows how they would have ended.
    """
    complete = [row for row in table if row["state"] == "complete"]
    return next((row for row in complete if row["place"] == 1), next(iter(complete), None))


def front_ends(study: optuna.Study, table: list[Row]) -> dict[str, Row]:
    """Return the ends of the Pareto front by the objective that each is best by; none where there is no front."""
    front = [row for row in table if row["front"]]
    return {
        objective: sorted(front, key=lambda row: row[objective], reverse=not METRICS[objective].minimized)[0]
        for objective in StudyRecord.of(study).objectives
        if front
    }


def with_zero_line(table: list[Row], study: optuna.Study) -> list[Row]:
    """Return rows, as `rows` orders them, with the zero line at its rank."""
    objective = StudyRecord.of(study).objective
    zero = zero_row(study, list(table[0]))
    rank = next((rank for rank, row in enumerate(table) if not _ahead(row, zero, objective)), len(table))
    return [*table[:rank], zero, *table[rank:]]


def _ahead(row: Row, zero: Row, objective: str) -> bool:
    score = row["confirmed"] if row["place"] else row["score"]
    return score is not None and better(objective, score, zero["score"])


def zero_row(study: optuna.Study, columns: Sequence[str]) -> Row:
    """Return the row of one color for everything: what a model must beat to have learned anything."""
    searched = StudyRecord.of(study)
    score = searched.baseline[searched.objective]
    row = {"trial": "zero", "state": "one color", "score": score, **searched.baseline}
    return {column: row.get(column) for column in columns}


def to_json(table: list[Row]) -> str:
    """Return rows as a JSON list of objects."""
    return json.dumps(table, indent=2)


def to_csv(table: list[Row]) -> str:
    """Return rows as CSV with a heading."""
    if not table:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue().rstrip("\n")


def to_markdown(table: list[Row]) -> str:
    """Return rows as a Markdown table."""
    if not table:
        return ""
    lines = [list(table[0]), ["---"] * len(table[0]), *([shown(value) for value in row.values()] for row in table)]
    return "\n".join("| " + " | ".join(printable(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def to_parquet(table: list[Row]) -> bytes:
    """Return rows as a Parquet file; a column in which numbers and words meet becomes one of words."""
    import pyarrow
    from pyarrow import parquet

    columns = {}
    for name in table[0] if table else ():
        values = [row[name] for row in table]
        try:
            columns[name] = pyarrow.array(values)
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):
            columns[name] = pyarrow.array([None if value is None else str(value) for value in values])
    file = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()


FORMATS: dict[str, Callable[[list[Row]], str | bytes]] = {
    "csv": to_csv,
    "json": to_json,
    "markdown": to_markdown,
    "parquet": to_parquet,
}
"""Of files, by their names on the command line."""


def to_table(table: list[Row], title: str) -> Table:
    """Return rows as a table for the terminal; columns without any value are left out."""
    columns = [column for column in (table[0] if table else {}) if any(row[column] is not None for row in table)]
    drawn = Table(title=Text(printable(title)), title_justify="left", header_style="bold")
    for column in columns:
        numbers = all(row[column] is None or isinstance(row[column], (int, float)) for row in table)
        drawn.add_column(Text(printable(column)), justify="right" if numbers else "left", no_wrap=column != "error")
    for row in table:
        style = {"pruned": "dim", "failed": "red", "one color": "italic"}.get(str(row.get("state")))
        # Text, since a bracket in an error would be read as markup.
        drawn.add_row(*(Text(printable(shown(row[column]))) for column in columns), style=style)
    return drawn


def dispensable_columns() -> tuple[str, ...]:
    """Return the columns that a narrow terminal does without, the first ones first."""
    metrics = [name for name in measures() if name != "skill"]
    return (
        *("host", "seconds", *metrics, "preset"),
        *("seeds", "epochs", "skill", "plus_minus", "continues", "place", "front"),
    )


NEEDED = ("trial", "state", "note", "score", "confirmed", "error")
"""Columns that no terminal does without."""
FOLDED = 20
"""Letters of an error that fit in its column at least."""


def fitted(
    table: list[Row],
    title: str,
    console: Console,
    how: str,
    *,
    dispensable: Sequence[str] | None = None,
    needed: Sequence[str] = NEEDED,
) -> Group:
    """Return rows as a table no wider than the console, and below it which columns there was no room for.

    The columns that say least are left out first; of settings those of which the fewest values were tried.

    Args:
        table: rows.
        title: over the table.
        console: where it is shown.
        how: all columns are seen, in words.
        dispensable: columns, those that go first at first; None for those of `rows`.
        needed: columns that always stay; all others are settings.
    """
    rows = table
    dispensable = dispensable_columns() if dispensable is None else dispensable
    names = list(table[0]) if table else []
    settings = [name for name in names if name not in (*dispensable, *needed)]
    settings.sort(key=lambda name: len({row[name] for row in table}))
    unlimited = console.options.update(width=10_000)
    for column in ("", *dispensable, *settings):
        rows = [{name: value for name, value in row.items() if name != column} for row in rows]
        # An error is the one thing that may go on in the next line.
        cut = [{**row, "error": row["error"][:FOLDED]} if row.get("error") else row for row in rows]
        if Measurement.get(console, unlimited, to_table(cut, title)).maximum <= console.width:
            break
    kept = rows[0] if rows else {}
    missing = [name for name in names if name not in kept and any(row[name] is not None for row in table)]
    below = [Text(printable(f"no room for {', '.join(missing)}; see all columns with {how}"))] if missing else []
    return Group(to_table(rows, title), *below)


def shown(value: Any) -> str:
    """Return a value as people read it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)
