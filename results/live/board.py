"""What is known of a running search, and how it is drawn: the same for whoever searches and whoever watches."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import optuna
from optuna.trial import FrozenTrial
from rich.console import Console, ConsoleOptions
from rich.text import Text

from huetune.data_tools.common.terminal import printable
from huetune.model.metrics import METRICS, best_of
from huetune.results.records.baseline import note
from huetune.results.records.trial_record import TrialRecord
from huetune.results.tables.trial_table import settings, shown

STYLES = {"running": "cyan", "waiting": "yellow", "complete": "green", "pruned": "dim", "failed": "red"}
BLOCKS, NO_BLOCKS = "▁▂▃▄▅▆▇█", "_.,-=+*#"
CELLS = 16
"""Of a curve, at most."""
LATEST = 5
"""Ended trials that are shown where nothing limits the height."""
ROOMY = 24
"""Lines from which on some may be empty."""
SOME = 10_000
"""Lines where nothing limits the height."""
_FOLDING = Console(width=10_000)


@dataclass(frozen=True, eq=False)
class Training:
    """A trial or replicate, as far as it came.

    Attributes:
        number: in its study.
        name: that it is called by.
        settings: what was chosen for it, in a line; empty for a replicate.
        state: a word of `results.records.trial_record.STATES`.
        target: its last epoch.
        scores: after each epoch, by the epoch's number.
        seconds: that each epoch took.
        remark: what went wrong, or empty.
        note: that it is still at the mean-color baseline after its grace, or empty.
    """

    number: int
    name: str
    settings: str
    state: str
    target: int
    scores: Mapping[int, float] = field(default_factory=dict)
    seconds: Mapping[int, float] = field(default_factory=dict)
    remark: str = ""
    note: str = ""

    @classmethod
    def of(cls, trial: optuna.Trial | FrozenTrial, state: str, objective: str) -> "Training":
        """Read a trial of a study, which is in a state."""
        record = TrialRecord.of(trial)
        troubles = [*record.notes, *record.deaths]
        return cls(
            trial.number,
            printable(record.display_name),
            "" if record.name else printable(settings(trial)),
            state,
            record.target or max((epoch.epoch for epoch in record.epochs), default=0),
            {epoch.epoch: epoch[objective] for epoch in record.epochs},
            {epoch.epoch: epoch.seconds for epoch in record.epochs},
            printable(str(record.failure or (troubles[-1] if troubles else ""))),
            note(state, record.epochs, record.target) or "",
        )

    @property
    def epoch(self) -> int:
        """The last one that it finished; 0 before the first."""
        return max(self.scores, default=0)

    def best(self, objective: str) -> tuple[int, float] | None:
        """Its best epoch and the score then; None before the first, and for a failed one."""
        scores = {} if self.state == "failed" else self.scores
        return best_of(objective, scores.items(), lambda scored: scored[1])


@dataclass(frozen=True)
class Board:
    """What is known of a search at one moment.

    Attributes:
        title: the run's name.
        objective: a key of `model.metrics.METRICS`.
        what: its trainings are called.
        asked: how many there are to be; None where nobody knows.
        states: how many trainings are in each state.
        running: those that run.
        ended: those that have ended, the newest first, as many as may be of interest.
        best: the best so far, or the confirmed winner.
        confirmed: whether it is that.
        zero: the score of one color for everything.
        slots: how many may run at once; None where nobody knows.
        seconds: that were searched.
        left: seconds until the end; None where there is nothing to go by.
        words: whose search it is or how it ended, a line each.
    """

    title: str
    objective: str
    what: str = "trials"
    asked: int | None = None
    states: Mapping[str, int] = field(default_factory=dict)
    running: Sequence[Training] = ()
    ended: Sequence[Training] = ()
    best: Training | None = None
    confirmed: bool = False
    zero: float | None = None
    slots: int | None = None
    seconds: float | None = None
    left: float | None = None
    words: Sequence[str] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Draw it, in as many lines as it takes."""
        yield from draw(self, options.max_width, ascii_only=options.ascii_only)


