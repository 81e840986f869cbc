"""The command `huetune`.

Each verb imports what it needs when it is called: TensorFlow and Ray take seconds that a table should not wait for.
"""

import contextlib
import datetime
import importlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress, track

from data_tools.errors import NoTrialError, PhotoError, StorageError, UserError

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

GARDEN = 48
"""Scenes of the built-in garden that a search takes unless told otherwise."""

_FOLDER = click.Path(path_type=Path)


def _console(stderr: bool = False) -> Console:
    """A console that takes a pipe or a file for a wide terminal, so that no table is cut to 80 columns there."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=240)


_out, _err = _console(), _console(stderr=True)


def _say(text: str, style: str | None = None, console: Console = _out) -> None:
    """Print a line as it is, whatever brackets and numbers are in it."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def main() -> None:
    """Run the command, and end with the exit code that says what happened."""
    try:
        code = cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except UserError as error:
        _say(f"huetune: {error}", "red", _err)
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _say("huetune: interrupted", console=_err)
        code = 130
    except BrokenPipeError:
        # `huetune trials | head`: the reader has seen enough. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        _say(f"huetune: {error.filename!r}: {error.strerror}" if error.filename else f"huetune: {error}", "red", _err)
        code = StorageError.exit_code
    sys.exit(code or 0)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="huetune")
def cli() -> None:
    """Find the VAE that colorizes your photos best, and how sure that is."""


def _shared(*options: Callable) -> Callable:
    def decorate(verb: Callable) -> Callable:
        for option in reversed(options):
            verb = option(verb)
        return verb

    return decorate


_storage = click.option("--storage", type=_FOLDER, default=Path("runs"), show_default=True, help="Folder of runs.")
_photo_options = _shared(
    click.option("--photos", type=_FOLDER, help="Folder of photos, searched through its subfolders."),
    click.option(
        "--garden", type=click.IntRange(2), help=f"Scenes of the built-in garden instead.  [default: {GARDEN}]"
    ),
    click.option("--classes", help="Only these subfolders of --photos, as in rose,tulip."),
    click.option("--strict", is_flag=True, help="Stop at the first photo that cannot be used."),
)
_seed = click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)


@cli.command()
@_photo_options
@click.option("--limit", type=click.IntRange(2), help="Use only the first N photos.")
@click.option("--name", help="Name of the run.  [default: the date and time]")
@_storage
@click.option("--trials", type=click.IntRange(1), help="Trials in all.  [default: 12; grid: all its points]")
@click.option("--epochs", type=click.IntRange(1), default=8, show_default=True, help="Epochs of a complete trial.")
@click.option(
    "--objective",
    type=click.Choice(["chroma_mse", "skill", "chroma_ratio_error"]),
    default="chroma_mse",
    show_default=True,
    help="Figure on held-out photos to rank by.",
)
@click.option("--searcher", type=click.Choice(["tpe", "random", "grid"]), default="tpe", show_default=True)
@click.option("--scheduler", type=click.Choice(["asha", "none"]), default="asha", show_default=True)
@click.option("--cpus-per-trial", type=float, default=1.0, show_default=True)
@click.option("--gpus-per-trial", type=float, default=0.0, show_default=True)
@click.option("--address", help="Ray cluster to run on.  [default: RAY_ADDRESS, or this machine]")
@_seed
@click.option("--space", type=_FOLDER, help="TOML file of what to vary.")
@click.option("--batching", type=click.Choice(["photos", "boxes"]), default="photos", show_default=True)
@click.option("--warm-start", help="Presets to try first, or none.  [default: model-1,model-2,model-3]")
@click.option("--study", help="Database URL of the study.  [default: study.db in the run's folder]")
@click.option("--quiet", is_flag=True, help="Show nothing but errors.")
def search(
    photos: Path | None,
    garden: int | None,
    classes: str | None,
    strict: bool,
    limit: int | None,
    batching: Any,
    space: Path | None,
    warm_start: str | None,
    trials: int | None,
    name: str | None,
    quiet: bool,
    **asked: Any,
) -> int:
    """Search for the settings that colorize photos best.

    Example: huetune search --photos flowers --name roses --trials 30
    """
    from data_tools.split import split
    from model.config import PRESETS, batched
    from search.space import DEFAULT, parse, read_space

    base = batched(PRESETS["model-2"], batching)
    chosen = read_space(space, base) if space else parse(DEFAULT, base)
    presets = _words("model-1,model-2,model-3" if warm_start is None else warm_start)
    presets = () if presets == ("none",) else presets
    if trials is None:
        trials = len(chosen.grid()) + len(presets) if asked["searcher"] == "grid" else 12
    name = name or datetime.datetime.now().strftime("search-%Y%m%d-%H%M%S")

    from search.launch import Search, launch

    wanted = Search(name=name, space=chosen, warm_start=presets, trials=trials, **asked)
    read, squares, source = _read_photos(photos, garden, classes, strict, quiet, limit)
    parts = split(read, wanted.seed)
    truth = squares(parts.test)  # now, not when the search is done: the files may be others by then
    if not quiet:
        counts = f"{len(parts.training)} train, {len(parts.validation)} rank, {len(parts.test)} are kept for the end"
        _say(f"{len(read)} photos from {source}: {counts}")
    run, finished = launch(wanted, parts, _out, source=source, quiet=quiet)

    from results.trials import rows, winner

    won = winner(rows(run.study()))
    if won and len(parts.test) and finished:
        _colorize_test_photos(run, parts.test, truth, quiet)
    if not quiet:
        _show_trials(run)
        _show_next(run, bool(won))
    return 130 if not finished else 0 if won else NoTrialError.exit_code


