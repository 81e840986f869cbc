"""The command `huetune`: its verbs, those of the other parts among them, and the verb that searches.

Each verb imports what it needs when it is called: TensorFlow and Ray take seconds that a table should not wait for.
"""

import datetime
import os
import re
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from data_tools.command import data, photo_options, read_photos
from data_tools.console import FOLDER, bar, import_tensorflow, say, seed_option, shared, stderr, stdout, words
from data_tools.errors import NoTrialError, PhotoError, StorageError, UserError
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


class _Duration(click.ParamType):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        parts = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", value)
        if not parts or not value:
            self.fail(f"{value!r} is no duration such as 90s, 30m or 1h30m", param, ctx)
        hours, minutes, seconds = (int(part or 0) for part in parts.groups())
        if not (total := float(hours * 3600 + minutes * 60 + seconds)):
            self.fail(f"{value!r} leaves no time for any trial", param, ctx)
        return total


class _Confirm(click.ParamType):
    name = "TOPxSEEDS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int] | str:
        if value == "none" or isinstance(value, tuple):
            return value
        if not (parts := re.fullmatch(r"(\d+)x(\d+)", value)):
            self.fail(f"{value!r} is neither none nor finalists x seeds such as 3x5", param, ctx)
        return int(parts[1]), int(parts[2])


DURATION, CONFIRM = _Duration(), _Confirm()

address_option = click.option("--address", help="Ray cluster to run on.  [default: RAY_ADDRESS, or this machine]")
cluster_options = shared(
    click.option("--cpus-per-trial", type=float, default=1.0, show_default=True),
    click.option("--gpus-per-trial", type=float, default=0.0, show_default=True),
    address_option,
)
quiet_option = click.option("--quiet", is_flag=True, help="Show nothing but errors.")


@cli.command()
@photo_options
@click.option("--limit", type=click.IntRange(2), help="Use only the first N photos.")
@click.option("--name", help="Name of the run.  [default: the date and time]")
@storage_option
@click.option("--trials", type=click.IntRange(1), help="Trials in all.  [default: 12; grid: all its points]")
@click.option("--epochs", type=click.IntRange(1), default=8, show_default=True, help="Epochs of a complete trial.")
@click.option("--time-budget", type=DURATION, help="Start no more trials after, as in 30m or 1h30m.")
@click.option("--stop-when-flat", type=click.IntRange(1), metavar="N", help="Stop after N trials without a better one.")
@click.option(
    "--objective",
    default="chroma_mse",
    show_default=True,
    help="Figure on held-out photos to rank by: chroma_mse, skill or chroma_ratio_error; several for a Pareto front.",
)
@click.option(
    "--searcher",
    type=click.Choice(["tpe", "random", "grid", "cmaes", "nsga2"]),
    default="tpe",
    show_default=True,
)
@click.option(
    "--scheduler",
    type=click.Choice(["asha", "hyperband", "median", "none"]),
    help="What stops trials early.  [default: asha; none with several objectives]",
)
@click.option(
    "--confirm",
    type=CONFIRM,
    help="Train the best TOP again from SEEDS fresh seeds each, as in 3x5, or none.  [default: 3x3 from 10 trials on]",
)
@cluster_options
@seed_option
@click.option("--space", type=FOLDER, help="TOML file of what to vary.")
@click.option("--batching", type=click.Choice(["photos", "boxes"]), default="photos", show_default=True)
@click.option("--warm-start", help="Presets to try first, or none.  [default: model-1,model-2,model-3]")
@click.option("--study", help="Database URL of the study.  [default: study.db in the run's folder]")
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
    address: str | None,
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
    objectives = words(objective)
    several = len(objectives) > 1
    if confirm is None:
        confirm = (3, 3) if trials >= 10 and not several else "none"
    name = name or datetime.datetime.now().strftime("search-%Y%m%d-%H%M%S")

    from search.cluster import Cluster
    from search.launch import Search, launch

    wanted = Search(
        name=name,
        space=chosen,
        cluster=Cluster(cpus_per_trial, gpus_per_trial, address),
        warm_start=presets,
        trials=trials,
        objectives=objectives,
        scheduler=scheduler or ("none" if several else "asha"),
        confirm=None if isinstance(confirm, str) else confirm,
        **asked,
    )
    source = Source(photos, garden, words(classes), limit)
    read = read_photos(source, strict, quiet)
    parts = split(read, wanted.seed)
    # Now, not when the search is done: the files may be others by then.
    truth = source.colours(parts.test, partial(bar, quiet=quiet))
    if not quiet:
        counts = f"{len(parts.training)} train, {len(parts.validation)} rank, {len(parts.test)} are kept for the end"
        say(f"{len(read)} photos from {source}: {counts}")
    run, finished = launch(wanted, parts, stdout, source=source, quiet=quiet)

    from results.trials import run_rows, winner

    won = winner(run_rows(run))
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
    from results.replicates import shown_estimate
    from results.statistics import mean
    from results.trials import shown

    objective = run.study().user_attrs["objective"]
    _, paths = best(run, objective)
    report = evaluation.evaluate(
        paths[0], photos, truth, run.folder / "evaluation", progress=bar("colorizing", len(photos), quiet)
    )
    if not quiet:
        figures = ", ".join(f"{name} {shown(value)}" for name, value in report["all"].items())
        say(f"{len(photos)} photos that no trial has seen, colorized by the best: {figures}")
    if len(paths) > 1:
        again = mean([scores[objective] for scores in evaluation.judge(paths, photos)])
        if not quiet:
            whose = f"the same photos, by all {len(paths)} trainings of that configuration"
            say(f"{whose}: {objective} {shown_estimate(again)}")


