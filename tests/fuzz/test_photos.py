"""A few hundred damaged photos, and that the fuzzer would notice."""

import os
import time
from pathlib import Path

import pytest

from huetune.data_tools.common.errors import PhotoError
from tests.fuzz.photos import fuzz, judged


def test_damaged_photos_become_photos_or_lines():
    findings, ends = fuzz(300, seed=1)
    assert findings == []
    assert sum(ends.values()) == 300
    assert ends["a photo"] > 30 and len(ends) > 20, "they are damaged too little, or too much"


def hangs(path: Path) -> None:
    time.sleep(60)


def dies(path: Path) -> None:
    os.abort()


def raises(path: Path) -> None:
    raise ZeroDivisionError("a rose")


def shouts(path: Path) -> None:
    raise PhotoError("\x1b[31mred")


@pytest.mark.parametrize(("reader", "finding"), [("hangs", "hangs"), ("dies", "ends the process (-6)")])
def test_a_photo_that_kills_or_stops_whoever_reads_it_is_found(reader, finding):
    assert fuzz(1, reader=f"{__name__}:{reader}", limit=1.0)[0] == [f"0\t{finding}"]


def test_an_error_of_another_kind_or_with_signs_for_the_terminal_is_found(tmp_path):
    assert judged(tmp_path, raises) == "! ZeroDivisionError: a rose"
    assert judged(tmp_path, shouts) == r"! '\x1b[31mred'"