def _colorize_test_photos(run: Any, photos: Any, truth: Any, quiet: bool) -> None:
    """The last word: photos that neither taught nor ranked any trial."""
    _import_tensorflow()
    from results import evaluation
    from results.export import best

    _, path = best(run)
    report = evaluation.evaluate(
        path, photos, truth, run.folder / "evaluation", progress=_bar("colorizing", len(photos), quiet)
    )
    if not quiet:
        figures = ", ".join(f"{name} {shown}" for name, shown in _figures(report["all"]).items())
        _say(f"{len(photos)} photos that no trial has seen, colorized by the best: {figures}")


def _figures(figures: dict[str, float]) -> dict[str, str]:
    from results.trials import shown

    return {name: shown(value) for name, value in figures.items()}


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())


def _read_photos(
    photos: Path | None,
    garden: int | None,
    classes: str | None,
    strict: bool,
    quiet: bool = False,
    limit: int | None = None,
) -> tuple[Any, Callable[[Any], Any], str]:
    """The photos that the options of `_photo_options` mean.

    Returns:
        The set; what gives the colours of any of its photos, uint8 [n, 112, 112, 3], read again from their files; and
        where they are from.
    """
    from data_tools.cache import default_folder
    from data_tools.photos import find_photos, load, prepare, read_squares

    if photos and garden:
        raise UserError("--photos and --garden: choose one of them")
    if not photos:
        if classes:
            raise UserError("--classes: goes with --photos")
        from data_tools import garden as scenes

        count = garden or GARDEN
        count = min(count, limit or count)
        pictures = scenes.garden(count)
        places = {scenes.scene_name(k): k for k in range(count)}

        def painted(chosen: Any) -> Any:
            return pictures[[places[name] for name in chosen.names]]

        return prepare(pictures, list(places)), painted, "the built-in garden"
    paths = find_photos(photos, _words(classes))[:limit]
    read, left_out = load(paths, progress=_bar("reading photos", len(paths), quiet), cache=default_folder())
    if left_out and strict:
        raise PhotoError(left_out[0])
    if left_out and not quiet:
        _tell_left_out(left_out)
    if not len(read):
        raise PhotoError(f"{str(photos)!r}: none of its {len(paths)} photos can be used")

    def reread(chosen: Any) -> Any:
        return read_squares([Path(name) for name in chosen.names], _bar("reading colours", len(chosen), quiet))

    return read, reread, str(photos)


def _tell_left_out(left_out: list[str], most: int = 10) -> None:
    for line in left_out[:most]:
        _say(f"left out: {line}", "yellow", _err)
    if len(left_out) > most:
        _say(f"left out: {len(left_out) - most} more, {len(left_out)} in all; see `huetune data check`", "yellow", _err)


def _bar(what: str, total: int, quiet: bool = False) -> Callable[[Iterable], Iterable]:
    hidden = quiet or not _err.is_terminal
    return lambda items: track(items, what, total=total, console=_err, transient=True, disable=hidden)


