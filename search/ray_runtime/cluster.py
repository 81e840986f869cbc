"""Where trials run: Ray, on this machine or a cluster, and Tune on it."""

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

# Read when ray is imported. Under `uv run`, Ray would start every worker through uv, the working folder uploaded.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# The study is the record; Tune's own files a result would only cost time.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
# Tune's newer output prints a table for each failed trial, however quiet it is told to be.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# Signals are search.process.signals's.
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
# How far ahead Tune asks; the searcher itself knows how many may run.
os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "1000")

import ray
from ray import tune

import huetune
from huetune import data_tools, model, results, search
from huetune.data_tools.common.errors import ClusterLostError, StorageError, UserError, first_line
from huetune.data_tools.common.terminal import is_utf8, restore_codes
from huetune.data_tools.photos.split import Split
from huetune.data_tools.storage.bucket_cache import location_of
from huetune.model.checkpoint import part_versions
from huetune.results.records.run import Run
from huetune.search.process import signals
from huetune.search.ray_runtime import address, local_ray, ray_compat
from huetune.search.ray_runtime.address import connection_error
from huetune.search.ray_runtime.trial_events import SearchAborted, TrialEvents
from huetune.search.ray_runtime.worker import SCORE, Trial
from huetune.search.spec.resources import Resources
from huetune.search.tuning.schedulers import SCHEDULERS
from huetune.search.tuning.searcher import StudySearcher

ray_compat.prepare_tune()

HEARTBEAT_SECONDS = 2.0
"""Seconds between two looks at whether Ray is still there."""
MAX_MISSED_HEARTBEATS = {"head": 10, "node": 3}
"""Looks in a row that find nobody, after which it counts as gone. A head may be started again in its place."""


@dataclass(frozen=True)
class Cluster:
    """Ray, on this machine or a cluster.

    Args:
        resources: what a trial takes of it, and its address.
    """

    resources: Resources = field(default_factory=Resources)

    def check(self) -> None:
        """Say at once what Ray would say only after minutes of trying, or never.

        Raises:
            UserError: the address is none, nobody listens there, whoever can reach it may run what they like there, or
                the path of the current folder is not UTF-8, which Ray sends to its workers.
        """
        if not is_utf8(here := os.getcwd()):
            raise UserError(f"{here!r}: the path of the current folder must be UTF-8 for Ray; change to another folder")
        address.check(self.resources.address)

    @contextlib.contextmanager
    def started(self) -> Iterator[None]:
        """Ray, for as long as the context is open; one that is open already is used and left so.

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
            # Nobody is there to say goodbye to, and Ray would wait for an answer.
            raise
        except BaseException:
            _stop_ray(folder)
            raise
        _stop_ray(folder)

    def train(
        self,
        searcher: StudySearcher,
        scheduler: str,
        parts: Split,
        run: Path,
        folder: str,
        trial: type[Trial] = Trial,
    ) -> None:
        """Train what a searcher asks for until it asks no more; in the context of `started`.

        Args:
            searcher: is told all that becomes of it.
            scheduler: a key of `SCHEDULERS`.
            parts: the photos.
            run: folder of the run.
            folder: in it, for checkpoints.
            trial: what trains; another one measures what is around it.

        Raises:
            UserError: Ray has no room for a trial.
            Interrupted: Ctrl-C or SIGTERM.
            StorageError: what must be written cannot be.
            ClusterLostError: Ray is gone.
        """
        resources = self.resources
        remedy = f"go on with: {Run(run).resumed_by(resources.address)}"
        searcher.count_slots = _Slots(resources)
        # Through the object store: each node gets the photos once, and its workers share them.
        trainable = tune.with_parameters(
            trial,
            split=parts,
            threads=resources.threads,
            run=location_of(run),
            folder=folder,
            objective=searcher.objective,
            timeout=resources.trial_timeout,
            versions=part_versions(),
        )
        stops = SCHEDULERS[scheduler](searcher.epochs)
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
        # The study is what a search goes on from. What Tune writes down is of no use to anyone.
        with local_ray.temporary_folder() as scratch:
            tuner = tune.Tuner(
                tune.with_resources(trainable, {"CPU": resources.cpus_per_trial, "GPU": resources.gpus_per_trial}),
                tune_config=tune.TuneConfig(
                    metric=SCORE,
                    mode=searcher.mode,
                    search_alg=searcher,
                    scheduler=stops,
                    num_samples=-1,
                    reuse_actors=True,
                    trial_dirname_creator=lambda trial: f"{trial.config['number']:04}",
                ),
                run_config=tune.RunConfig(
                    name=folder,
                    storage_path=scratch,
                    verbose=0,
                    callbacks=[TrialEvents(searcher, stops, resources.trial_timeout)],
                    # Trials keep their best epoch themselves; Tune would keep the last.
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                ),
            )
            try:
                with (
                    _heart(searcher, remedy),
                    signals.deliver_to(lambda signal: setattr(searcher, "aborted_by", signal), remedy),
                ):
                    tuner.fit()
            except SearchAborted:
                pass
            except Exception as error:
                if not searcher.aborted_by:
                    if not raised_by_ray(error):
                        raise
                    raise StorageError(f"Ray broke off the search ({first_line(error)})") from error
            finally:
                searcher.close()
        if searcher.aborted_by:
            raise searcher.aborted_by


def raised_by_ray(error: BaseException) -> bool:
    """Whether an error comes from Ray's own code, which takes some deaths of a worker for bugs: it is none of ours."""
    step = error.__traceback__
    while step and step.tb_next:
        step = step.tb_next
    return step is not None and step.tb_frame.f_globals.get("__name__", "").partition(".")[0] == "ray"


