"""Watches a search that another process runs, on this or another machine, by reading its study."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from huetune.data_tools.common.errors import Interrupted
from huetune.data_tools.common.terminal import say
from huetune.data_tools.storage.bucket_cache import bucket_path
from huetune.data_tools.storage.run_lock import lock_holder
from huetune.results.analysis.replicates import ranks
from huetune.results.analysis.winner import headline
from huetune.results.live.progress import Display, animated
from huetune.results.records.baseline import baseline_line
from huetune.results.records.run import STUDY, Run
from huetune.results.records.study_record import Session, StudyRecord
from huetune.results.records.trial_record import ENDED_STATES, STATES, TrialRecord
from huetune.results.tables.trial_table import rows

FILE_WIDTH = 120
"""Width in characters of a board that is written to a file or a pipe."""
FOLDER_INTERVAL_SECONDS, BUCKET_INTERVAL_SECONDS = 2.0, 10.0
"""Time between two reads of a run in a folder, and of one in a bucket, where each read costs requests."""


def watch(find: Callable[[], Run], console: Console, interval: float | None = None) -> bool:
    """Show a search until it ends or no process runs it.

    Args:
        find: finds the run; of a run in a bucket, it gets the current files.
        console: the console.
        interval: seconds between two reads; None for the default, which depends on where the run is.

    Returns:
        Whether the search has finished.

    Raises:
        Interrupted: Ctrl-C or SIGTERM, which do not affect the search.
        StorageError: there is no such run, or it can no longer be read.
    """
    run = WatchedRun(find)
    if run.holder and not animated(console):
        say(run.status_lines[0], console=console)
    with _deferred_signals() as sleep:
        while True:
            phase = run.phase()
            with phase.display(console) as display:
                phase.update(display)
                while run.holder and run.replicating == phase.replicating:
                    sleep(interval or run.interval)
                    run.refresh()
                    phase.update(display)
            if not run.holder:
                break
    for line in run.status_lines:
        say(line, console=console)
    return run.finished


def show_once(find: Callable[[], Run], console: Console) -> bool:
    """Show the current state of a search; arguments and result are those of `watch`."""
    run = WatchedRun(find)
    phase = run.phase()
    display = phase.display(console, quiet=True)
    phase.update(display)
    # Rich would take the width of a file from the environment, which may be very large.
    console.print(display.board, width=console.width if console.is_terminal else FILE_WIDTH)
    return run.finished


@contextlib.contextmanager
def _deferred_signals() -> Iterator[Callable[[float], None]]:
    """Defer Ctrl-C and SIGTERM during reads, and yield an interruptible `sleep`; a second signal is not deferred.

    An exception that a signal handler raises while Python or a database driver cleans up would be ignored.

    Raises:
        Interrupted: a signal came, at the next sleep or during it.
    """
    caught: list[Interrupted] = []
    sleeping = False

    def handle(number: int, frame: Any) -> None:
        caught.append(Interrupted(number))
        if sleeping or len(caught) > 1:
            raise caught[0]

    def sleep(seconds: float) -> None:
        nonlocal sleeping
        sleeping = True
        if caught:
            raise caught[0]
        time.sleep(seconds)
        sleeping = False

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield sleep
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class WatchedRun:
    """A run and the state in which it was when it was last read.

    Args:
        find: finds the run; of a run in a bucket, it gets the current files.

    Attributes:
        run: the run.
        holder: description of the process that runs the search; None if no process does.
        study: study of the search.
        replicates: study of the replicates; None before there are any.
    """

    def __init__(self, find: Callable[[], Run]):
        self._find = find
        self._version: Any = None
        self.refresh()

    def refresh(self) -> None:
        """Read the run again.

        Raises:
            StorageError: the run no longer exists, or cannot be read.
        """
        self.run = self._find()
        # The lock is read first: if no process holds it, the study that is read next no longer changes.
        self.holder = lock_holder(self.run.folder)
        database = self.run.folder / STUDY
        # An open study reads its ended trials only once. It is opened again if the file was replaced, and when the
        # process that wrote it has ended, because its unfinished transactions are rolled back then.
        version = self.holder, database.stat().st_ino if database.is_file() else None
        if version != self._version:
            self._version, self.study, self.replicates = version, self.run.study(), None
        self.replicates = self.replicates or self.run.replicates()

    @property
    def interval(self) -> float:
        """Default seconds between two reads."""
        return BUCKET_INTERVAL_SECONDS if bucket_path(self.run.folder) else FOLDER_INTERVAL_SECONDS

    @property
    def replicating(self) -> bool:
        """Whether the search trains replicates, or did when it was stopped."""
        if self.replicates is None:
            return False
        trials = self.replicates.get_trials(deepcopy=False)
        incomplete = len(trials) < (_requested(self.replicates) or 0) or not all(
            trial.state.is_finished() for trial in trials
        )
        return incomplete or (self.holder is not None and StudyRecord.of(self.study).ended is not None)

    @property
    def finished(self) -> bool:
        """Whether all requested trials and replicates have ended."""
        if self.holder or not StudyRecord.of(self.study).ended or self.replicating:
            return False
        if self.replicates or not self.run.manifest["search"].get("confirm"):
            return True
        return not self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))

    @property
    def status_lines(self) -> list[str]:
        """Which process searches, or how the search ended, one text per line."""
        if self.holder:
            return [f"locked by {self.holder}"]
        if not self.finished:
            return [f"the search is not running; continue it with: {self.run.command('resume')}"]
        table = rows(self.study, self.replicates)
        lines = headline(self.study, self.replicates), baseline_line(table)
        return [f"the search ended: {StudyRecord.of(self.study).ended}", *(line for line in lines if line)]

    @property
    def winner(self) -> int | None:
        """Number of the confirmed winner; None if there is none yet, or if several objectives leave it open."""
        return next((number for number, rank in ranks(self.study, self.replicates).items() if rank == 1), None)

    def phase(self) -> "Phase":
        """Return the study that is being written: that of the search or that of its replicates."""
        return Phase(self, self.replicating)


class Phase:
    """One of the two studies of a run, with the state that a display reads (`results.live.progress.SearchStatus`).

    Args:
        run: the run.
        replicating: whether it is the study of the replicates.
    """

    def __init__(self, run: WatchedRun, replicating: bool):
        self.replicating = replicating
        self._run = run
        self._trials = self._study.get_trials(deepcopy=False)
        self._known = {
            trial.number: (STATES[trial.state] if trial.state.is_finished() else "interrupted", trial)
            for trial in self._trials
        }

    @property
    def _study(self) -> optuna.Study:
        return self._run.replicates if self.replicating and self._run.replicates else self._run.study

    def display(self, console: Console, quiet: bool = False) -> Display:
        """Return a display that shows all trials that the study has now."""
        noun = "replicates" if self.replicating else "trials"
        name, searched = self._run.run.name, StudyRecord.of(self._run.study)
        return Display(console, name, searched, self._trials, noun=noun, quiet=quiet)

    def update(self, display: Display) -> None:
        """Pass the events since the last call to a display."""
        for trial, event in trial_events(
            self._known, self._study.get_trials(deepcopy=False), self._run.holder is not None
        ):
            display(self, trial, event)
        display.update(self, self._run.status_lines, None if self.replicating else self._run.winner)

    @property
    def trials(self) -> int | None:
        """Number of trials that were requested; None if the study does not record it."""
        return _requested(self._study)

    @property
    def _session(self) -> Session | None:
        return StudyRecord.of(self._study).session if self._run.holder else None

    @property
    def slots(self) -> int | None:
        """Number of trials that can run at a time; None if no process searches."""
        return session.slots if (session := self._session) else None

    @property
    def seconds(self) -> float | None:
        """Seconds that the search has taken; of a running search by the clock of this machine."""
        if session := self._session:
            return session.spent + max(0.0, time.time() - session.since)
        return StudyRecord.of(self._study).seconds

    @property
    def seconds_left(self) -> float | None:
        """Seconds until no more trials start; None without a time budget."""
        budget = StudyRecord.of(self._study).requested.time_budget
        return None if budget is None else max(0.0, budget - (self.seconds or 0.0))


def trial_events(
    before: dict[int, tuple[str, FrozenTrial]], trials: Sequence[FrozenTrial], running: bool
) -> Iterator[tuple[FrozenTrial, str]]:
    """Yield the events of a study since it was last read.

    Args:
        before: state and record of each trial by its number, as of the last read; is updated.
        trials: the trials as of now.
        running: whether a process searches. If none does, trials that the study records as running are waiting for
            `resume`.

    Yields:
        A trial and an event, as `Display` takes them.
    """
    for trial in trials:
        state = STATES[trial.state] if running or trial.state != TrialState.RUNNING else "interrupted"
        was, old = before.get(trial.number, (None, None))
        if was in ENDED_STATES:
            continue
        before[trial.number] = state, trial
        if was is None:
            yield trial, "started"
        record, known = TrialRecord.of(trial), TrialRecord.of(old) if old else None
        for event, new, seen in (
            ("warning", record.notes, known.notes if known else ()),
            ("died", record.deaths, known.deaths if known else ()),
        ):
            if len(new) > len(seen):
                yield trial, event
                was = "interrupted" if event == "died" else was
        if state == "running":
            if was == "interrupted":
                yield trial, "resumed"
            elif len(record.measured) > (len(known.measured) if known else 0):
                yield trial, "epoch"
        elif state != was and not (running and state == "interrupted" and record.deaths):
            # The worker of a trial that waits for another worker has died: the event "died" was yielded for that.
            yield trial, state


def _requested(study: optuna.Study) -> int | None:
    return StudyRecord.of(study).requested.trials
