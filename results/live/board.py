"""The board: the state of a search at one moment, and how it is drawn in a terminal.

The searching process and `huetune watch` show the same board.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import optuna
from optuna.trial import FrozenTrial
from rich.console import Console, ConsoleOptions
from rich.text import Text

from huetune.data_tools.common.plural import counted
from huetune.data_tools.common.terminal import printable
from huetune.model.metrics import METRICS, best_of
from huetune.results.records.baseline import baseline_note
from huetune.results.records.trial_record import TrialRecord
from huetune.results.records.value_text import format_params, format_value

STYLES = {"running": "cyan", "interrupted": "yellow", "complete": "green", "pruned": "dim", "failed": "red"}
BLOCKS, ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.,-=+*#"
"""Characters of a learning curve, from the lowest to the highest score."""
MAX_CURVE_CELLS = 16
"""Cells of a learning curve; narrow terminals get half of them."""
WIDE_TERMINAL_CELLS = 100
"""Width from which on curves have all of their cells."""
MAX_ENDED_WITHOUT_LIMIT = 5
"""Ended trials that are shown if the number of lines is not limited."""
SPACIOUS_LINES = 24
"""Height from which on sections are separated by empty lines."""
UNLIMITED_LINES = 10_000
"""Height that stands for no limit."""
_FOLDING = Console(width=10_000)
"""Rich needs a console to wrap text; its own width is never reached."""


@dataclass(frozen=True, eq=False)
class TrainingProgress:
    """Progress of a trial or a replicate.

    Attributes:
        number: number in its study.
        name: display name.
        settings: the settings that were drawn for it, in one line; empty for a replicate.
        state: one of `results.records.trial_record.STATES`.
        target: number of epochs that it is to be trained.
        scores: score of each epoch by the epoch's number, from 1 on.
        seconds: duration of each epoch by the epoch's number.
        problem: the failure of the trial, or else the last warning about it; empty without any.
        note: the note that the trial is still at the mean-color baseline after the grace epochs; otherwise empty.
    """

    number: int
    name: str
    settings: str
    state: str
    target: int
    scores: Mapping[int, float] = field(default_factory=dict)
    seconds: Mapping[int, float] = field(default_factory=dict)
    problem: str = ""
    note: str = ""

    @classmethod
    def of(cls, trial: optuna.Trial | FrozenTrial, state: str, objective: str) -> "TrainingProgress":
        """Return the progress of a trial of a study, which is in the given state."""
        record = TrialRecord.of(trial)
        problems = [*record.notes, *record.deaths]
        return cls(
            trial.number,
            printable(record.display_name),
            "" if record.name else printable(format_params(trial)),
            state,
            record.target or max((epoch.epoch for epoch in record.epochs), default=0),
            {epoch.epoch: epoch[objective] for epoch in record.epochs},
            {epoch.epoch: epoch.seconds for epoch in record.epochs},
            printable(str(record.failure or (problems[-1] if problems else ""))),
            baseline_note(state, record.epochs, record.target) or "",
        )

    @property
    def epoch(self) -> int:
        """The last finished epoch; 0 before the first one."""
        return max(self.scores, default=0)

    def best(self, objective: str) -> tuple[int, float] | None:
        """Return the best epoch and its score; None before the first epoch, and for a failed trial."""
        scores = {} if self.state == "failed" else self.scores
        return best_of(objective, scores.items(), lambda scored: scored[1])


@dataclass(frozen=True)
class Board:
    """State of a search at one moment.

    Attributes:
        title: name of the run.
        objective: name of the metric that is the score, a key of `model.metrics.METRICS`.
        noun: what the trainings are called: trials or replicates.
        requested: number of trainings that were requested; None if it is not limited or not known.
        states: number of trainings in each state.
        running: the running trainings.
        ended: trainings that have ended, the newest first.
        best: the training with the best score so far, or the confirmed winner.
        is_confirmed: whether `best` is the confirmed winner.
        baseline: score of the mean-color baseline.
        slots: number of trainings that can run at a time; None if it is not known.
        elapsed_seconds: seconds that the search has taken.
        seconds_left: estimate of the seconds until the search ends; None before there is one.
        status_lines: which process searches, or how the search ended, one text per line.
    """

    title: str
    objective: str
    noun: str = "trials"
    requested: int | None = None
    states: Mapping[str, int] = field(default_factory=dict)
    running: Sequence[TrainingProgress] = ()
    ended: Sequence[TrainingProgress] = ()
    best: TrainingProgress | None = None
    is_confirmed: bool = False
    baseline: float | None = None
    slots: int | None = None
    elapsed_seconds: float | None = None
    seconds_left: float | None = None
    status_lines: Sequence[str] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Yield the lines of the board, without a limit of their number."""
        yield from draw(self, options.max_width, ascii_only=options.ascii_only)


