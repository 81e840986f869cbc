"""Options that several commands of the search share."""

import click

from huetune.data_tools.cli.options import TEXT, combine_options
from huetune.search.cli.option_types import DURATION
from huetune.search.process import notification
from huetune.search.spec.resources import Resources

address_option = click.option(
    "--address",
    type=TEXT,
    help="Ray cluster to run on: HOST:PORT, auto, or local for this machine.  [default: RAY_ADDRESS, or this machine]",
)
quiet_option = click.option("--quiet", is_flag=True, help="Show only errors.")
notify_option = click.option(
    notification.OPTION,
    metavar="URL",
    envvar=notification.VARIABLE,
    show_envvar=True,
    help="Send a message at the end to a URL that Apprise supports, as in ntfy://topic or mailto://...",
)
resource_options = combine_options(
    click.option(
        "--cpus-per-trial",
        type=float,
        default=Resources.cpus_per_trial,
        show_default=True,
        help="CPUs that each trial takes.",
    ),
    click.option(
        "--gpus-per-trial",
        type=float,
        default=Resources.gpus_per_trial,
        show_default=True,
        help="GPUs that each trial takes.",
    ),
    click.option(
        "--trial-timeout",
        type=DURATION,
        help="Replace a worker that takes longer than this for one epoch, as in 10m.",
    ),
    address_option,
)
