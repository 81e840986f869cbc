"""The board of a running search, what the study records for other processes, and signals."""

import io
import re
import subprocess
import sys
import time

import pytest
from rich.console import Console

from huetune.results.live.progress import Display
from huetune.results.records.outcomes import Failure, FailureKind
from huetune.results.records.study_record import StudyRecord
from huetune.results.records.trial_record import TrialRecord
from huetune.search.spec.space_parser import parse_space
from huetune.search.tuning.stopping_rule import Budget
from huetune.search.tuning.study_writer import StudyWriter
from huetune.search.tuning.trial_result import SCORE
from tests.search.builders import BASE, make_searcher, make_study
from tests.terminal import Terminal

EPOCHS = 4
SPACE = parse_space({"mse_weight": {"low": 1.0, "high": 8.0}}, BASE)
SEARCHED = StudyRecord(objectives=("chroma_mse",), baseline={"chroma_mse": 0.5})
DIVERGED = Failure(FailureKind.DIVERGED, "train_loss is nan", epoch=2)


def _searcher(study, display, slots=2, clock=lambda: 0.0, **budget):
    searcher = make_searcher(
        study, SPACE, Budget(6, **budget), epochs=EPOCHS, sampler="random", listener=display, clock=clock
    )
    searcher.count_slots = lambda: slots
    return searcher


def _display(trials=(), terminal=False):
    console = Console(file=io.StringIO(), width=100, force_terminal=terminal)
    return Display(console, "roses", SEARCHED, trials), console


def _epochs(searcher, name, *scores, seconds=10.0):
    for epoch, score in enumerate(scores, 1):
        result = {"epoch": epoch, "seconds": seconds, "chroma_mse": score, "checkpoint": "none"}
        searcher.on_trial_result(name, {**result, SCORE: score, "host": "here", "pid": 1})


def _end(searcher, name, epoch, score, seconds=10.0):
    result = {"epoch": epoch, "seconds": seconds, "chroma_mse": score, "checkpoint": "none"}
    searcher.on_trial_complete(name, {**result, SCORE: score, "host": "here", "pid": 1, "done": True})


@pytest.fixture
def study():
    return make_study()


def test_board_follows_the_searcher(study):
    display, _ = _display()
    searcher = _searcher(study, display)
    searcher.suggest("a")
    searcher.suggest("b")
    assert searcher.suggest("c") is None
    _epochs(searcher, "a", 0.4, 0.3, 0.35)
    board = display.board
    assert [(one.number, one.epoch, one.target) for one in board.running] == [(0, 3, 4), (1, 0, 4)]
    assert board.best and board.best.best("chroma_mse") == (2, 0.3) and board.seconds_left is None
    assert (board.requested, board.slots, dict(board.states)) == (6, 2, {"running": 2})
    _end(searcher, "a", 4, 0.2)
    # One ended after 40 s. One of that kind runs, four wait: 200 s on two slots.
    assert display.board.seconds_left == pytest.approx(100)
    searcher.suggest("c")
    searcher.worker_died("b", "of hunger")
    board = display.board
    assert dict(board.states) == {"complete": 1, "running": 1, "interrupted": 1}
    searcher.suggest("d")
    assert [one.number for one in display.board.running] == [1, 2]
    _epochs(searcher, "c", 0.1)
    assert display.board.best and display.board.best.number == 2
    searcher.fail("c", DIVERGED)
    board = display.board
    assert board.best and board.best.number == 0 and [one.number for one in board.ended] == [2, 0]
    assert (
        board.ended[0].problem == "diverged in epoch 2: train_loss is nan" and board.ended[0].best("chroma_mse") is None
    )


def test_board_of_a_resumed_search_has_its_past(study):
    before = _searcher(study, _display()[0])
    before.suggest("a")
    before.suggest("b")
    _epochs(before, "a", 0.4, 0.3, 0.3)
    _end(before, "a", 4, 0.2)
    _epochs(before, "b", 0.6)
    display, _ = _display(study.get_trials())
    after = _searcher(study, display)
    after.suggest("c")
    board = display.board
    assert dict(board.states) == {"complete": 1, "running": 1} and board.best and board.best.number == 0
    assert [(one.number, one.epoch) for one in board.running] == [(1, 1)] and board.seconds_left == pytest.approx(
        (30 + 160) / 2
    )


