"""Verbs that hand a run on to other people's tools."""

import contextlib
import os
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from huetune.data_tools.cli.options import FOLDER
from huetune.data_tools.common.terminal import progress_bar, say
from huetune.data_tools.storage.bucket_cache import bucket_path, location_of
from huetune.results.cli.options import storage_option
from huetune.results.records.run_names import run_argument

INTERVAL = 5.0
"""Seconds between two looks at a search that runs."""

follow_option = click.option("--follow", is_flag=True, help="Go on until the search ends.")


@click.command()
@run_argument
@storage_option
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 for any free one.")
def dashboard(run: str, storage: Path, port: int) -> None:
    """Open Optuna's dashboard on a run, also while it runs: on this machine only, and nothing can be changed.

    Example: huetune dashboard roses --port 8081
    """
    from huetune.results.records.run import find_run

    found = find_run(run, storage)

    from huetune.results.analysis.winner import find_winner
    from huetune.results.integrations.optuna_dashboard import note, serving

    with serving(found.study(), port, lambda: find_winner(found)) as (server, address):
        say(f"{address}  (Ctrl-C ends it)")
        if won := find_winner(found):
            say(note(won))
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


@click.command()
@run_argument
@storage_option
@click.option("--out", type=FOLDER, help="Folder for the event files.  [default: tensorboard, in the run]")
@follow_option
def tensorboard(run: str, storage: Path, out: Path | None, follow: bool) -> None:
    """Write TensorBoard's event files of all trials: a curve for each figure, and a row each under HPARAMS.

    Example: huetune tensorboard roses --follow
    """
    from huetune.results.records.run import find_run

    found = find_run(run, storage)

    from huetune.results.analysis.winner import find_winner
    from huetune.results.integrations import tensorboard as events

    study = found.study()
    folder = out or found.folder / events.FOLDER
    where = os.path.relpath(folder)
    count = events.write(study, folder, progress_bar("writing", len(study.get_trials(deepcopy=False))))
    say(f"{count} trials in {where}; look at them with: tensorboard --logdir {shlex.quote(where)}")
    if won := find_winner(found):
        say(f"winner: {won}; TensorBoard ranks trials by the score of the search")
    if follow:
        until_ended(found, study, lambda study: events.write(study, folder))


@click.command()
@run_argument
@storage_option
@click.option("--uri", required=True, help="MLflow server, as in http://host:5000 or sqlite:///mlflow.db.")
@follow_option
def mlflow(run: str, storage: Path, uri: str, follow: bool) -> None:
    """Log the trials that have ended to MLflow, each once: settings, figures of each epoch, how it ended.

    Example: huetune mlflow roses --uri http://127.0.0.1:5000
    """
    from huetune.results.records.run import find_run

    found = find_run(run, storage)
    study = found.study()

    from huetune.results.integrations.mlflow import Log

    log = Log(uri, found)
    count = log.write(study, progress_bar("logging", len(study.get_trials(deepcopy=False))))
    if follow:
        count += until_ended(found, study, log.write)
    say(f"{count} trials of {found.name!r} are new in MLflow")


def until_ended(run: Any, study: Any, look: Callable[[Any], int]) -> int:
    """Look at a study again and again until nobody searches any more, and return the sum of what was seen."""
    from huetune.data_tools.storage.run_lock import lock_holder
    from huetune.results.records.run import find_run
    from huetune.results.records.study_record import StudyRecord

    seen = 0
    while lock_holder(run.folder) and not StudyRecord.of(study).ended:
        time.sleep(INTERVAL)
        if bucket_path(run.folder):
            # Its mirror is as it was when the run was found.
            study = find_run(location_of(run.folder)).study()
        seen += look(study)
    return seen + look(study)
