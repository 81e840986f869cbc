"""The launch: everything becomes a search."""

import datetime
import json
import shutil
import sys
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import optuna
from optuna.distributions import distribution_to_json
from rich.console import Console
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from data_tools.errors import StorageError, UserError
from data_tools.source import Source
from data_tools.split import Split
from model.config import PRESETS
from model.score import OBJECTIVES, zero_line
from results.machine import code, hardware, versions
from results.run import MANIFEST, STUDY, Run, check_name, open_storage, sqlite_url
from search.cluster import SCHEDULERS, Cluster
from search.display import Display
from search.replicates import replicate_finalists
from search.sampler import SAMPLERS, Sampler
from search.searcher import Budget, Job, StudySearcher, grid_jobs
from search.space import Space

SCHEMA = 2
"""Of the manifest; 1 did not say how its photos are read again."""
TRIALS = "trials"
"""Folder of a search's checkpoints in its run."""


@dataclass(frozen=True)
class Search:
    """What is asked of a search.

    Args:
        name: of the run.
        storage: folder of runs.
        space: what is varied.
        cluster: where it runs.
        trials: how many, 1 or more.
        epochs: of a complete trial, 1 or more.
        objectives: different keys of `model.score.OBJECTIVES`. The first one chooses a trial's best epoch; with several
            of them there is no early stopping and no confirmation, for both rank by one.
        searcher: a key of `search.sampler.SAMPLERS`.
        scheduler: a key of `search.cluster.SCHEDULERS`.
        seed: of the split, the sampler and, with its number added, of each trial.
        warm_start: presets that are tried first.
        study: URL of the study's database; None for SQLite in the run's folder.
        time_budget: seconds after which no more trials are started; None for as long as it takes.
        stop_when_flat: trials in a row without a better one that end the search; None for however many.
        confirm: how many finalists are trained again, and each from how many fresh seeds; None for none.

    Raises:
        UserError: a value outside of these.
    """

    name: str
    storage: Path
    space: Space
    cluster: Cluster = field(default_factory=Cluster)
    trials: int = 12
    epochs: int = 8
    objectives: tuple[str, ...] = ("chroma_mse",)
    searcher: str = "tpe"
    scheduler: str = "asha"
    seed: int = 0
    warm_start: tuple[str, ...] = ("model-1", "model-2", "model-3")
    study: str | None = None
    time_budget: float | None = None
    stop_when_flat: int | None = None
    confirm: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        for option, values, known in (
            ("objective", self.objectives, OBJECTIVES),
            ("searcher", [self.searcher], SAMPLERS),
            ("scheduler", [self.scheduler], SCHEDULERS),
        ):
            for value in values:
                if value not in known:
                    raise UserError(f"{option} must be one of {', '.join(known)}, received {value!r}")
        if not self.objectives or len(set(self.objectives)) < len(self.objectives):
            raise UserError(f"objective must name different figures, received {', '.join(self.objectives)!r}")
        if len(self.objectives) > 1 and self.scheduler != "none":
            raise UserError(f"scheduler {self.scheduler!r} ranks by one objective; with several use --scheduler none")
        if len(self.objectives) > 1 and self.confirm:
            raise UserError("confirm ranks by one objective; with several use --confirm none")
        for name in self.warm_start:
            if name not in PRESETS:
                raise UserError(f"warm-start must name presets ({', '.join(PRESETS)}), received {name!r}")
        for option, low in (("trials", 1), ("epochs", 1), ("seed", 0), ("stop_when_flat", 1), ("time_budget", 0)):
            value = getattr(self, option)
            if value is not None and value < low:
                raise UserError(f"{option.replace('_', '-')} must be {low} or more, received {value!r}")
        if self.confirm and (self.confirm[0] < 1 or self.confirm[1] < 2):
            raise UserError(f"confirm must be 1 or more finalists with 2 or more seeds each, received {self.confirm!r}")


def launch(search: Search, parts: Split, console: Console, *, source: Source, quiet: bool = False) -> tuple[Run, bool]:
    """Run a search to its end, or to Ctrl-C, and train its finalists again.

    Args:
        search: what is asked.
        parts: the photos.
        console: where progress is shown.
        source: where the photos are from, so that they can be read again.
        quiet: show nothing.

    Returns:
        The run, and whether all its trials ended: False after Ctrl-C.

    Raises:
        UserError: Ray cannot be started or reached, or has no room for a trial; the sampler cannot search such a space.
        StorageError: the name is taken, or the study cannot be opened.
    """
    search.cluster.check()
    directions = [OBJECTIVES[objective] for objective in search.objectives]
    sampler = Sampler(search.space, search.searcher, directions, search.seed, search.trials)
    run, study = _create(search, parts, source)
    display = Display(console, search.trials, quiet)
    searcher = StudySearcher(
        study,
        run.folder / TRIALS,
        space=search.space,
        sampler=None if search.searcher == "grid" else sampler,
        budget=Budget(search.trials, search.time_budget, search.stop_when_flat),
        epochs=search.epochs,
        seed=search.seed,
        objectives=search.objectives,
        listener=display,
    )
    for preset in search.warm_start:
        if (point := search.space.point(preset)) is not None:
            searcher.enqueue([Job(search.space.config(point), point, attributes={"preset": preset})])
        elif not quiet:
            console.print(f"not tried first: {preset}, it is outside of the space", highlight=False)
    if search.searcher == "grid":
        searcher.enqueue(grid_jobs(search.space, search.seed))
    try:
        with search.cluster.started():
            with display:
                search.cluster.train(searcher, search.scheduler, parts, run.folder, TRIALS)
            finished = searcher.finished
            if finished and not quiet and searcher.ended < search.trials:
                console.print(f"the search ended: {searcher.ended_by}", markup=False, highlight=False, soft_wrap=True)
            if finished and search.confirm:
                finished = replicate_finalists(run, parts, search.cluster, *search.confirm, console, quiet=quiet)
    finally:
        if not searcher.ended:
            _discard(run, _checked(search.study))
    if not searcher.ended and not searcher.ended_by:
        # Tune swallows Ctrl-C; here it came before the first trial.
        raise KeyboardInterrupt
    return run, finished


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
            # What draws is a sampler of its own: see search.sampler.
            sampler=optuna.samplers.RandomSampler(),
            directions=[OBJECTIVES[objective] for objective in search.objectives],
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
        "objective": search.objectives[0],
        "objectives": search.objectives,
        "parameters": list(search.space.domains),
        "epochs": search.epochs,
        "zero_line": zero_line(parts.validation.chroma, mean_chroma),
    }
    for name, value in attributes.items():
        study.set_user_attr(name, value)
    options = {name: getattr(search, name) for name in (option.name for option in fields(search))}
    del options["space"], options["cluster"]
    manifest = {
        "schema": SCHEMA,
        "command": sys.argv,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "search": {**options, "storage": str(search.storage)},
        "cluster": asdict(search.cluster),
        "directions": {objective: OBJECTIVES[objective] for objective in search.objectives},
        "space": {name: json.loads(distribution_to_json(domain)) for name, domain in search.space.domains.items()},
        "conditions": search.space.conditions,
        "base": asdict(search.space.base),
        "photos": {"source": source.record, **parts.summary},
        "study": url and url.render_as_string(),
        "versions": versions(),
        "code": code(),
        "hardware": hardware(),
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
