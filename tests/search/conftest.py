"""Fixtures of the tests of the search."""

import shlex
from collections.abc import Callable

import pytest

Ended = tuple[int, str, str]
"""Exit code, stdout and stderr."""


@pytest.fixture
def run_command(in_process) -> Callable[..., Ended]:
    """Call the command in this process, with one line as in a shell or with several words."""

    def call(*words: object) -> Ended:
        done = in_process(*(shlex.split(str(words[0])) if len(words) == 1 else words))
        return done.returncode, done.stdout, done.stderr

    return call
