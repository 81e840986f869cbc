"""All private parts of Ray that huetune uses, read from Ray 2.60.0.

`PRIVATE` names each and what breaks without it. tests/search/ray_runtime/test_ray_compat.py looks for them in
the installed version.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import ray
from ray._private import ray_constants, services, utils, worker
from ray.air._internal import usage
from ray.job_config import JobConfig
from ray.tune.execution import class_cache
from ray.tune.schedulers import ASHAScheduler, MedianStoppingRule, TrialScheduler

PRIVATE: dict[str, tuple[tuple[str, ...] | None, str]] = {
    "ray._private.services.find_bootstrap_address": (("temp_dir",), "--address auto finds the cluster"),
    "ray._private.services.canonicalize_bootstrap_address_or_die": (
        ("addr", "temp_dir"),
        "--address auto reaches a cluster that was started on the loopback address",
    ),
    "ray._raylet.GcsClient": (None, "a cluster that asks for no token is refused"),
    "ray._private.worker.print_to_stdstream": (("data", "ignore_prefix"), "a worker's death is told in one line"),
    "ray._private.utils.get_entrypoint_name": ((), "a command line that is not UTF-8 can search"),
    "ray._private.utils._get_docker_cpus": (
        ("cpu_quota_file_name", "cpu_period_file_name", "cpuset_file_name", "cpu_max_file_name"),
        "a container with less than one CPU can search",
    ),
    "ray._private.utils.get_dashboard_dependency_error": ((), "a local Ray does without the dashboard's processes"),
    "ray._private.ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR": (None, "a local Ray listens on the loopback address"),
    "ray._private.ray_constants.ENABLE_RAY_CLUSTER": (None, "a local Ray listens on the loopback address"),
    "ray.init:_temp_dir": (None, "a local Ray keeps its files where nobody else can read them"),
    "ray.init:_system_config": (None, "a local Ray starts no workers that a search does not use"),
    "ray.job_config.JobConfig._runtime_env_has_working_dir": (
        ("self",),
        "workers do not import from the current folder",
    ),
    "ray.air._internal.usage.tag_callbacks": (("callbacks",), "a search starts a second sooner, without MLflow"),
    "ray.tune.execution.class_cache.ENV_VARS_TO_PROPAGATE": (None, "the bucket's keys stay out of Ray's logs"),
    "ray.tune.schedulers.ASHAScheduler._brackets": (None, "ASHA and Hyperband forget a trial whose worker died"),
    "ray.tune.schedulers.async_hyperband._Bracket._rungs": (None, "ASHA and Hyperband forget a trial that died"),
    "ray.tune.schedulers.MedianStoppingRule._results": (None, "the median rule forgets a trial whose worker died"),
    "ray.tune.schedulers.MedianStoppingRule._stopped_trials": (None, "a resumed trial goes on under the median rule"),
}
"""By name: its parameters, None where it has none to check, and what in huetune breaks without it.

`f:k` is the keyword k of the function f."""

LOOPBACK_SWITCH = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
"""Off, Ray keeps to the loopback address. It is there for desktops whose firewalls ask about each port; the address
that `ray.init` is given would not do, as Ray replaces the loopback's by one that others reach."""

ASK_FOR_TOKEN = """
import sys
from ray._raylet import GcsClient
from ray.exceptions import AuthenticationError
try:
    GcsClient(address=sys.argv[1])
except AuthenticationError:
    sys.exit(9)
"""
"""Code for a process of its own, which is told a cluster's address: Ray reads once whether there is a token."""
TOKEN_WANTED_EXIT_CODE = 9


class IsolatedJob(JobConfig):
    """A Ray job whose workers import what is installed or travels with it, and nothing else."""

    def _runtime_env_has_working_dir(self) -> bool:
        # Without one, Ray puts the driver's current folder and its script's in front of the workers' `sys.path`.
        return True


def recorded_cluster() -> str | None:
    """Return the HOST:PORT of the cluster that `ray start` has started on this machine; None where there is none."""
    recorded = services.find_bootstrap_address(None)
    return services.canonicalize_bootstrap_address_or_die(recorded) if recorded else None


def cpu_quota() -> float | None:
    """Return the CPUs that a container may use; None where nothing limits them."""
    return utils._get_docker_cpus()


def prepare_tune() -> None:
    """Keep the keys to a bucket out of what Tune hands on, and spare it imports for statistics that are off."""
    # Tune would hand the driver's keys on to the workers, through Ray, which writes them into its logs.
    propagated = class_cache.ENV_VARS_TO_PROPAGATE
    propagated.difference_update({name for name in propagated if name.startswith("AWS_")})
    # To count callbacks, Tune would import MLflow and the like: a second of each start.
    usage.tag_callbacks = lambda callbacks: False


def prepare_driver() -> None:
    """Have Ray print nothing about workers and nodes that die, and not read this process's command line."""
    # It prints each death of a worker or a node in many lines, whatever it is told. So do we, in one.
    worker.print_to_stdstream = lambda *data, **options: None
    # It takes the command line for UTF-8, which a photo's folder need not be.
    utils.get_entrypoint_name = lambda: "huetune"


def start_local_ray(folder: str, cpus: int | None, **options: Any) -> None:
    """Start Ray on this machine alone.

    Args:
        folder: for Ray's files.
        cpus: that Ray has; None for as many as it counts.
        options: of `ray.init`.
    """
    # Without an address, Ray would join whatever cluster runs on this machine.
    ray.init(
        address="local",
        include_dashboard=False,
        num_cpus=cpus,
        _temp_dir=folder,
        # Those a core that Ray starts ahead have not the environment that Tune wants for trials: none is used.
        _system_config={"prestart_worker_first_driver": False},
        **options,
    )


@contextlib.contextmanager
def loopback_only() -> Iterator[None]:
    """A context in which Ray, when it is started, listens on the loopback address alone and has no dashboard.

    `LOOPBACK_SWITCH` must be "0" in the environment, too: each process that Ray starts reads it. This process has read
    it when it imported ray.
    """
    enabled, missing = ray_constants.ENABLE_RAY_CLUSTER, utils.get_dashboard_dependency_error
    ray_constants.ENABLE_RAY_CLUSTER = False
    # Where the dashboard's packages are installed, Ray loads them in two processes and listens on more ports, dashboard
    # or not: half a second and 45 MB of each search, for nothing that it uses.
    utils.get_dashboard_dependency_error = lambda: ImportError("not wanted")
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = enabled
        utils.get_dashboard_dependency_error = missing


def forget_trial(scheduler: TrialScheduler, trial: Any) -> None:
    """Have a scheduler not count a trial whose worker died: it goes on under another name, or failed."""
    if isinstance(scheduler, ASHAScheduler):
        for bracket in scheduler._brackets:
            for _, recorded in bracket._rungs:
                recorded.pop(trial.trial_id, None)
    elif isinstance(scheduler, MedianStoppingRule):
        scheduler._results.pop(trial, None)


def ignore_stop(scheduler: TrialScheduler, trial: Any) -> None:
    """Have a scheduler accept further results of a trial that it has just found worth stopping."""
    if isinstance(scheduler, MedianStoppingRule):
        scheduler._stopped_trials.discard(trial)
