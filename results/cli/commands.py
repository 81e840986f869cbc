"""The list of this package's commands, which read runs and models without Ray."""

import click

from huetune.results.cli.best_command import best
from huetune.results.cli.evaluation_commands import colorize, evaluate
from huetune.results.cli.integration_commands import dashboard, mlflow, tensorboard
from huetune.results.cli.log_command import log
from huetune.results.cli.report_command import report
from huetune.results.cli.structure_command import structure
from huetune.results.cli.table_commands import effects, list_, presets, trials
from huetune.results.cli.verify_command import verify
from huetune.results.cli.watch_command import watch

COMMANDS: tuple[click.Command, ...] = (
    list_,
    trials,
    watch,
    presets,
    effects,
    verify,
    best,
    evaluate,
    colorize,
    report,
    log,
    structure,
    dashboard,
    tensorboard,
    mlflow,
)
