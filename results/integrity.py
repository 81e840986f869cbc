"""Checks of a run's integrity: trials, checkpoints and files are complete, undamaged and consistent with the study."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from huetune.data_tools.common.errors import CheckpointError, StorageError, first_line
from huetune.data_tools.common.plural import counted
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

REPLACED_FILES = (STUDY, MANIFEST, MOVED_PHOTOS_FILE, PULLED_TAG_FILE, final_check.FILE_NAME)
"""Files of a run that a search replaces as a whole; `resume` deletes incomplete drafts of them."""
MAX_LISTED_TRIALS = 5
SCORE_TOLERANCE = 1e-6
"""Largest difference of a score to the same score on another machine."""
LOCK_TIMEOUT_SECONDS = 60.0
_TEMPORARY_ERRORS = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN)
"""Primary codes of SQLite's errors that do not depend on the content of the file."""


def find_damage(path: Path) -> str | None:
    """Check the file of a study: that SQLite and Optuna can read it, and that no ended trial was changed.

    Returns:
        What is wrong with the file, such as `damaged (file is not a database)`; None if nothing is.

    Raises:
        StorageError: the file cannot be read now: it is locked, not readable, or of another version of Optuna.
    """
    if not path.is_file():
        return "does not exist"
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
                if is_changed(trial):
                    return f"damaged (trial {trial.number} of {study!r} was changed after it ended)"
    except Exception as error:  # a flipped bit makes SQLite, SQLAlchemy and Optuna raise nearly anything
        reason = first_line(error)
        if isinstance(error, StorageError) or _sqlite_code(error) in _TEMPORARY_ERRORS:
            raise StorageError(f"{str(path)!r}: cannot be read now ({reason})") from None
        return f"damaged ({reason})"
    return None


