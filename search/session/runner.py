"""Runs a search: starts a new one, resumes or extends an existing one, and then trains its finalists again."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import optuna
from rich.console import Console
from sqlalchemy.engine import URL

from huetune.data_tools.common.errors import Interrupted, StorageError, UserError, first_line
from huetune.data_tools.common.terminal import say
from huetune.data_tools.photos.source import Source
from huetune.data_tools.photos.split import Split
from huetune.data_tools.storage.atomic import atomic_write
from huetune.data_tools.storage.bucket_cache import list_paths, location_of, push, remove
from huetune.data_tools.storage.run_lock import lock_run
from huetune.model.metrics import METRICS, baseline_scores
from huetune.results.live.progress import Display
from huetune.results.records.run import MANIFEST, STUDY, TRIALS, Run, open_storage, sqlite_url
from huetune.results.records.run_photos import PHOTO_LIST_FILE, files_of
from huetune.results.records.study_record import StudyRecord, write_launch, write_study
from huetune.results.records.trial_record import TrialRecord
from huetune.results.tables.trial_table import rows
from huetune.search.process.mlflow_follower import logged_to_mlflow
from huetune.search.ray_runtime.cluster import Cluster
from huetune.search.session.replicate_runner import missing_finalists, replicate, replicate_finalists
from huetune.search.spec.manifest import make_manifest, requested_budget
from huetune.search.spec.search_spec import Search
from huetune.search.spec.validation import check_storage, is_half_created, require_unused, study_url
from huetune.search.tuning.sampler import Sampler
from huetune.search.tuning.searcher import StudySearcher
from huetune.search.tuning.stopping_rule import Budget
from huetune.search.tuning.study_writer import StudyWriter, copy_study, upload_copy
from huetune.search.tuning.trial_queue import Job, grid_jobs


def launch(search: Search, parts: Split, console: Console, *, source: Source, quiet: bool = False) -> Run:
    """Run a new search to its end, and train its finalists again.

    Args:
        search: the specification.
        parts: the photos.
        console: where progress is shown.
        source: where the photos were read from; recorded, so that they can be read again.
        quiet: print nothing.

    Returns:
        The run, which is no longer locked.

    Raises:
        UserError: Ray cannot be started or reached, or has too few resources for a trial.
        StorageError: the name is taken, or the run or its study cannot be written.
        Interrupted: Ctrl-C or SIGTERM. After the last two errors `resume` can continue, if a trial had begun.
    """
    check_storage(search)
    Cluster(search.resources).check()
    with _new_run(search, parts, source) as (run, study):
        _search_and_confirm(run, study, search, parts, console, quiet)
    return run


def resume(run: Run, search: Search, parts: Split, console: Console, *, quiet: bool = False) -> bool:
    """Continue an interrupted search to its end, and train its finalists again.

    Args:
        run: run of the search; this process has locked and repaired it.
        search: the specification, as `load_search` returns it.
        parts: the photos of the run.
        console: where progress is shown.
        quiet: print nothing.

    Returns:
        Whether anything was left to do.

    Raises:
        UserError, StorageError, Interrupted: see `launch`.
    """
    Cluster(search.resources).check()
    study = _open_study(run)
    if StudyRecord.of(study).ended and not missing_finalists(run, *(search.confirm or (0, 0))):
        return False
    _search_and_confirm(run, study, search, parts, console, quiet)
    return True


def extend(
    run: Run,
    search: Search,
    parts: Split,
    console: Console,
    trials: int,
    epochs: int,
    time_budget: float | None,
    *,
    quiet: bool = False,
) -> None:
    """Continue a search that has ended, with more trials, more epochs per trial, or both.

    With more epochs, complete trials are trained further, the best ones first. Each continues as a new trial, and the
    old one stays as it was.

    Args:
        run: run of the search; this process has locked and repaired it.
        search: the specification, as `load_search` returns it.
        parts: the photos of the run.
        console: where progress is shown.
        trials: the number of additional trials, 0 or more.
        epochs: new total number of epochs of a complete trial, at least as many as before.
        time_budget: additional seconds of searching, above 0, after which no more trials are started; None for no
            limit.
        quiet: print nothing.

    Raises:
        UserError, StorageError, Interrupted: see `launch`.
    """
    Cluster(search.resources).check()
    study = _open_study(run)
    searched = StudyRecord.of(study)
    if not searched.ended:
        raise UserError(f"run {run.name!r} has not ended yet; finish it first with: {run.command('resume')}")
    further = trials_below(study, epochs)
    # The search may have ended before it had started all trials of its budget.
    begun = len(study.get_trials(deepcopy=False))
    spent = searched.seconds or 0.0
    search = replace(
        search,
        trials=begun + trials + len(further),
        epochs=epochs,
        time_budget=None if time_budget is None else spent + time_budget,
        stop_when_flat=None,
    )
    # From here on the run is an interrupted search with the larger budget, which `resume` can continue.
    earlier = [number for number in searched.requested.further if number not in further]
    write_study(study, end=None, requested=requested_budget(search, (*earlier, *further)))
    _search_and_confirm(run, study, search, parts, console, quiet)


def _sampler(search: Search, existing_trials: int) -> Sampler:
    directions = [METRICS.objectives[objective] for objective in search.objectives]
    # The seed differs after an interruption, so that the sampler does not draw the same points again.
    return Sampler(search.space, search.searcher, directions, search.seed + existing_trials, search.trials)


def _search_and_confirm(
    run: Run, study: optuna.Study, search: Search, parts: Split, console: Console, quiet: bool
) -> None:
    """Train the trials and replicates that are missing; the run is locked."""
    trials = study.get_trials(deepcopy=False)
    before = len(trials)
    display = Display(console, run.name, StudyRecord.of(study), trials, quiet=quiet)
    searcher = StudySearcher(
        StudyWriter(study, run),
        run.folder / TRIALS,
        space=search.space,
        sampler=None if search.searcher == "grid" else _sampler(search, before),
        budget=Budget(search.trials, search.time_budget, search.stop_when_flat),
        epochs=search.epochs,
        seed=search.seed,
        objectives=search.objectives,
        listener=display,
    )
    searcher.enqueue(_jobs(study, search, console, quiet or before > 0))
    cluster = Cluster(search.resources)
    try:
        with cluster.started():
            if not StudyRecord.of(study).ended:
                with logged_to_mlflow(run, search.mlflow, quiet), display:
                    cluster.train(searcher, search.scheduler, parts, run.folder, TRIALS)
                if not quiet and searcher.ended < search.trials:
                    say(f"the search ended: {searcher.ended_by}", console=console)
            if search.confirm:
                replicate_finalists(run, parts, cluster, *search.confirm, console, quiet=quiet)
            elif missing_finalists(run, 0, 0):
                # `huetune confirm` or `compare` was interrupted.
                replicate(run, parts, cluster, {}, 0, console, quiet=quiet)
    except (Interrupted, UserError) as error:
        if not before and not searcher.progress:
            raise  # `launch` deletes the run
        remedy = f"no finished epoch is lost; continue with: {run.resume_command(search.resources.address)}"
        if isinstance(error, Interrupted):
            raise Interrupted(error.number, remedy) from None
        raise type(error)(f"{error}; {remedy}") from None


def _jobs(study: optuna.Study, search: Search, console: Console, quiet: bool) -> list[Job]:
    """Return what is trained before the sampler suggests trials: extensions, presets, and the grid."""
    records = {trial.number: TrialRecord.of(trial) for trial in study.get_trials(deepcopy=False)}
    continued = {record.continues for record in records.values()}
    jobs = [
        Job(records[number].configuration, dict(records[number].params), records[number].seed, {"continues": number})
        for number in StudyRecord.of(study).requested.further
        if number not in continued
    ]
    for preset in search.warm_start:
        if (point := search.space.preset_point(preset)) is not None:
            jobs.append(Job(search.space.config(point), point, attributes={"preset": preset}))
        elif not quiet:
            say(f"preset {preset} is skipped: it is outside the search space", console=console)
    return jobs + (grid_jobs(search.space, search.seed) if search.searcher == "grid" else [])


def trials_below(study: optuna.Study, epochs: int) -> list[int]:
    """Return the complete trials that have fewer epochs and were not trained further yet, the best ones first.

    This includes trials that an earlier extension did not reach in its time.

    Args:
        study: study of the search.
        epochs: epochs of a complete trial.
    """
    continued = {TrialRecord.of(trial).continues for trial in study.get_trials(deepcopy=False)}
    order = [row["trial"] for row in rows(study) if row["state"] == "complete" and row["epochs"] < epochs]
    return [number for number in order if number not in continued]


@contextlib.contextmanager
def _new_run(search: Search, parts: Split, source: Source) -> Iterator[tuple[Run, optuna.Study]]:
    """Create a run and lock it; delete it at the end if no trial has begun."""
    folder = (search.storage / search.name).absolute()
    url = study_url(search.study)
    _reclaim(folder)
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        require_unused(folder)
        raise
    except OSError as error:
        raise StorageError(f"{str(folder)!r}: cannot be created ({error.strerror}); choose another --storage") from None
    run = Run(folder)
    with lock_run(folder):
        if list_paths(folder, MANIFEST):
            raise StorageError(
                f"{location_of(folder)!r}: was created by another process just now; choose another --name"
            )
        try:
            study = _new_study(search, url or sqlite_url(folder / STUDY))
        except BaseException:
            shutil.rmtree(folder)
            raise
        try:
            _record_specification(run, study, search, parts, source, url)
            yield run, study
        finally:
            # If the database does not answer, there may be trials.
            with contextlib.suppress(optuna.exceptions.StorageInternalError):
                if not study.get_trials(deepcopy=False):
                    _discard(run, url)


def _reclaim(folder: Path) -> None:
    """Delete the folder of a search that died before it wrote its manifest, which is written last."""
    if is_half_created(folder):
        with lock_run(folder):
            if not list_paths(folder, MANIFEST):
                shutil.rmtree(folder)


def _new_study(search: Search, url: URL) -> optuna.Study:
    try:
        return optuna.create_study(
            study_name=search.name,
            storage=open_storage(url),
            # Not used: `huetune.search.tuning.sampler` suggests the trials.
            sampler=optuna.samplers.RandomSampler(),
            directions=[METRICS.objectives[objective] for objective in search.objectives],
        )
    except Exception as error:
        raise StorageError(f"{url.render_as_string()!r}: the study cannot be created ({first_line(error)})") from None


def _open_study(run: Run) -> optuna.Study:
    """Open the study of a locked run for writing."""
    return optuna.load_study(
        study_name=run.study_name, storage=open_storage(run.database), sampler=optuna.samplers.RandomSampler()
    )


def _discard(run: Run, url: URL | None) -> None:
    """Delete a run without trials, so that its name is free again."""
    if url:
        optuna.delete_study(study_name=run.name, storage=open_storage(url))
    remove(run.folder)


def _record_specification(
    run: Run, study: optuna.Study, search: Search, parts: Split, source: Source, url: URL | None
) -> None:
    """Write the specification of a search to its study, and its manifest and list of photos to the run."""
    mean_chroma = parts.training.chroma.mean(axis=(0, 1, 2))
    write_launch(
        study,
        StudyRecord(
            objectives=search.objectives,
            parameters=tuple(search.space.domains),
            baseline=baseline_scores(parts.validation.chroma, mean_chroma),
            requested=requested_budget(search),
        ),
    )
    manifest = make_manifest(search, parts, source, url)
    if url is None:
        copy_study(run.folder / STUDY)
        upload_copy(run.folder / STUDY)
    atomic_write(run.folder / PHOTO_LIST_FILE, json.dumps(files_of(parts, source)).encode())
    push(run.folder / PHOTO_LIST_FILE)
    atomic_write(run.folder / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    push(run.folder / MANIFEST)
