"""Text is printed safely, and times in the local time zone."""

import pytest

from huetune.data_tools.common.terminal import local_time, printable


def test_printable_escapes_control_characters_only():
    assert printable("Rosé \x1b[31m\n\udcff", keep="\n") == "Rosé \\x1b[31m\n\\udcff"


@pytest.mark.parametrize(
    ("recorded", "shown"),
    [
        ("2026-11-24T15:00:00+00:00", "2026-11-24 16:00:00"),
        ("2026-11-24T15:00:00", "2026-11-24 15:00:00"),
        ("yesterday", "yesterday"),
    ],
)
def test_local_time_converts_to_the_local_time_zone(recorded, shown, in_zone):
    """A time without an offset is local; a text that is not a time stays as it is."""
    in_zone("CET-1")
    assert local_time(recorded) == shown
