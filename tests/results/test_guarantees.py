"""The page of promises names tests that there are."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_promise_names_a_test_that_there_is():
    named = re.findall(
        r"`(tests/[a-z_/]+\.py)(?:::(\w+))?`", (ROOT / "results" / "GUARANTEES.md").read_text(encoding="utf-8")
    )
    assert len(named) > 30
    for path, test in named:
        assert f"def {test}" in (ROOT / path).read_text(encoding="utf-8"), (path, test)
