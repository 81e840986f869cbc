"""Verbs that read a run or a model: tables, the best model, evaluation. None of them needs Ray."""

import os
from pathlib import Path
from typing import Any

import click

from data_tools.command import read_photos
from data_tools.console import FOLDER, PLACE, bar, import_tensorflow, say, seed_option, stdout, words
from data_tools.errors import PhotoError, StorageError
from data_tools.mirror import place_of, pull
from data_tools.source import Source

by_option = click.option("--by", help="Of several objectives, the one that decides.")
storage_option = click.option(
    "--storage", type=PLACE, default=Path("runs"), show_default=True, help="Folder of runs, or s3://bucket/folder."
)


@click.command("list")
@storage_option
def list_(storage: Path) -> None:
    """List the runs of a storage, the newest last."""
    from results.run import list_runs
    from results.trials import run_rows, shown, winner

    runs = list_runs(storage)
    if not runs:
        say(f"no runs in {place_of(storage)!r}; start one with `huetune search`")
    for run in runs:
        try:
            table = run_rows(run)
        except StorageError as error:
            say(f"{run.name}  {error}", "red")
            continue
        states = [row["state"] for row in table]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)) or "no trials"
        best = winner(table)
        score = f"  best {shown(best['score'])}, trial {best['trial']}" if best else ""
        say(f"{run.name}  {run.manifest['started']}  {counts}{score}")


@click.command()
@click.argument("run")
@storage_option
@click.option("--format", "form", type=click.Choice(["table", "csv", "json", "markdown"]), default="table")
@click.option("--sort", "column", help="Column to sort by.  [default: score, the best first]")
@click.option("--descending", is_flag=True, help="Sort the other way round.")
@click.option("--columns", help="Columns to show, as in trial,score,skip.")
@click.option("--where", "condition", help='Rows to show, as in "skip == true and epochs >= 5".')
def trials(
    run: str, storage: Path, form: str, column: str | None, descending: bool, columns: str | None, condition: str | None
) -> None:
    """Show the trials of a run, also while it runs.

    Example: huetune trials roses --where "skip == true and epochs >= 5" --format csv
    """
    from results import trials as tables
    from results.run import find_run

    found = find_run(run, storage)
    study = found.study()
    table = tables.run_rows(found)
    if condition:
        table = tables.where(table, condition)
    if column or descending:
        table = tables.sort(table, column or "score", descending)
    if form in ("table", "markdown") and table:
        ordered = column or descending
        table = [*table, tables.zero_row(study, list(table[0]))] if ordered else tables.with_zero_line(table, study)
    if columns:
        table = tables.choose(table, words(columns))
    if form == "json":
        click.echo(tables.to_json(table))
    elif form == "csv":
        click.echo(tables.to_csv(table))
    elif not table:
        click.echo(f"no trials in {found.name!r}" + (" meet the condition" if condition else " yet"))
    elif form == "markdown":
        click.echo(tables.to_markdown(table))
    else:
        stdout.print(tables.fitted(table, found.name, stdout))


@click.command()
@click.argument("run")
@storage_option
@click.option("--export", "folder", type=PLACE, help="Copy the model to this new folder.")
@by_option
def best(run: str, storage: Path, folder: Path | None, by: str | None) -> None:
    """Show the winner of a run, confirmed if it was, and export its model.

    Example: huetune best roses --export best-model
    """
    from model.checkpoint import read
    from results import export
    from results.replicates import verdict
    from results.run import find_run
    from results.trials import shown

    found = find_run(run, storage)
    row, paths = export.best(found, by)
    path = paths[0]
    checkpoint = read(path)
    for name, value in row.items():
        if value is not None:
            say(f"{name:14} {shown(value)}")
    say(f"{'best epoch':14} {checkpoint.figures['epoch']}")
    say(f"{'seed':14} {checkpoint.seed}")
    say(f"{'photos':14} {checkpoint.photos['fingerprint'][:16]}, {checkpoint.photos['training']} trained on")
    say(f"{'versions':14} {', '.join(f'{part} {version}' for part, version in checkpoint.versions.items())}")
    say(f"{'checkpoint':14} {os.path.relpath(path)}")
    if line := verdict(found.study(), found.replicates()):
        say(line)
    if folder:
        import_tensorflow()
        export.export(path, folder, export.claim(found, row, by))
        say(f"{'exported to':14} {place_of(folder)}")


@click.command()
@click.argument("run_or_export")
@storage_option
@click.option("--photos", type=PLACE, required=True, help="Folder of test photos, or s3://...")
@click.option("--classes", help="Only these subfolders, as in rose,tulip.")
@click.option("--strict", is_flag=True, help="Stop at the first photo that cannot be used.")
@click.option("--samples", type=click.IntRange(1, 100), default=5, show_default=True, help="Colorizations a photo.")
@seed_option
@by_option
@click.option("--out", type=PLACE, help="Folder for figures and pictures.  [default: evaluation, in the run]")
def evaluate(
    run_or_export: str,
    storage: Path,
    photos: Path,
    classes: str | None,
    strict: bool,
    samples: int,
    seed: int,
    by: str | None,
    out: Path | None,
) -> None:
    """Colorize test photos and measure how near the truth they come.

    Example: huetune evaluate roses --photos test-photos
    """
    from results import evaluation
    from results.export import find_model
    from results.trials import shown

    path, usual = find_model(run_or_export, storage, by)
    source = Source(photos, None, words(classes))
    read = read_photos(source, strict)
    truth = source.colours(read, bar)
    out = out or usual
    import_tensorflow()
    report = evaluation.evaluate(
        path, read, truth, out, samples=samples, seed=seed, progress=bar("colorizing", len(read))
    )
    for name, value in report["all"].items():
        say(f"{name:14} {shown(value)}")
    say(f"{len(read)} photos, {samples} samples each: {os.path.relpath(out)}/contact-sheet.png")


