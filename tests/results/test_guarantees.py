"""Tests that every test that GUARANTEES.md cites exists."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _tests(path: Path) -> set[str]:
    functions = (node.name for node in ast.parse(path.read_bytes()).body if isinstance(node, ast.FunctionDef))
    return {name for name in functions if name.startswith("test_")}


def test_guarantees_cite_existing_tests():
    """A citation is the full name of a test, or a file with tests in it."""
    text = (ROOT / "tests" / "GUARANTEES.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[^`]*)`", text)
    assert len(named) > 30
    for one in named:
        path, separator, test = one.partition("::")
        tests = _tests(ROOT / path)
        assert test in tests if separator else tests, one
    programs = re.findall(r"`python -m (tests[\w.]*)", text)
    assert programs and all((ROOT / f"{program.replace('.', '/')}.py").is_file() for program in programs), programs
