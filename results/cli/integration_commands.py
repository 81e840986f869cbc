"""The commands `huetune dashboard`, `tensorboard` and `mlflow`, which show a run in other tools."""

import contextlib
import os
import shlex
from pathlib import Path

import click

from huetune.data_tools.cli.options import FOLDER
from huetune.data_tools.common.plural import counted
from huetune.data_tools.common.terminal import progress_bar, say
from huetune.results.cli.options import storage_option
from huetune.results.records.run_names import run_argument

follow_option = click.option("--follow", is_flag=True, help="Keep exporting until the search ends.")


@click.command()
@run_argument
@storage_option
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Port to listen on; 0 for any free port.",
)
def dashboard(run: str, storage: Path, port: int) -> None:
    """Open Optuna's dashboard for a run, also while the search is running.

    The dashboard is read-only and reachable only from this machine.

    Example: huetune dashboard roses --port 8081
    """
    from huetune.results.records.run import find_run

    found = find_run(run, storage)

    from huetune.results.analysis.winner import find_winner
    from huetune.results.integrations.optuna_dashboard import serve_dashboard, winner_note

    with serve_dashboard(found.study(), port, lambda: find_winner(found)) as (server, address):
        say(f"{address}  (press Ctrl-C to stop)")
        if winner := find_winner(found):
            say(winner_note(winner))
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


@click.command()
@run_argument
@storage_option
@click.option("--out", type=FOLDER, help="Folder for the event files.  [default: tensorboard in the run]")
@follow_option
def tensorboard(run: str, storage: Path, out: Path | None, follow: bool) -> None:
    """Export all trials to TensorBoard: a curve per metric, and a row in HPARAMS.

    Only new epochs are written, appended to the event files of earlier exports.

    Example: huetune tensorboard roses --follow
    """
    from huetune.results.records.run import find_run

    found = find_run(run, storage)

    from huetune.results.analysis.winner import find_winner
    from huetune.results.integrations import tensorboard as events
    from huetune.results.integrations.following import follow_search

    study = found.study()
    folder = out or found.folder / events.FOLDER
    relative = os.path.relpath(folder)
    count = events.write(study, folder, progress_bar("writing", len(study.get_trials(deepcopy=False))))
    say(f"{counted(count, 'trial')} in {relative}; show with: tensorboard --logdir {shlex.quote(relative)}")
    if winner := find_winner(found):
        say(f"winner: {winner}; TensorBoard ranks trials by their score in the search")
    if follow:
        follow_search(found, study, lambda study: events.write(study, folder))


@click.command()
@run_argument
@storage_option
@click.option("--uri", required=True, help="MLflow server, as in http://host:5000 or sqlite:///mlflow.db.")
@follow_option
def mlflow(run: str, storage: Path, uri: str, follow: bool) -> None:
    """Log ended trials to MLflow: settings, metrics of each epoch, and final state.

    Trials that are already logged are skipped.

    Example: huetune mlflow roses --uri http://127.0.0.1:5000
    """
    from huetune.results.records.run import find_run

    found = find_run(run, storage)
    study = found.study()

    from huetune.results.integrations.following import follow_search
    from huetune.results.integrations.mlflow import MLflowWriter

    writer = MLflowWriter(uri, found)
    count = writer.write(study, progress_bar("logging", len(study.get_trials(deepcopy=False))))
    if follow:
        count += follow_search(found, study, writer.write)
    say(f"logged {counted(count, 'new trial')} of {found.name!r} to MLflow")
