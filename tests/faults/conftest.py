"""What tests of faults share."""

import contextlib
from collections.abc import Callable, Iterator

import psutil
import pytest

from tests.faults.program import Program


@pytest.fixture
def start() -> Iterator[Callable[..., Program]]:
    """Start the command in the background; nothing of it is left after the test."""
    started: list[Program] = []

    def program(storage, *words, **environment):
        started.append(Program(storage, *words, **environment))
        return started[-1]

    yield program
    for one in started:
        family = one.process.children(recursive=True) if one.process.is_running() else []
        for process in (one.process, *family):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        one.process.wait()
