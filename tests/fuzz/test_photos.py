"""A few hundred damaged photos, and the fuzzer's own detection of findings."""

import os
import time
from pathlib import Path

import pytest

from huetune.data_tools.common.errors import PhotoError
from tests.fuzz.photos import fuzz, read_outcome


def test_read_square_of_damaged_photos_has_no_findings():
    findings, outcomes = fuzz(300, seed=1)
    assert findings == []
    assert sum(outcomes.values()) == 300
    assert outcomes["a photo"] > 30 and len(outcomes) > 20, "the mutations are too weak or too strong"


def hangs(path: Path) -> None:
    time.sleep(60)


def dies(path: Path) -> None:
    os.abort()


def raises_other_error(path: Path) -> None:
    raise ZeroDivisionError("a rose")


def raises_unprintable_error(path: Path) -> None:
    raise PhotoError("\x1b[31mred")


@pytest.mark.parametrize(("reader", "finding"), [("hangs", "timeout"), ("dies", "the process died (-6)")])
def test_fuzz_reports_reader_that_hangs_or_dies(reader, finding):
    assert fuzz(1, reader=f"{__name__}:{reader}", timeout=1.0)[0] == [f"0\t{finding}"]


def test_read_outcome_reports_other_and_unprintable_errors(tmp_path):
    assert read_outcome(tmp_path, raises_other_error) == "! ZeroDivisionError: a rose"
    assert read_outcome(tmp_path, raises_unprintable_error) == r"! '\x1b[31mred'"
