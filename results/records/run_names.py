"""Shell completion of run names, without opening any run."""

from pathlib import Path

import click
from click.shell_completion import CompletionItem

from huetune.data_tools.cli.options import TEXT
from huetune.data_tools.storage.bucket_cache import local_path

STORAGE = Path("runs")
"""Default folder of runs."""


def complete_run_name(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the runs whose names begin with what was typed; for a path, let the shell complete it.

    For runs in a bucket, only those that this machine has read before are returned, because a key press must not wait
    for the network.
    """
    if "/" in incomplete:
        return [CompletionItem(incomplete, type="dir")]
    storage = local_path(context.params.get("storage") or str(STORAGE))
    # The name of the manifest is not imported from `results.records.run`, whose import would take too long.
    names = sorted(path.parent.name for path in storage.glob("*/manifest.json"))
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


run_argument = click.argument("run", type=TEXT, shell_complete=complete_run_name)
