"""The commands that continue a search: `resume` after an interruption, `extend` with a larger budget."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from huetune.data_tools.cli.options import count_from
from huetune.data_tools.common.errors import UserError
from huetune.data_tools.common.terminal import progress_bar, say, stdout
from huetune.results.cli.options import storage_option
from huetune.results.records.run_names import run_argument
from huetune.results.records.run_photos import moved_option, photos_of, source_of
from huetune.search.cli.option_types import DURATION
from huetune.search.cli.options import address_option, notify_option, quiet_option
from huetune.search.cli.search_end import finish_search
from huetune.search.process.notification import notify_on_exit


@click.command()
@run_argument
@storage_option
@moved_option
@address_option
@notify_option
@quiet_option
def resume(run: str, storage: Path, photos: Path | None, address: str | None, notify: str | None, quiet: bool) -> int:
    """Resume a search that was interrupted or crashed.

    Trials that have ended stay as they are; trials that were running continue after their last epoch.

    Example: huetune resume roses
    """
    from huetune.data_tools.storage.run_lock import lock_run
    from huetune.results.records.run import find_run

    found = find_run(run, storage)

    from huetune.results.evaluation import final_check
    from huetune.search.session import runner
    from huetune.search.session.repair import repair
    from huetune.search.spec.manifest import load_search

    with lock_run(found.folder), notify_on_exit(notify, found.name, found.folder.parent) as cancel_notification:
        repair(found, stdout)
        search = load_search(found, address)
        parts, originals = _photos_and_originals(found, quiet, photos)
        # The final check is the last step of a search.
        checked = not len(parts.test) or final_check.is_current(found)
        if runner.resume(found, search, parts, stdout, quiet=quiet) or not checked:
            return finish_search(found, parts.test, originals, quiet)
        cancel_notification()
    say(f"run {found.name!r} is finished, nothing was changed; more trials: {found.command('extend', '--trials N')}")
    return 0


@click.command()
@run_argument
@storage_option
@click.option("--trials", type=count_from(0), default=0, help="Number of trials to add.")
@click.option("--epochs", type=count_from(1), help="New total number of epochs of a complete trial.")
@click.option("--time-budget", type=DURATION, help="Start no more trials after this additional time, as in 30m.")
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
    """Continue a search that has ended, with more trials, more epochs per trial, or both.

    With more epochs, each complete trial is trained further as a new trial. The column `continues` of the trial table
    names the old one.

    Example: huetune extend roses --trials 20 --epochs 10
    """
    from huetune.data_tools.storage.run_lock import lock_run
    from huetune.results.records.run import find_run

    found = find_run(run, storage)

    from huetune.search.session import runner
    from huetune.search.session.repair import repair
    from huetune.search.spec.manifest import load_search
    from huetune.search.spec.validation import check_seconds

    check_seconds("time_budget", time_budget)
    with lock_run(found.folder), notify_on_exit(notify, found.name, found.folder.parent):
        repair(found, stdout)
        search = load_search(found, address)
        unfinished = epochs == search.epochs and runner.trials_below(found.study(), search.epochs)
        if not trials and (epochs is None or epochs == search.epochs) and not unfinished:
            raise UserError("extend: pass --trials, --epochs or both")
        if epochs is not None and epochs < search.epochs:
            raise UserError(f"epochs must be at least {search.epochs}, as in the search so far, received {epochs!r}")
        parts, originals = _photos_and_originals(found, quiet, photos)
        runner.extend(found, search, parts, stdout, trials, epochs or search.epochs, time_budget, quiet=quiet)
        return finish_search(found, parts.test, originals, quiet)


def _photos_and_originals(run: Any, quiet: bool, moved: Path | None) -> tuple[Any, Any]:
    """Return a run's photos, split as when the search began, and the colors of its test photos."""
    parts = photos_of(run, quiet, moved)
    return parts, source_of(run, moved).read_rgb(parts.test, partial(progress_bar, quiet=quiet))
