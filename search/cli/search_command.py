"""The command `search`."""

import datetime
from functools import partial
from pathlib import Path
from typing import Any

import click

from huetune.data_tools.cli.data_commands import photo_options, read_photos
from huetune.data_tools.cli.options import FOLDER, TEXT, count_from, split_list
from huetune.data_tools.common import optional_imports
from huetune.data_tools.common.terminal import progress_bar, say, stderr, stdout
from huetune.data_tools.photos.source import Source
from huetune.model.cli import recipe_option
from huetune.results.cli.options import storage_option
from huetune.search.cli.option_types import (
    COUNT,
    DURATION,
    FINALISTS_AND_SEEDS,
    SEED,
    ObjectiveOption,
    UncheckedChoice,
)
from huetune.search.cli.options import notify_option, quiet_option, resource_options
from huetune.search.cli.search_end import finish_search
from huetune.search.process import notification
from huetune.search.spec.resources import Resources
from huetune.search.spec.search_spec import SCHEDULERS, SEARCHERS, Search

DEFAULT_CONFIRM = (3, 3)
"""Finalists and seeds of a search that does not pass `--confirm` and has `MIN_CONFIRMED_TRIALS` or more trials."""
MIN_CONFIRMED_TRIALS = 10
DEFAULT_WARM_START = ",".join(Search.warm_start)


@click.command()
@photo_options
@click.option("--limit", type=count_from(2), help="Use only N photos, drawn evenly from the classes with --seed.")
@click.option("--name", type=TEXT, help="Name of the run.  [default: the date and time]")
@storage_option
@click.option("--trials", type=COUNT, help=f"Total number of trials.  [default: {Search.trials}; grid: all its points]")
@click.option("--epochs", type=COUNT, default=Search.epochs, show_default=True, help="Epochs of a complete trial.")
@click.option("--time-budget", type=DURATION, help="Start no more trials after this time, as in 30m or 1h30m.")
@click.option("--stop-when-flat", type=COUNT, metavar="N", help="Stop after N trials in a row without a better score.")
@click.option(
    "--objective",
    type=TEXT,
    default=",".join(Search.objectives),
    show_default=True,
    cls=ObjectiveOption,
    help="Metric on held-out photos to rank by: {names}; several for a Pareto front.",
)
@click.option(
    "--searcher",
    type=UncheckedChoice(SEARCHERS),
    default=Search.searcher,
    show_default=True,
    help="Algorithm that proposes the settings of the next trial.",
)
@click.option(
    "--scheduler",
    type=UncheckedChoice(SCHEDULERS),
    help=f"Algorithm that stops trials early.  [default: {Search.scheduler}; none with several objectives]",
)
@click.option(
    "--confirm",
    type=FINALISTS_AND_SEEDS,
    help="Train the best TOP again from SEEDS fresh seeds each, as in 3x5, or none.  "
    f"[default: {DEFAULT_CONFIRM[0]}x{DEFAULT_CONFIRM[1]} from {MIN_CONFIRMED_TRIALS} trials on]",
)
@resource_options
@click.option(
    "--seed", type=SEED, default=Search.seed, show_default=True, help="Seed of the split, the searcher and all trials."
)
@click.option("--space", type=FOLDER, help="TOML file of the search space.")
@recipe_option
@click.option("--warm-start", type=TEXT, help=f"Presets to try first, or none.  [default: {DEFAULT_WARM_START}]")
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
    **options: Any,
) -> int:
    """Search for the settings that colorize photos best.

    Example: huetune search --photos flowers --name roses --trials 30
    """
    from huetune.model.presets import PRESETS
    from huetune.model.recipes import with_recipe
    from huetune.search.spec.space_file import read_space
    from huetune.search.spec.space_parser import DEFAULT_SPACE, parse_space
    from huetune.search.spec.validation import check_storage, check_storage_outside_photos

    base = with_recipe(PRESETS["model-2"], batching)
    searched = read_space(space, base) if space else parse_space(DEFAULT_SPACE, base)
    presets = split_list(DEFAULT_WARM_START if warm_start is None else warm_start)
    presets = () if presets == ("none",) else presets
    if trials is None:
        grid = options["searcher"] == "grid"
        trials = len(searched.grid_points()) + len(presets) if grid else Search.trials
    objectives = split_list(objective)
    several = len(objectives) > 1
    if confirm is None:
        confirm = DEFAULT_CONFIRM if trials >= MIN_CONFIRMED_TRIALS and not several else "none"
    spec = Search(
        **options,
        space=searched,
        resources=Resources(cpus_per_trial, gpus_per_trial, address, trial_timeout),
        name=name or datetime.datetime.now().strftime("search-%Y%m%d-%H%M%S"),
        warm_start=presets,
        trials=trials,
        objectives=objectives,
        scheduler=scheduler or ("none" if several else Search.scheduler),
        confirm=None if isinstance(confirm, str) else confirm,
    )
    source = Source(photos, garden, split_list(classes), limit, spec.seed if limit else None)
    check_storage(spec)
    check_storage_outside_photos(source, spec.storage)
    source.check()
    notification.check_url(notify)
    if spec.mlflow:
        # Only a new search requires MLflow. `resume` on a machine without it continues, and reports that nothing is
        # logged.
        optional_imports.require_extra("mlflow", "mlflow")

    from huetune.data_tools.photos.discovery import class_counts
    from huetune.data_tools.photos.split import may_be_in_test_split, split
    from huetune.search.ray_runtime.cluster import Cluster
    from huetune.search.session.runner import launch

    Cluster(spec.resources).check()
    read = read_photos(source, strict, quiet, partial(may_be_in_test_split, spec.seed))
    parts = split(read, spec.seed)
    # The colors are read now, because the files may have changed when the search ends.
    originals = source.read_rgb(parts.test, partial(progress_bar, quiet=quiet))
    if not quiet:
        for note in searched.notes:
            say(note, "yellow", stderr)
        counts = f"{len(parts.training)} training, {len(parts.validation)} validation, {len(parts.test)} test"
        say(f"{len(read)} photos from {source}: {counts}")
        if by_class := class_counts(read.names):
            say(f"by class: {by_class}")
    with notification.notify_on_exit(notify, spec.name, spec.storage):
        run = launch(spec, parts, stdout, source=source, quiet=quiet)
        return finish_search(run, parts.test, originals, quiet)
