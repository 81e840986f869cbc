"""The folders in a user's home where huetune keeps its cache and its state."""

import os
from pathlib import Path
from typing import Literal

from platformdirs.unix import Unix

NONEXISTENT_HOME = "/nonexistent"
"""The home folder that Debian gives to users who have none."""


def user_folder(kind: Literal["cache", "state"]) -> Path | None:
    """Return huetune's own folder of a kind, by the XDG standard on every system.

    Args:
        kind: `"cache"` is for files that may be deleted at any time: `$XDG_CACHE_HOME/huetune`, by default
            `~/.cache/huetune`. `"state"` is for files that must be kept: `$XDG_STATE_HOME/huetune`, by default
            `~/.local/state/huetune`.

    Returns:
        The folder, which may not exist yet; None for a user without a home.
    """
    folders = Unix("huetune")
    try:
        folder = folders.user_cache_path if kind == "cache" else folders.user_state_path
    except RuntimeError:  # the user of a container may have no entry in its password file
        return None
    return None if folder.is_relative_to(NONEXISTENT_HOME) else folder


def cache_home() -> Path | None:
    """Return the folder for files that can be computed again.

    Returns:
        The folder that HUETUNE_CACHE names, by default `user_folder("cache")`; None if HUETUNE_CACHE is empty, which
        turns caching off, or if the user has no home.
    """
    chosen = os.environ.get("HUETUNE_CACHE")
    if chosen is not None:
        return Path(chosen) if chosen else None
    return user_folder("cache")
