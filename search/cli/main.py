"""The command `huetune`: its verbs, those of the other parts among them, and the verb that searches.

Each verb imports what it needs when it is called: TensorFlow and Ray take seconds that a table should not wait for.
"""

import datetime
import io
import os
import platform
import re
import shlex
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from huetune.data_tools.cli.data_commands import data, photo_options, read_photos
from huetune.data_tools.common import optional_imports
from huetune.data_tools.common.errors import (
    ClusterLostError,
    Interrupted,
    NoTrialError,
    StorageError,
    UserError,
    in_a_line,
)
from huetune.data_tools.common.terminal import (
    FOLDER,
    MAX_SEED,
    MOST,
    TEXT,
    bar,
    count_from,
    say,
    shared,
    stderr,
    stdout,
    words,
)
from huetune.data_tools.photos.source import Source
from huetune.model.cli import train
from huetune.results.cli.commands import COMMANDS as RESULT_COMMANDS
from huetune.results.cli.options import storage_option
from huetune.results.cli.table_commands import show_trials
from huetune.results.records.run_names import run_argument
from huetune.results.records.run_photos import moved_option, photos_of, source_of
from huetune.search.cli import retrain_commands
from huetune.search.cli.retrain_commands import address_option, quiet_option
from huetune.search.process import environment, notification, signals
from huetune.search.process.notification import notify_option, told
from huetune.search.spec.resources import Resources
from huetune.search.spec.search_spec import SCHEDULERS, SEARCHERS, Search

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

PARTS = ("tensorflow", "keras", "ray", "optuna", "numpy", "pillow")