def draw(board: Board, width: int, height: int | None = None, *, ascii_only: bool = False) -> list[Text]:
    """Return a board as lines of text.

    If they do not all fit, ended trainings are dropped first, then the running ones with the worst scores.

    Args:
        board: the board.
        width: maximum length of a line in terminal cells.
        height: maximum number of lines; None for no limit.
        ascii_only: for terminals that can show ASCII characters only.
    """
    drawing = _Drawing(board, width, ascii_only)
    gap = [Text()] if height is None or height >= SPACIOUS_LINES else []
    max_status_lines = None if gap else 1
    texts = [Text(printable(text), "italic") for text in board.status_lines]
    status = [line for text in texts for line in drawing.folded(text)[:max_status_lines]]
    foot = [*gap, *status] if status else []
    best = drawing.block(board.best) if board.best else [Text("none yet", "dim")]
    lines = [*drawing.head(), *gap, *drawing.folded(drawing.best_heading()), *best]
    free = UNLIMITED_LINES if height is None else height - len(lines) - len(foot)
    lines += drawing.section("running", board.running, free, gap)
    free = UNLIMITED_LINES if height is None else height - len(lines) - len(foot)
    lines += drawing.section(
        "recently ended", board.ended[: MAX_ENDED_WITHOUT_LIMIT if height is None else None], free, gap, counted=False
    )
    return [drawing.cut(line) for line in (lines + foot)[:height]]


