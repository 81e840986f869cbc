"""The command `huetune`: the group of all commands, and the entry point that runs it.

Each command imports what it needs when it is called, because TensorFlow and Ray take seconds to import.
"""

import io
import os
import platform
import sys
from importlib.metadata import version

import click

from huetune.data_tools.cli.data_commands import data
from huetune.model.cli import train
from huetune.results.cli.commands import COMMANDS as RESULT_COMMANDS
from huetune.search.cli.error_reporting import run_command
from huetune.search.cli.resume_commands import extend, resume
from huetune.search.cli.retrain_commands import compare, confirm, rerun
from huetune.search.cli.search_command import search
from huetune.search.process import environment, notification, signals

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

VERSIONED_PACKAGES = ("tensorflow", "keras", "ray", "optuna", "numpy", "pillow")
"""`--version` prints the versions of these packages, on which numbers and bugs depend."""


def main() -> None:
    """Run the command that `sys.argv` names, and exit with its exit code."""
    notification.hide_url()
    environment.prepare()
    signals.install_handlers()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # The locale may not have all the letters of a file name.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(run_command(cli))


def _print_versions(context: click.Context, option: click.Parameter, requested: bool) -> None:
    """Print the versions of huetune and of `VERSIONED_PACKAGES`, without importing any of them, and exit."""
    if requested and not context.resilient_parsing:
        click.echo(f"huetune {version('huetune')}")
        click.echo(f"python {platform.python_version()}")
        for package in VERSIONED_PACKAGES:
            click.echo(f"{package} {version(package)}")
        context.exit()


@click.group(
    epilog='Tab completion: add eval "$(_HUETUNE_COMPLETE=bash_source huetune)" to ~/.bashrc; for other shells, use '
    "zsh_source or fish_source.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_versions,
    help="Show the versions of huetune, Python and the main dependencies.",
)
def cli() -> None:
    """Search for the VAE that colorizes your photos best, with a confidence interval for the winner."""


for command in (*RESULT_COMMANDS, train, data, confirm, compare, rerun, search, resume, extend):
    cli.add_command(command)
