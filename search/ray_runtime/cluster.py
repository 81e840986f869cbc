"""Starts or joins Ray, and runs trials on it with Ray Tune."""

import contextlib
import logging
import math
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Ray reads these when it is imported. Under `uv run`, it would upload the working folder and start workers by uv.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# The study is the record, so Tune need not write files for each result.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
# Tune's newer output prints a table for each failed trial, even with verbose=0.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# search.process.signals handles signals.
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
# How many trials Tune asks for in advance; the searcher itself limits how many run.
os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "1000")

import ray
from ray import tune

import huetune
from huetune import data_tools, model, results, search
from huetune.data_tools.common.errors import ClusterLostError, StorageError, UserError, first_line
from huetune.data_tools.common.terminal import is_utf8, restore_codes
from huetune.data_tools.photos.split import Split
from huetune.data_tools.storage.bucket_cache import location_of
from huetune.model.checkpoint_format import package_versions
from huetune.results.records.run import Run
from huetune.search.process import signals
from huetune.search.ray_runtime import address, local_ray, ray_compat
from huetune.search.ray_runtime.address import connection_error
from huetune.search.ray_runtime.trial_events import SearchAborted, TrialEvents
from huetune.search.ray_runtime.worker import TrialWorker
from huetune.search.spec.resources import Resources
from huetune.search.tuning.schedulers import SCHEDULERS
from huetune.search.tuning.searcher import StudySearcher
from huetune.search.tuning.trial_result import SCORE

ray_compat.prepare_tune()

HEARTBEAT_SECONDS = 2.0
"""Interval at which the driver checks that Ray is alive, and at which free slots are counted again."""
MAX_MISSED_HEARTBEATS = {"head": 10, "node": 3}
"""Failed checks in a row after which a part of Ray counts as lost. A head may be restarted in the meantime."""


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster, on this machine or elsewhere.

    Args:
        resources: the resources of a trial, and the cluster's address.
    """

    resources: Resources = field(default_factory=Resources)

    def check(self) -> None:
        """Find problems at once that Ray would report after minutes, or never.

        Raises:
            UserError: the address is invalid or does not answer, the cluster accepts jobs without a token, or the path
                of the current folder, which Ray sends to its workers, is not UTF-8.
        """
        if not is_utf8(here := os.getcwd()):
            raise UserError(f"{here!r}: the path of the current folder must be UTF-8 for Ray; change to another folder")
        address.check(self.resources.address)

    @contextlib.contextmanager
    def started(self) -> Iterator[None]:
        """Start Ray or connect to it, and shut it down on exit, unless it was initialized before.

        Raises:
            ClusterLostError: Ray does not start, or does not answer.
        """
        if ray.is_initialized():
            yield
            return
        folder = _start_ray(self.resources.address)
        signals.install_handlers()
        try:
            yield
        except ClusterLostError:
            # ray.shutdown would wait for an answer of the lost cluster.
            raise
        except BaseException:
            _stop_ray(folder)
            raise
        _stop_ray(folder)

    def train(
        self,
        searcher: StudySearcher,
        scheduler: str,
        split: Split,
        run: Path,
        folder: str,
        worker: type[TrialWorker] = TrialWorker,
    ) -> None:
        """Train a searcher's trials until it has no more; call it in the context of `started`.

        Args:
            searcher: proposes and records the trials.
            scheduler: a key of `SCHEDULERS`.
            split: the photos.
            run: folder of the run.
            folder: folder in the run for the trials' files.
            worker: the trainable; benchmarks replace it to measure the overhead.

        Raises:
            UserError: Ray has too few resources for a trial.
            Interrupted: the user pressed Ctrl-C, or the process got SIGTERM.
            StorageError: the run or the study cannot be written.
            ClusterLostError: Ray no longer answers.
        """
        resources = self.resources
        remedy = f"continue with: {Run(run).resume_command(resources.address)}"
        searcher.count_slots = _Slots(resources)
        # By Ray's object store: each node gets the photos once, and its workers share them.
        trainable = tune.with_parameters(
            worker,
            split=split,
            threads=resources.threads,
            run=location_of(run),
            folder=folder,
            objective=searcher.objective,
            timeout=resources.trial_timeout,
            versions=package_versions(),
        )
        early_stopping = SCHEDULERS[scheduler](searcher.epochs)
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
        # A search resumes from its study. What Tune stores is not used.
        with local_ray.temporary_folder() as scratch:
            tuner = tune.Tuner(
                tune.with_resources(trainable, {"CPU": resources.cpus_per_trial, "GPU": resources.gpus_per_trial}),
                tune_config=tune.TuneConfig(
                    metric=SCORE,
                    mode=searcher.mode,
                    search_alg=searcher,
                    scheduler=early_stopping,
                    num_samples=-1,
                    reuse_actors=True,
                    trial_dirname_creator=lambda trial: f"{trial.config['number']:04}",
                ),
                run_config=tune.RunConfig(
                    name=folder,
                    storage_path=scratch,
                    verbose=0,
                    callbacks=[TrialEvents(searcher, early_stopping, resources.trial_timeout)],
                    # Trials save their best epoch themselves; Tune would save the last.
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                ),
            )
            try:
                with (
                    _monitor(searcher, remedy),
                    signals.deliver_to(lambda signal: setattr(searcher, "aborted_by", signal), remedy),
                ):
                    tuner.fit()
            except SearchAborted:
                pass
            except Exception as error:
                if not searcher.aborted_by:
                    if not raised_by_ray(error):
                        raise
                    raise StorageError(f"Ray aborted the search ({first_line(error)})") from error
            finally:
                searcher.close()
        if searcher.aborted_by:
            raise searcher.aborted_by


def raised_by_ray(error: BaseException) -> bool:
    """Whether an error was raised in Ray's code, which reports some deaths of workers as internal errors."""
    step = error.__traceback__
    while step and step.tb_next:
        step = step.tb_next
    return step is not None and step.tb_frame.f_globals.get("__name__", "").partition(".")[0] == "ray"


