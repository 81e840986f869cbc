"""All allowed skips with their reasons. A test that is skipped for another reason fails, and so does an xfail.

`tests/conftest.py` loads this as a plugin of pytest. Reports are checked in the process that creates them: with
pytest-xdist, the controller receives a failure.
"""

import functools
import importlib.util
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared" / "photos"


def find_chromium() -> str | None:
    """Return the path of a browser that Playwright can start."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def _installed(program: str) -> Callable[[], bool]:
    return lambda: shutil.which(program) is not None


def _can(*command: str) -> Callable[[], bool]:
    return lambda: _installed(command[0])() and subprocess.run(command, capture_output=True).returncode == 0


_IN_A_NAMESPACE = ("unshare", "--mount", "--propagation=private")
_AS_ANOTHER_USER = (
    "setpriv --reuid=12345 --regid=12345 --clear-groups --inh-caps=+dac_read_search --ambient-caps=+dac_read_search"
)

ALLOWED: dict[str, tuple[str, Callable[[], bool]]] = {
    "photos": (f"the photos are not in {SHARED}", SHARED.is_dir),
    "chromium": ("Chromium is not installed", lambda: find_chromium() is not None),
    "graphviz": ("Graphviz is not installed", _installed("dot")),
    "postgresql": (
        "PostgreSQL is not installed",
        lambda: _installed("initdb")() or any(Path("/usr/lib").glob("postgresql/*/bin/initdb")),
    ),
    "gcc": ("gcc is not installed: it compiles the library that sets the clock", _installed("gcc")),
    "ray[default]": (
        "ray[default] is not installed; requirements.lock has it",
        lambda: importlib.util.find_spec("opencensus") is not None,
    ),
    "mounts": ("only root can mount a disk", _can(*_IN_A_NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/tmp")),
    "quotas": (
        "only root can set a quota and become another user",
        _can(*_IN_A_NAMESPACE, "sh", "-c", f"mount -t tmpfs none /sys/fs/cgroup && exec {_AS_ANOTHER_USER} true"),
    ),
    "networks": (
        "only root can make a network namespace",
        _can("unshare", "--net", "--pid", "--mount-proc", "--fork", "--kill-child", "true"),
    ),
    "bridges": (
        "only root can connect network namespaces",
        _can("unshare", "--net", "ip", "link", "add", "bridge-0", "type", "bridge"),
    ),
}
"""Maps a requirement of some tests to the reason of their skip, and to a function that returns whether this machine
meets it. The skip is allowed only if it does not."""


@functools.cache
def is_missing(name: str) -> bool:
    """Return whether this machine does not meet a requirement of ALLOWED."""
    return not ALLOWED[name][1]()


def skip_without(name: str) -> None:
    """Skip the running test if this machine does not meet a requirement of ALLOWED."""
    __tracebackhide__ = True  # the report names the caller's line
    if is_missing(name):
        pytest.skip(ALLOWED[name][0])


def needs(name: str) -> pytest.MarkDecorator:
    """Return a mark that skips tests if this machine does not meet a requirement of ALLOWED."""
    return pytest.mark.skipif(is_missing(name), reason=ALLOWED[name][0])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Check the report of a test's setup, call or teardown."""
    return _checked((yield))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Iterator[None]:
    """Check the report of a file's collection, because whole modules can be skipped."""
    return _checked((yield))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many tests were skipped for each reason."""
    for reason, count in sorted(Counter(map(_reason, terminalreporter.stats.get("skipped", ()))).items()):
        terminalreporter.write_line(f"allowed skips: {count}, because {reason}")


def _checked(report):
    """Return the report, changed to a failure if it is an expected failure or a skip that is not allowed."""
    if hasattr(report, "wasxfail"):
        _fail(report, f"expected failures are not allowed (xfail: {report.wasxfail or 'without a reason'})")
        del report.wasxfail
    elif report.skipped and not any(is_missing(name) for name in ALLOWED if ALLOWED[name][0] == _reason(report)):
        _fail(report, f"this skip is not allowed here ({_reason(report)}); tests/allowed_skips.py has those that are")
    return report


def _fail(report, reason: str) -> None:
    report.outcome = "failed"
    report.longrepr = f"{report.nodeid}: {reason}"


def _reason(report) -> str:
    return report.longrepr[2].removeprefix("Skipped: ")
