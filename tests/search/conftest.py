"""The command in this process: what it says, without the seconds that a start takes."""

import shlex
import signal
import sys
from collections.abc import Callable, Iterator

import pytest

from huetune.search.cli.main import main

Ended = tuple[int, str, str]
"""Exit code, what was printed, and what was said of errors."""


@pytest.fixture
def said(monkeypatch, capsys) -> Iterator[Callable[..., Ended]]:
    """Call the command in this process, as a user does."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def call(*words: object) -> Ended:
        typed = shlex.split(str(words[0])) if len(words) == 1 else map(str, words)
        monkeypatch.setattr(sys, "argv", ["huetune", *typed])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, told.out, told.err

    yield call
    for number, handler in kept.items():
        signal.signal(number, handler)
