"""huetune's own folders follow the XDG standard."""

import os
from pathlib import Path

import pytest

from huetune.data_tools.storage.user_folders import NONEXISTENT_HOME, user_folder


@pytest.mark.parametrize(
    ("home", "state", "expected"),
    [
        ("/home/rose", None, "/home/rose/.local/state/huetune"),
        ("/home/rose", "not/absolute", "/home/rose/.local/state/huetune"),
        ("/home/rose", "/var/state", "/var/state/huetune"),
        (None, "/var/state", "/var/state/huetune"),
        (None, None, None),
        (NONEXISTENT_HOME, None, None),
    ],
)
def test_user_folder_follows_the_xdg_standard(home, state, expected, monkeypatch):
    """A user without a home has no such folder, and neither has a user ID without a name in a container."""
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 3)
    for name, value in (("HOME", home), ("XDG_STATE_HOME", state)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert user_folder("state") == (Path(expected) if expected else None)
