"""Writes a search's study, its backup copy, and removes files that the study no longer needs.

Only the process that holds the lock of the run writes the study.
"""

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from huetune.data_tools.common.errors import StorageError, first_line
from huetune.data_tools.storage import bucket_lease
from huetune.data_tools.storage.atomic import atomic_write, flush_to_disk
from huetune.data_tools.storage.bucket_cache import bucket_path, remove
from huetune.model import training_state
from huetune.results.records.epoch_metrics import EpochMetrics
from huetune.results.records.optuna_compat import add_running_trial, mark_running, mark_waiting, read_trial
from huetune.results.records.run import PULLED_TAG_FILE, STUDY, Run, backup_path
from huetune.results.records.study_record import write_study
from huetune.results.records.trial_record import TrialRecord, digest, running_trial, write_epoch, write_trial


class StudyWriter:
    """Writes a study.

    Its methods raise `StorageError` if the study cannot be written.

    Args:
        study: open for writing; no other process may write it.
        run: the run whose study it is; None for a study in memory.
    """

    def __init__(self, study: optuna.Study, run: Run | None = None):
        self.study = study
        # Only a study that is a file of the run has a backup copy.
        self._file = run.folder / STUDY if run and run.manifest["study"] is None else None
        self._bucket = bucket_path(run.folder) if run else None

    def start_trial(self, record: TrialRecord, domains: Mapping[str, BaseDistribution]) -> optuna.Trial:
        """Add a running trial with all its attributes, in one step."""
        template = running_trial(record, domains)
        with self._guarded():
            trial = add_running_trial(self.study, template)
            self.back_up()
            return trial

    def mark_running(self, trial: FrozenTrial) -> optuna.Trial:
        """Resume an interrupted trial."""
        with self._guarded():
            return mark_running(self.study, trial)

    def mark_interrupted(self, trial: optuna.Trial) -> FrozenTrial:
        """Mark a running trial as interrupted, so that it is resumed later."""
        with self._guarded():
            mark_waiting(self.study, trial)
            return read_trial(self.study, trial)

    def mark_all_interrupted(self) -> None:
        """Mark all running trials as interrupted, also those of an earlier session that was killed."""
        with self._guarded():
            for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                mark_waiting(self.study, trial)

    def write_epoch(self, trial: optuna.Trial, epoch: EpochMetrics, value: float | None) -> None:
        """Record an epoch.

        Args:
            trial: the running trial.
            epoch: its epoch.
            value: the objective, as Optuna's intermediate value; None if the study has several objectives.
        """
        with self._guarded():
            if value is not None:
                trial.report(value, epoch.epoch)
            write_epoch(trial, epoch)

    def update_trial(self, trial: optuna.Trial, **fields: Any) -> None:
        """Set fields of a running trial, with the names and types of `TrialRecord`."""
        with self._guarded():
            write_trial(trial, **fields)

    def end_trial(self, trial: optuna.Trial, state: TrialState, values: Sequence[float] | None) -> FrozenTrial:
        """End a trial, record the digest of its content, and return it as stored."""
        with self._guarded():
            write_trial(trial, digest=digest(read_trial(self.study, trial), state, values))
            ended = self.study.tell(trial, values, state)
            self.back_up()
            return ended

    def update_study(self, **fields: Any) -> None:
        """Set fields of the study, with the names and types of `StudyRecord`."""
        with self._guarded():
            write_study(self.study, **fields)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Turn the errors of Optuna and the database into one line.

        Raises:
            StorageError: the study cannot be written.
        """
        try:
            yield
        except (optuna.exceptions.OptunaError, SQLAlchemyError, sqlite3.Error, OSError) as error:
            reason = first_line(error.__cause__ or error)
            raise StorageError(f"the study of {self.study.study_name!r} cannot be written ({reason})") from error

    def back_up(self) -> None:
        """Back up a study that is a file, whenever a trial has started or ended, and upload the copy to a bucket.

        Raises:
            StorageError: the bucket cannot be written, or this process may have lost the lease on the run.
            sqlite3.Error: the study cannot be read.
            OSError: the copy cannot be written.
        """
        if self._bucket:
            bucket_lease.check_lease(self._bucket)
        if self._file:
            copy_study(self._file)
            upload_copy(self._file)


def copy_study(path: Path) -> None:
    """Copy a SQLite study to `backup_path(path)` atomically.

    Raises:
        sqlite3.Error: the study cannot be read.
        OSError: the copy cannot be written.
    """
    draft, copy = path.with_name(f".{path.name}.draft"), backup_path(path)
    try:
        draft.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(path)) as source, contextlib.closing(sqlite3.connect(draft)) as target:
            source.backup(target)
        flush_to_disk(draft)
        draft.replace(copy)
    finally:
        for leftover in path.parent.glob(f"{draft.name}*"):
            leftover.unlink(missing_ok=True)
    flush_to_disk(path.parent)


def upload_copy(path: Path) -> None:
    """Upload the copy of a study to the bucket of its run; do nothing if the run is not in a bucket.

    Args:
        path: the study's file; this process has locked its run.

    Raises:
        StorageError: the bucket cannot be written, or another process has replaced the copy there.
    """
    if bucket := bucket_path(path.parent):
        place, pulled = bucket / backup_path(path).name, path.with_name(PULLED_TAG_FILE)
        if pulled.is_file() and place.version_tag() != pulled.read_text(encoding="utf-8"):
            raise StorageError(f"{str(place)!r}: another process has changed it since; resume from its version")
        place.write(backup_path(path).read_bytes())
        # The local study is now at least as new as this version of the copy.
        atomic_write(pulled, (place.version_tag() or "").encode())


def remove_superseded(found: Iterable[Path], trials: Iterable[FrozenTrial], objective: str) -> None:
    """Remove the files of ended trials except each one's best checkpoint and a complete trial's last training state.

    Args:
        found: the content of trial folders, as `list_paths` returns it; files of trials not in `trials` stay.
        trials: ended trials, as the study has them.
        objective: the metric by which an epoch is the best.

    Raises:
        StorageError: the bucket cannot be changed.
    """
    folders: dict[str, list[Path]] = {}
    for path in found:
        folders.setdefault(path.parent.name, []).append(path)
    for trial in trials:
        paths = folders.get(f"{trial.number:04}", [])
        best = TrialRecord.of(trial).best_epoch(objective)
        kept = {Path(best.checkpoint).name} if best and best.checkpoint else set()
        if trial.state == TrialState.COMPLETE:
            ends = sorted(
                (path for path in paths if path.match(training_state.FOLDER_PATTERN)), key=training_state.order
            )
            kept |= {path.name for path in ends[-1:]}
        for path in paths:
            if path.name not in kept:
                remove(path)
