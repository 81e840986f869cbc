"""Options that several commands of runs and models share."""

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
