"""The launch: everything becomes a search."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import optuna
from rich.console import Console
from sqlalchemy.engine import URL

from huetune.data_tools.common.errors import Interrupted, StorageError, UserError, in_a_line
from huetune.data_tools.common.terminal import say
from huetune.data_tools.photos.source import Source
from huetune.data_tools.photos.split import Split
from huetune.data_tools.storage.atomic import replace as replace_file
from huetune.data_tools.storage.bucket_cache import listed, place_of, push, remove
from huetune.data_tools.storage.run_lock import held
from huetune.model.metrics import METRICS, zero_line
from huetune.results.live.progress import Display
from huetune.results.records.run import MANIFEST, STUDY, TRIALS, Run, open_storage, sqlite_url
from huetune.results.records.run_photos import FILES, files_of
from huetune.results.records.trial_records import StudyRecord, TrialRecord, write_launch, write_study
from huetune.results.tables.trial_table import rows
from huetune.search.process.mlflow_follower import tracked
from huetune.search.ray_runtime.cluster import Cluster
from huetune.search.session.replicate_runner import missing_finalists, replicate, replicate_finalists
from huetune.search.spec.manifest import asked, described
from huetune.search.spec.search_spec import Search
from huetune.search.spec.validation import check_place, left_over, require_free, study_url
from huetune.search.tuning.sampler import Sampler
from huetune.search.tuning.searcher import StudySearcher
from huetune.search.tuning.stopping_rule import Budget
from huetune.search.tuning.study_writer import StudyWriter, copy_study, push_copy
from huetune.search.tuning.trial_queue import Job, grid_jobs


def launch(search: Search, parts: Split, console: Console, *, source: Source, quiet: bool = False) -> Run:
    """Run a search to its end, and train its finalists again.

    Args:
        search: what is asked.
        parts: the photos.
        console: where progress is shown.
        source: where the photos are from, so that they can be read again.
        quiet: show nothing.

    Raises:
        UserError: Ray cannot be started or reached, or has no room for a trial.
        StorageError: the name is taken, or what must be written cannot be. If a trial had begun, `resume` goes on.
        Interrupted: Ctrl-C or SIGTERM; likewise.
    """
    check_place(search)
    Cluster(search.resources).check()
    with _created(search, parts, source) as (run, study):
        _run(run, study, search, parts, console, quiet)
    return run


def resume(run: Run, search: Search, parts: Split, console: Console, *, quiet: bool = False) -> bool:
    """Go on with a search from wherever it was left, and train its finalists again.

    Args:
        run: of the search, held and whole.
        search: what was asked, as `recalled` returns it.
        parts: its photos.
        console: where progress is shown.
        quiet: show nothing.

    Returns:
        Whether anything was left to do.

    Raises:
        UserError, StorageError, Interrupted: see `launch`.
    """
    Cluster(search.resources).check()
    study = _opened(run)
    if StudyRecord.of(study).ended and not missing_finalists(run, *(search.confirm or (0, 0))):
        return False
    _run(run, study, search, parts, console, quiet)
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
    """Go on with a search that ended, with more trials, more epochs or both.

    With more epochs, complete trials are trained further, the best ones first: each as a new trial that begins where
    the old one ended, which stays as it was.

    Args:
        run: of the search, held and whole.
        search: what was asked, as `recalled` returns it.
        parts: its photos.
        console: where progress is shown.
        trials: how many more, 0 or more.
        epochs: of a complete trial, at least as many as before.
        time_budget: seconds, above 0, of searching after which no more are started; None for as long as it takes.
        quiet: show nothing.

    Raises:
        UserError, StorageError, Interrupted: see `launch`.
    """
    Cluster(search.resources).check()
    study = _opened(run)
    searched = StudyRecord.of(study)
    if not searched.ended:
        raise UserError(f"run {run.name!r} has not come to its end; first: {run.command('resume')}")
    further = not_further(study, epochs)
    # It may have ended before its trials were used up.
    begun = len(study.get_trials(deepcopy=False))
    spent = searched.seconds or 0.0
    search = replace(
        search,
        trials=begun + trials + len(further),
        epochs=epochs,
        time_budget=None if time_budget is None else spent + time_budget,
        stop_when_flat=None,
    )
    # From here on it is a search with such a budget that was left, and `resume` would go on with it.
    begun_with = [number for number in searched.asked.further if number not in further]
    write_study(study, end=None, asked=asked(search, (*begun_with, *further)))
    _run(run, study, search, parts, console, quiet)


def _sampler(search: Search, drawn: int = 0) -> Sampler:
    directions = [METRICS.objectives[objective] for objective in search.objectives]
    # After an interruption it must not draw its first drafts again.
    return Sampler(search.space, search.searcher, directions, search.seed + drawn, search.trials)


def _run(run: Run, study: optuna.Study, search: Search, parts: Split, console: Console, quiet: bool) -> None:
    """Search for what is missing; in `held`."""
    there = study.get_trials(deepcopy=False)
    before = len(there)
    display = Display(console, run.name, StudyRecord.of(study), there, quiet=quiet)
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
                with tracked(run, search.mlflow, quiet), display:
                    cluster.train(searcher, search.scheduler, parts, run.folder, TRIALS)
                if not quiet and searcher.ended < search.trials:
                    say(f"the search ended: {searcher.ended_by}", console=console)
            if search.confirm:
                replicate_finalists(run, parts, cluster, *search.confirm, console, quiet=quiet)
            elif missing_finalists(run, 0, 0):
                # What `confirm` or `compare` left before its end.
                replicate(run, parts, cluster, {}, 0, console, quiet=quiet)
    except (Interrupted, UserError) as error:
        if not before and not searcher.progress:
            raise  # `launch` takes the run away again
        remedy = f"nothing that ended is lost, go on with: {run.resumed_by(search.resources.address)}"
        if isinstance(error, Interrupted):
            raise Interrupted(error.number, remedy) from None
        raise type(error)(f"{error}; {remedy}") from None


def _jobs(study: optuna.Study, search: Search, console: Console, quiet: bool) -> list[Job]:
    """What is tried before the sampler is asked."""
    records = {trial.number: TrialRecord.of(trial) for trial in study.get_trials(deepcopy=False)}
    continued = {record.continues for record in records.values()}
    jobs = [
        Job(records[number].configuration, dict(records[number].params), records[number].seed, {"continues": number})
        for number in StudyRecord.of(study).asked.further
        if number not in continued
    ]
    for preset in search.warm_start:
        if (point := search.space.preset_point(preset)) is not None:
            jobs.append(Job(search.space.config(point), point, attributes={"preset": preset}))
        elif not quiet:
            say(f"not tried first: {preset}, it is outside of the space", console=console)
    return jobs + (grid_jobs(search.space, search.seed) if search.searcher == "grid" else [])


def not_further(study: optuna.Study, epochs: int) -> list[int]:
    """Return the complete trials that have fewer epochs and were not trained further yet, the best ones first.

    Those among them that an earlier extension had no time for.
    """
    continued = {TrialRecord.of(trial).continues for trial in study.get_trials(deepcopy=False)}
    order = [row["trial"] for row in rows(study) if row["state"] == "complete" and row["epochs"] < epochs]
    return [number for number in order if number not in continued]


@contextlib.contextmanager
def _created(search: Search, parts: Split, source: Source) -> Iterator[tuple[Run, optuna.Study]]:
    """Make a run and hold it; one in which no trial begins leaves nothing behind."""
    folder = (search.storage / search.name).absolute()
    url = study_url(search.study)
    _reclaim(folder)
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        require_free(folder)
        raise
    except OSError as error:
        raise StorageError(f"{str(folder)!r}: cannot be made ({error.strerror}); choose another --storage") from None
    run = Run(folder)
    with held(folder):
        if listed(folder, MANIFEST):
            raise StorageError(f"{place_of(folder)!r}: exists since a moment; choose another --name")
        try:
            study = _new_study(search, url or sqlite_url(folder / STUDY))
        except BaseException:
            shutil.rmtree(folder)
            raise
        try:
            _describe(run, study, search, parts, source, url)
            yield run, study
        finally:
            # Where nobody can say, there may be some.
            with contextlib.suppress(optuna.exceptions.StorageInternalError):
                if not study.get_trials(deepcopy=False):
                    _discard(run, url)


def _reclaim(folder: Path) -> None:
    """Take away what is left of a run whose search died before it was described: the manifest is written last."""
    if left_over(folder):
        with held(folder):
            if not listed(folder, MANIFEST):
                shutil.rmtree(folder)


def _new_study(search: Search, url: URL) -> optuna.Study:
    try:
        return optuna.create_study(
            study_name=search.name,
            storage=open_storage(url),
            # What draws is a sampler of its own: see search.tuning.sampler.
            sampler=optuna.samplers.RandomSampler(),
            directions=[METRICS.objectives[objective] for objective in search.objectives],
        )
    except Exception as error:
        raise StorageError(f"{url.render_as_string()!r}: the study cannot be made ({in_a_line(error)})") from None


def _opened(run: Run) -> optuna.Study:
    """Open the study of a run that is held, to write it."""
    return optuna.load_study(
        study_name=run.study_name, storage=open_storage(run.database), sampler=optuna.samplers.RandomSampler()
    )


def _discard(run: Run, url: URL | None) -> None:
    """Take back a run of which nothing came: its name is free again."""
    if url:
        optuna.delete_study(study_name=run.name, storage=open_storage(url))
    remove(run.folder)


def _describe(run: Run, study: optuna.Study, search: Search, parts: Split, source: Source, url: URL | None) -> None:
    """Write down what was asked for, beside the study and in it."""
    mean_chroma = parts.training.chroma.mean(axis=(0, 1, 2))
    write_launch(
        study,
        StudyRecord(
            objectives=search.objectives,
            parameters=tuple(search.space.domains),
            baseline=zero_line(parts.validation.chroma, mean_chroma),
            asked=asked(search),
        ),
    )
    manifest = described(search, parts, source, url)
    if url is None:
        copy_study(run.folder / STUDY)
        push_copy(run.folder / STUDY)
    replace_file(run.folder / FILES, json.dumps(files_of(parts, source)).encode())
    push(run.folder / FILES)
    replace_file(run.folder / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    push(run.folder / MANIFEST)
