"""What a shell completes: names of runs, without opening any of them."""

from pathlib import Path

import click
from click.shell_completion import CompletionItem

from huetune.data_tools.cli.options import TEXT
from huetune.data_tools.storage.bucket_cache import local_path

STORAGE = Path("runs")
"""Folder of runs, where no other is named."""


def run_names(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the runs whose name goes on from what was typed; of a path, have the shell complete it.

    Of runs in a bucket only those that this machine has seen: a key press must not wait for a network.
    """
    if "/" in begun:
        return [CompletionItem(begun, type="dir")]
    storage = local_path(context.params.get("storage") or str(STORAGE))
    # results.records.run, which knows what a run's manifest is called, would wait for Optuna.
    names = sorted(path.parent.name for path in storage.glob("*/manifest.json"))
    return [CompletionItem(name) for name in names if name.startswith(begun)]


run_argument = click.argument("run", type=TEXT, shell_complete=run_names)
