"""A search that another process runs, here or elsewhere, seen through its study."""

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
from huetune.results.analysis.replicates import places
from huetune.results.analysis.winner import headline
from huetune.results.live.progress import Display, animated
from huetune.results.records.baseline import baseline_line
from huetune.results.records.run import STUDY, Run
from huetune.results.records.study_record import Session, StudyRecord
from huetune.results.records.trial_record import STATES, TrialRecord
from huetune.results.tables.trial_table import ENDED, rows

WIDTH = 120
"""Of a picture in a file."""
LOCAL, BUCKET = 2.0, 10.0
"""Seconds between two looks at a run."""


def watch(find: Callable[[], Run], console: Console, interval: float | None = None) -> bool:
    """Show a search until it ends, or nobody searches any more.

    Args:
        find: finds the run, and of one in a bucket what is there by now.
        console: where to.
        interval: seconds between two looks; None for as many as are polite.

    Returns:
        Whether the search came to its end.

    Raises:
        Interrupted: Ctrl-C or SIGTERM, of which the search knows nothing.
        StorageError: there is no such run, or it cannot be read any more.
    """
    view = View(find)
    if view.by and not animated(console):
        say(view.words[0], console=console)
    with _patient() as rest:
        while True:
            phase = view.phase()
            with phase.display(console) as display:
                phase.tell(display)
                while view.by and view.replicating == phase.replicating:
                    rest(interval or view.interval)
                    view.look()
                    phase.tell(display)
            if not view.by:
                break
    for line in view.words:
        say(line, console=console)
    return view.finished


def picture(find: Callable[[], Run], console: Console) -> bool:
    """Show a search as it is now; otherwise as `watch`."""
    view = View(find)
    phase = view.phase()
    display = phase.display(console, quiet=True)
    phase.tell(display)
    # In a file a bar over the whole width would be a long one.
    console.print(display.board, width=console.width if console.is_terminal else WIDTH)
    return view.finished


@contextlib.contextmanager
def _patient() -> Iterator[Callable[[float], None]]:
    """Have Ctrl-C and SIGTERM wait until nothing is read, and yield how to rest in between; a second one does not wait.

    An exception out of nowhere may come just when Python or a database tidies up, which takes no notice of any.
    """
    caught: list[Interrupted] = []
    resting = False

    def note(number: int, frame: Any) -> None:
        caught.append(Interrupted(number))
        if resting or len(caught) > 1:
            raise caught[0]

    def rest(seconds: float) -> None:
        nonlocal resting
        resting = True
        if caught:
            raise caught[0]
        time.sleep(seconds)
        resting = False

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield rest
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class View:
    """A run, as it was when it was last looked at.

    Args:
        find: finds the run, and of one in a bucket what is there by now.
    """

    def __init__(self, find: Callable[[], Run]):
        self._find = find
        self._file: Any = None
        self.look()

    def look(self) -> None:
        """See what has become of the run.

        Raises:
            StorageError: it is not there any more, or cannot be read.
        """
        self.run = self._find()
        # First, for what nobody holds any more stays as it is then read.
        self.by = lock_holder(self.run.folder)
        database = self.run.folder / STUDY
        # An open study reads its ended trials once. It is opened anew when it is another file, and when who wrote it is
        # gone: what that one left half written is undone then.
        file = self.by, database.stat().st_ino if database.is_file() else None
        if file != self._file:
            self._file, self.study, self.replicates = file, self.run.study(), None
        self.replicates = self.replicates or self.run.replicates()

    @property
    def interval(self) -> float:
        """Seconds until it is polite to look again."""
        return BUCKET if bucket_path(self.run.folder) else LOCAL

    @property
    def replicating(self) -> bool:
        """Whether it is at its replicates, or was when it was left."""
        if self.replicates is None:
            return False
        trials = self.replicates.get_trials(deepcopy=False)
        owed = len(trials) < (_asked(self.replicates) or 0) or not all(trial.state.is_finished() for trial in trials)
        return owed or (self.by is not None and StudyRecord.of(self.study).ended is not None)

    @property
    def finished(self) -> bool:
        """Whether all that was to be trained came to its end, replicates too."""
        if self.by or not StudyRecord.of(self.study).ended or self.replicating:
            return False
        if self.replicates or not self.run.manifest["search"].get("confirm"):
            return True
        return not self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))

    @property
    def words(self) -> list[str]:
        """Whose search it is, or how it ended."""
        if self.by:
            return [f"locked by {self.by}"]
        if not self.finished:
            return [f"nobody searches; go on with: {self.run.command('resume')}"]
        table = rows(self.study, self.replicates)
        lines = headline(self.study, self.replicates, table), baseline_line(table)
        return [f"the search ended: {StudyRecord.of(self.study).ended}", *(line for line in lines if line)]

    @property
    def winner(self) -> int | None:
        """The number of the confirmed winner; None before there is one, and where that is left open."""
        return next((number for number, place in places(self.study, self.replicates).items() if place == 1), None)

    def phase(self) -> "Phase":
        """Return which of its two studies there is something to see of."""
        return Phase(self, self.replicating)


