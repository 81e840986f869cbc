"""What a search shows while it runs: a live bar on a terminal, a line an event elsewhere."""

import time
from typing import Any

import optuna
from optuna.trial import FrozenTrial
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from data_tools.console import plain, say
from results.trials import shown
from search.searcher import StudySearcher


class Display:
    """A context in which a searcher's events are shown; it is the searcher's listener.

    Args:
        console: where to.
        trials: in all.
        quiet: show nothing.
        what: the trials are called.
    """

    def __init__(self, console: Console, trials: int, quiet: bool = False, what: str = "trials"):
        self._console, self._quiet, self._what = console, quiet, what
        self._begun = time.monotonic()
        self._live: Live | None = None
        if console.is_terminal and not quiet:
            columns = (
                BarColumn(None),
                TextColumn("{task.description}", markup=False),
                TimeElapsedColumn(),
                _TimeLeft(),
            )
            self._bar = Progress(*columns, expand=True)
            self._task = self._bar.add_task(f"0/{trials} {what}", total=trials)
            self._best = Text(f"best so far: none of {trials} {what} has finished an epoch yet", "dim", overflow="fold")
            self._live = Live(Group(self._bar, self._best), console=console)

    def __enter__(self) -> "Display":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, searcher: StudySearcher, trial: optuna.Trial, event: str) -> None:
        """Show one event; where nobody reads any more, search on."""
        try:
            self._show(searcher, trial, event)
        except (OSError, SystemExit):
            # A full disk under the log, or `huetune search | head`: rich ends the process for that.
            self._quiet, self._live = True, None

    def _show(self, searcher: StudySearcher, trial: optuna.Trial, event: str) -> None:
        if self._quiet:
            return
        if self._live:
            if event not in ("started", "epoch"):
                say(self._line(searcher, trial, event), console=self._live.console)
            self._update(searcher)
        elif event != "epoch":
            say(self._line(searcher, trial, event), console=self._console)

    def _update(self, searcher: StudySearcher) -> None:
        under_way = sum(searcher.progress[trial.number] / searcher.epochs for trial in searcher.live.values())
        counts = [f"{searcher.states[state]} {state}" for state in ("running", "pruned", "failed")]
        counted = f"{searcher.ended}/{searcher.trials} {self._what} · {' · '.join(counts)}"
        self._bar.update(self._task, total=searcher.trials, completed=searcher.ended + under_way, description=counted)
        if searcher.best:
            score, trial = searcher.best
            self._best.plain = plain(f"best so far: {searcher.objective} {shown(score)}, {described(trial)}")
            self._best.style = "bold"

    def _line(self, searcher: StudySearcher, trial: optuna.Trial, event: str) -> str:
        seconds = time.monotonic() - self._begun
        line = f"{seconds:7.1f} s  {named(trial):9} {event:8} {settings(trial.params)}".rstrip()
        if event == "started":
            return line
        figures = [f"epoch {searcher.progress[trial.number]}"]
        if event == "died":
            return f"{line}  ({figures[0]}; {trial.user_attrs['deaths'][-1]})"
        if event == "warning":
            return f"{line}  ({trial.user_attrs['notes'][-1]})"
        if error := trial.user_attrs.get("error"):
            figures.append(error)
        if searcher.best:
            score, best = searcher.best
            figures.append(f"best {shown(score)}, {named(best)}")
        return f"{line}  ({'; '.join(figures)})"


def described(trial: optuna.Trial | FrozenTrial) -> str:
    """Return what a trial is, in one short line: its number and parameters, or of a replicate what is repeated."""
    return named(trial) if "name" in trial.user_attrs else f"{named(trial)}, {settings(trial.params)}"


def named(trial: optuna.Trial | FrozenTrial) -> str:
    """Return a trial's number, or of a replicate what is repeated and from which seed."""
    if name := trial.user_attrs.get("name"):
        return f"{name} again, seed {trial.user_attrs['seed']}"
    return f"trial {trial.number}"


def settings(parameters: dict[str, Any]) -> str:
    """Return a trial's parameters in one short line."""
    return ", ".join(f"{name} {shown(value)}" for name, value in parameters.items())


class _TimeLeft(ProgressColumn):
    """Time left from all that was done so far: trials end too seldom for rich's own estimate from the last seconds."""

    def render(self, task: Task) -> Text:
        if not task.completed or not task.elapsed or task.finished or not task.total:
            return Text("")
        left = int(task.elapsed / task.completed * (task.total - task.completed))
        return Text(f"{left // 60}:{left % 60:02} left", style="cyan")
