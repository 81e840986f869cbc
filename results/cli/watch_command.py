"""The command `huetune watch`: follows a search that runs in another process."""

import math
from functools import partial
from pathlib import Path

import click

from huetune.data_tools.common.errors import Interrupted, UserError
from huetune.data_tools.common.terminal import stdout
from huetune.results.cli.options import storage_option
from huetune.results.records.run_names import run_argument


@click.command()
@run_argument
@storage_option
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 86_400),
    help="Seconds between two updates.  [default: 2; 10 for a run in a bucket]",
)
@click.option("--once", is_flag=True, help="Show the current state and exit.")
def watch(run: str, storage: Path, interval: float | None, once: bool) -> int:
    """Watch the progress of a running search until it ends.

    Ctrl-C stops watching, not the search.

    Example: huetune watch roses
    """
    from huetune.results.records.run import find_run

    if interval is not None and math.isnan(interval):
        raise UserError("watch --interval: must be a number of seconds from 0.1 to 86400, received nan")
    find = partial(find_run, run, storage)
    find()

    from huetune.results.live.watch import show_once
    from huetune.results.live.watch import watch as follow

    try:
        ended = show_once(find, stdout) if once else follow(find, stdout, interval)
    except Interrupted as signal:
        return signal.exit_code
    return 0 if ended or once else 1
