"""Formats of a table: JSON, CSV, Markdown, Parquet and a table for the terminal."""

import csv
import io
import json
from collections.abc import Callable, Sequence

from rich.console import Console, Group
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from huetune.data_tools.common.terminal import printable
from huetune.results.records.epoch_metrics import displayed_metrics
from huetune.results.records.value_text import format_value
from huetune.results.tables.trial_table import Row

REQUIRED_COLUMNS = ("trial", "state", "note", "score", "confirmed", "error")
"""Columns of the trial table that even the narrowest terminal shows."""
MIN_ERROR_CHARACTERS = 20
"""Width that the column of errors always gets; longer errors continue on the next line."""
ROW_STYLES = {"pruned": "dim", "failed": "red", "mean color": "italic"}
"""Style of a row in the terminal by its state; "mean color" is the mean-color baseline."""


def to_json(table: list[Row]) -> str:
    """Return rows as a JSON list of objects."""
    return json.dumps(table, indent=2)


def to_csv(table: list[Row]) -> str:
    """Return rows as CSV with a header line; an empty text without rows."""
    if not table:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue().rstrip("\n")


def to_markdown(table: list[Row]) -> str:
    """Return rows as a Markdown table; an empty text without rows."""
    if not table:
        return ""
    lines = [list(table[0]), ["---"] * len(table[0]), *([format_value(cell) for cell in row.values()] for row in table)]
    return "\n".join("| " + " | ".join(printable(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def to_parquet(table: list[Row]) -> bytes:
    """Return rows as a Parquet file; a column with values of several types is written as text."""
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


FILE_FORMATS: dict[str, Callable[[list[Row]], str | bytes]] = {
    "csv": to_csv,
    "json": to_json,
    "markdown": to_markdown,
    "parquet": to_parquet,
}
"""Function that writes each file format, by its name on the command line."""


def to_rich_table(table: list[Row], title: str) -> Table:
    """Return rows as a table for the terminal, without the columns that have no value."""
    columns = [column for column in (table[0] if table else {}) if any(row[column] is not None for row in table)]
    drawn = Table(title=Text(printable(title)), title_justify="left", header_style="bold")
    for column in columns:
        numbers = all(row[column] is None or isinstance(row[column], (int, float)) for row in table)
        drawn.add_column(Text(printable(column)), justify="right" if numbers else "left", no_wrap=column != "error")
    for row in table:
        # Cells are `Text`, because rich would read a bracket in an error as markup.
        cells = (Text(printable(format_value(row[column]))) for column in columns)
        drawn.add_row(*cells, style=ROW_STYLES.get(str(row.get("state"))))
    return drawn


def optional_columns() -> tuple[str, ...]:
    """Return the columns of the trial table that a narrow terminal omits, in the order in which it omits them."""
    metrics = [name for name in displayed_metrics() if name != "skill"]
    return (
        *("host", "seconds", *metrics, "preset"),
        *("seeds", "epochs", "skill", "ci_half_width", "continues", "rank", "front"),
    )


def fit_to_console(
    table: list[Row],
    title: str,
    console: Console,
    hint: str,
    *,
    optional: Sequence[str] | None = None,
    required: Sequence[str] = REQUIRED_COLUMNS,
) -> Group:
    """Return rows as a table no wider than the console, followed by the names of the columns that did not fit.

    The optional columns are omitted first, then the settings with the fewest different values.

    Args:
        table: rows.
        title: title above the table.
        console: console that shows the table.
        hint: how to see all columns; completes the sentence "see all columns with ...".
        optional: columns in the order in which they are omitted; None for those of the trial table.
        required: columns that are always shown. All columns that are in neither list count as settings.
    """
    rows = table
    optional = optional_columns() if optional is None else optional
    names = list(table[0]) if table else []
    settings = [name for name in names if name not in (*optional, *required)]
    settings.sort(key=lambda name: len({row[name] for row in table}))
    unlimited = console.options.update(width=10_000)
    for column in ("", *optional, *settings):
        rows = [{name: value for name, value in row.items() if name != column} for row in rows]
        # Only an error may continue on the next line, so only a part of it counts.
        cut = [{**row, "error": row["error"][:MIN_ERROR_CHARACTERS]} if row.get("error") else row for row in rows]
        if Measurement.get(console, unlimited, to_rich_table(cut, title)).maximum <= console.width:
            break
    kept = rows[0] if rows else {}
    missing = [name for name in names if name not in kept and any(row[name] is not None for row in table)]
    below = [Text(printable(f"no room for {', '.join(missing)}; see all columns with {hint}"))] if missing else []
    return Group(to_rich_table(rows, title), *below)
