"""The study as the one process that searches writes it: nothing that was written is lost or done twice."""

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
from huetune.results.records.optuna_compat import begin_trial, put_back_trial, stored_trial, take_up_trial
from huetune.results.records.run import PULLED, STUDY, Run, copy_of
from huetune.results.records.study_record import write_study
from huetune.results.records.trial_record import TrialRecord, digest, running_trial, write_epoch, write_trial


class StudyWriter:
    """Writes a study.

    Args:
        study: open for writing, by this process alone.
        run: that it is the study of; None for one in memory.
    """

    def __init__(self, study: optuna.Study, run: Run | None = None):
        self.study = study
        # A copy is kept of a study that is a file of the run.
        self._file = run.folder / STUDY if run and run.manifest["study"] is None else None
        self._bucket = bucket_path(run.folder) if run else None

    def start_trial(self, record: TrialRecord, domains: Mapping[str, BaseDistribution]) -> optuna.Trial:
        """Record a new running trial, with all that it is, in one step."""
        template = running_trial(record, domains)
        with self._guarded():
            trial = begin_trial(self.study, template)
            self.back_up()
            return trial

    def mark_running(self, trial: FrozenTrial) -> optuna.Trial:
        """Have a trial run again that was left before its end."""
        with self._guarded():
            return take_up_trial(self.study, trial)

    def mark_interrupted(self, trial: optuna.Trial) -> FrozenTrial:
        """Have a running trial wait to be gone on with."""
        with self._guarded():
            put_back_trial(self.study, trial)
            return stored_trial(self.study, trial)

    def mark_all_interrupted(self) -> None:
        """Have all running trials wait, those too that an earlier session left running and this one did not reach."""
        with self._guarded():
            for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                put_back_trial(self.study, trial)

    def write_epoch(self, trial: optuna.Trial, epoch: EpochMetrics, value: float | None) -> None:
        """Record an epoch.

        Args:
            trial: it runs.
            epoch: what is known of it.
            value: for Optuna, which takes none where there are several objectives.
        """
        with self._guarded():
            if value is not None:
                trial.report(value, epoch.epoch)
            write_epoch(trial, epoch)

    def update_trial(self, trial: optuna.Trial, **fields: Any) -> None:
        """Record other fields of a running trial, by the names and types of `TrialRecord`."""
        with self._guarded():
            write_trial(trial, **fields)

    def end_trial(self, trial: optuna.Trial, state: TrialState, values: Sequence[float] | None) -> FrozenTrial:
        """End a trial, for good."""
        with self._guarded():
            write_trial(trial, digest=digest(stored_trial(self.study, trial), state, values))
            ended = self.study.tell(trial, values, state)
            self.back_up()
            return ended

    def update_study(self, **fields: Any) -> None:
        """Record fields of the whole study, by the names and types of `StudyRecord`."""
        with self._guarded():
            write_study(self.study, **fields)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Say in one line what a database says in many.

        Raises:
            StorageError: the study does not take it.
        """
        try:
            yield
        except (optuna.exceptions.OptunaError, SQLAlchemyError, sqlite3.Error, OSError) as error:
            reason = first_line(error.__cause__ or error)
            raise StorageError(f"the study of {self.study.study_name!r} cannot be written ({reason})") from error

    def back_up(self) -> None:
        """Keep a second generation of a study that is a file: with all that has ended, and all that has begun.

        Raises:
            StorageError: the bucket that it goes to does not take it, or another process may hold the run by now.
            sqlite3.Error: it cannot be read.
            OSError: the disk does not take it.
        """
        if self._bucket:
            bucket_lease.check_lease(self._bucket)
        if self._file:
            copy_study(self._file)
            push_copy(self._file)


def copy_study(path: Path) -> None:
    """Copy a SQLite study beside it, whole or not at all.

    Raises:
        sqlite3.Error: it cannot be read.
        OSError: the disk does not take the copy.
    """
    draft, copy = path.with_name(f".{path.name}.draft"), copy_of(path)
    try:
        draft.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(path)) as source, contextlib.closing(sqlite3.connect(draft)) as target:
            source.backup(target)
        flush_to_disk(draft)
        draft.replace(copy)
    finally:
        for left in path.parent.glob(f"{draft.name}*"):
            left.unlink(missing_ok=True)
    flush_to_disk(path.parent)


def push_copy(path: Path) -> None:
    """Put the copy of a study into the bucket that its run is in, if it is in one.

    Args:
        path: of the study, whose run is held.

    Raises:
        StorageError: the store does not take it, or the copy there is not the one that this study goes back to.
    """
    if bucket := bucket_path(path.parent):
        place, pulled = bucket / copy_of(path).name, path.with_name(PULLED)
        if pulled.is_file() and place.version_tag() != pulled.read_text(encoding="utf-8"):
            raise StorageError(f"{str(place)!r}: another process has written it since; go on with what it made")
        place.write(copy_of(path).read_bytes())
        # From now on the study here goes back to this copy: it is as new, or newer.
        atomic_write(pulled, (place.version_tag() or "").encode())


def tidy(found: Iterable[Path], trials: Iterable[FrozenTrial], objective: str) -> None:
    """Keep of ended trials their best epochs, which the study surely names, and where complete ones ended.

    Args:
        found: what is in the folders of trials, as `listed` returns it; of other trials it stays.
        trials: that ended.
        objective: by which an epoch is the best.

    Raises:
        StorageError: the bucket that they are in does not do it.
    """
    folders: dict[str, list[Path]] = {}
    for path in found:
        folders.setdefault(path.parent.name, []).append(path)
    for trial in trials:
        paths = folders.get(f"{trial.number:04}", [])
        best = TrialRecord.of(trial).best_epoch(objective)
        kept = {Path(best.checkpoint).name} if best and best.checkpoint else set()
        if trial.state == TrialState.COMPLETE:
            ends = sorted((path for path in paths if path.match(training_state.NAMES)), key=training_state.order)
            kept |= {path.name for path in ends[-1:]}
        for path in paths:
            if path.name not in kept:
                remove(path)
