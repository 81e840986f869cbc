"""Folders that are written to."""

from pathlib import Path

from data_tools.errors import StorageError


def require_empty(folder: Path) -> None:
    """Refuse a folder that holds something already: nothing of a user's is ever written over or mixed with.

    Raises:
        StorageError: it is there and not an empty folder.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StorageError(f"{str(folder)!r}: is not empty; choose a new folder")
