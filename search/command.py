"""The command `huetune`: its verbs, those of the other parts among them, and the verb that searches.

Each verb imports what it needs when it is called: TensorFlow and Ray take seconds that a table should not wait for.
"""

import datetime
import os
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from data_tools.command import data, photo_options, read_photos
from data_tools.console import FOLDER, bar, import_tensorflow, say, seed_option, stderr, stdout, words
from data_tools.errors import NoTrialError, StorageError, UserError
from data_tools.source import Source
from model.command import train
from results import command as results
from results.command import storage_option

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main() -> None:
    """Run the command, and end with the exit code that says what happened."""
    try:
        code = cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except UserError as error:
        say(f"huetune: {error}", "red", stderr)
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        say("huetune: interrupted", console=stderr)
        code = 130
    except BrokenPipeError:
        # `huetune trials | head`: the reader has seen enough. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        say(f"huetune: {error.filename!r}: {error.strerror}" if error.filename else f"huetune: {error}", "red", stderr)
        code = StorageError.exit_code
    sys.exit(code or 0)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="huetune")
def cli() -> None:
    """Find the VAE that colorizes your photos best, and how sure that is."""


for read_verb in results.VERBS:
    cli.add_command(read_verb)
cli.add_command(train)
cli.add_command(data)


@cli.command()
@photo_options
@click.option("--limit", type=click.IntRange(2), help="Use only the first N photos.")
@click.option("--name", help="Name of the run.  [default: the date and time]")
@storage_option
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
@seed_option
@click.option("--space", type=FOLDER, help="TOML file of what to vary.")
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
    presets = words("model-1,model-2,model-3" if warm_start is None else warm_start)
    presets = () if presets == ("none",) else presets
    if trials is None:
        trials = len(chosen.grid()) + len(presets) if asked["searcher"] == "grid" else 12
    name = name or datetime.datetime.now().strftime("search-%Y%m%d-%H%M%S")

    from search.launch import Search, launch

    wanted = Search(name=name, space=chosen, warm_start=presets, trials=trials, **asked)
    source = Source(photos, garden, words(classes), limit)
    read = read_photos(source, strict, quiet)
    parts = split(read, wanted.seed)
    # Now, not when the search is done: the files may be others by then.
    truth = source.colours(parts.test, partial(bar, quiet=quiet))
    if not quiet:
        counts = f"{len(parts.training)} train, {len(parts.validation)} rank, {len(parts.test)} are kept for the end"
        say(f"{len(read)} photos from {source}: {counts}")
    run, finished = launch(wanted, parts, stdout, source=source, quiet=quiet)

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
    import_tensorflow()
    from results import evaluation
    from results.export import best
    from results.trials import shown

    _, path = best(run)
    report = evaluation.evaluate(
        path, photos, truth, run.folder / "evaluation", progress=bar("colorizing", len(photos), quiet)
    )
    if not quiet:
        figures = ", ".join(f"{name} {shown(value)}" for name, value in report["all"].items())
        say(f"{len(photos)} photos that no trial has seen, colorized by the best: {figures}")


def _show_trials(run: Any, top: int = 10) -> None:
    from results.trials import fitted, rows, with_zero_line

    study = run.study()
    table = rows(study)
    if table:
        left = f", the best {top} of {len(table)}" if len(table) > top else ""
        stdout.print(fitted(with_zero_line(table[:top], study), f"{run.name}{left}", stdout))


def _show_next(run: Any, won: bool) -> None:
    command = "huetune" if shutil.which("huetune") else os.path.relpath(sys.argv[0])
    folder = os.path.relpath(run.folder)
    if not won:
        say(f"\nNo trial is complete. Everything is in {folder}; see why with: {command} trials {folder}")
        return
    sheet = run.folder / "evaluation" / "contact-sheet.png"
    if sheet.is_file():
        say(f"\nLook at {os.path.relpath(sheet)}: truth, grey, and what the best model makes of it.")
    say(f"\nEverything is in {folder}. Next:")
    for verb in (
        "trials {}",
        "best {} --export best-model",
        "evaluate {} --photos DIR",
        "colorize {} PHOTO --out DIR",
    ):
        say(f"  {command} {verb.format(folder)}")