class Phase:
    """One of a run's studies, which tells a display what a live searcher would.

    Args:
        view: of the run.
        replicating: whether it is the study of replicates.
    """

    def __init__(self, view: View, replicating: bool):
        self.replicating = replicating
        self._view = view
        self._trials = self._study.get_trials(deepcopy=False)
        self._known = {
            trial.number: (STATES[trial.state] if trial.state.is_finished() else "waiting", trial)
            for trial in self._trials
        }

    @property
    def _study(self) -> optuna.Study:
        return self._view.replicates if self.replicating and self._view.replicates else self._view.study

    def display(self, console: Console, quiet: bool = False) -> Display:
        """Return what shows it, with all that it holds by now."""
        what = "replicates" if self.replicating else "trials"
        name, searched = self._view.run.name, StudyRecord.of(self._view.study)
        return Display(console, name, searched, self._trials, what=what, quiet=quiet)

    def tell(self, display: Display) -> None:
        """Tell a display what has happened since the last time."""
        for trial, event in changes(self._known, self._study.get_trials(deepcopy=False), self._view.by is not None):
            display(self, trial, event)
        display.tell(self, self._view.words, None if self.replicating else self._view.winner)

    @property
    def trials(self) -> int | None:
        """In all; None where the study does not say."""
        return _asked(self._study)

    @property
    def _session(self) -> Session | None:
        return StudyRecord.of(self._study).session if self._view.by else None

    @property
    def slots(self) -> int | None:
        """How many may run at once; None where nobody searches."""
        return session.slots if (session := self._session) else None

    @property
    def seconds(self) -> float | None:
        """That were searched; of a running search by this machine's clock."""
        if session := self._session:
            return session.spent + max(0.0, time.time() - session.since)
        return StudyRecord.of(self._study).seconds

    @property
    def seconds_left(self) -> float | None:
        """Until no more trials are begun; None where time does not end the search."""
        budget = StudyRecord.of(self._study).requested.time_budget
        return None if budget is None else max(0.0, budget - (self.seconds or 0.0))


def changes(
    before: dict[int, tuple[str, FrozenTrial]], trials: Sequence[FrozenTrial], held: bool
) -> Iterator[tuple[FrozenTrial, str]]:
    """Yield what has happened to the trials of a study since the last look.

    Args:
        before: each trial by its number, and its state; is brought up to date.
        trials: by now.
        held: whether anybody trains; where nobody does, those that ran wait.

    Yields:
        A trial and an event, as `Display` wants them.
    """
    for trial in trials:
        state = STATES[trial.state] if held or trial.state != TrialState.RUNNING else "waiting"
        was, old = before.get(trial.number, (None, None))
        if was in ENDED:
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
                was = "waiting" if event == "died" else was
        if state == "running":
            if was == "waiting":
                yield trial, "goes on"
            elif len(record.measured) > (len(known.measured) if known else 0):
                yield trial, "epoch"
        elif state != was and not (held and state == "waiting" and record.deaths):
            # Of one that died and waits for another worker it was said that it died.
            yield trial, state


def _asked(study: optuna.Study) -> int | None:
    return StudyRecord.of(study).requested.trials
