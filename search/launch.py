"""The launch: everything becomes a search."""

import datetime
import json
import logging
import math
import os
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

# Read when ray is imported. Under `uv run`, Ray would start every worker through uv, the working folder uploaded.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# The study is the record; Tune's own files a result would only cost time.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
# Tune's newer output prints a table for each failed trial, however quiet it is told to be.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import optuna
import ray
from optuna.distributions import distribution_to_json
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from rich.console import Console
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from data_tools.errors import StorageError, UserError
from data_tools.source import Source
from data_tools.split import Split
from model.checkpoint import part_versions
from model.config import PRESETS
from model.score import OBJECTIVES, zero_line
from results.run import MANIFEST, STUDY, Run, check_name, open_storage, sqlite_url
from search.display import Display
from search.searcher import SAMPLERS, Deaths, StudySearcher, grid_points
from search.space import Space
from search.trial import BEST, Trial

SCHEMA = 1


@dataclass(frozen=True)
class Search:
    """What is asked of a search.

    Args:
        name: of the run.
        storage: folder of runs.
        space: what is varied.
        trials: how many, 1 or more.
        epochs: of a complete trial, 1 or more.
        objective: a key of `model.score.OBJECTIVES`.
        searcher: a key of `search.searcher.SAMPLERS`.
        scheduler: "asha" stops trials early that fall behind; "none" trains all to their end.
        cpus_per_trial: of Ray, above 0; also TensorFlow's threads, rounded down, at least 1.
        gpus_per_trial: of Ray, 0 or more; 0.5 lets two trials share one.
        address: of a Ray cluster; None starts Ray on this machine.
        seed: of the split, the sampler and, with its number added, of each trial.
        warm_start: presets that are tried first.
        study: URL of the study's database; None for SQLite in the run's folder.

    Raises:
        UserError: a value outside of these.
    """

    name: str
    storage: Path
    space: Space
    trials: int = 12
    epochs: int = 8
    objective: str = "chroma_mse"
    searcher: Literal["tpe", "random", "grid"] = "tpe"
    scheduler: Literal["asha", "none"] = "asha"
    cpus_per_trial: float = 1.0
    gpus_per_trial: float = 0.0
    address: str | None = None
    seed: int = 0
    warm_start: tuple[str, ...] = ("model-1", "model-2", "model-3")
    study: str | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        for option, known in (("objective", OBJECTIVES), ("searcher", SAMPLERS), ("scheduler", SCHEDULERS)):
            if getattr(self, option) not in known:
                raise UserError(f"{option} must be one of {', '.join(known)}, received {getattr(self, option)!r}")
        for name in self.warm_start:
            if name not in PRESETS:
                raise UserError(f"warm-start must name presets ({', '.join(PRESETS)}), received {name!r}")
        for option, low in (("trials", 1), ("epochs", 1), ("seed", 0)):
            if getattr(self, option) < low:
                raise UserError(f"{option} must be {low} or more, received {getattr(self, option)!r}")
        if not 0 < self.cpus_per_trial < math.inf:
            raise UserError(f"cpus-per-trial must be above 0, received {self.cpus_per_trial!r}")
        if not 0 <= self.gpus_per_trial < math.inf:
            raise UserError(f"gpus-per-trial must be 0 or more, received {self.gpus_per_trial!r}")


def launch(search: Search, parts: Split, console: Console, *, source: Source, quiet: bool = False) -> tuple[Run, bool]:
    """Run a search to its end, or to Ctrl-C.

    Args:
        search: what is asked.
        parts: the photos.
        console: where progress is shown.
        source: where the photos are from, so that they can be read again.
        quiet: show nothing.

    Returns:
        The run, and whether all its trials ended: False after Ctrl-C.

    Raises:
        UserError: Ray cannot be started or reached, or has no room for a trial.
        StorageError: the name is taken, or the study cannot be opened.
    """
    if address := search.address or os.environ.get("RAY_ADDRESS"):
        _check_reachable(address)
    run, study = _create(search, parts, source)
    with Display(console, search.trials, quiet) as display:
        searcher = StudySearcher(
            study,
            search.space,
            run.folder,
            trials=search.trials,
            epochs=search.epochs,
            seed=search.seed,
            objective=search.objective,
            listener=display,
        )
        for preset in search.warm_start:
            if (point := search.space.point(preset)) is not None:
                searcher.enqueue([point], preset)
            elif not quiet:
                console.print(f"not tried first: {preset}, it is outside of the space", highlight=False)
        if search.searcher == "grid":
            searcher.enqueue(grid_points(search.space, search.seed))
            searcher.trials = min(search.trials, len(searcher.waiting))
        reason = "interrupted"
        try:
            _start_ray(search)
            _tune(search, run, parts, searcher)
        except Exception as error:
            reason = f"the search ended: {error}"
            raise
        finally:
            searcher.fail_live(reason)
            ray.shutdown()
            if not searcher.ended:
                _discard(run, _checked(search.study))
    if not searcher.ended:
        # Tune swallows Ctrl-C; here it came before the first trial.
        raise KeyboardInterrupt
    return run, searcher.ended == searcher.trials


