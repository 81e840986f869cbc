"""What people type: whatever is wrong with it ends in one line, the right exit code, at once, and makes nothing."""

import shlex
import signal
import sys
from collections.abc import Callable, Iterator

import pytest

from search.command import main

Ended = tuple[int, str, str]
"""Exit code, what was printed, and what was said of errors."""


@pytest.fixture
def said(monkeypatch, capsys) -> Iterator[Callable[[str], Ended]]:
    """Call the command in this process, as a user does."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def call(words: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["huetune", *shlex.split(words)])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, told.out, told.err

    yield call
    for number, handler in kept.items():
        signal.signal(number, handler)
