"""What is shown of a search while it runs: a board on a terminal, a line an event elsewhere."""

import contextlib
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import optuna
from optuna.trial import FrozenTrial
from rich.console import Console, Group
from rich.live import Live

from huetune.data_tools.common.terminal import say
from huetune.model.metrics import best_of
from huetune.results.live.board import Board, Training, draw
from huetune.results.live.eta import Pace
from huetune.results.records.study_record import StudyRecord
from huetune.results.records.trial_record import STATES, TrialRecord
from huetune.results.tables.trial_table import ENDED, settings, shown

KEPT = 100
"""Ended trials that a high terminal may have room for."""
PICTURES = 2
"""A second."""


def animated(console: Console) -> bool:
    """Whether a console can draw over what it drew."""
    return console.is_terminal and not console.is_dumb_terminal


class Searching(Protocol):
    """What a display asks of the search whose events it is told."""

    @property
    def trials(self) -> int | None:
        """In all; None where nobody knows."""

    @property
    def slots(self) -> int | None:
        """How many may run at once; None where nobody knows."""

    @property
    def seconds(self) -> float | None:
        """That were searched; None where nobody knows."""

    @property
    def seconds_left(self) -> float | None:
        """Until no more trials are begun; None where time does not end the search."""


class Display:
    """A context in which a search is shown.

    Args:
        console: where to.
        title: the run's name.
        searched: of the search's study.
        trials: that are there already; none of them runs yet.
        what: the trials are called.
        quiet: show nothing.
    """

    def __init__(
        self,
        console: Console,
        title: str,
        searched: StudyRecord,
        trials: Sequence[FrozenTrial] = (),
        *,
        what: str = "trials",
        quiet: bool = False,
    ):
        self._console, self._quiet, self._begun = console, quiet, time.monotonic()
        self._objective = searched.objective
        self._trainings: dict[int, Training] = {}
        self._running: dict[int, Training] = {}
        self._ended: deque[Training] = deque(maxlen=KEPT)
        self._scores: dict[int, float] = {}
        # By the epochs that they were to train: once a search is extended, shorter ones are no guide.
        self._paces: dict[int, Pace] = {}
        ended = [trial for trial in trials if trial.state.is_finished()]
        for trial in sorted(ended, key=lambda trial: (TrialRecord.of(trial).end, trial.number)):
            self._know(trial, STATES[trial.state])
        for trial in trials:
            if not trial.state.is_finished():
                self._know(trial, "waiting")
        self._board = self._empty = Board(title, self._objective, what, zero=searched.baseline[self._objective])
        self._drawn = time.monotonic()
        self._live: Live | None = None
        if animated(console) and not quiet:
            # On a screen of its own nothing scrolls away, and no terminal folds lines when it is made narrower.
            self._live = Live(get_renderable=self._picture, console=console, screen=True, refresh_per_second=PICTURES)

    def __enter__(self) -> "Display":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            # Where nobody looks any more there is nothing to leave.
            with contextlib.suppress(OSError, SystemExit):
                self._live.stop()
                self._console.print(self.left())

    def __call__(self, source: Searching, trial: optuna.Trial | FrozenTrial, event: str) -> None:
        """Show one event; where nobody reads any more, search on.

        Args:
            source: of the event.
            trial: that it happened to.
            event: "started", "goes on", "epoch", "died", "warning", "waiting" for `resume`, or how it ended.
        """
        self._know(trial, {"died": "waiting"}.get(event, event if event in STATES.values() else "running"))
        if self._quiet:
            return
        self.tell(source)
        if not self._live and event != "epoch":
            try:
                line = self._line(trial, event)
                say(line, console=self._console)
            except (OSError, SystemExit):
                # A full disk under the log, or `huetune search | head`: rich ends the process for that.
                self._quiet = True

    def tell(self, source: Searching, words: Sequence[str] | None = None, winner: int | None = None) -> None:
        """Show what is known by now.

        Args:
            source: of the events so far.
            words: whose search it is or how it ended, a line each; None for the same as before.
            winner: the number of the confirmed winner, which need not have the best score so far.
        """
        states = Counter(training.state for training in self._trainings.values())
        running = tuple(self._running[number] for number in sorted(self._running))
        best = self._best() if winner is None else winner
        self._drawn = time.monotonic()
        self._board = replace(
            self._empty,
            asked=source.trials,
            states=states,
            running=running,
            ended=tuple(self._ended),
            best=self._trainings[best] if best is not None else None,
            confirmed=winner is not None,
            slots=source.slots,
            seconds=source.seconds,
            left=self._left(source, states["waiting"]),
            words=self._board.words if words is None else tuple(words),
        )

    @property
    def board(self) -> Board:
        """What is known."""
        return self._board

    def left(self) -> Board:
        """What is worth being left on the terminal: of ended trials, those that the reason is known of."""
        failed = tuple(training for training in self._ended if training.remark)
        return replace(self._board, slots=None, left=None, ended=failed, words=())

    def _picture(self) -> Group:
        """The board as it is now, as large as the terminal is now."""
        return Group(*draw(self._now(), *self._console.size, ascii_only=self._console.options.ascii_only))

    def _now(self) -> Board:
        """What is known, while time goes on."""
        board, passed = self._board, time.monotonic() - self._drawn
        left = None if board.left is None else max(0.0, board.left - passed)
        seconds = None if board.seconds is None else board.seconds + passed
        return replace(board, left=left, seconds=seconds) if board.running else board

    def _know(self, trial: optuna.Trial | FrozenTrial, state: str) -> None:
        training = Training.of(trial, state, self._objective)
        continues = TrialRecord.of(trial).continues
        if continues is not None and (before := self._trainings.get(continues)):
            # Its first epochs were another's, and took it no time.
            own = {epoch: took for epoch, took in training.seconds.items() if epoch > before.epoch}
            training = replace(training, seconds=own)
        self._trainings[trial.number] = training
        self._running.pop(trial.number, None)
        self._scores.pop(trial.number, None)
        if best := training.best(self._objective):
            self._scores[trial.number] = best[1]
        if state == "running":
            self._running[trial.number] = training
        if state in ENDED:
            self._ended.appendleft(training)
            self._paces.setdefault(training.target, Pace()).add(training.seconds)

    def _best(self) -> int | None:
        return best_of(self._objective, self._scores, lambda number: self._scores[number])

    def _left(self, source: Searching, left: int) -> float | None:
        newest = self._trainings.get(max(self._trainings, default=-1))
        if newest is None or source.trials is None or not source.slots or newest.target not in self._paces:
            return None
        running = [(training.seconds, training.target) for training in self._running.values()]
        waiting = max(0, source.trials - len(self._trainings)) + left
        return self._paces[newest.target].left(running, waiting, source.slots, source.seconds_left)

    def _line(self, trial: optuna.Trial | FrozenTrial, event: str) -> str:
        training = self._trainings[trial.number]
        seconds = time.monotonic() - self._begun
        line = f"{seconds:7.1f} s  {training.name:9} {event:8} {settings(trial)}".rstrip()
        if event == "started":
            return line
        figures = [f"epoch {training.epoch}", *([training.note] if training.note else [])]
        record = TrialRecord.of(trial)
        if event == "died":
            return f"{line}  ({figures[0]}; {record.deaths[-1]})"
        if event == "warning":
            return f"{line}  ({record.notes[-1]})"
        if record.failure:
            figures.append(str(record.failure))
        if (best := self._best()) is not None:
            figures.append(f"best {shown(self._scores[best])}, {self._trainings[best].name}")
        return f"{line}  ({'; '.join(figures)})"