class _Slots:
    """How many trials there is room for: a cluster grows and shrinks."""

    def __init__(self, resources: Resources):
        self._resources, self._looked = resources, time.monotonic()
        self._slots = self._look()

    def __call__(self) -> int:
        if time.monotonic() - self._looked > HEARTBEAT_SECONDS:
            self._looked = time.monotonic()
            # With no room at all, those that run have lost theirs: they wait for it, and no others are begun.
            with contextlib.suppress(UserError):
                self._slots = self._look()
        return self._slots

    def _look(self) -> int:
        return count_slots(self._resources.cpus_per_trial, self._resources.gpus_per_trial, ray.cluster_resources())


@contextlib.contextmanager
def _heart(searcher: StudySearcher, remedy: str) -> Iterator[None]:
    """Notice when Ray dies: after a minute of silence it would end this process without a word."""
    own = ray.get_runtime_context().get_node_id()
    node = next(node for node in ray.nodes() if node["NodeID"] == own)
    addresses = {
        "head": ray.get_runtime_context().gcs_address,
        "node": f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}",
    }
    over = threading.Event()

    def beat() -> None:
        missed = dict.fromkeys(addresses, 0)
        while not over.wait(HEARTBEAT_SECONDS):
            for part, place in addresses.items():
                missed[part] = missed[part] + 1 if connection_error(place, HEARTBEAT_SECONDS) else 0
                if missed[part] >= MAX_MISSED_HEARTBEATS[part]:
                    gone = ClusterLostError(f"Ray's {part} at {place} does not answer any more")
                    searcher.aborted_by = searcher.aborted_by or gone
                    if not over.wait(10 * HEARTBEAT_SECONDS):
                        # Tune waits for it, too. All is on disk but that the running trials wait.
                        if screen := restore_codes():
                            os.write(1, screen)
                        os.write(2, os.fsencode(f"huetune: {gone}; {remedy}\n"))
                        os._exit(getattr(searcher.aborted_by, "exit_code", gone.exit_code))
                    return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()


def _start_ray(asked: str | None) -> str | None:
    """Return the folder of its files, where it is this machine's alone."""
    found = address.resolve(asked)
    quiet: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "job_config": ray_compat.IsolatedJob(),
    }
    ray_compat.prepare_driver()
    try:
        if found:
            # Our own code travels with the search: what a node has installed of it may be another version, or nothing.
            with tempfile.TemporaryDirectory() as folder:
                travels = {"py_modules": [_copy_package(Path(folder))], "env_vars": local_ray.SAFE_PATH_ENVIRONMENT}
                ray.init(address=found, runtime_env=travels, **quiet)
            return None
        folder = local_ray.make_folder()
        with local_ray.local_only(folder):
            ray_compat.start_local_ray(f"{folder}/ray", _cpus(), **quiet)
        return folder
    except StorageError:
        raise
    except Exception as error:  # whatever part of it died on the way, in its own words
        raise ClusterLostError(f"Ray did not start at {found or 'this machine'!r} ({first_line(error)})") from None


def _copy_package(folder: Path) -> str:
    """Copy this package, whose parts lie apart where it is installed from a checkout; return the copy's path."""
    for part in (huetune, data_tools, model, results, search):
        target = folder / part.__name__.replace(".", "/")
        shutil.copytree(part.__path__[0], target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    return str(folder / "huetune")


def _cpus() -> int | None:
    """Return 1 where this process has less than a CPU, which Ray rounds down to none; else None, and Ray counts."""
    quota = ray_compat.cpu_quota()
    return 1 if quota is not None and quota < 1 else None


def _stop_ray(folder: str | None) -> None:
    ray.shutdown()
    if folder:
        # Of a Ray that was lost it stays: its logs say why.
        local_ray.remove_folder(folder)


def count_slots(cpus_per_trial: float, gpus_per_trial: float, resources: dict[str, float]) -> int:
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