def _show_trials(run: Any, top: int = 10) -> None:
    from results.trials import fitted, rows, with_zero_line

    study = run.study()
    table = rows(study)
    if table:
        left = f", the best {top} of {len(table)}" if len(table) > top else ""
        _out.print(fitted(with_zero_line(table[:top], study), f"{run.name}{left}", _out))


def _show_next(run: Any, won: bool) -> None:
    command = "huetune" if shutil.which("huetune") else os.path.relpath(sys.argv[0])
    folder = os.path.relpath(run.folder)
    if not won:
        _say(f"\nNo trial is complete. Everything is in {folder}; see why with: {command} trials {folder}")
        return
    sheet = run.folder / "evaluation" / "contact-sheet.png"
    if sheet.is_file():
        _say(f"\nLook at {os.path.relpath(sheet)}: truth, grey, and what the best model makes of it.")
    _say(f"\nEverything is in {folder}. Next:")
    for words in (
        "trials {}",
        "best {} --export best-model",
        "evaluate {} --photos DIR",
        "colorize {} PHOTO --out DIR",
    ):
        _say(f"  {command} {words.format(folder)}")


@cli.command("list")
@_storage
def list_(storage: Path) -> None:
    """List the runs of a storage, the newest last."""
    from results.run import list_runs
    from results.trials import rows, shown, winner

    runs = list_runs(storage)
    if not runs:
        _say(f"no runs in {str(storage)!r}; start one with `huetune search`")
    for run in runs:
        try:
            table = rows(run.study())
        except StorageError as error:
            _say(f"{run.name}  {error}", "red")
            continue
        states = [row["state"] for row in table]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)) or "no trials"
        best = winner(table)
        score = f"  best {shown(best['score'])}, trial {best['trial']}" if best else ""
        _say(f"{run.name}  {run.manifest['started']}  {counts}{score}")


@cli.command()
@click.argument("run")
@_storage
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
    table = tables.rows(study)
    if condition:
        table = tables.where(table, condition)
    if column or descending:
        table = tables.sort(table, column or "score", descending)
    if form in ("table", "markdown") and table:
        ordered = column or descending
        table = [*table, tables.zero_row(study, list(table[0]))] if ordered else tables.with_zero_line(table, study)
    if columns:
        table = tables.choose(table, _words(columns))
    if form == "json":
        click.echo(tables.to_json(table))
    elif form == "csv":
        click.echo(tables.to_csv(table))
    elif not table:
        click.echo(f"no trials in {found.name!r}" + (" meet the condition" if condition else " yet"))
    elif form == "markdown":
        click.echo(tables.to_markdown(table))
    else:
        _out.print(tables.fitted(table, found.name, _out))


@cli.command()
@click.argument("run")
@_storage
@click.option("--export", "folder", type=_FOLDER, help="Copy the model to this new folder.")
def best(run: str, storage: Path, folder: Path | None) -> None:
    """Show the best complete trial of a run, and export its model.

    Example: huetune best roses --export best-model
    """
    from model.checkpoint import read
    from results import export
    from results.run import find_run
    from results.trials import shown

    row, path = export.best(find_run(run, storage))
    checkpoint = read(path)
    for name, value in row.items():
        if value is not None:
            _say(f"{name:14} {shown(value)}")
    _say(f"{'best epoch':14} {checkpoint.figures['epoch']}")
    _say(f"{'seed':14} {checkpoint.seed}")
    _say(f"{'photos':14} {checkpoint.photos['fingerprint'][:16]}, {checkpoint.photos['training']} trained on")
    _say(f"{'versions':14} {', '.join(f'{part} {version}' for part, version in checkpoint.versions.items())}")
    _say(f"{'checkpoint':14} {os.path.relpath(path)}")
    if folder:
        export.export(path, folder)
        _say(f"{'exported to':14} {folder}")


