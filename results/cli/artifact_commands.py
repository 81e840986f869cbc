"""Verbs that make something of a run or a model: an export, pictures, a report, a log. None of them needs Ray."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from huetune.data_tools.cli.data_commands import every_photo, read_photos
from huetune.data_tools.common.errors import CheckpointError, PhotoError, StorageError, UserError
from huetune.data_tools.common.terminal import (
    FOLDER,
    PLACE,
    TEXT,
    bar,
    count_from,
    import_tensorflow,
    say,
    seed_option,
    stderr,
    words,
)
from huetune.data_tools.photos.source import Source
from huetune.data_tools.storage.atomic import by_name, recover, require_new, require_place
from huetune.data_tools.storage.bucket_cache import bucket_of, place_of
from huetune.results.cli.table_commands import storage_option
from huetune.results.records.run_names import run_argument, run_names
from huetune.results.records.run_photos import photos_of, source_of

MOST_NAMED = 10
"""Skipped photos that are named; the others are counted."""

by_option = click.option("--by", type=TEXT, help="Of several objectives, the one that decides.")


@click.command()
@run_argument
@storage_option
@click.option("--export", "folder", type=PLACE, help="Copy the model to this new folder.")
@by_option
def best(run: str, storage: Path, folder: Path | None, by: str | None) -> None:
    """Show the winner of a run, confirmed if it was, and export its model.

    Example: huetune best roses --export best-model
    """
    from huetune.results.records.run import find_run

    found = find_run(run, storage)
    if folder:
        require_new(folder)

    from huetune.model.checkpoint import read
    from huetune.results.analysis.winner import headline, winner_of
    from huetune.results.evaluation import final_check
    from huetune.results.export import best_model
    from huetune.results.records.trial_records import StudyRecord
    from huetune.results.tables.trial_table import rows, shown

    study, replicates = studies = found.snapshot()
    row, paths = best_model.best(found, by, studies)
    path = paths[0]
    checkpoint = read(path)
    table = rows(study, replicates)
    won = winner_of(study, replicates, table, by)
    assert won
    for name in (
        "trial",
        "continues",
        "place",
        "front",
        "preset",
        *StudyRecord.of(study).parameters,
        "epochs",
        "seconds",
        "host",
    ):
        if row.get(name) is not None:
            say(f"{name:14} {shown(row[name])}")
    for name, text in won.lines():
        say(f"{name:14} {text}")
    say(f"{'photos':14} {checkpoint.photos['fingerprint'][:16]}, {checkpoint.photos['training']} trained on")
    say(f"{'versions':14} {', '.join(f'{part} {version}' for part, version in checkpoint.versions.items())}")
    say(f"{'folder':14} {os.path.relpath(path)}")
    say(headline(study, replicates, table) or f"trial {won.number} is the best by {won.objective}; {won.standing}")
    for line in final_check.described(found, studies):
        say(line)
    if folder:
        import_tensorflow()
        best_model.export(path, folder, best_model.claim(won))
        say(f"{'exported to':14} {place_of(folder)}")


@click.command()
@click.argument("run_or_export", type=TEXT, shell_complete=run_names)
@storage_option
@click.option("--photos", type=PLACE, required=True, help="Folder of test photos, or s3://...")
@click.option("--classes", type=TEXT, help="Only these subfolders, as in roses,tulips.")
@click.option("--strict", is_flag=True, help="Stop at the first photo that cannot be used.")
@click.option("--samples", type=click.IntRange(1, 100), default=5, show_default=True, help="Colorizations a photo.")
@click.option("--allow-leakage", is_flag=True, help="Measure also on photos that the model has seen.")
@seed_option
@by_option
@click.option(
    "--out", type=PLACE, help="Folder for figures and pictures.  [default: evaluations/NAME of the photos, in the run]"
)
def evaluate(
    run_or_export: str,
    storage: Path,
    photos: Path,
    classes: str | None,
    strict: bool,
    samples: int,
    allow_leakage: bool,
    seed: int,
    by: str | None,
    out: Path | None,
) -> None:
    """Colorize test photos and measure how near the truth they come.

    Example: huetune evaluate roses --photos test-photos
    """
    from huetune.results.records.run import find_source

    model = find_source(run_or_export, storage)
    source = Source(photos, None, words(classes))
    _check_here(source)

    import numpy as np

    from huetune.data_tools.storage.output_files import require_apart
    from huetune.model.checkpoint import read as read_checkpoint
    from huetune.results.evaluation import evaluate as evaluation
    from huetune.results.export.best_model import model_of
    from huetune.results.tables.trial_table import shown

    path, usual = model_of(model, by)
    out = out or evaluation.folder_for(usual, source)
    require_apart(photos, out, evaluation.COLORIZED)
    require_place(out)
    settings = read_checkpoint(path)
    read = read_photos(source, strict, wanted=every_photo)
    known = np.zeros(len(read), bool) if allow_leakage else _seen([settings], read, "; or say --allow-leakage")
    skipped = read.take(np.flatnonzero(known)).names
    read = read.take(np.flatnonzero(~known))
    if leaked := evaluation.leaked(settings, read):
        found = f"{len(leaked)} of {len(read)} photos, or near-duplicates of them, have trained or ranked the model"
        say(f"{found}, the first is {leaked[0]!r}: what follows is too good", "yellow", stderr)
    truth = source.colors(read, bar)
    import_tensorflow()
    report = evaluation.evaluate(
        path,
        read,
        truth,
        out,
        samples=samples,
        seed=seed,
        source=source.record,
        skipped=skipped,
        progress=bar("colorizing", len(read)),
    )
    if evaluation.leaked(settings, read) is None:
        say("this model does not say which photos it has seen, so these may be among them", "yellow", stderr)
    for name, value in report["all"].items():
        say(f"{name:14} {shown(value)}")
    sheet, _, metrics = (os.path.relpath(out / file) for file in report["files"].values())
    some = f" ({report['shown']} of the {len(read)} photos, spread evenly)" if report["shown"] < len(read) else ""
    say(f"{len(read)} photos, {samples} samples each: {sheet}{some}, {metrics}")


def _check_here(source: Source) -> None:
    """Refuse photos on this machine that are not there, before anything takes time; a bucket says so when it is read.

    Raises:
        PhotoError: they are not.
    """
    from huetune.data_tools.photos.discovery import check_classes

    if source.folder and not bucket_of(source.folder):
        check_classes(source.folder, ())


def _seen(models: Iterable[Any], photos: Any, remedy: str = "") -> Any:
    """Which of the photos the models have seen, bool [n]; those are listed.

    Raises:
        PhotoError: all of them.
    """
    from huetune.results.evaluation import evaluate as evaluation

    try:
        known = evaluation.seen(models, photos)
    except PhotoError as error:
        raise PhotoError(f"{error}{remedy}") from None
    names = [name for name, found in zip(photos.names, known, strict=True) if found]
    if names:
        why = "they have trained or ranked the model, or are near-duplicates of photos that have"
        say(f"skipped: {len(names)} of {len(photos)} photos; {why}", "yellow", stderr)
    for name in names[:MOST_NAMED]:
        say(f"skipped: {name!r}", "yellow", stderr)
    if len(names) > MOST_NAMED:
        say(f"skipped: and {len(names) - MOST_NAMED} more", "yellow", stderr)
    return known


@click.command()
@click.argument("run_or_export", type=TEXT, shell_complete=run_names)
@click.argument("photos", nargs=-1, required=True, type=FOLDER)
@storage_option
@click.option("--out", type=FOLDER, required=True, help="Folder for the colorized photos.")
@click.option("--samples", type=click.IntRange(1, 100), default=1, show_default=True, help="Colorizations a photo.")
@seed_option
@by_option
def colorize(
    run_or_export: str, photos: tuple[Path, ...], storage: Path, out: Path, samples: int, seed: int, by: str | None
) -> None:
    """Colorize grayscale photos at their own size. No file in --out is replaced; a name that is taken gets a number.

    Example: huetune colorize best-model old-1.jpg old-2.jpg --out colored
    """
    from huetune.results.records.run import find_source

    model = find_source(run_or_export, storage)

    from huetune.data_tools.photos.dataset import check_readable
    from huetune.results.export.best_model import model_of

    path, _ = model_of(model, by)
    for note in check_readable(photos):
        say(f"note: {note}", "yellow", stderr)
    require_place(out)
    import_tensorflow()
    from huetune.results.evaluation import evaluate as evaluation

    written = evaluation.colorize(
        path, photos, out, samples=samples, seed=seed, progress=bar("colorizing", len(photos))
    )
    for file in written:
        say(str(file))


@click.command()
@click.argument("run_or_export_or_preset", type=TEXT, shell_complete=run_names)
@storage_option
@click.option("--out", type=FOLDER, required=True, help="Folder for the pictures.")
@by_option
def structure(run_or_export_or_preset: str, storage: Path, out: Path, by: str | None) -> None:
    """Draw a model's structure: encoder, decoder and whole, as PNG and SVG. Of a run, the best model's.

    Example: huetune structure model-2 --out structure
    """
    from huetune.model.config import PRESETS
    from huetune.results.records.run import find_source

    require_place(out)
    config = PRESETS.get(run_or_export_or_preset)
    model = None if config else find_source(run_or_export_or_preset, storage)

    from huetune.model.checkpoint import read
    from huetune.model.weights import parameter_counts
    from huetune.results.export.best_model import model_of

    if model:
        config = read(model_of(model, by)[0]).config
    assert config
    import_tensorflow()
    from huetune.data_tools.storage.output_files import Output
    from huetune.model.diagram import PICTURES, draw
    from huetune.model.network import build

    network = build(config)
    with Output(out, "structure") as output:
        files = [output.add(name, content) for name, content in draw(network).items()]
    for name, count in zip(PICTURES, parameter_counts(config).values(), strict=True):
        say(f"{name:14} {count:,} parameters")
    if run_or_export_or_preset in PRESETS:
        say("dropout is that of the log; each way of training has its own, see `huetune presets`")
    for file in files:
        say(str(out / file))


@click.command()
@click.argument("runs_or_models", nargs=-1, required=True, type=TEXT, shell_complete=run_names)
@storage_option
@click.option("--top", type=count_from(0), help="Best trials of a search, besides its presets.  [default: 3]")
@click.option("--trials", type=TEXT, help="These trials instead, as in 0,4.")
@click.option("--photos", type=PLACE, help="Folder of test photos.  [default: those that were held out]")
@click.option("--classes", type=TEXT, help="Only these subfolders of --photos, as in roses,tulips.")
@click.option("--lang", type=click.Choice(["en", "ko"]), default="en", show_default=True, help="English or Korean.")
@click.option("--out", type=PLACE, help="Folder for the log.  [default: log in the run, or MODEL-log]")
def log(
    runs_or_models: tuple[str, ...],
    storage: Path,
    top: int | None,
    trials: str | None,
    photos: Path | None,
    classes: str | None,
    lang: str,
    out: Path | None,
) -> None:
    """Write the log of a run, or of models that `train` made: Markdown, the newest first, with pictures.

    Example: huetune log roses
    """
    from huetune.results.records.run import NUMBER

    if out:
        require_place(out)
    numbers = words(trials)
    if numbers and top is not None:
        raise UserError("--top and --trials: choose one of them")
    if wrong := [word for word in numbers if not NUMBER.fullmatch(word)]:
        raise UserError(f"--trials {trials!r}: {wrong[0]!r} is not the number of a trial")
    chosen = Source(photos, None, words(classes))
    models = [_run_or_model(word, storage) for word in runs_or_models]
    _check_here(chosen)

    from huetune.data_tools.storage.output_files import PHOTOS, require_apart
    from huetune.model.checkpoint import read
    from huetune.results.experiment_log.entry import told_apart

    found = [_entries(model, top, tuple(map(int, numbers))) for model in models]
    place = out or found[0][1]
    if photos:
        require_apart(photos, place, PHOTOS, *{entry.key for entries, *_ in found for entry in entries})
    named = None
    if photos:
        wanted = read_photos(chosen, wanted=every_photo)
        known = _seen((read(entry.checkpoint) for entries, *_ in found for entry in entries), wanted)
        named = wanted.take((~known).nonzero()[0]), chosen
    tests = [test for entries, _, photos_then in found for test in [_tested(named, photos_then)] * len(entries)]
    entries = told_apart([entry for entries, _, _ in found for entry in entries])
    import_tensorflow()
    from huetune.model.diagram import missing_graphviz
    from huetune.results.experiment_log import document

    if line := missing_graphviz():
        say(line, "yellow", stderr)
    pairs = [(entry, test and document.Tested(*test)) for entry, test in zip(entries, tests, strict=True)]
    file = document.write(pairs, place, lang, bar("writing the log", len(pairs)))
    say(f"{len(pairs)} models, the newest first: {os.path.relpath(file)}")


def _run_or_model(word: str, storage: Path) -> Any:
    """The folder of a model, or else the run, that a word means."""
    from huetune.model.checkpoint import SETTINGS
    from huetune.results.records.run import find_run

    folder = by_name(Path(word))
    recover(folder)
    return folder if (folder / SETTINGS).is_file() else find_run(word, storage)


def _entries(model: Any, top: int | None, numbers: tuple[int, ...]) -> tuple[Any, Path, Any]:
    """The entries for a run or a model, where their log belongs, and what reads the photos that test them."""
    from huetune.model.checkpoint import read
    from huetune.model.cli import parts_of
    from huetune.results.experiment_log.entry import TOP, of_checkpoint, of_run

    if isinstance(model, Path):
        folder = model

        def held_out() -> tuple[Any, Source]:
            parts, source = parts_of(read(folder))
            return parts.validation, source

        return [of_checkpoint(folder)], folder.with_name(f"{folder.resolve().name}-log"), held_out
    run = model

    def kept_back() -> tuple[Any, Source]:
        return photos_of(run, quiet=True).test, source_of(run)

    return of_run(run, TOP if top is None else top, numbers), run.folder / "log", kept_back


def _tested(named: Any, photos_then: Any) -> Any:
    """Test photos with their colors; None where they cannot be read any more, which is said."""
    try:
        photos, source = named or photos_then()
        return photos, source.colors(photos, bar)
    except UserError as error:
        if named:
            raise
        say(f"no test photos in the log: {error}; name some with --photos", "yellow", stderr)
        return None


@click.command()
@run_argument
@storage_option
@click.option("--out", type=PLACE, help="The HTML file.  [default: report.html, in the run]")
@click.option("--photos", type=PLACE, help="Folder of test photos to show.  [default: those that no trial has seen]")
def report(run: str, storage: Path, out: Path | None, photos: Path | None) -> None:
    """Write all that a search found as one HTML page, also while it runs.

    Example: huetune report roses --out roses.html
    """
    from huetune.results.records.run import find_run

    place = find_run(run, storage)
    out = out or place.folder / "report.html"
    require_place(out.parent)
    if photos:
        _check_here(Source(photos))

    from huetune.model.checkpoint import read
    from huetune.results.evaluation.gallery import evenly
    from huetune.results.report import page as pages
    from huetune.results.report.summary import Findings

    pages.check(out)
    found = Findings.of(place)
    shown, why_not = None, None
    try:
        if photos:
            source = Source(photos)
            chosen = read_photos(source, wanted=every_photo)
            known = _seen(map(read, pages.checkpoints_shown(found).values()), chosen)
            skipped, chosen = int(known.sum()), chosen.take((~known).nonzero()[0])
        else:
            chosen, skipped = photos_of(place, quiet=False).test, 0
            source = source_of(place)
        shown = pages.Photos(chosen, source.colors(evenly(chosen), bar), str(source), skipped)
    except (PhotoError, StorageError) as error:
        if photos:
            raise
        why_not = str(error)
    except CheckpointError as error:
        why_not = str(error)
    import_tensorflow()
    pages.write(out, pages.page(found, shown, why_not))
    say(f"{os.path.relpath(out)}: {out.stat().st_size / 1e6:.1f} MB, opens in any browser")
    if why_not:
        say(f"without pictures: {why_not}", "yellow")


VERBS = (best, evaluate, colorize, report, log, structure)
