"""Fixtures of the fault tests."""

import contextlib
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.allowed_skips import skip_without
from tests.faults.postgres import Postgres
from tests.faults.program import Program


@pytest.fixture
def start() -> Iterator[Callable[..., Program]]:
    """Return a function that starts the command in the background; all its processes end with the test."""
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


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    skip_without("postgresql")
    with tempfile.TemporaryDirectory(prefix="huetune-postgres-") as folder:
        server = Postgres(Path(folder))
        yield server
        with contextlib.suppress(subprocess.CalledProcessError):
            server.stop()
