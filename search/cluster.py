"""Where trials run: Ray, on this machine or a cluster, and Tune on it."""

import contextlib
import logging
import math
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Read when ray is imported. Under `uv run`, Ray would start every worker through uv, the working folder uploaded.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# The study is the record; Tune's own files a result would only cost time.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
# Tune's newer output prints a table for each failed trial, however quiet it is told to be.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from data_tools.errors import UserError
from data_tools.split import Split
from search.searcher import Deaths, StudySearcher
from search.trial import BEST, Trial


@dataclass(frozen=True)
class Cluster:
    """Ray, and what of it a trial takes.

    Args:
        cpus_per_trial: of Ray, above 0; also TensorFlow's threads, rounded down, at least 1.
        gpus_per_trial: of Ray, 0 or more; 0.5 lets two trials share one.
        address: of a running Ray cluster; None starts Ray on this machine, unless RAY_ADDRESS names one.

    Raises:
        UserError: a value outside of these, or an address where nobody listens.
    """

    cpus_per_trial: float = 1.0
    gpus_per_trial: float = 0.0
    address: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.cpus_per_trial < math.inf:
            raise UserError(f"cpus-per-trial must be above 0, received {self.cpus_per_trial!r}")
        if not 0 <= self.gpus_per_trial < math.inf:
            raise UserError(f"gpus-per-trial must be 0 or more, received {self.gpus_per_trial!r}")

    @property
    def threads(self) -> int:
        """That TensorFlow may use in a trial."""
        return max(1, int(self.cpus_per_trial))

    def check(self) -> None:
        """Say at once what Ray would say only after minutes of trying.

        Raises:
            UserError: nobody listens at the address.
        """
        if address := self.address or os.environ.get("RAY_ADDRESS"):
            _check_reachable(address)

    @contextlib.contextmanager
    def started(self) -> Iterator[None]:
        """Ray, for as long as the context is open; one that is open already is used and left so.

        Raises:
            UserError: Ray cannot be started or reached.
        """
        if ray.is_initialized():
            yield
            return
        _start_ray(self.address)
        try:
            yield
        finally:
            ray.shutdown()

    def train(self, searcher: StudySearcher, scheduler: str, parts: Split, run: Path, folder: str) -> None:
        """Train what a searcher asks for until it asks no more, or to Ctrl-C; in the context of `started`.

        Args:
            searcher: is told all that becomes of it.
            scheduler: a key of `SCHEDULERS`.
            parts: the photos.
            run: folder of the run.
            folder: in it, for checkpoints.

        Raises:
            UserError: Ray has no room for a trial.
        """
        resources = {"CPU": self.cpus_per_trial, "GPU": self.gpus_per_trial}
        at_once = slots(self.cpus_per_trial, self.gpus_per_trial, ray.cluster_resources())
        # Through the object store: each node gets the photos once, and its workers share them.
        trainable = tune.with_parameters(
            Trial, split=parts, threads=self.threads, run=str(run), folder=folder, objective=searcher.objective
        )
        tuner = tune.Tuner(
            tune.with_resources(trainable, resources),
            tune_config=tune.TuneConfig(
                metric=BEST,
                mode=searcher.mode,
                search_alg=searcher,
                scheduler=SCHEDULERS[scheduler](searcher.epochs),
                num_samples=-1,
                # It also bounds how many configurations are drawn ahead, before their forerunners taught the sampler.
                max_concurrent_trials=at_once,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: f"{trial.config['number']:04}",
            ),
            run_config=tune.RunConfig(
                name=f"tune-{folder}",
                storage_path=str(run),
                verbose=0,
                callbacks=[Deaths(searcher)],
                # Trials keep their best epoch themselves; Tune would keep the last.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
        reason = "interrupted"
        try:
            tuner.fit()
        except Exception as error:
            reason = f"the search ended: {error}"
            raise
        finally:
            searcher.fail_live(reason)


def _check_reachable(address: str) -> None:
    """Say at once what Ray would say only after minutes of trying: nobody listens at an address."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        reason = error.strerror or "no answer within 10 s"
        raise UserError(f"--address {address!r}: cannot be reached ({reason}); is a Ray head running there?") from None


def _start_ray(address: str | None) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address or os.environ.get("RAY_ADDRESS"):
            ray.init(address=address, **quiet)
        else:
            # Without an address, Ray would join whatever cluster runs on this machine.
            ray.init(address="local", include_dashboard=False, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"Ray cannot be reached at {address or 'this machine'!r} ({reason})") from None


def slots(cpus_per_trial: float, gpus_per_trial: float, resources: dict[str, float]) -> int:
    """Return how many trials run side by side.

    Raises:
        UserError: not even one.
    """
    count = math.floor(resources.get("CPU", 0) / cpus_per_trial + 1e-9)
    if gpus_per_trial:
        count = min(count, math.floor(resources.get("GPU", 0) / gpus_per_trial + 1e-9))
    if count < 1:
        raise UserError(
            f"no room for a trial of {cpus_per_trial:g} CPUs and {gpus_per_trial:g} GPUs: Ray has "
            f"{resources.get('CPU', 0):g} and {resources.get('GPU', 0):g}"
        )
    return count


def _grace(epochs: int) -> int:
    # In its first epoch a model mostly shrinks its kernels. Among the good structures of the recorded table the order
    # after one epoch has a rank correlation of 0.49 with the truth, and of 0.91 after two.
    return max(1, epochs // 4)


def _asha(epochs: int) -> TrialScheduler:
    return ASHAScheduler(time_attr="epoch", max_t=epochs, grace_period=_grace(epochs), reduction_factor=3)


def _hyperband(epochs: int) -> TrialScheduler:
    # Hyperband's brackets, each with a grace three times as long as the one before, without its pauses: a trial that
    # waits for its bracket to fill would hold a place that another could train in.
    brackets = max(1, round(math.log(epochs / _grace(epochs), 3)) + 1)
    return ASHAScheduler(
        time_attr="epoch", max_t=epochs, grace_period=_grace(epochs), reduction_factor=3, brackets=brackets
    )


def _median(epochs: int) -> TrialScheduler:
    # Tune would have trials pause until there are enough to compare; here a trial that waits would only hold its place.
    return MedianStoppingRule(
        time_attr="epoch",
        grace_period=_grace(epochs),
        min_samples_required=3,
        min_time_slice=math.inf,  # type: ignore[arg-type]  # its first pause comes after an infinite time
    )


SCHEDULERS: dict[str, Callable[[int], TrialScheduler]] = {
    "asha": _asha,
    "hyperband": _hyperband,
    "median": _median,
    "none": lambda epochs: FIFOScheduler(),
}