def draw(board: Board, width: int, height: int | None = None, *, ascii_only: bool = False) -> list[Text]:
    """Return a board as lines.

    Where they do not all fit, ended trials give way first, and then those running ones that are the furthest behind.

    Args:
        board: what is known.
        width: cells of the longest line.
        height: lines, at most; None for as many as it takes.
        ascii_only: for terminals that know no other signs.
    """
    pen = _Pen(board, width, ascii_only)
    gap = [Text()] if height is None or height >= ROOMY else []
    foot = [
        line for words in board.words for line in pen.folded(Text(printable(words), "italic"))[: None if gap else 1]
    ]
    foot = [*gap, *foot] if foot else []
    best = pen.block(board.best) if board.best else [Text("none yet", "dim")]
    lines = [*pen.head(), *gap, *pen.folded(Text(f"{pen.best()}{pen.zero()}", "bold")), *best]
    free = SOME if height is None else height - len(lines) - len(foot)
    lines += pen.section("running", board.running, free, gap)
    free = SOME if height is None else height - len(lines) - len(foot)
    lines += pen.section("ended last", board.ended[: LATEST if height is None else None], free, gap, counted=False)
    return [pen.cut(line) for line in (lines + foot)[:height]]


class _Pen:
    """Draws the parts of a board, in columns that all its trainings share."""

    def __init__(self, board: Board, width: int, ascii_only: bool):
        self._board, self._width, self._ascii = board, width, ascii_only
        drawn = [*board.running, *board.ended, *([board.best] if board.best else [])]
        self._target = max((training.target for training in drawn), default=1)
        self._cells = min(self._target, CELLS if width >= 100 else CELLS // 2)
        self._names = max((len(training.name) for training in drawn), default=0)
        self._scores = max((len(self._score(training)) for training in drawn), default=0)
        # Of all curves the same, so that they can be compared. Twice as far from the best as one color for everything
        # is as bad as it gets: one that begins far off would flatten all others.
        scores = [score for training in drawn for score in training.scores.values() if math.isfinite(score)]
        self._low, self._high = min(scores, default=0.0), max(scores, default=0.0)
        if board.zero is not None and METRICS[board.objective].minimized and self._low < board.zero:
            self._high = min(self._high, 2 * board.zero - self._low)
        elif board.zero is not None and not METRICS[board.objective].minimized and self._high > board.zero:
            self._low = max(self._low, 2 * board.zero - self._high)

    def head(self) -> list[Text]:
        """What is searched, for how long, and how far it is."""
        board = self._board
        title = Text(printable(board.title), "bold", overflow="fold")
        way = "lower" if METRICS[board.objective].minimized else "higher"
        title.append(f"  {board.objective}, {way} is better", "not bold dim")
        spans = [] if board.seconds is None else [clock(board.seconds)]
        spans += [] if board.left is None else [f"about {span(board.left)} left"]
        time = Text(", ".join(spans), "cyan")
        free = self._width - title.cell_len - time.cell_len
        lines = [Text.assemble(title, " " * free, time)] if free > 1 else [*self.folded(title), *self.folded(time)]
        lines += [self._bar()] if board.asked else []
        return lines + self.folded(self._counts())

    def _bar(self) -> Text:
        board = self._board
        under_way = sum(min(1.0, training.epoch / max(1, training.target)) for training in board.running)
        done = round(min(1.0, (self._ended + under_way) / (board.asked or 1)) * self._width)
        signs = "#-" if self._ascii else "━╌"
        return Text.assemble((signs[0] * done, "green"), (signs[1] * (self._width - done), "dim"))

    @property
    def _ended(self) -> int:
        return sum(self._board.states.get(state, 0) for state in ("complete", "pruned", "failed"))

    def _counts(self) -> Text:
        board = self._board
        text = Text(f"{self._ended}{f' of {board.asked}' if board.asked else ''} {board.what} ended")
        for sign, states in (": ", ("complete", "pruned", "failed")), ("; ", ("running", "waiting")):
            for state in states:
                # Those that run are said in any case, together with the room for them.
                if count := board.states.get(state, 0):
                    text.append(sign).append(f"{count} {state}", STYLES[state])
                    sign = ", "
                if state == "running" and board.slots:
                    text.append(
                        f"{' in' if count else sign + 'none running in'} {board.slots} slot{'s' * (board.slots > 1)}"
                    )
                    sign = ", "
        return text

    def best(self) -> str:
        """What the best is the best of: replicates are not ranked one by one."""
        if self._board.confirmed:
            return "confirmed winner, as the search trained it"
        return f"best {'' if self._board.what == 'trials' else f'one of the {self._board.what} '}so far"

    def zero(self) -> str:
        """The score that means nothing was learned."""
        return "" if self._board.zero is None else f" (one color for everything: {shown(self._board.zero)})"

    def section(
        self, heading: str, trainings: Sequence[Training], free: int, gap: list[Text], *, counted: bool = True
    ) -> list[Text]:
        """Return trainings under a heading, as many as there are lines free.

        Args:
            heading: over them.
            trainings: in the order that they are drawn in.
            free: lines.
            gap: what is between two sections.
            counted: say how many are left out, and leave out the worst; else the last ones.
        """
        lines = [*gap, Text(heading, "bold")]
        free -= len(lines)
        ranked = sorted(trainings, key=self._rank) if counted else trainings
        # Hundreds may run, and each takes a line at least.
        blocks = {training: self.block(training) for training in ranked[: max(0, free) + 1]}
        more: list[Text] = []
        if sum(map(len, blocks.values())) > free:
            free -= counted
            kept: list[Training] = []
            used = 0
            for training in blocks:
                used += len(blocks[training])
                # Of those that run, one is better shown in part than not at all.
                if used > free and (kept or not counted):
                    break
                kept.append(training)
            more = [Text(f"{len(trainings) - len(kept)} more", "dim")] if counted and len(kept) < len(trainings) else []
        else:
            kept = list(trainings)
        drawn = [line for training in trainings if training in kept for line in blocks[training]][: max(0, free)]
        return [*lines, *drawn, *more] if drawn else more

    def _rank(self, training: Training) -> tuple[bool, float, int]:
        best = training.best(self._board.objective)
        sign = 1 if METRICS[self._board.objective].minimized else -1
        return best is None, sign * best[1] if best else 0.0, -training.number

    def block(self, training: Training) -> list[Text]:
        """One training: how far it is, its curve and score, and its settings beside them or below."""
        line = Text(f"{training.name:{self._names}}  ")
        line.append(f"{training.epoch:{len(str(self._target))}}/{training.target:<{len(str(self._target))}} ")
        line.append(self._curve(training)).append(f"  {self._score(training):{self._scores}}  ")
        state = "" if training.state in ("running", "complete") else training.state
        words = (state, STYLES[training.state]), (training.note, "yellow"), (training.settings, "")
        rest = Text("  ").join(Text(word, style) for word, style in words if word)
        lines = [line]
        if rest.cell_len <= self._width - line.cell_len:
            line.append(rest)
        else:
            lines += self._indented(rest)
        return lines + (self._indented(Text(training.remark, "yellow")) if training.remark else [])

    def _score(self, training: Training) -> str:
        best = training.best(self._board.objective)
        return shown(best[1]) if best else "-"

    def _curve(self, training: Training) -> Text:
        """A bar an epoch, or a few; those to come are dots. The best one is green."""
        signs, text = NO_BLOCKS if self._ascii else BLOCKS, Text()
        best = training.best(self._board.objective)
        cells: dict[int, int] = {}
        for epoch in sorted(training.scores):
            cell = (epoch - 1) * self._cells // max(self._cells, training.target)
            # Of several epochs in a cell the best one is not to be missed.
            if not best or cells.get(cell) != best[0]:
                cells[cell] = epoch
        for cell in range(self._cells):
            if shown_one := cells.get(cell):
                style = "bold green" if best and shown_one == best[0] else ""
                text.append(signs[self._level(training.scores[shown_one])], style)
            else:
                dot = cell < training.target and training.state in ("running", "waiting")
                text.append(("." if self._ascii else "·") if dot else " ", "dim")
        return text

    def _level(self, score: float) -> int:
        if not math.isfinite(score):
            return len(BLOCKS) - 1 if METRICS[self._board.objective].minimized else 0
        share = (score - self._low) / (self._high - self._low) if self._high > self._low else 0.5
        return round(min(1.0, max(0.0, share)) * (len(BLOCKS) - 1))

    def folded(self, text: Text, indent: int = 0) -> list[Text]:
        """Return a text as lines that are not too long."""
        if not text:
            return []
        lines = text.wrap(_FOLDING, max(1, self._width - indent), overflow="fold")
        return [Text.assemble(" " * indent, line) for line in lines]

    def _indented(self, text: Text) -> list[Text]:
        return self.folded(text, 4)

    def cut(self, line: Text) -> Text:
        """Return a line that is surely not too long, in signs that the terminal has."""
        line.rstrip()
        line.truncate(self._width, overflow="crop" if self._ascii else "ellipsis")
        line.no_wrap = True
        if self._ascii:
            line.plain = line.plain.encode("ascii", "replace").decode()
        return line


def clock(seconds: float) -> str:
    """Return a time that runs, as in 0:02:31."""
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def span(seconds: float) -> str:
    """Return a span of time about as exactly as an estimate is."""
    if seconds < 90:
        return f"{max(10, round(seconds, -1)):.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