def main() -> None:
    """Run the command, and end with the exit code that says what happened."""
    notification.hide()
    environment.settle()
    signals.install()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Where the locale has no letter for what a file is called.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = cli(prog_name="huetune", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        remedy = f"; see `{context.command_path} --help`" if context else ""
        say(f"huetune: {' '.join(error.format_message().split()).rstrip('.')}{remedy}", "red", stderr)
        code = error.exit_code
    except UserError as error:
        say(f"huetune: {error}", "red", stderr)
        code = error.exit_code
        if isinstance(error, ClusterLostError):
            # At exit Ray would wait for an answer.
            stdout.file.flush()
            os._exit(code)
    except (click.Abort, KeyboardInterrupt) as error:
        # Click makes an Abort of every KeyboardInterrupt.
        signal = next((some for some in (error, error.__cause__) if isinstance(some, Interrupted)), None)
        say(f"huetune: {signal or 'interrupted'}", console=stderr)
        code = signal.exit_code if signal else 130
    except BrokenPipeError:
        # `huetune trials | head`: the reader has seen enough. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        say(f"huetune: {error.filename!r}: {error.strerror}" if error.filename else f"huetune: {error}", "red", stderr)
        code = StorageError.exit_code
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("optuna", "sqlalchemy"):
            raise
        # A database that goes away where nothing was to be lost.
        say(f"huetune: the study cannot be used ({in_a_line(error.__cause__ or error)})", "red", stderr)
        code = StorageError.exit_code
    sys.exit(code or 0)


def _versions(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    """Say the versions of huetune and of what its numbers and its bugs depend on, without importing any of it."""
    if wanted and not context.resilient_parsing:
        click.echo(f"huetune {version('huetune')}")
        click.echo(f"python {platform.python_version()}")
        for part in PARTS:
            click.echo(f"{part} {version(part)}")
        context.exit()


@click.group(
    epilog='Completion: eval "$(_HUETUNE_COMPLETE=bash_source huetune)" in ~/.bashrc; zsh_source and fish_source, too.',
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_versions,
    help="Show the versions of huetune and of its parts.",
)
def cli() -> None:
    """Find the VAE that colorizes your photos best, and how sure that is."""


for verb in (
    *RESULT_COMMANDS,
    train,
    data,
    *retrain_commands.VERBS,
):
    cli.add_command(verb)


class _Duration(click.ParamType):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        parts = re.fullmatch(r"(?:(\d{1,20})h)?(?:(\d{1,20})m)?(?:(\d{1,20})s)?", value)
        if not parts or not value:
            self.fail(f"{value!r} is no duration such as 90s, 30m or 1h30m", param, ctx)
        hours, minutes, seconds = (int(part or 0) for part in parts.groups())
        return float(hours * 3600 + minutes * 60 + seconds)


class _Confirm(click.ParamType):
    name = "TOPxSEEDS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int] | str:
        if value == "none" or isinstance(value, tuple):
            return value
        if not (parts := re.fullmatch(r"(\d{1,9})x(\d{1,9})", value)):
            self.fail(f"{value!r} is neither none nor finalists x seeds such as 3x5", param, ctx)
        return int(parts[1]), int(parts[2])


class _Name(click.Choice):
    """One of several names, which the help shows and a shell completes; `Search` refuses others, as in Python."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value


class _Whole(click.IntRange):
    """A whole number, whose range the help shows; `Search` refuses others, as in Python."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return click.INT.convert(value, param, ctx)


class _ObjectiveOption(click.Option):
    """An option whose help lists the objectives, which are looked up only when the help is shown."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        from huetune.model.metrics import METRICS

        self.help = (self.help or "").format(names=", ".join(METRICS.objectives))
        return super().get_help_record(ctx)


DURATION, CONFIRM = _Duration(), _Confirm()
COUNT, SEED = _Whole(1, MOST), _Whole(0, MAX_SEED)
FINALISTS_AND_SEEDS = (3, 3)
"""What `--confirm` is where it is not given, in searches of `MIN_CONFIRMED_TRIALS` or more."""
MIN_CONFIRMED_TRIALS = 10
WARM_START = ",".join(Search.warm_start)

cluster_options = shared(
    click.option("--cpus-per-trial", type=float, default=Resources.cpus_per_trial, show_default=True),
    click.option("--gpus-per-trial", type=float, default=Resources.gpus_per_trial, show_default=True),
    click.option(
        "--trial-timeout",
        type=DURATION,
        help="Replace a worker that needs longer for an epoch, as in 10m.",
    ),
    address_option,
)


@cli.command()
@photo_options
@click.option("--limit", type=count_from(2), help="Use only N photos, drawn by --seed evenly from the classes.")
@click.option("--name", type=TEXT, help="Name of the run.  [default: the date and time]")
@storage_option
@click.option("--trials", type=COUNT, help=f"Trials in all.  [default: {Search.trials}; grid: all its points]")
@click.option("--epochs", type=COUNT, default=Search.epochs, show_default=True, help="Epochs of a complete trial.")
@click.option("--time-budget", type=DURATION, help="Start no more trials after, as in 30m or 1h30m.")
@click.option("--stop-when-flat", type=COUNT, metavar="N", help="Stop after N trials without a better one.")
@click.option(
    "--objective",
    type=TEXT,
    default=",".join(Search.objectives),
    show_default=True,
    cls=_ObjectiveOption,
    help="Metric on held-out photos to rank by: {names}; several for a Pareto front.",
)
@click.option("--searcher", type=_Name(SEARCHERS), default=Search.searcher, show_default=True)
@click.option(
    "--scheduler",
    type=_Name(SCHEDULERS),
    help=f"What stops trials early.  [default: {Search.scheduler}; none with several objectives]",
)
@click.option(
    "--confirm",
    type=CONFIRM,
    help="Train the best TOP again from SEEDS fresh seeds each, as in 3x5, or none.  "
    f"[default: {FINALISTS_AND_SEEDS[0]}x{FINALISTS_AND_SEEDS[1]} from {MIN_CONFIRMED_TRIALS} trials on]",
)
@cluster_options
@click.option("--seed", type=SEED, default=Search.seed, show_default=True)
@click.option("--space", type=FOLDER, help="TOML file of what to vary.")
@click.option("--batching", type=click.Choice(["photos", "boxes"]), default="photos", show_default=True)
@click.option("--warm-start", type=TEXT, help=f"Presets to try first, or none.  [default: {WARM_START}]")
@click.option("--study", type=TEXT, help="Database URL of the study.  [default: study.db in the run's folder]")
@click.option("--mlflow", metavar="URI", help="Log each trial to MLflow when it has ended.")
@notify_option
@quiet_option
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
    objective: str,
    scheduler: str | None,
    confirm: tuple[int, int] | str | None,
    cpus_per_trial: float,
    gpus_per_trial: float,
    trial_timeout: float | None,
    address: str | None,
    notify: str | None,
    **asked: Any,
) -> int:
    """Search for the settings that colorize photos best.

    Example: huetune search --photos flowers --name roses --trials 30
    """
    from huetune.model.config import PRESETS, batched
    from huetune.search.spec.space_file import read_space
    from huetune.search.spec.space_parser import DEFAULT_SPACE, parse_space
    from huetune.search.spec.validation import check_apart, check_place

    base = batched(PRESETS["model-2"], batching)
    chosen = read_space(space, base) if space else parse_space(DEFAULT_SPACE, base)
    presets = words(WARM_START if warm_start is None else warm_start)
    presets = () if presets == ("none",) else presets
    if trials is None:
        trials = len(chosen.grid_points()) + len(presets) if asked["searcher"] == "grid" else Search.trials
    objectives = words(objective)
    several = len(objectives) > 1
    if confirm is None:
        confirm = FINALISTS_AND_SEEDS if trials >= MIN_CONFIRMED_TRIALS and not several else "none"
    name = name or datetime.datetime.now().strftime("search-%Y%m%d-%H%M%S")

    wanted = Search(
        **asked,
        space=chosen,
        resources=Resources(cpus_per_trial, gpus_per_trial, address, trial_timeout),
        name=name,
        warm_start=presets,
        trials=trials,
        objectives=objectives,
        scheduler=scheduler or ("none" if several else Search.scheduler),
        confirm=None if isinstance(confirm, str) else confirm,
    )
    source = Source(photos, garden, words(classes), limit, wanted.seed if limit else None)
    check_place(wanted)
    check_apart(source, wanted.storage)
    source.check()
    notification.check(notify)
    if asked["mlflow"]:
        # Not when it is resumed, on a machine without it perhaps: then it is not logged, which is said.
        optional_imports.require("mlflow", "mlflow")

    from huetune.data_tools.photos.discovery import class_counts
    from huetune.data_tools.photos.split import may_be_in_test_split, split
    from huetune.search.ray_runtime.cluster import Cluster
    from huetune.search.session.runner import launch

    Cluster(wanted.resources).check()
    read = read_photos(source, strict, quiet, partial(may_be_in_test_split, wanted.seed))
    parts = split(read, wanted.seed)
    # Now, not when the search is done: the files may be others by then.
    truth = source.colors(parts.test, partial(bar, quiet=quiet))
    if not quiet:
        for note in chosen.notes:
            say(note, "yellow", stderr)
        counts = f"{len(parts.training)} train, {len(parts.validation)} rank, {len(parts.test)} are kept for the end"
        say(f"{len(read)} photos from {source}: {counts}")
        if by_class := class_counts(read.names):
            say(f"by class: {by_class}")
    with told(notify, name, wanted.storage):
        return _finish(launch(wanted, parts, stdout, source=source, quiet=quiet), parts.test, truth, quiet)


@cli.command()
@run_argument
@storage_option
@moved_option
@address_option
@notify_option
@quiet_option
def resume(run: str, storage: Path, photos: Path | None, address: str | None, notify: str | None, quiet: bool) -> int:
    """Go on with a search from wherever it was left, however it ended.

    What has ended stays; what was running goes on from its last epoch. Example: huetune resume roses
    """
    from huetune.data_tools.storage.run_lock import held
    from huetune.results.records.run import find_run

    found = find_run(run, storage)

    from huetune.results.evaluation import final_check
    from huetune.search.session import runner
    from huetune.search.session.repair import repair
    from huetune.search.spec.manifest import recalled

    with held(found.folder), told(notify, found.name, found.folder.parent) as keep_silent:
        repair(found, stdout)
        search = recalled(found, address)
        parts, truth = _photos_again(found, quiet, photos)
        # The final check is the last thing that a search does.
        checked = not len(parts.test) or final_check.is_current(found)
        if runner.resume(found, search, parts, stdout, quiet=quiet) or not checked:
            return _finish(found, parts.test, truth, quiet)
        keep_silent()
    say(f"run {found.name!r} is finished, nothing was changed; more trials: {found.command('extend', '--trials N')}")
    return 0


@cli.command()
@run_argument
@storage_option
@click.option("--trials", type=count_from(0), default=0, help="More trials.")
@click.option("--epochs", type=count_from(1), help="Epochs of a complete trial in all, those that it has counted in.")
@click.option("--time-budget", type=DURATION, help="Start no more trials after so much more time.")
@moved_option
@address_option
@notify_option
@quiet_option
def extend(
    run: str,
    storage: Path,
    trials: int,
    epochs: int | None,
    time_budget: float | None,
    photos: Path | None,
    address: str | None,
    notify: str | None,
    quiet: bool,
) -> int:
    """Go on with a search that ended: with more trials, more epochs a trial, or both.

    With more epochs each complete trial is trained further as a new trial, which the table says it continues.

    Example: huetune extend roses --trials 20 --epochs 10
    """
    from huetune.data_tools.storage.run_lock import held
    from huetune.results.records.run import find_run

    found = find_run(run, storage)

    from huetune.search.session import runner
    from huetune.search.session.repair import repair
    from huetune.search.spec.manifest import recalled
    from huetune.search.spec.validation import check_seconds

    check_seconds("time_budget", time_budget)
    with held(found.folder), told(notify, found.name, found.folder.parent):
        repair(found, stdout)
        search = recalled(found, address)
        left = epochs == search.epochs and runner.not_further(found.study(), search.epochs)
        if not trials and (epochs is None or epochs == search.epochs) and not left:
            raise UserError("extend: by what? say --trials, --epochs or both")
        if epochs is not None and epochs < search.epochs:
            raise UserError(f"epochs must be {search.epochs} or more, which this search had, received {epochs!r}")
        parts, truth = _photos_again(found, quiet, photos)
        runner.extend(found, search, parts, stdout, trials, epochs or search.epochs, time_budget, quiet=quiet)
        return _finish(found, parts.test, truth, quiet)


def _photos_again(run: Any, quiet: bool, moved: Path | None) -> tuple[Any, Any]:
    """A run's photos, split as then, and the colors of those that are kept for the end."""
    parts = photos_of(run, quiet, moved)
    return parts, source_of(run, moved).colors(parts.test, partial(bar, quiet=quiet))


def _finish(run: Any, photos: Any, truth: Any, quiet: bool) -> int:
    """What a search ends with: the test photos, the table, and what to do next."""
    from huetune.results.evaluation import final_check
    from huetune.results.tables.trial_table import run_rows, winner

    won = winner(run_rows(run))
    if won and len(photos):
        final_check.measure(run, photos, truth, quiet)
    if not quiet:
        show_trials(run)
        _show_next(run, bool(won))
    return 0 if won else NoTrialError.exit_code


def _show_next(run: Any, won: bool) -> None:
    place = shlex.quote(run.place)
    if not won:
        say("")
        say(f"No trial is complete. Everything is in {place}; see why with: {run.command('trials')}")
        return
    from huetune.results.records.run import CONTACT_SHEET, EVALUATION

    sheet = run.folder / EVALUATION / CONTACT_SHEET
    if sheet.is_file():
        say("")
        say(f"Look at {os.path.relpath(sheet)}: truth, gray, and what the best model makes of it.")
    say("")
    say(f"Everything is in {place}. Next:")
    for verb, rest in (
        ("trials", ""),
        ("effects", ""),
        ("report", ""),
        ("best", "--export best-model"),
        ("evaluate", "--photos DIR"),
        ("colorize", "PHOTO --out DIR"),
    ):
        say(f"  {run.command(verb, rest)}")
    if others := run.manifest["search"]["objectives"][1:]:
        say(f"The other end of the Pareto front: --by {' or '.join(others)}.")
