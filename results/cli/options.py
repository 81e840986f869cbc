"""Options that several commands of runs and models share."""

from collections.abc import Callable

import click

from huetune.data_tools.cli.options import FOLDER_OR_BUCKET, TEXT
from huetune.results.records.run_names import STORAGE

storage_option = click.option(
    "--storage",
    type=FOLDER_OR_BUCKET,
    default=STORAGE,
    show_default=True,
    help="Folder of runs, or s3://bucket/folder.",
)
by_option = click.option("--by", type=TEXT, help="Objective that decides the winner, if the search has several.")


def format_option(*formats: str) -> Callable:
    """Return the option --format of a command, which passes the name of a format as `form`.

    Args:
        formats: the formats of the command; the first one is the default.
    """
    return click.option(
        "--format",
        "form",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help="Output format.",
    )
