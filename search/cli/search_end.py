"""The end of every search: the final check on the test photos, the trial table, and commands to run next."""

import os
import shlex
from typing import Any

from huetune.data_tools.common.errors import NoTrialError
from huetune.data_tools.common.terminal import say
from huetune.results.cli.table_commands import show_trials


def finish_search(run: Any, photos: Any, originals: Any, quiet: bool) -> int:
    """Check the winner on the test photos, print the trial table and what to run next, and return the exit code.

    Args:
        run: run whose trials have ended; this process holds its lock.
        photos: the test photos.
        originals: the test photos in color, uint8 of shape (photos, 112, 112, 3).
        quiet: print nothing.
    """
    from huetune.results.evaluation import final_check
    from huetune.results.tables.trial_table import run_rows, winner_row

    found = winner_row(run_rows(run))
    if found and len(photos):
        final_check.measure(run, photos, originals, quiet)
    if not quiet:
        show_trials(run)
        print_next_commands(run, bool(found))
    return 0 if found else NoTrialError.exit_code


def print_next_commands(run: Any, has_winner: bool) -> None:
    """Print where a run is stored, and commands for it that can be pasted into a shell."""
    place = shlex.quote(run.location)
    if not has_winner:
        say("")
        say(f"No trial is complete. Everything is in {place}; see why with: {run.command('trials')}")
        return
    from huetune.results.records.run import CONTACT_SHEET, EVALUATION

    sheet = run.folder / EVALUATION / CONTACT_SHEET
    if sheet.is_file():
        say("")
        say(f"Contact sheet with original, grayscale and colorized photos: {os.path.relpath(sheet)}")
    say("")
    say(f"Everything is in {place}. Next:")
    for command, arguments in (
        ("trials", ""),
        ("effects", ""),
        ("report", ""),
        ("best", "--export best-model"),
        ("evaluate", "--photos DIR"),
        ("colorize", "PHOTO --out DIR"),
    ):
        say(f"  {run.command(command, arguments)}")
    if others := run.manifest["search"]["objectives"][1:]:
        say(f"The other end of the Pareto front: --by {' or '.join(others)}.")
