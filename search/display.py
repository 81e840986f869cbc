"""What a search shows while it runs: a live bar on a terminal, a line an event elsewhere."""

import time
from typing import Any

import optuna
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from results.trials import shown
from search.searcher import StudySearcher


class Display:
    """A context in which a searcher's events are shown; it is the searcher's listener.

    Args:
        console: where to.
        trials: in all.
        quiet: show nothing.
    """

    def __init__(self, console: Console, trials: int, quiet: bool = False):
        self._console, self._quiet = console, quiet
        self._begun = time.monotonic()
        self._bar: Progress | None = None
        if console.is_terminal and not quiet:
            self._bar = Progress(
                TextColumn("trials"),
                BarColumn(None),
                TextColumn("{task.fields[states]}"),
                TimeElapsedColumn(),
                _TimeLeft(),
                console=console,
                expand=True,
            )
            self._task = self._bar.add_task("trials", total=trials, states=f"0/{trials}")

    def __enter__(self) -> "Display":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar:
            self._bar.stop()

    def __call__(self, searcher: StudySearcher, trial: optuna.Trial, event: str) -> None:
        """Show one event."""
        if self._quiet:
            return
        if self._bar:
            if event not in ("started", "epoch"):
                self._bar.console.print(self._line(searcher, trial, event), highlight=False)
            under_way = sum(searcher.progress[live.number] / searcher.epochs for live in searcher.live.values())
            ended = sum(searcher.states.values()) - searcher.states["running"]
            self._bar.update(self._task, completed=ended + under_way, states=self._states(searcher, ended))
        elif event != "epoch":
            self._console.print(self._line(searcher, trial, event), highlight=False, soft_wrap=True)

    def _states(self, searcher: StudySearcher, ended: int) -> str:
        counts = [f"{ended}/{searcher.trials}"]
        counts += [f"{searcher.states[state]} {state}" for state in ("running", "pruned", "failed")]
        if searcher.best:
            score, trial = searcher.best
            counts.append(f"best {searcher.objective} {shown(score)}: trial {trial.number}, {settings(trial.params)}")
        return " · ".join(counts)

    def _line(self, searcher: StudySearcher, trial: optuna.Trial, event: str) -> str:
        seconds = time.monotonic() - self._begun
        line = f"{seconds:7.1f} s  trial {trial.number:3} {event:8} {settings(trial.params)}"
        if event == "started":
            return line
        figures = [f"epoch {searcher.progress[trial.number]}"]
        if error := trial.user_attrs.get("error"):
            figures.append(error)
        if searcher.best:
            score, best = searcher.best
            figures.append(f"best {shown(score)}, trial {best.number}")
        return f"{line}  ({'; '.join(figures)})"


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