def _create(search: Search, parts: Split, source: Source) -> tuple[Run, optuna.Study]:
    folder = (search.storage / search.name).absolute()
    if folder.exists():
        raise StorageError(f"{str(folder)!r}: exists already; choose another --name")
    url = _checked(search.study)
    where = url or sqlite_url(folder / STUDY)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise StorageError(f"{str(folder)!r}: cannot be made ({error.strerror}); choose another --storage") from None
    run = Run(folder)
    try:
        study = optuna.create_study(
            study_name=search.name,
            storage=open_storage(where),
            sampler=SAMPLERS[search.searcher](search.seed, search.trials),
            direction=OBJECTIVES[search.objective],
        )
    except Exception as error:
        shutil.rmtree(folder)
        reason = str(error).splitlines()[0]
        raise StorageError(f"{where.render_as_string()!r}: the study cannot be made ({reason})") from None
    try:
        _describe(run, study, search, parts, source, url)
    except BaseException:
        _discard(run, url)
        raise
    return run, study


def _discard(run: Run, url: URL | None) -> None:
    """Take back a run of which nothing came: its name is free again."""
    if url:
        optuna.delete_study(study_name=run.name, storage=open_storage(url))
    shutil.rmtree(run.folder, ignore_errors=True)


def _describe(run: Run, study: optuna.Study, search: Search, parts: Split, source: Source, url: URL | None) -> None:
    """Write down what was asked for, beside the study and in it."""
    mean_chroma = parts.training.chroma.mean(axis=(0, 1, 2))
    attributes = {
        "objective": search.objective,
        "parameters": list(search.space.domains),
        "epochs": search.epochs,
        "zero_line": zero_line(parts.validation.chroma, mean_chroma),
    }
    for name, value in attributes.items():
        study.set_user_attr(name, value)
    options = {field.name: getattr(search, field.name) for field in fields(search) if field.name != "space"}
    manifest = {
        "schema": SCHEMA,
        "command": sys.argv,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "search": {**options, "storage": str(search.storage)},
        "space": {name: json.loads(distribution_to_json(domain)) for name, domain in search.space.domains.items()},
        "base": asdict(search.space.base),
        "photos": {"source": source.record, **parts.summary},
        "study": url and url.render_as_string(),
        "versions": part_versions(),
    }
    (run.folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def _checked(study: str | None) -> URL | None:
    if study is None:
        return None
    try:
        url = make_url(study)
    except ArgumentError:
        raise UserError(f"--study {study!r}: not a database URL such as postgresql://host/name") from None
    if url.password or "password" in url.query:
        raise UserError("--study: the URL holds a password, which would be written down; use ~/.pgpass or PGPASSWORD")
    return sqlite_url(Path(url.database)) if url.drivername == "sqlite" and url.database else url


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


def _start_ray(search: Search) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if search.address or os.environ.get("RAY_ADDRESS"):
            ray.init(address=search.address, **quiet)
        else:
            # Without an address, Ray would join whatever cluster runs on this machine.
            ray.init(address="local", include_dashboard=False, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"Ray cannot be reached at {search.address or 'this machine'!r} ({reason})") from None


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


def _asha(epochs: int) -> TrialScheduler:
    # In its first epoch a model mostly shrinks its kernels: elu lags behind silu there, and draws level in the second.
    return ASHAScheduler(time_attr="epoch", max_t=epochs, grace_period=max(1, epochs // 4), reduction_factor=3)


SCHEDULERS: dict[str, Callable[[int], TrialScheduler]] = {"asha": _asha, "none": lambda epochs: FIFOScheduler()}


def _tune(search: Search, run: Run, parts: Split, searcher: StudySearcher) -> None:
    # Through the object store: each node gets the photos once, and its workers share them.
    trainable = tune.with_parameters(
        Trial,
        split=parts,
        threads=max(1, int(search.cpus_per_trial)),
        run=str(run.folder),
        objective=search.objective,
    )
    resources = {"CPU": search.cpus_per_trial, "GPU": search.gpus_per_trial}
    at_once = slots(search.cpus_per_trial, search.gpus_per_trial, ray.cluster_resources())
    tuner = tune.Tuner(
        tune.with_resources(trainable, resources),
        tune_config=tune.TuneConfig(
            metric=BEST,
            mode=OBJECTIVES[search.objective][:3],
            search_alg=searcher,
            scheduler=SCHEDULERS[search.scheduler](search.epochs),
            num_samples=-1,
            # It also bounds how many configurations are drawn ahead, before their forerunners taught the sampler.
            max_concurrent_trials=at_once,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: f"{trial.config['number']:04}",
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(run.folder),
            verbose=0,
            callbacks=[Deaths(searcher)],
            # Trials keep their best epoch themselves; Tune would keep the last.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    tuner.fit()
