"""Whether a run is whole: all that a search promises, looked up in what it left."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from huetune.data_tools.common.errors import CheckpointError, StorageError, first_line
from huetune.data_tools.photos.dataset import PhotoSet
from huetune.data_tools.storage.bucket_cache import bucket_path
from huetune.data_tools.storage.checksums import check_sums
from huetune.data_tools.storage.output_files import RECORD_FILE
from huetune.data_tools.storage.run_lock import LOCK_FILE, lock_holder
from huetune.model import training_state
from huetune.results.evaluation import final_check
from huetune.results.live.watch import WatchedRun
from huetune.results.records.outcomes import StopReason
from huetune.results.records.run import (
    MANIFEST,
    PULLED_TAG_FILE,
    REPLICATES,
    STUDY,
    TRIALS,
    Run,
    backup_path,
    open_storage,
    read_only,
)
from huetune.results.records.run_photos import MOVED_PHOTOS_FILE
from huetune.results.records.study_file import Studies
from huetune.results.records.study_record import StudyRecord
from huetune.results.records.trial_record import TrialRecord, digest

DRAFTED = (STUDY, MANIFEST, MOVED_PHOTOS_FILE, PULLED_TAG_FILE, final_check.FILE)
"""Files of a run that are replaced while it is searched; `resume` takes away drafts of these."""
SHOWN = 5
"""Unfinished trials that are named."""
TOLERANCE = 1e-6
"""Between a score and the same score again, on whatever machine."""
LOCK_TIMEOUT_SECONDS = 60.0
_UNREADABLE_NOW = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN)
"""SQLite's primary codes of errors that say nothing of the content of a file."""


