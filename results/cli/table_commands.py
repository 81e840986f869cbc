"""The commands that print tables: `list`, `trials`, `effects` and `presets`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from huetune.data_tools.cli.options import FOLDER, TEXT, split_list
from huetune.data_tools.common.errors import UserError
from huetune.data_tools.common.plural import counted
from huetune.data_tools.common.terminal import local_time, printable, say, stdout
from huetune.data_tools.storage.atomic import require_writable
from huetune.data_tools.storage.bucket_cache import location_of
from huetune.results.cli.options import format_option, storage_option
from huetune.results.records.run_names import run_argument

if TYPE_CHECKING:  # importing Optuna would slow down --help
    from huetune.results.records.run import Run


@click.command("list")
@storage_option
def list_(storage: Path) -> None:
    """List the runs in a storage folder or bucket, newest last.

    Example: huetune list --storage runs
    """
    from huetune.results.records.run import list_runs
    from huetune.results.tables.run_summary import summarize_runs

    runs = list_runs(storage)
    if not runs:
        say(f"no runs in {location_of(storage)!r}; start one with `huetune search`")
    for run, found in summarize_runs(runs):
        if isinstance(found, UserError):
            say(f"{run.name}  {found}", "red")
            continue
        counts = ", ".join(f"{count} {state}" for state, count in found.states.items()) or "no trials"
        front = f"  {found.front} on the Pareto front" if found.front else ""
        won = f"  winner: {found.winner}" if found.winner else front
        say(f"{run.name}  {local_time(run.manifest['started'])}  {counts}{won}")


@click.command()
@run_argument
@storage_option
@format_option("table", "csv", "json", "markdown", "parquet")
@click.option("--out", type=FOLDER, help="Write to this file; needs a --format other than table.")
@click.option("--sort", "column", type=TEXT, help="Sort by this column, ascending.  [default: rank, then score]")
@click.option("--descending", is_flag=True, help="Sort in descending order.")
@click.option("--columns", type=TEXT, help="Show only these columns, as in trial,score,skip.")
@click.option("--where", "condition", type=TEXT, help='Show only matching rows, as in "skip == true and epochs >= 5".')
def trials(
    run: str,
    storage: Path,
    form: str,
    out: Path | None,
    column: str | None,
    descending: bool,
    columns: str | None,
    condition: str | None,
) -> None:
    """Show the trials of a run as a table, also while the search is running.

    Example: huetune trials roses --where "skip == true and epochs >= 5" --format csv
    """
    if out and form == "table":
        raise UserError("trials --out: needs a --format other than table: csv, json, markdown or parquet")
    if form == "parquet" and not out and sys.stdout.isatty():
        raise UserError("trials --format parquet: binary output does not go to a terminal; add --out FILE or a pipe")

    from huetune.results.records.run import find_run

    found = find_run(run, storage)
    if out:
        require_writable(out.parent)

    from huetune.data_tools.storage.output_files import require_replaceable, write_file
    from huetune.results.analysis.winner import headline
    from huetune.results.records.baseline import baseline_line
    from huetune.results.tables import formats, trial_table
    from huetune.results.tables.row_filter import where

    if out:
        require_replaceable(out)
    study, replicates = found.snapshot()
    table = whole = trial_table.rows(study, replicates)
    if condition:
        table = where(table, condition)
    if column or descending:
        table = trial_table.sort(table, column or "score", descending)
    if form in ("table", "markdown") and table:
        ordered = column or descending
        baseline = trial_table.baseline_row(study, list(table[0]))
        table = [*table, baseline] if ordered else trial_table.with_baseline(table, study)
    if columns:
        table = trial_table.select_columns(table, split_list(columns))
    if out or form == "parquet":
        content: str | bytes = formats.FILE_FORMATS[form](table)
        data = content if isinstance(content, bytes) else f"{content}\n".encode()
        if out:
            write_file(out, data, "trials")
        else:
            sys.stdout.buffer.write(data)
    elif form == "json":
        click.echo(formats.to_json(table))
    elif form == "csv":
        click.echo(printable(formats.to_csv(table), keep="\n"))
    elif not table:
        say(f"no trials in {found.name!r}" + (" meet the condition" if condition else " yet"))
    elif form == "markdown":
        click.echo(formats.to_markdown(table))
    else:
        how = "--format csv or a wider terminal, some with --columns trial,score,..."
        stdout.print(formats.fit_to_console(table, found.name, stdout, how))
        for line in filter(None, (headline(study, replicates), baseline_line(whole))):
            say(line)


@click.command()
@run_argument
@storage_option
@format_option("table", "csv", "json", "markdown")
def effects(run: str, storage: Path, form: str) -> None:
    """Estimate the effect of each setting on the score, with 95% intervals.

    Example: huetune effects roses
    """
    from huetune.results.records.run import find_run

    found = find_run(run, storage)

    from huetune.results.analysis import effects as found_effects
    from huetune.results.records.study_record import StudyRecord
    from huetune.results.tables import formats

    study, replicates = found.snapshot()
    trained, searched = found_effects.measured_configs(study, replicates), StudyRecord.of(study)
    table = found_effects.effect_rows(found_effects.effects(trained, searched.parameters, searched.objective))
    if form == "json":
        click.echo(formats.to_json(table))
    elif form == "csv":
        click.echo(printable(formats.to_csv(table), keep="\n"))
    elif not table:
        say(f"{found.name!r} has {counted(len(trained), 'complete configuration')}: too few to estimate effects")
    elif form == "markdown":
        click.echo(formats.to_markdown(table))
    else:
        title = f"{searched.objective} of {counted(len(trained), 'configuration')} in {found.name}"
        how = "--format csv or a wider terminal"
        optional, required = ("curve", "rests_on", "sure", "against"), list(table[0])
        stdout.print(formats.fit_to_console(table, title, stdout, how, optional=optional, required=required))
        say(found_effects.importance_line(study))
        if line := found_effects.baseline_line(trained):
            say(line)


@click.command()
@format_option("table", "json")
def presets(form: str) -> None:
    """Show the presets: their settings and parameter counts.

    Example: huetune presets --format json
    """
    from huetune.model.presets import preset_rows
    from huetune.model.recipes import describe_recipes
    from huetune.results.tables.formats import fit_to_console, to_json

    rows = preset_rows()
    if form == "json":
        click.echo(to_json(rows))
    else:
        optional, required = ("encoder_parameters", "decoder_parameters"), ("name", "parameters")
        how = "--format json or a wider terminal"
        stdout.print(fit_to_console(rows, "presets", stdout, how, optional=optional, required=required))
        say(describe_recipes())


def show_trials(run: "Run", top: int = 10) -> None:
    """Print the best trials of a run and its winner.

    Args:
        run: run of a search.
        top: number of trials, 1 or more.
    """
    from huetune.results.analysis.winner import headline
    from huetune.results.records.baseline import baseline_line
    from huetune.results.tables.formats import fit_to_console
    from huetune.results.tables.trial_table import rows, with_baseline

    study, replicates = run.snapshot()
    table = rows(study, replicates)
    if table:
        best = f", the best {top} of {len(table)}" if len(table) > top else ""
        how = f"{run.command('trials', '--format csv')} or a wider terminal"
        stdout.print(fit_to_console(with_baseline(table[:top], study), f"{run.name}{best}", stdout, how))
    for line in filter(None, (headline(study, replicates), baseline_line(table))):
        say(line)