class _Slots:
    """Counts the slots for trials; the number changes when nodes join or leave the cluster."""

    def __init__(self, resources: Resources):
        self._resources, self._looked = resources, time.monotonic()
        self._slots = self._look()

    def __call__(self) -> int:
        if time.monotonic() - self._looked > HEARTBEAT_SECONDS:
            self._looked = time.monotonic()
            # Without any slot the running trials wait for a node, and no others start.
            with contextlib.suppress(UserError):
                self._slots = self._look()
        return self._slots

    def _look(self) -> int:
        return count_slots(self._resources.cpus_per_trial, self._resources.gpus_per_trial, ray.cluster_resources())


@contextlib.contextmanager
def _monitor(searcher: StudySearcher, remedy: str) -> Iterator[None]:
    """Abort the search when Ray is lost: after a minute Ray would end this process without a message."""
    own = ray.get_runtime_context().get_node_id()
    node = next(node for node in ray.nodes() if node["NodeID"] == own)
    addresses = {
        "head": ray.get_runtime_context().gcs_address,
        "node": f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}",
    }
    over = threading.Event()

    def monitor() -> None:
        missed = dict.fromkeys(addresses, 0)
        while not over.wait(HEARTBEAT_SECONDS):
            for part, host_port in addresses.items():
                missed[part] = missed[part] + 1 if connection_error(host_port, HEARTBEAT_SECONDS) else 0
                if missed[part] >= MAX_MISSED_HEARTBEATS[part]:
                    gone = ClusterLostError(f"Ray's {part} at {host_port} no longer answers")
                    searcher.aborted_by = searcher.aborted_by or gone
                    if not over.wait(10 * HEARTBEAT_SECONDS):
                        # Tune waits for Ray, too. Everything is recorded, except that running trials are interrupted.
                        if screen := restore_codes():
                            os.write(1, screen)
                        os.write(2, os.fsencode(f"huetune: {gone}; {remedy}\n"))
                        os._exit(getattr(searcher.aborted_by, "exit_code", gone.exit_code))
                    return

    thread = threading.Thread(target=monitor, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()


def _start_ray(requested: str | None) -> str | None:
    """Start Ray, or join a cluster; return the folder of a local Ray's files, None for a cluster."""
    found = address.resolve(requested)
    quiet: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "job_config": ray_compat.IsolatedJob(),
    }
    ray_compat.prepare_driver()
    try:
        if found:
            # Ray sends huetune's code to the nodes, which may have another version of it, or none.
            with tempfile.TemporaryDirectory() as folder:
                runtime_env = {"py_modules": [_copy_package(Path(folder))], "env_vars": local_ray.SAFE_PATH_ENVIRONMENT}
                ray.init(address=found, runtime_env=runtime_env, **quiet)
            return None
        folder = local_ray.make_folder()
        with local_ray.local_only(folder):
            ray_compat.start_local_ray(f"{folder}/ray", _cpus(), **quiet)
        return folder
    except StorageError:
        raise
    except Exception as error:  # Ray raises many types
        raise ClusterLostError(f"Ray did not start at {found or 'this machine'!r} ({first_line(error)})") from None


def _copy_package(folder: Path) -> str:
    """Copy the package `huetune` and return the copy's path; in an editable install its parts are separate folders."""
    for part in (huetune, data_tools, model, results, search):
        target = folder / part.__name__.replace(".", "/")
        shutil.copytree(part.__path__[0], target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    return str(folder / "huetune")


def _cpus() -> int | None:
    """Return 1 if this process may use less than one CPU, which Ray would round down to 0; None for Ray's own count."""
    quota = ray_compat.cpu_quota()
    return 1 if quota is not None and quota < 1 else None


def _stop_ray(folder: str | None) -> None:
    ray.shutdown()
    if folder:
        # The folder of a lost Ray stays, because its logs may contain the reason.
        local_ray.remove_folder(folder)


def count_slots(cpus_per_trial: float, gpus_per_trial: float, resources: dict[str, float]) -> int:
    """Return how many trials can run at once.

    Args:
        cpus_per_trial: number of CPUs, above 0; may be a fraction.
        gpus_per_trial: number of GPUs, 0 or more; may be a fraction.
        resources: the cluster's resources, as `ray.cluster_resources` returns them.

    Raises:
        UserError: the resources are too few for one trial.
    """
    count = math.floor(resources.get("CPU", 0) / cpus_per_trial + 1e-9)
    if gpus_per_trial:
        count = min(count, math.floor(resources.get("GPU", 0) / gpus_per_trial + 1e-9))
    if count < 1:
        raise UserError(
            f"Ray has too few resources for a trial: CPUs {resources.get('CPU', 0):g} of {cpus_per_trial:g}, "
            f"GPUs {resources.get('GPU', 0):g} of {gpus_per_trial:g}; change --cpus-per-trial or --gpus-per-trial"
        )
    return count