@cli.command()
@click.argument("run_or_export")
@_storage
@click.option("--photos", type=_FOLDER, required=True, help="Folder of test photos.")
@click.option("--classes", help="Only these subfolders, as in rose,tulip.")
@click.option("--strict", is_flag=True, help="Stop at the first photo that cannot be used.")
@click.option("--samples", type=click.IntRange(1, 100), default=5, show_default=True, help="Colorizations a photo.")
@_seed
@click.option("--out", type=_FOLDER, help="Folder for figures and pictures.  [default: evaluation, in the run]")
def evaluate(
    run_or_export: str,
    storage: Path,
    photos: Path,
    classes: str | None,
    strict: bool,
    samples: int,
    seed: int,
    out: Path | None,
) -> None:
    """Colorize test photos and measure how near the truth they come.

    Example: huetune evaluate roses --photos test-photos
    """
    from results import evaluation
    from results.export import find_model

    path, usual = find_model(run_or_export, storage)
    read, squares, _ = _read_photos(photos, None, classes, strict)
    truth = squares(read)
    out = out or usual
    _import_tensorflow()
    report = evaluation.evaluate(
        path, read, truth, out, samples=samples, seed=seed, progress=_bar("colorizing", len(read))
    )
    for name, shown in _figures(report["all"]).items():
        _say(f"{name:14} {shown}")
    _say(f"{len(read)} photos, {samples} samples each: {os.path.relpath(out)}/contact-sheet.png")


@cli.command()
@click.argument("run_or_export")
@click.argument("photos", nargs=-1, required=True, type=_FOLDER)
@_storage
@click.option("--out", type=_FOLDER, required=True, help="Folder for the colorized photos.")
@click.option("--samples", type=click.IntRange(1, 100), default=1, show_default=True, help="Colorizations a photo.")
@_seed
def colorize(run_or_export: str, photos: tuple[Path, ...], storage: Path, out: Path, samples: int, seed: int) -> None:
    """Colorize grey photos at their own size.

    Example: huetune colorize best-model old-1.jpg old-2.jpg --out coloured
    """
    from data_tools.photos import check_readable
    from results import evaluation
    from results.export import find_model

    path, _ = find_model(run_or_export, storage)
    check_readable(photos)
    _import_tensorflow()
    written = evaluation.colorize(
        path, photos, out, samples=samples, seed=seed, progress=_bar("colorizing", len(photos))
    )
    for file in written:
        click.echo(file)


@cli.command()
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table")
def presets(form: str) -> None:
    """Show the log's models: their settings and parameter counts."""
    _import_tensorflow()
    from model.network import preset_rows
    from results.trials import to_json, to_table

    rows = preset_rows()
    if form == "json":
        click.echo(to_json(rows))
    else:
        _out.print(to_table(rows, "presets"))


@cli.command()
@click.option("--preset", default="model-2", show_default=True, help="See `huetune presets`.")
@_photo_options
@click.option("--limit", type=click.IntRange(1), help="Train on the first N photos, hold out the rest, as the log did.")
@click.option("--epochs", type=click.IntRange(1), default=5, show_default=True)
@click.option("--batching", type=click.Choice(["photos", "boxes"]), default="photos", show_default=True)
@_seed
@click.option("--out", type=_FOLDER, help="New folder for model and log.  [default: trained/PRESET]")
def train(
    preset: str,
    photos: Path | None,
    garden: int | None,
    classes: str | None,
    strict: bool,
    limit: int | None,
    epochs: int,
    batching: Any,
    seed: int,
    out: Path | None,
) -> None:
    """Train one preset: on whole photos, or with --batching boxes as the log did.

    Example: huetune train --preset model-2 --photos flowers --limit 100 --batching boxes
    """
    from data_tools.folder import require_empty
    from data_tools.split import first, split
    from model.config import PRESETS, batched

    if preset not in PRESETS:
        raise UserError(f"--preset {preset!r}: choose one of {', '.join(PRESETS)}")
    out = out or Path("trained") / preset
    require_empty(out)
    read, _, source = _read_photos(photos, garden, classes, strict)
    if limit and limit >= len(read):
        _say(
            f"--limit {limit}: leaves none of {len(read)} photos to hold out; holding out a fifth of them",
            "yellow",
            _err,
        )
    parts = first(read, limit) if limit and limit < len(read) else split(read, seed, test=0)
    _say(f"{preset}: {len(parts.training)} photos from {source}, {len(parts.validation)} held out")

    _import_tensorflow()
    from model.checkpoint import Checkpoint, save
    from model.score import better, zero_line
    from model.training import DivergedError, Trainer

    trainer = Trainer(parts.training, parts.validation)
    trainer.start(batched(PRESETS[preset], batching), seed)
    lines: list[dict[str, float]] = []
    best: float | None = None
    for epoch in range(1, epochs + 1):
        try:
            with _epoch_bar(f"epoch {epoch}/{epochs}") as on_step:
                figures = trainer.epoch(on_step)
        except DivergedError as error:
            raise NoTrialError(f"{error}; {f'epoch {epoch - 1} is the last' if lines else 'no epoch'} kept") from None
        _say(epoch_line(figures, epochs))
        lines.append(figures)
        if better("chroma_mse", figures["chroma_mse"], best):
            best = figures["chroma_mse"]
            mean_chroma = tuple(map(float, trainer.mean_chroma))
            origin = {"preset": preset, "objective": "chroma_mse"}
            save(out, Checkpoint(trainer.config, seed, figures, mean_chroma, parts.summary, origin), trainer.vae)
        (out / "log.json").write_text(json.dumps(lines, indent=2) + "\n")
    zero = zero_line(parts.validation.chroma, trainer.mean_chroma)["chroma_mse"]
    _say(f"one colour for everything: chroma_mse {zero:.4f}. The best epoch is in {out}")