def _show_trials(run: Any, top: int = 10) -> None:
    from results.replicates import verdict
    from results.trials import fitted, run_rows, with_zero_line

    study = run.study()
    table = run_rows(run)
    if table:
        left = f", the best {top} of {len(table)}" if len(table) > top else ""
        stdout.print(fitted(with_zero_line(table[:top], study), f"{run.name}{left}", stdout))
    if line := verdict(study, run.replicates()):
        say(line)


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
        "effects {}",
        "best {} --export best-model",
        "evaluate {} --photos DIR",
        "colorize {} PHOTO --out DIR",
    ):
        say(f"  {command} {verb.format(folder)}")


@cli.command()
@click.argument("run")
@storage_option
@click.option("--top", type=click.IntRange(1), default=3, show_default=True, help="Finalists.")
@click.option("--seeds", type=click.IntRange(2), default=5, show_default=True, help="Fresh seeds of each.")
@address_option
@quiet_option
def confirm(run: str, storage: Path, top: int, seeds: int, address: str | None, quiet: bool) -> int:
    """Train the best trials of a run again from fresh seeds, and say who wins.

    What is trained already stays. Example: huetune confirm roses --top 3 --seeds 5
    """
    from results.replicates import verdict
    from results.run import find_run

    found = find_run(run, storage)
    study = found.study()
    if len(study.directions) > 1:
        raise UserError(f"run {found.name!r} has several objectives, and confirm ranks by one")
    if not any(trial.state.name == "COMPLETE" for trial in study.get_trials(deepcopy=False)):
        raise NoTrialError(f"run {found.name!r} has no complete trial to confirm")
    parts = _photos_of(found, quiet)

    from search.replicates import replicate_finalists

    finished = replicate_finalists(found, parts, _cluster_of(found, address), top, seeds, stdout, quiet=quiet)
    if not quiet:
        _show_trials(found)
    elif line := verdict(study, found.replicates()):
        say(line)
    return 0 if finished else 130


@cli.command()
@click.argument("run")
@click.argument("first")
@click.argument("second")
@storage_option
@click.option("--seeds", type=click.IntRange(0), default=3, show_default=True, help="Fresh seeds of each.")
@address_option
@quiet_option
def compare(run: str, first: str, second: str, storage: Path, seeds: int, address: str | None, quiet: bool) -> int:
    """Say how two presets or trials of a run differ, in per cent with an interval.

    Example: huetune compare roses model-3 model-2
    """
    from results.effects import comparison, config_of
    from results.run import find_run

    found = find_run(run, storage)
    configs = {name: config_of(found, name) for name in (first, second)}
    if seeds:
        parts = _photos_of(found, quiet)

        from search.replicates import replicate

        if not replicate(found, parts, _cluster_of(found, address), configs, seeds, stdout, quiet=quiet):
            return 130
    for line in comparison(found, first, second):
        say(line)
    return 0


@cli.command()
@click.argument("run")
@click.argument("trial", type=int)
@storage_option
def rerun(run: str, trial: int, storage: Path) -> int:
    """Train a trial of a run again, and say whether its numbers are the same to the last bit on this machine.

    Example: huetune rerun roses 4
    """
    from results.run import find_run
    from results.trials import epochs, trial_of

    found = find_run(run, storage)
    recorded = trial_of(found.study(), trial)
    lines = epochs(recorded) if recorded else []
    if recorded is None or not lines:
        raise NoTrialError(f"run {found.name!r} has no trial {trial} with a finished epoch")
    parts = _photos_of(found, quiet=False)
    import_tensorflow()

    from model.command import epoch_line
    from model.config import Config
    from model.training import Trainer
    from results.machine import differences
    from search.trial import take_devices

    cluster = _cluster_of(found, None)
    take_devices(cluster.threads, (0,) if cluster.gpus_per_trial else ())
    trainer = Trainer(parts.training, parts.validation)
    trainer.start(Config.of(recorded.user_attrs["config"]), recorded.user_attrs["seed"])
    others = 0
    for line in lines:
        figures = trainer.epoch()
        say(epoch_line(figures, len(lines)))
        apart = [name for name in figures if name in line and "seconds" not in name and figures[name] != line[name]]
        for name in apart:
            say(f"  {name} was {line[name]!r}, is {figures[name]!r}", "yellow")
        others += bool(apart)
    if not others:
        say(f"trial {trial}: the same to the last bit in all its {len(lines)} epochs")
        return 0
    say(f"trial {trial}: {others} of {len(lines)} epochs differ", "red")
    for difference in differences(found.manifest):
        say(f"  {difference}")
    return 1


def _photos_of(run: Any, quiet: bool) -> Any:
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


def _cluster_of(run: Any, address: str | None) -> Any:
    from search.cluster import Cluster

    return Cluster(**{**run.manifest["cluster"], "address": address})
