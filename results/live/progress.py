"""Shows the progress of a search: a live board in a terminal, otherwise one line for each event."""

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
from huetune.results.live.board import Board, TrainingProgress, draw
from huetune.results.live.eta import DurationEstimator
from huetune.results.records.study_record import StudyRecord
from huetune.results.records.trial_record import ENDED_STATES, STATES, TrialRecord
from huetune.results.records.value_text import format_params, format_value

MAX_ENDED_TRAININGS = 100
"""Ended trainings that are kept for the board: more than fit on a high terminal."""
REFRESHES_PER_SECOND = 2


def animated(console: Console) -> bool:
    """Return whether a console can redraw what it has shown."""
    return console.is_terminal and not console.is_dumb_terminal


class SearchStatus(Protocol):
    """State of a running search that a display reads with each event. The searcher has it, and so has a watched run."""

    @property
    def trials(self) -> int | None:
        """Number of trials that were requested; None if it is not limited or not known."""

    @property
    def slots(self) -> int | None:
        """Number of trials that can run at a time; None if it is not known."""

    @property
    def seconds(self) -> float | None:
        """Seconds that the search has taken; None if they are not known."""

    @property
    def seconds_left(self) -> float | None:
        """Seconds until no more trials start; None without a time budget."""


class Display:
    """Context manager that shows a search while it runs.

    Args:
        console: the console.
        title: name of the run.
        searched: record of the search's study.
        trials: trials that the study has already, none of which is running.
        noun: what the trainings are called: trials or replicates.
        quiet: show nothing.
    """

    def __init__(
        self,
        console: Console,
        title: str,
        searched: StudyRecord,
        trials: Sequence[FrozenTrial] = (),
        *,
        noun: str = "trials",
        quiet: bool = False,
    ):
        self._console, self._quiet, self._started = console, quiet, time.monotonic()
        self._objective = searched.objective
        self._trainings: dict[int, TrainingProgress] = {}
        self._running: dict[int, TrainingProgress] = {}
        self._ended: deque[TrainingProgress] = deque(maxlen=MAX_ENDED_TRAININGS)
        self._scores: dict[int, float] = {}
        # An estimator for each number of epochs: after `extend`, earlier trials with fewer epochs are no guide.
        self._estimators: dict[int, DurationEstimator] = {}
        ended = [trial for trial in trials if trial.state.is_finished()]
        for trial in sorted(ended, key=lambda trial: (TrialRecord.of(trial).end, trial.number)):
            self._record_trial(trial, STATES[trial.state])
        for trial in trials:
            if not trial.state.is_finished():
                self._record_trial(trial, "interrupted")
        self._board = self._empty = Board(title, self._objective, noun, baseline=searched.baseline[self._objective])
        self._updated = time.monotonic()
        self._live: Live | None = None
        if animated(console) and not quiet:
            # The alternate screen does not scroll, and its lines are not wrapped when the terminal becomes narrower.
            self._live = Live(
                get_renderable=self._picture, console=console, screen=True, refresh_per_second=REFRESHES_PER_SECOND
            )

    def __enter__(self) -> "Display":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            # The terminal may be gone; then there is nothing to print.
            with contextlib.suppress(OSError, SystemExit):
                self._live.stop()
                self._console.print(self.final_board())

    def __call__(self, status: SearchStatus, trial: optuna.Trial | FrozenTrial, event: str) -> None:
        """Show an event. If the output can no longer be written, the search continues.

        Args:
            status: state of the search.
            trial: the trial of the event.
            event: "started", "resumed", "epoch", "died", "warning", "interrupted" if only `resume` runs it further, or
                the state in which it ended.
        """
        self._record_trial(trial, {"died": "interrupted"}.get(event, event if event in STATES.values() else "running"))
        if self._quiet:
            return
        self.update(status)
        if not self._live and event != "epoch":
            try:
                line = self._line(trial, event)
                say(line, console=self._console)
            except (OSError, SystemExit):
                # The disk is full, or a pipe was closed (`huetune search | head`), for which rich raises SystemExit.
                self._quiet = True

    def update(
        self, status: SearchStatus, status_lines: Sequence[str] | None = None, winner: int | None = None
    ) -> None:
        """Update the board.

        Args:
            status: state of the search.
            status_lines: which process searches, or how the search ended, one text per line; None for no change.
            winner: number of the confirmed winner, which need not have the best score; None if there is none.
        """
        states = Counter(training.state for training in self._trainings.values())
        running = tuple(self._running[number] for number in sorted(self._running))
        best = self._best() if winner is None else winner
        self._updated = time.monotonic()
        self._board = replace(
            self._empty,
            requested=status.trials,
            states=states,
            running=running,
            ended=tuple(self._ended),
            best=self._trainings[best] if best is not None else None,
            is_confirmed=winner is not None,
            slots=status.slots,
            elapsed_seconds=status.seconds,
            seconds_left=self._seconds_left(status, states["interrupted"]),
            status_lines=self._board.status_lines if status_lines is None else tuple(status_lines),
        )

    @property
    def board(self) -> Board:
        """The board as of the last event."""
        return self._board

    def final_board(self) -> Board:
        """Return the board that stays on the terminal: without estimates, and only the ended trials with a problem."""
        with_problem = tuple(training for training in self._ended if training.problem)
        return replace(self._board, slots=None, seconds_left=None, ended=with_problem, status_lines=())

    def _picture(self) -> Group:
        """Return the current board in the current size of the terminal."""
        return Group(*draw(self._now(), *self._console.size, ascii_only=self._console.options.ascii_only))

    def _now(self) -> Board:
        """Return the board with times that include the seconds since the last event."""
        board, passed = self._board, time.monotonic() - self._updated
        if not board.running:
            return board
        left = None if board.seconds_left is None else max(0.0, board.seconds_left - passed)
        elapsed = None if board.elapsed_seconds is None else board.elapsed_seconds + passed
        return replace(board, seconds_left=left, elapsed_seconds=elapsed)

    def _record_trial(self, trial: optuna.Trial | FrozenTrial, state: str) -> None:
        training = TrainingProgress.of(trial, state, self._objective)
        continues = TrialRecord.of(trial).continues
        if continues is not None and (before := self._trainings.get(continues)):
            # Its first epochs were trained by the trial that it continues, and took it no time.
            own = {epoch: seconds for epoch, seconds in training.seconds.items() if epoch > before.epoch}
            training = replace(training, seconds=own)
        self._trainings[trial.number] = training
        self._running.pop(trial.number, None)
        self._scores.pop(trial.number, None)
        if best := training.best(self._objective):
            self._scores[trial.number] = best[1]
        if state == "running":
            self._running[trial.number] = training
        if state in ENDED_STATES:
            self._ended.appendleft(training)
            self._estimators.setdefault(training.target, DurationEstimator()).add(training.seconds)

    def _best(self) -> int | None:
        return best_of(self._objective, self._scores, lambda number: self._scores[number])

    def _seconds_left(self, status: SearchStatus, waiting: int) -> float | None:
        newest = self._trainings.get(max(self._trainings, default=-1))
        if newest is None or status.trials is None or not status.slots or newest.target not in self._estimators:
            return None
        running = [(training.seconds, training.target) for training in self._running.values()]
        not_started = max(0, status.trials - len(self._trainings)) + waiting
        return self._estimators[newest.target].seconds_left(running, not_started, status.slots, status.seconds_left)

    def _line(self, trial: optuna.Trial | FrozenTrial, event: str) -> str:
        training = self._trainings[trial.number]
        seconds = time.monotonic() - self._started
        line = f"{seconds:7.1f} s  {training.name:9} {event:11} {format_params(trial)}".rstrip()
        if event == "started":
            return line
        details = [f"epoch {training.epoch}", *([training.note] if training.note else [])]
        record = TrialRecord.of(trial)
        if event == "died":
            return f"{line}  ({details[0]}; {record.deaths[-1]})"
        if event == "warning":
            return f"{line}  ({record.notes[-1]})"
        if record.failure:
            details.append(str(record.failure))
        if (best := self._best()) is not None:
            details.append(f"best so far {format_value(self._scores[best])}, {self._trainings[best].name}")
        return f"{line}  ({'; '.join(details)})"
