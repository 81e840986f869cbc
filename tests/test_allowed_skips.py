"""Skips that are not allowed fail, and CI prints what it could not install."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.allowed_skips import ALLOWED

ROOT = Path(__file__).parents[1]
LACKS_GRAPHVIZ = """
from tests import allowed_skips

allowed_skips.ALLOWED["graphviz"] = (allowed_skips.ALLOWED["graphviz"][0], lambda: False)
"""
SKIPPING_TESTS = """
import pytest

from tests.allowed_skips import ALLOWED, needs, skip_without


@pytest.fixture
def setting():
    pytest.skip("in a fixture")


def test_fixture(setting): ...


def test_call():
    pytest.skip("in a call")


def test_present():
    pytest.skip(ALLOWED["ray[default]"][0])


@pytest.mark.skip
def test_mark(): ...


@pytest.mark.parametrize("nothing", [])
def test_empty(nothing): ...


@pytest.mark.xfail(reason="fails")
def test_xfail():
    assert False


@pytest.mark.xfail
def test_xpass(): ...


def test_good(): ...


@needs("graphviz")
def test_allowed_by_mark(): ...


def test_allowed_by_call():
    skip_without("graphviz")
"""


@pytest.mark.parametrize("workers", [0, 1])
def test_session_with_other_skips_fails_and_names_them(workers, tmp_path):
    (tmp_path / "conftest.py").write_text(LACKS_GRAPHVIZ, encoding="utf-8")
    (tmp_path / "test_odd.py").write_text(SKIPPING_TESTS, encoding="utf-8")
    (tmp_path / "test_module.py").write_text("import pytest\n\npytest.importorskip('not_there')\n", encoding="utf-8")
    command = f"-m pytest -p xdist.plugin -p tests.allowed_skips -c /dev/null --rootdir . -n{workers}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, *command.split(), "--continue-on-collection-errors"],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=100,
    )
    assert done.returncode == 1 and "1 passed, 2 skipped" in done.stdout, done.stdout
    found = dict(re.findall(r"^test_odd\.py::test_(\w+)\S*: (.+)$", done.stdout, re.MULTILINE))
    assert found.keys() == {"fixture", "call", "present", "mark", "empty", "xfail", "xpass"}
    for name, reason in (("fixture", "in a fixture"), ("call", "in a call"), ("present", ALLOWED["ray[default]"][0])):
        assert found[name].startswith(f"this skip is not allowed here ({reason});")
    assert found["xfail"] == "expected failures are not allowed (xfail: fails)"
    assert "\ntest_module.py: this skip is not allowed here (could not import 'not_there'" in done.stdout
    assert "allowed skips: 2, because Graphviz is not installed\n" in done.stdout


@pytest.mark.parametrize("fails", [True, False])
def test_ci_failed_install_is_printed_and_tests_run(fails, tmp_path):
    """Fake programs replace `make` and `apt-get`, so that nothing is installed or built here."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "dirname"):
        (programs / name).symlink_to(shutil.which(name) or "")
    for name, code in (("apt-get", f'echo "E: $1 $2" >&2; exit {int(fails)}'), ("make", "echo make $1")):
        (programs / name).write_text(f"#!/bin/sh\n{code}\n", encoding="utf-8")
        (programs / name).chmod(0o755)
    done = subprocess.run([ROOT / ".ci" / "run"], env={"PATH": str(programs)}, capture_output=True, encoding="utf-8")
    expected = ".ci/run: apt-get could not install chromium graphviz; the tests that need it are skipped\n"
    assert done.returncode == 0 and done.stderr == (expected if fails else "")
    assert done.stdout.startswith("E: --quiet update\n") and done.stdout.endswith("make test\n")