class _Drawing:
    """Draws the parts of a board in columns that all of its trainings share."""

    def __init__(self, board: Board, width: int, ascii_only: bool):
        self._board, self._width, self._ascii = board, width, ascii_only
        drawn = [*board.running, *board.ended, *([board.best] if board.best else [])]
        self._max_target = max((training.target for training in drawn), default=1)
        self._curve_cells = min(
            self._max_target, MAX_CURVE_CELLS if width >= WIDE_TERMINAL_CELLS else MAX_CURVE_CELLS // 2
        )
        self._name_width = max((len(training.name) for training in drawn), default=0)
        self._score_width = max((len(self._score(training)) for training in drawn), default=0)
        # All curves have the same scale, so that they can be compared. It ends at twice the distance of the baseline
        # from the best score: a trial that begins far off would flatten all others.
        scores = [score for training in drawn for score in training.scores.values() if math.isfinite(score)]
        self._low, self._high = min(scores, default=0.0), max(scores, default=0.0)
        if board.baseline is not None and METRICS[board.objective].minimized and self._low < board.baseline:
            self._high = min(self._high, 2 * board.baseline - self._low)
        elif board.baseline is not None and not METRICS[board.objective].minimized and self._high > board.baseline:
            self._low = max(self._low, 2 * board.baseline - self._high)

    def head(self) -> list[Text]:
        """Return the title, the elapsed and remaining time, the progress bar and the counts."""
        board = self._board
        title = Text(printable(board.title), "bold", overflow="fold")
        direction = "lower" if METRICS[board.objective].minimized else "higher"
        title.append(f"  {board.objective}, {direction} is better", "not bold dim")
        times = [] if board.elapsed_seconds is None else [format_clock(board.elapsed_seconds)]
        times += [] if board.seconds_left is None else [f"about {format_estimate(board.seconds_left)} left"]
        time = Text(", ".join(times), "cyan")
        free = self._width - title.cell_len - time.cell_len
        lines = [Text.assemble(title, " " * free, time)] if free > 1 else [*self.folded(title), *self.folded(time)]
        lines += [self._bar()] if board.requested else []
        return lines + self.folded(self._counts())

    def _bar(self) -> Text:
        board = self._board
        partial = sum(min(1.0, training.epoch / max(1, training.target)) for training in board.running)
        done = round(min(1.0, (self._ended_count + partial) / (board.requested or 1)) * self._width)
        signs = "#-" if self._ascii else "━╌"
        return Text.assemble((signs[0] * done, "green"), (signs[1] * (self._width - done), "dim"))

    @property
    def _ended_count(self) -> int:
        return sum(self._board.states.get(state, 0) for state in ("complete", "pruned", "failed"))

    def _counts(self) -> Text:
        board = self._board
        text = Text(f"{self._ended_count}{f' of {board.requested}' if board.requested else ''} {board.noun} ended")
        for sign, states in (": ", ("complete", "pruned", "failed")), ("; ", ("running", "interrupted")):
            for state in states:
                # The slots are shown even if no trial is running.
                if count := board.states.get(state, 0):
                    text.append(sign).append(f"{count} {state}", STYLES[state])
                    sign = ", "
                if state == "running" and board.slots:
                    where = " in" if count else f"{sign}none running in"
                    text.append(f"{where} {counted(board.slots, 'slot')}")
                    sign = ", "
        return text

    def best_heading(self) -> Text:
        """Return the heading of the best training, with the score of the baseline."""
        board = self._board
        baseline = "" if board.baseline is None else f"mean-color baseline: {format_value(board.baseline)}"
        if board.is_confirmed:
            # Below it are the epochs of the trial, not those of its replicates.
            heading, remarks = "confirmed winner", ["its trial in the search", baseline]
        else:
            heading, remarks = f"best {board.noun.removesuffix('s')} so far", [baseline]
        remark = "; ".join(filter(None, remarks))
        return Text(f"{heading} ({remark})" if remark else heading, "bold")

    def section(
        self, heading: str, trainings: Sequence[TrainingProgress], free: int, gap: list[Text], *, counted: bool = True
    ) -> list[Text]:
        """Return a heading and trainings below it, as many as fit.

        Args:
            heading: the heading.
            trainings: trainings in the order in which they are drawn.
            free: number of lines that may be used.
            gap: lines above the heading.
            counted: drop the trainings with the worst scores and show how many are not drawn; otherwise the last ones
                are dropped.
        """
        lines = [*gap, Text(heading, "bold")]
        free -= len(lines)
        ranked = sorted(trainings, key=self._rank) if counted else trainings
        # Hundreds of trainings may run. Each takes at least one line, so more blocks than lines are not needed.
        blocks = {training: self.block(training) for training in ranked[: max(0, free) + 1]}
        more: list[Text] = []
        if sum(map(len, blocks.values())) > free:
            free -= counted
            kept: list[TrainingProgress] = []
            used = 0
            for training in blocks:
                used += len(blocks[training])
                # At least one running training is shown, even if only its first line fits.
                if used > free and (kept or not counted):
                    break
                kept.append(training)
            more = [Text(f"{len(trainings) - len(kept)} more", "dim")] if counted and len(kept) < len(trainings) else []
        else:
            kept = list(trainings)
        drawn = [line for training in trainings if training in kept for line in blocks[training]][: max(0, free)]
        return [*lines, *drawn, *more] if drawn else more

    def _rank(self, training: TrainingProgress) -> tuple[bool, float, int]:
        best = training.best(self._board.objective)
        sign = 1 if METRICS[self._board.objective].minimized else -1
        return best is None, sign * best[1] if best else 0.0, -training.number

    def block(self, training: TrainingProgress) -> list[Text]:
        """Return a training: its epochs, curve and score, then its settings in the same line or below."""
        line = Text(f"{training.name:{self._name_width}}  ")
        line.append(f"{training.epoch:{len(str(self._max_target))}}/{training.target:<{len(str(self._max_target))}} ")
        line.append(self._curve(training)).append(f"  {self._score(training):{self._score_width}}  ")
        state = "" if training.state in ("running", "complete") else training.state
        parts = (state, STYLES[training.state]), (training.note, "yellow"), (training.settings, "")
        rest = Text("  ").join(Text(part, style) for part, style in parts if part)
        lines = [line]
        if rest.cell_len <= self._width - line.cell_len:
            line.append(rest)
        else:
            lines += self._indented(rest)
        return lines + (self._indented(Text(training.problem, "yellow")) if training.problem else [])

    def _score(self, training: TrainingProgress) -> str:
        best = training.best(self._board.objective)
        return format_value(best[1]) if best else "-"

    def _curve(self, training: TrainingProgress) -> Text:
        """Return the learning curve: a block for one or several epochs; the best one is green, future ones are dots."""
        signs, text = ASCII_BLOCKS if self._ascii else BLOCKS, Text()
        best = training.best(self._board.objective)
        cells: dict[int, int] = {}
        for epoch in sorted(training.scores):
            cell = (epoch - 1) * self._curve_cells // max(self._curve_cells, training.target)
            # If several epochs share a cell and one of them is the best one, the cell shows that one.
            if not best or cells.get(cell) != best[0]:
                cells[cell] = epoch
        for cell in range(self._curve_cells):
            if epoch_shown := cells.get(cell):
                style = "bold green" if best and epoch_shown == best[0] else ""
                text.append(signs[self._level(training.scores[epoch_shown])], style)
            else:
                dot = cell < training.target and training.state in ("running", "interrupted")
                text.append(("." if self._ascii else "·") if dot else " ", "dim")
        return text

    def _level(self, score: float) -> int:
        if not math.isfinite(score):
            return len(BLOCKS) - 1 if METRICS[self._board.objective].minimized else 0
        share = (score - self._low) / (self._high - self._low) if self._high > self._low else 0.5
        return round(min(1.0, max(0.0, share)) * (len(BLOCKS) - 1))

    def folded(self, text: Text, indent: int = 0) -> list[Text]:
        """Return a text as lines that fit the width, less an indent in cells."""
        if not text:
            return []
        lines = text.wrap(_FOLDING, max(1, self._width - indent), overflow="fold")
        return [Text.assemble(" " * indent, line) for line in lines]

    def _indented(self, text: Text) -> list[Text]:
        return self.folded(text, 4)

    def cut(self, line: Text) -> Text:
        """Return a line cut to the width, in characters that the terminal can show."""
        line.rstrip()
        line.truncate(self._width, overflow="crop" if self._ascii else "ellipsis")
        line.no_wrap = True
        if self._ascii:
            line.plain = line.plain.encode("ascii", "replace").decode()
        return line


def format_clock(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds, as in 0:02:31."""
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def format_estimate(seconds: float) -> str:
    """Return a duration with the precision of an estimate: 40 s, 31 min, 2.5 h."""
    if seconds < 90:
        return f"{max(10, round(seconds, -1)):.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