@click.command()
@click.argument("run_or_export")
@click.argument("photos", nargs=-1, required=True, type=FOLDER)
@storage_option
@click.option("--out", type=FOLDER, required=True, help="Folder for the colorized photos.")
@click.option("--samples", type=click.IntRange(1, 100), default=1, show_default=True, help="Colorizations a photo.")
@seed_option
@by_option
def colorize(
    run_or_export: str, photos: tuple[Path, ...], storage: Path, out: Path, samples: int, seed: int, by: str | None
) -> None:
    """Colorize grey photos at their own size.

    Example: huetune colorize best-model old-1.jpg old-2.jpg --out coloured
    """
    from data_tools.photos import check_readable
    from results import evaluation
    from results.export import find_model

    path, _ = find_model(run_or_export, storage, by)
    check_readable(photos)
    import_tensorflow()
    written = evaluation.colorize(
        path, photos, out, samples=samples, seed=seed, progress=bar("colorizing", len(photos))
    )
    for file in written:
        click.echo(file)


@click.command()
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table")
def presets(form: str) -> None:
    """Show the log's models: their settings and parameter counts."""
    import_tensorflow()
    from model.network import preset_rows
    from results.trials import to_json, to_table

    rows = preset_rows()
    if form == "json":
        click.echo(to_json(rows))
    else:
        stdout.print(to_table(rows, "presets"))


@click.command()
@click.argument("run")
@storage_option
@click.option("--format", "form", type=click.Choice(["table", "csv", "json", "markdown"]), default="table")
def effects(run: str, storage: Path, form: str) -> None:
    """Say what each setting does to the score, with 95 % intervals.

    Example: huetune effects roses
    """
    from results import effects as found_effects
    from results import trials as tables
    from results.run import find_run

    found = find_run(run, storage)
    study = found.study()
    trainings = found_effects.measured(found)
    table = found_effects.effect_rows(found_effects.effects(trainings, study.user_attrs["parameters"]))
    if form == "json":
        click.echo(tables.to_json(table))
    elif form == "csv":
        click.echo(tables.to_csv(table))
    elif not table:
        click.echo(f"{len(trainings)} complete trainings in {found.name!r}: too few to say what a setting does")
    elif form == "markdown":
        click.echo(tables.to_markdown(table))
    else:
        objective = study.user_attrs["objective"]
        stdout.print(tables.to_table(table, f"{objective} of {len(trainings)} complete trainings in {found.name}"))
        importances, count = found_effects.importances(study)
        shares = ", ".join(f"{name} {share:.0%}" for name, share in importances.items())
        say(f"importance (Optuna's, from {count} complete trials; pruned ones do not count): {shares or 'not known'}")


@click.command()
@click.argument("run")
@storage_option
@click.option("--quick", is_flag=True, help="Do not score the best model again.")
def verify(run: str, storage: Path, quick: bool) -> int:
    """Hold a run to all that a search promises: nothing lost, nothing twice, nothing damaged.

    Example: huetune verify roses
    """
    from results.lock import holder
    from results.run import REPLICATES, TRIALS, find_run
    from results.verification import violations

    found = find_run(run, storage)
    if by := holder(found.folder):
        say(f"run {found.name!r} is in the hands of {by}: what runs is not judged")
    for name in (TRIALS, REPLICATES):
        # What lies here of a run in a bucket says nothing of what lies there.
        pull(found.folder / name, anew=not quick, exact=not by)
    validation = None if quick else photos_of(found, quiet=False).validation
    if not quick:
        import_tensorflow()
    lines = list(violations(found, validation))
    for line in lines:
        say(line, "red")
    if lines:
        say(f"run {found.name!r}: {len(lines)} violations")
        return 1
    ended = [trial for trial in found.study().get_trials(deepcopy=False) if trial.state.is_finished()]
    say(f"run {found.name!r} is whole: {len(ended)} trials, each as it ended")
    return 0


def show_trials(run: Any, top: int = 10) -> None:
    """Show the best trials of a run and who won."""
    from results.replicates import verdict
    from results.trials import fitted, run_rows, with_zero_line

    study = run.study()
    table = run_rows(run)
    if table:
        left = f", the best {top} of {len(table)}" if len(table) > top else ""
        stdout.print(fitted(with_zero_line(table[:top], study), f"{run.name}{left}", stdout))
    if line := verdict(study, run.replicates()):
        say(line)


def photos_of(run: Any, quiet: bool) -> Any:
    """The photos that a run was searched with, split as there.

    Raises:
        PhotoError: they are others now.
        StorageError: the run does not say which.
    """
    from data_tools.split import split

    if run.manifest["schema"] < 2:
        raise StorageError(
            f"run {run.name!r} is of an older huetune, which did not record how to read its photos again"
        )
    record = run.manifest["photos"]
    source = Source.of(record["source"])
    parts = split(read_photos(source, quiet=quiet), run.manifest["search"]["seed"])
    if parts.fingerprint != record["fingerprint"]:
        raise PhotoError(f"{str(source)!r}: not the photos any more that run {run.name!r} was searched with")
    return parts


VERBS = (list_, trials, best, evaluate, colorize, presets, effects, verify)
