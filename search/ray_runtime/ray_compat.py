"""All private parts of Ray that huetune uses, as in Ray 2.60.0.

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
    "ray._raylet.GcsClient": (None, "a cluster that requires no token is refused"),
    "ray._private.worker.print_to_stdstream": (("data", "ignore_prefix"), "a worker's death is reported in one line"),
    "ray._private.utils.get_entrypoint_name": ((), "a command line that is not UTF-8 can search"),
    "ray._private.utils._get_docker_cpus": (
        ("cpu_quota_file_name", "cpu_period_file_name", "cpuset_file_name", "cpu_max_file_name"),
        "a container with less than one CPU can search",
    ),
    "ray._private.utils.get_dashboard_dependency_error": ((), "a local Ray starts no processes of the dashboard"),
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
    "ray.tune.schedulers.MedianStoppingRule._stopped_trials": (None, "a resumed trial continues under the median rule"),
}
"""By name: the parameters to check, or None, and what in huetune breaks without it. `f:k` is the keyword k of f."""

LOOPBACK_SWITCH = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
"""Environment variable; with "0" Ray listens on the loopback address only. Ray offers it for desktops whose firewalls
ask about each port. Passing a loopback address to `ray.init` has no such effect, as Ray replaces it by a public one."""

ASK_FOR_TOKEN = """
import sys
from ray._raylet import GcsClient
from ray.exceptions import AuthenticationError
try:
    GcsClient(address=sys.argv[1])
except AuthenticationError:
    sys.exit(9)
"""
"""Connects to the cluster in `argv[1]`, in its own process, because Ray reads only once whether there is a token."""
TOKEN_WANTED_EXIT_CODE = 9


class IsolatedJob(JobConfig):
    """A Ray job whose workers import only installed packages and those sent with the job."""

    def _runtime_env_has_working_dir(self) -> bool:
        # Otherwise Ray puts the driver's current folder and its script's folder first on the workers' `sys.path`.
        return True


def recorded_cluster() -> str | None:
    """Return the HOST:PORT of the cluster that `ray start` started on this machine; None if there is none."""
    recorded = services.find_bootstrap_address(None)
    return services.canonicalize_bootstrap_address_or_die(recorded) if recorded else None


def cpu_quota() -> float | None:
    """Return the number of CPUs that a container may use; None without a limit."""
    return utils._get_docker_cpus()


def prepare_tune() -> None:
    """Keep a bucket's keys out of Ray's logs, and skip imports for usage statistics, which are off."""
    # Tune would send the driver's keys to the workers by Ray, which writes them to its logs.
    propagated = class_cache.ENV_VARS_TO_PROPAGATE
    propagated.difference_update({name for name in propagated if name.startswith("AWS_")})
    # Tune would import MLflow and others to count callbacks, which takes a second.
    usage.tag_callbacks = lambda callbacks: False


def prepare_driver() -> None:
    """Keep Ray from printing the deaths of workers and nodes, and from reading this process's command line."""
    # Ray always prints many lines for each death of a worker or a node. huetune prints one.
    worker.print_to_stdstream = lambda *data, **options: None
    # Ray decodes the command line as UTF-8, but the path of a photo folder can be in another encoding.
    utils.get_entrypoint_name = lambda: "huetune"


def start_local_ray(folder: str, cpus: int | None, **options: Any) -> None:
    """Start a new Ray on this machine.

    Args:
        folder: the folder for Ray's files.
        cpus: number of CPUs, 1 or more; None for Ray's own count.
        options: further options of `ray.init`.
    """
    # Without an address Ray would join a cluster that runs on this machine.
    ray.init(
        address="local",
        include_dashboard=False,
        num_cpus=cpus,
        _temp_dir=folder,
        # Ray would start a worker per core in advance, but Tune's trials need another environment and use none of them.
        _system_config={"prestart_worker_first_driver": False},
        **options,
    )


@contextlib.contextmanager
def loopback_only() -> Iterator[None]:
    """Make a Ray that is started in this context listen on the loopback address only, without a dashboard.

    `LOOPBACK_SWITCH` must also be "0" in the environment, which each process of Ray reads. This process read it when it
    imported ray.
    """
    enabled, missing = ray_constants.ENABLE_RAY_CLUSTER, utils.get_dashboard_dependency_error
    ray_constants.ENABLE_RAY_CLUSTER = False
    # If the dashboard's packages are installed, Ray loads them in two processes and listens on more ports even without
    # a dashboard, which costs each search half a second and 45 MB.
    utils.get_dashboard_dependency_error = lambda: ImportError("not needed")
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = enabled
        utils.get_dashboard_dependency_error = missing


def forget_trial(scheduler: TrialScheduler, trial: Any) -> None:
    """Remove a trial whose worker died from a scheduler: it failed, or it resumes with a new id."""
    if isinstance(scheduler, ASHAScheduler):
        for bracket in scheduler._brackets:
            for _, recorded in bracket._rungs:
                recorded.pop(trial.trial_id, None)
    elif isinstance(scheduler, MedianStoppingRule):
        scheduler._results.pop(trial, None)


def ignore_stop(scheduler: TrialScheduler, trial: Any) -> None:
    """Make a scheduler accept further results of a trial that it has just decided to stop."""
    if isinstance(scheduler, MedianStoppingRule):
        scheduler._stopped_trials.discard(trial)