@contextlib.contextmanager
def _epoch_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    with Progress(console=_err, transient=True, disable=not _err.is_terminal) as progress:
        task = progress.add_task(label)
        yield lambda done, boxes: progress.update(task, completed=done, total=boxes)


def epoch_line(figures: dict[str, float], epochs: int) -> str:
    """Return a line of the training log."""
    parts = ", ".join(f"{name} {figures['train_' + name]:.4f}" for name in ("mse", "norm", "kl", "l2"))
    scores = ", ".join(f"{name} {figures[name]:.4f}" for name in ("chroma_mse", "skill", "chroma_ratio"))
    head = f"epoch {figures['epoch']}/{epochs}  {figures['boxes']} boxes  {figures['seconds']:.0f} s"
    return f"{head}  loss {figures['train_loss']:.4f} ({parts})  held out: {scores}"


def _import_tensorflow() -> None:
    """Import TensorFlow without its greetings, which come before its own log level counts."""
    with tempfile.TemporaryFile() as greetings:
        terminal = os.dup(2)
        os.dup2(greetings.fileno(), 2)
        try:
            importlib.import_module("tensorflow")
        except BaseException:
            greetings.seek(0)
            os.write(terminal, greetings.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


@cli.group()
def data() -> None:
    """Make, fetch and check photos."""


@data.command()
@click.option("--count", type=click.IntRange(1), default=GARDEN, show_default=True)
@click.option("--out", type=_FOLDER, required=True, help="New folder for the scenes.")
@_seed
def garden(count: int, out: Path, seed: int) -> None:
    """Write scenes of the built-in garden as PNG files.

    Example: huetune data garden --count 100 --out garden
    """
    from data_tools.garden import write_garden

    write_garden(count, out, seed, progress=_bar("planting", count))
    click.echo(f"{count} scenes in {out}")


@data.command()
@click.argument("folder", type=_FOLDER)
@click.option("--classes", help="Only these subfolders, as in rose,tulip.")
def check(folder: Path, classes: str | None) -> None:
    """Say which photos of a folder would be used, and why not the rest.

    Example: huetune data check flowers --classes rose
    """
    from data_tools.cache import default_folder
    from data_tools.photos import find_photos, load

    paths = find_photos(folder, _words(classes))
    read, left_out = load(paths, progress=_bar("reading photos", len(paths)), cache=default_folder())
    for line in left_out:
        _say(f"left out: {line}", "yellow")
    copies = len(read) - len(set(read.digests))
    _say(f"{len(paths)} files: {len(read)} photos to use, {copies} of them copies; {len(left_out)} left out")


@data.command()
@click.argument("name", type=click.Choice(["flowers"]))
@click.option("--out", type=_FOLDER, default=Path("photos"), show_default=True, help="Folder for the photos.")
@click.option("--url", help="Where to download from.  [default: TensorFlow's archive]")
@click.option("--sha256", help="Checksum of the archive.  [default: that of TensorFlow's]")
def fetch(name: str, out: Path, url: str | None, sha256: str | None) -> None:
    """Download TensorFlow's 3,670 photos of flowers, CC BY, 218 MiB.

    Example: huetune data fetch flowers --out photos
    """
    from data_tools.flowers import fetch_flowers

    folder = fetch_flowers(out, **{key: value for key, value in (("url", url), ("sha256", sha256)) if value})
    click.echo(f"photos in {folder}; use them with --photos {folder}")