def damage(path: Path) -> str | None:
    """Return what is wrong with a study's file; None where it is whole, and each ended trial is as it ended.

    Raises:
        StorageError: nobody can say now: it is locked, may not be read, or is of another Optuna.
    """
    if not path.is_file():
        return "is not there"
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=LOCK_TIMEOUT_SECONDS)) as connection:
            (answer,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if answer != "ok":
            return f"damaged ({answer.splitlines()[-1]})"
        storage = open_storage(read_only(path))
        names = optuna.get_all_study_names(storage)
        if not names:
            return "damaged (it has no study)"
        for study in names:
            for trial in optuna.load_study(study_name=study, storage=storage).get_trials(deepcopy=False):
                if altered(trial):
                    return f"damaged (trial {trial.number} of {study!r} is not as it ended)"
    except Exception as error:  # a flipped bit makes SQLite, SQLAlchemy and Optuna raise nearly anything
        reason = first_line(error)
        if isinstance(error, StorageError) or _sqlite_code(error) in _UNREADABLE_NOW:
            raise StorageError(f"{str(path)!r}: cannot be read now ({reason})") from None
        return f"damaged ({reason})"
    return None


def _sqlite_code(error: BaseException) -> int | None:
    """Return the primary code of the SQLite error that an error is or was caused by; None where there is none."""
    cause: BaseException | None = error
    while cause and not isinstance(cause, sqlite3.Error):
        # SQLAlchemy and Optuna each wrap what comes from below.
        cause = cause.__cause__
    code = getattr(cause, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def altered(trial: FrozenTrial) -> bool:
    """Whether an ended trial is another than when it ended; one of an older huetune has no digest to tell by."""
    recorded = TrialRecord.of(trial).digest
    return trial.state.is_finished() and recorded is not None and recorded != digest(trial)


def study_damage(run: Run) -> str | None:
    """Return what is wrong with the file of a run's study, as `damage`; None where it is whole, or on a server."""
    return damage(run.folder / STUDY) if run.manifest["study"] is None else None


def violations(run: Run, validation: PhotoSet | None = None) -> Iterator[str]:
    """Yield a line for each promise that a run does not keep; while its search runs, of what has ended.

    That a search is not finished, and what `resume` then takes away, is no violation: see `unfinished`.

    Args:
        run: of a search.
        validation: its photos that rank; with them the best model is scored again.

    Raises:
        StorageError: there is no study.
    """
    if problem := study_damage(run):
        yield f"{str(run.folder / STUDY)!r}: {problem}"
        return
    study, replicates = studies = run.study(), run.replicates()
    searching = lock_holder(run.folder) is not None
    for part, folder in ((study, TRIALS), (replicates, REPLICATES)):
        if part:
            yield from _trials(run, part, folder)
    yield from _budget(study)
    copy = backup_path(run.folder / STUDY)
    if run.manifest["study"] is None and copy.is_file() and (problem := damage(copy)):
        yield f"{str(copy)!r}: {problem}"
    yield from lost(run)
    left = bool(unfinished(run))
    yield from (line for line, mended in _strays(run, studies, searching) if not (mended and left))
    yield from _best(run, studies, validation)
    try:
        final_check.read(run)
    except StorageError as error:
        yield str(error)


def unfinished(run: Run) -> list[str]:
    """Return how far a search came that no process runs and that is not finished, and how to go on with it.

    Args:
        run: of a search, whose study is whole.

    Returns:
        Lines, none of a search that runs or is finished: how much has ended and what waits; what was running when its
        process died; what that one left half-written; the command that continues all of it.
    """
    study, replicates = studies = run.study(), run.replicates()
    if lock_holder(run.folder):
        return []
    # An ended search has no such trials: where it does, that is a violation.
    parts = [part for part in (None if StudyRecord.of(study).ended else study, replicates) if part]
    left = [trial for part in parts for trial in part.get_trials(deepcopy=False) if not trial.state.is_finished()]
    if not left and (StudyRecord.of(study).requested.trials is None or WatchedRun(lambda: run).finished):
        return []
    what = "confirmation" if StudyRecord.of(study).ended else "search"
    waiting = [TrialRecord.of(trial).display_name for trial in left if trial.state == TrialState.WAITING]
    running = [TrialRecord.of(trial).display_name for trial in left if trial.state == TrialState.RUNNING]
    lines = [f"the {what} is not finished: {_so_far(study, replicates)}"]
    if waiting:
        lines.append(f"waiting to be continued: {_few(waiting)}")
    if running:
        lines.append(f"the {what} died: its process ended without stopping what was running: {_few(running)}")
    if rest := sum(mended for _, mended in _strays(run, studies, searching=False)):
        lines.append(f"half-written or not needed any more, removed when it continues: {rest} files or folders")
    return [*lines, f"continue it with: {run.command('resume')}"]


def _so_far(study: optuna.Study, replicates: optuna.Study | None) -> str:
    part, what = (study, "trials") if not StudyRecord.of(study).ended else (replicates, "replicates")
    if part is None:
        return "no finalist is trained again yet"
    trials = part.get_trials(deepcopy=False)
    total = StudyRecord.of(part).requested.trials or len(trials)
    return f"{sum(trial.state.is_finished() for trial in trials)} of {total} {what} have ended"


def _few(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _trials(run: Run, study: optuna.Study, folder: str) -> Iterator[str]:
    objective = (StudyRecord.of(study).objectives or StudyRecord.of(run.study()).objectives)[0]
    trials = study.get_trials(deepcopy=False)
    if [trial.number for trial in trials] != list(range(len(trials))):
        yield f"{folder}: the numbers are not 0 to {len(trials) - 1}, each once"
    for trial in trials:
        name, record = f"{folder} {trial.number}", TrialRecord.of(trial)
        done = [epoch.epoch for epoch in record.epochs]
        if done != list(range(1, len(done) + 1)):
            yield f"{name}: has epochs {done}"
        if altered(trial):
            yield f"{name}: is not as it ended"
        if not trial.state.is_finished():
            if folder == TRIALS and StudyRecord.of(study).ended:
                yield f"{name}: has not ended, although its search has"
            continue
        if trial.state == TrialState.COMPLETE:
            if len(done) != record.planned_epochs:
                yield f"{name}: complete after {len(done)} of {record.planned_epochs} epochs"
            best = record.best_epoch(objective)
            if best and trial.values[0] != best[objective]:
                yield f"{name}: its value {trial.values[0]!r} is not that of its best epoch, {best[objective]!r}"
        if best := record.best_epoch(objective):
            try:
                check_sums(run.folder / (best.checkpoint or ""))
            except CheckpointError as error:
                yield f"{name}: {error}"


def _budget(study: optuna.Study) -> Iterator[str]:
    trials, searched = study.get_trials(deepcopy=False), StudyRecord.of(study)
    stop, budget = searched.ended, searched.requested.trials
    if budget is None:
        return
    if len(trials) > budget:
        yield f"{len(trials)} trials, more than the {budget} that were asked for"
    if stop and stop.reason is StopReason.TRIAL_BUDGET and len(trials) != budget:
        yield f"{len(trials)} trials, not the {budget} that were asked for"


def lost(run: Run) -> Iterator[str]:
    """Yield a line for each ended trial that the copy of a study has, and that is missing in it or another there.

    None where there is no copy, or one that cannot be trusted.
    """
    copy = backup_path(run.folder / STUDY)
    if run.manifest["study"] is not None or damage(copy):
        return
    storage = open_storage(read_only(copy))
    for name, part in ((run.study_name, run.study()), (run.replicates_name, run.replicates())):
        if part is None:
            continue
        with contextlib.suppress(KeyError):
            before = optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
            now = {trial.number: trial for trial in part.get_trials(deepcopy=False)}
            for trial in before:
                later = now.get(trial.number)
                if trial.state.is_finished() and (
                    later is None or later.state != trial.state or digest(later) != digest(trial)
                ):
                    yield f"trial {trial.number} of {name!r} had ended, and is missing or another now"


def _strays(run: Run, studies: Studies, searching: bool) -> Iterator[tuple[str, bool]]:
    """Nothing half-written, and nothing of trials that there never were; and whether `resume` takes it away."""
    known = dict(zip((run.folder / TRIALS, run.folder / REPLICATES), studies, strict=True))
    for folder, study in known.items():
        trials = {f"{trial.number:04}": trial for trial in study.get_trials(deepcopy=False)} if study else {}
        for path in folder.glob("*"):
            trial = trials.get(path.name)
            if trial is None:
                yield f"{str(path)!r}: belongs to no trial", False
                continue
            named = {Path(epoch.checkpoint or "").name for epoch in TrialRecord.of(trial).epochs}
            for inner in path.iterdir():
                if inner.name.startswith(".") and not searching:
                    yield f"{str(inner)!r}: half-written", True
                elif trial.state.is_finished() and not inner.match(training_state.NAMES) and inner.name not in named:
                    yield f"{str(inner)!r}: nothing names it", True
    if not searching:
        for path in set(run.folder.glob(".*")) - {run.folder / RECORD_FILE}:
            yield f"{str(path)!r}: half-written", any(path.match(f".{name}*") for name in DRAFTED)
    # Of a run in a bucket only the machine that searches has a lock; there it has a lease.
    for name in (MANIFEST,) if bucket_path(run.folder) else (MANIFEST, LOCK_FILE):
        if not (run.folder / name).is_file():
            yield f"{str(run.folder / name)!r}: is not there", False


def _best(run: Run, studies: Studies, validation: PhotoSet | None) -> Iterator[str]:
    from huetune.model.checkpoint import load_model, read_checkpoint
    from huetune.results.export.best_model import best_checkpoints
    from huetune.results.tables.trial_table import rows, winner_row

    objectives = run.manifest["search"]["objectives"]
    if winner_row(rows(*studies)) is None:
        return
    try:
        _, paths = best_checkpoints(run, studies, objectives[0])
        for path in paths:
            read_checkpoint(path)
        if validation is None:
            return
        from huetune.model.metrics import scores
        from huetune.model.trainer import VALIDATION_SAMPLES, VALIDATION_SEED

        checkpoint, colorizer = load_model(paths[0])
    except (CheckpointError, StorageError) as error:
        yield f"the best model: {error}"
        return
    drawn = colorizer.draw(validation.gray, VALIDATION_SAMPLES, VALIDATION_SEED)
    again = scores(drawn, validation.chroma, np.array(checkpoint.mean_chroma))
    for name in objectives:
        if abs(again[name] - checkpoint.metrics[name]) > TOLERANCE:
            yield f"the best model: {name} was {checkpoint.metrics[name]!r}, is {again[name]!r} now"