def test_board_estimate_respects_the_time_budget(study):
    now = [0.0]
    display, _ = _display()
    searcher = _searcher(study, display, 1, lambda: now[0], seconds=60.0)
    searcher.suggest("a")
    now[0] = 40.0
    _epochs(searcher, "a", 0.4, 0.3, 0.3)
    _end(searcher, "a", 4, 0.2)
    # Five trials of 40 s are wanted; but none begins later than in 20 s.
    assert display.board.seconds_left == pytest.approx(60) and display.board.elapsed_seconds == 40


def test_board_counts_only_own_epochs_of_a_continued_trial(study):
    display, _ = _display()
    searcher = _searcher(study, display, 1)
    searcher.suggest("a")
    _epochs(searcher, "a", 0.4, 0.3, seconds=100.0)
    _end(searcher, "a", 3, 0.2, seconds=100.0)
    trial = StudyWriter(study).start_trial(TrialRecord(1, "running", seed=0, config={}, target=EPOCHS, continues=0), {})
    for epoch, seconds in enumerate([100.0, 100.0, 100.0, 7.0], 1):
        figures = {"epoch": epoch, "seconds": seconds, "chroma_mse": 0.2}
        trial.set_user_attr(f"epoch-{epoch}", figures)
    display(searcher, trial, "epoch")
    assert display.board.running[0].seconds == {4: 7.0}


def test_study_records_slots_and_start_of_the_session(study):
    slots = [2]
    searcher = _searcher(study, _display()[0])
    searcher.count_slots = lambda: slots[0]
    searcher.suggest("a")
    session = study.user_attrs["session"]
    assert session["slots"] == 2 and session["spent"] == 0 and 0 <= time.time() - session["since"] < 60
    slots[0] = 5
    searcher.suggest("b")
    assert study.user_attrs["session"]["slots"] == 5


def test_closing_searcher_prints_interrupted_trials(study):
    display, console = _display()
    searcher = _searcher(study, display)
    searcher.suggest("a")
    _epochs(searcher, "a", 0.4)
    searcher.close()
    assert "trial 0   interrupted" in console.file.getvalue() and dict(display.board.states) == {"interrupted": 1}


def test_display_on_terminal_leaves_the_last_board(study):
    display, console = _display(terminal=True)
    with display:
        searcher = _searcher(study, display)
        searcher.suggest("a")
        _epochs(searcher, "a", 0.4)
        searcher.fail("a", DIVERGED)
        searcher.suggest("b")
        searcher.close()
    said = console.file.getvalue()
    before, _, after = re.sub(r"\x1b\[[\d;]*m", "", said).partition("\x1b[?1049l")
    assert "\x1b[?1049h" in before and "1 of 6 trials ended: 1 failed; 1 interrupted\n" in after
    assert "diverged in epoch 2: train_loss is nan" in after and "running" not in after and "left" not in after


def test_display_on_closed_pipe_does_not_end_the_search(study):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    display = Display(Console(file=Gone(), width=100), "roses", SEARCHED)
    searcher = _searcher(study, display)
    searcher.suggest("a")
    _epochs(searcher, "a", 0.4)
    assert searcher.progress == {0: 1}


FULL_SCREEN = """
import time
from rich.live import Live
from huetune.data_tools.common.terminal import stdout
from huetune.search.process import signals
signals.install_handlers()
with Live("calm", console=stdout, screen=True):
    with signals.deliver_to(lambda signal: None, "continue with: huetune resume r"):
        time.sleep(100)
"""


TWO_SIGNALS = """
import contextlib, os, signal
from huetune.search.process import signals
signals.install_handlers()
with contextlib.suppress(KeyboardInterrupt):
    os.kill(os.getpid(), signal.SIGINT)
os.kill(os.getpid(), signal.SIGINT)
"""


def test_second_signal_outside_a_search_names_no_remedy():
    """After `train` or `evaluate` there is nothing that `huetune resume` could continue."""
    done = subprocess.run([sys.executable, "-c", TWO_SIGNALS], capture_output=True, text=True, encoding="utf-8")
    assert (done.returncode, done.stderr) == (130, "huetune: stopped immediately\n")


def test_second_signal_restores_the_terminal():
    terminal = Terminal(80, 24, sys.executable, "-c", FULL_SCREEN)
    terminal.wait_for("calm")
    terminal.type("\x03")
    terminal.type("\x03")
    assert terminal.end() == 130
    last = terminal.raw.rpartition(b"\x1b[?1049l")[2]
    assert b"\x1b[?1049l" in terminal.raw
    assert b"\x1b[?25h" in last and b"stopped immediately; continue with: huetune resume r" in last