def _sqlite_code(error: BaseException) -> int | None:
    """Return the primary code of the SQLite error that an error is or was caused by; None if there is none."""
    cause: BaseException | None = error
    while cause and not isinstance(cause, sqlite3.Error):
        # SQLAlchemy and Optuna each wrap the error of the layer below.
        cause = cause.__cause__
    code = getattr(cause, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def is_changed(trial: FrozenTrial) -> bool:
    """Return whether an ended trial was changed after it ended; False without a digest, as in older versions."""
    recorded = TrialRecord.of(trial).digest
    return trial.state.is_finished() and recorded is not None and recorded != digest(trial)


def find_study_damage(run: Run) -> str | None:
    """Return what is wrong with the file of a run's study, as `find_damage`; None for a study on a database server."""
    return find_damage(run.folder / STUDY) if run.manifest["study"] is None else None


def find_violations(run: Run, validation: PhotoSet | None = None) -> Iterator[str]:
    """Yield a line for each thing that is lost, duplicated or damaged in a run: what it is, and what was expected.

    While the search is running, only ended trials are checked. An unfinished search, and files that `resume` will
    delete, are no violations: see `describe_unfinished`.

    Args:
        run: run of a search.
        validation: its validation photos, to measure the best model again; None to skip that.

    Raises:
        StorageError: the study does not exist or cannot be read now.
    """
    if problem := find_study_damage(run):
        yield f"{str(run.folder / STUDY)!r}: {problem}"
        return
    study, replicates = studies = run.study(), run.replicates()
    is_running = lock_holder(run.folder) is not None
    for part, folder in ((study, TRIALS), (replicates, REPLICATES)):
        if part:
            yield from _check_trials(run, part, folder)
    yield from _check_budget(study)
    copy = backup_path(run.folder / STUDY)
    if run.manifest["study"] is None and copy.is_file() and (problem := find_damage(copy)):
        yield f"{str(copy)!r}: {problem}"
    yield from find_lost_trials(run)
    resumes = bool(describe_unfinished(run))
    yield from (line for line, removable in _check_files(run, studies, is_running) if not (removable and resumes))
    yield from _check_best_model(run, studies, validation)
    try:
        final_check.read(run)
    except StorageError as error:
        yield str(error)


def describe_unfinished(run: Run) -> list[str]:
    """Describe a search that is not finished and not running, and how to continue it.

    Args:
        run: run of a search, with an undamaged study.

    Returns:
        Lines: how many trials have ended; which trials wait; which trials were running when the process died; how many
        incomplete files it left; the command that continues the search. Empty if the search is running or finished.
    """
    study, replicates = studies = run.study(), run.replicates()
    if lock_holder(run.folder):
        return []
    # An unfinished trial of a search that has ended is a violation instead.
    parts = [part for part in (None if StudyRecord.of(study).ended else study, replicates) if part]
    left = [trial for part in parts for trial in part.get_trials(deepcopy=False) if not trial.state.is_finished()]
    if not left and (StudyRecord.of(study).requested.trials is None or WatchedRun(lambda: run).finished):
        return []
    what = "confirmation" if StudyRecord.of(study).ended else "search"
    interrupted = [TrialRecord.of(trial).display_name for trial in left if trial.state == TrialState.WAITING]
    running = [TrialRecord.of(trial).display_name for trial in left if trial.state == TrialState.RUNNING]
    lines = [f"the {what} is not finished: {_progress(study, replicates)}"]
    if interrupted:
        lines.append(f"interrupted: {_list_some(interrupted)}")
    if running:
        lines.append(f"running when the process of the {what} died: {_list_some(running)}")
    if count := sum(removable for _, removable in _check_files(run, studies, is_running=False)):
        lines.append(
            f"incomplete or superseded, removed by `resume`: {counted(count, 'file or folder', 'files or folders')}"
        )
    return [*lines, f"continue it with: {run.command('resume')}"]


def _progress(study: optuna.Study, replicates: optuna.Study | None) -> str:
    part, what = (study, "trials") if not StudyRecord.of(study).ended else (replicates, "replicates")
    if part is None:
        return "no replicate was started yet"
    trials = part.get_trials(deepcopy=False)
    total = StudyRecord.of(part).requested.trials or len(trials)
    return f"{sum(trial.state.is_finished() for trial in trials)} of {total} {what} have ended"


def _list_some(names: list[str]) -> str:
    more = len(names) - MAX_LISTED_TRIALS
    return ", ".join(names[:MAX_LISTED_TRIALS]) + (f" and {more} more" if more > 0 else "")


def _check_trials(run: Run, study: optuna.Study, folder: str) -> Iterator[str]:
    """Yield the violations in the trials or replicates of a run, and in their checkpoints."""
    objective = (StudyRecord.of(study).objectives or StudyRecord.of(run.study()).objectives)[0]
    trials = study.get_trials(deepcopy=False)
    for expected, trial in enumerate(trials):
        if trial.number != expected:
            numbers = f"expected the numbers 0 to {len(trials) - 1}, each once"
            yield f"{folder}: {numbers}; found {trial.number} in place of {expected}"
            break
    for trial in trials:
        name, record = f"{folder} {trial.number}", TrialRecord.of(trial)
        epochs = [epoch.epoch for epoch in record.epochs]
        if epochs != list(range(1, len(epochs) + 1)):
            yield f"{name}: expected the epochs 1 to {len(epochs)}, each once; found {epochs}"
        if is_changed(trial):
            yield f"{name}: was changed after it ended: it does not match its digest"
        if not trial.state.is_finished():
            if folder == TRIALS and StudyRecord.of(study).ended:
                yield f"{name}: expected an ended trial, because its search has ended; found {trial.state.name.lower()}"
            continue
        best = record.best_epoch(objective)
        if trial.state == TrialState.COMPLETE:
            if len(epochs) != record.planned_epochs:
                yield f"{name}: is complete; expected {record.planned_epochs} epochs, found {len(epochs)}"
            if best and trial.values[0] != best[objective]:
                yield f"{name}: expected the value of its best epoch, {best[objective]!r}; found {trial.values[0]!r}"
        if best:
            try:
                check_sums(run.folder / (best.checkpoint or ""))
            except CheckpointError as error:
                yield f"{name}: {error}"


def _check_budget(study: optuna.Study) -> Iterator[str]:
    trials, searched = study.get_trials(deepcopy=False), StudyRecord.of(study)
    stop, budget = searched.ended, searched.requested.trials
    if budget is None:
        return
    if len(trials) > budget:
        yield f"study: expected at most {counted(budget, 'trial')}, as requested; found {len(trials)}"
    if stop and stop.reason is StopReason.TRIAL_BUDGET and len(trials) != budget:
        yield f"study: its trial budget was reached; expected {counted(budget, 'trial')}, found {len(trials)}"


def find_lost_trials(run: Run) -> Iterator[str]:
    """Yield a line for each ended trial in the copy of a study that is missing or different in the study.

    No line is yielded if there is no copy, or if the copy is damaged.
    """
    copy = backup_path(run.folder / STUDY)
    if run.manifest["study"] is not None or find_damage(copy):
        return
    storage = open_storage(read_only(copy))
    for name, part in ((run.study_name, run.study()), (run.replicates_name, run.replicates())):
        if part is None:
            continue
        with contextlib.suppress(KeyError):
            copied = optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
            present = {trial.number: trial for trial in part.get_trials(deepcopy=False)}
            for trial in copied:
                found = present.get(trial.number)
                if not trial.state.is_finished():
                    continue
                if found is None:
                    yield f"trial {trial.number} of {name!r} is missing; the copy of the study has it"
                elif found.state != trial.state or digest(found) != digest(trial):
                    yield f"trial {trial.number} of {name!r} differs from the copy of the study"


def _check_files(run: Run, studies: Studies, is_running: bool) -> Iterator[tuple[str, bool]]:
    """Yield a line for each incomplete, unused or missing file of a run, and whether `resume` removes that file."""
    known = dict(zip((run.folder / TRIALS, run.folder / REPLICATES), studies, strict=True))
    for folder, study in known.items():
        trials = {f"{trial.number:04}": trial for trial in study.get_trials(deepcopy=False)} if study else {}
        for path in folder.glob("*"):
            trial = trials.get(path.name)
            if trial is None:
                yield f"{str(path)!r}: belongs to no trial of the study", False
                continue
            checkpoints = {Path(epoch.checkpoint or "").name for epoch in TrialRecord.of(trial).epochs}
            for inner in path.iterdir():
                is_used = inner.match(training_state.FOLDER_PATTERN) or inner.name in checkpoints
                if inner.name.startswith(".") and not is_running:
                    yield f"{str(inner)!r}: incomplete, its process died while writing it", True
                elif trial.state.is_finished() and not is_used:
                    yield f"{str(inner)!r}: no epoch of its trial refers to it", True
    if not is_running:
        for path in set(run.folder.glob(".*")) - {run.folder / RECORD_FILE}:
            is_draft = any(path.match(f".{name}*") for name in REPLACED_FILES)
            yield f"{str(path)!r}: incomplete, its process died while writing it", is_draft
    # A run in a bucket has a lease there; only the machine that searches has a lock file.
    for name in (MANIFEST,) if bucket_path(run.folder) else (MANIFEST, LOCK_FILE):
        if not (run.folder / name).is_file():
            yield f"{str(run.folder / name)!r}: does not exist", False


def _check_best_model(run: Run, studies: Studies, validation: PhotoSet | None) -> Iterator[str]:
    """Yield the violations in the checkpoints of the best model, and in its scores if there are validation photos."""
    from huetune.model.checkpoint import load_colorizer, read_checkpoint
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

        checkpoint, colorizer = load_colorizer(paths[0])
    except (CheckpointError, StorageError) as error:
        yield f"the best model: {error}"
        return
    drawn = colorizer.draw(validation.gray, VALIDATION_SAMPLES, VALIDATION_SEED)
    measured = scores(drawn, validation.chroma, np.array(checkpoint.mean_chroma))
    for name in objectives:
        recorded = checkpoint.metrics[name]
        if abs(measured[name] - recorded) > SCORE_TOLERANCE:
            yield f"the best model: expected {name} {recorded!r}, as recorded; measured again it is {measured[name]!r}"
