"""A Ray for this machine and this user only: private files, a private token and a loopback address.

By default Ray listens on all addresses of a machine, keeps its files where other users can change them, and writes its
token readable for all. Each of these lets others run code as the user who searches.
"""

import contextlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import lock_descriptor

from huetune.data_tools.common.errors import StorageError
from huetune.search.ray_runtime.ray_compat import LOOPBACK_SWITCH, loopback_only

SAFE_PATH_ENVIRONMENT = {"PYTHONSAFEPATH": "1"}
"""Keeps the current folder off `sys.path` in Ray's processes and their children; see `SAFE_PYTHON`."""

PREFIX = "hue-"
MAX_FOLDER_BYTES = 107 - len("/hue-01234567/ray/session_2026-11-28_23-59-59_999999_4194304/sockets/plasma_store")
"""Maximum length of the folder for temporary files: a Unix socket's path has at most 107 bytes."""
SHORT_FOLDERS = ("/tmp", "/var/tmp")
"""Used instead of a folder with a longer path."""
LEFTOVER_SECONDS = 86_400.0
"""How long the files of a killed search are kept."""
_TOKEN = secrets.token_hex(32)
"""One token for all Rays that this process starts, because Ray reads it once per process."""
_locks: dict[str, int] = {}


@contextlib.contextmanager
def temporary_folder() -> Iterator[str]:
    """Make a folder with `make_folder`, and remove it on exit."""
    folder = make_folder()
    try:
        yield folder
    finally:
        remove_folder(folder)


def make_folder() -> str:
    """Make a private folder for Ray's files, and return its path.

    Ray makes its own folders readable for all users. The path is short, because it will contain Unix sockets. Folders
    of killed searches are removed after a day; until then Ray's logs in them may contain the reason.

    Raises:
        StorageError: the folder for temporary files is missing or cannot be written.
    """
    variable = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), "TMPDIR")
    parent = os.path.abspath(os.environ.get(variable) or SHORT_FOLDERS[0])
    if os.path.isdir(parent) and len(os.fsencode(parent)) > MAX_FOLDER_BYTES:
        parent = next((folder for folder in SHORT_FOLDERS if os.access(folder, os.W_OK | os.X_OK)), parent)
    for leftover in Path(parent).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            old = time.time() - leftover.stat().st_mtime > LEFTOVER_SECONDS
            if old and leftover.stat().st_uid == os.getuid() and _lock(str(leftover)):
                remove_folder(str(leftover))
    try:
        folder = tempfile.mkdtemp(prefix=PREFIX, dir=parent)
    except OSError as error:
        remedy = f"set {variable} to a folder that you can write to"
        raise StorageError(
            f"{parent!r}: temporary files cannot be written there ({error.strerror}); {remedy}"
        ) from None
    _lock(folder)
    return folder


def remove_folder(folder: str) -> None:
    """Remove a folder of `make_folder` with its content."""
    shutil.rmtree(folder, ignore_errors=True)
    os.close(_locks.pop(folder))


def _lock(folder: str) -> bool:
    """Lock a folder until this process ends; return False if it is locked. Children do not inherit the lock."""
    # The lock is on the folder itself and not on a FileLock in it, so removing the content does not unlock it.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    with contextlib.suppress(OSError):  # a file system without locks
        if lock_descriptor(descriptor, blocking=False):
            _locks[folder] = descriptor
            return True
    os.close(descriptor)
    return False


@contextlib.contextmanager
def local_only(folder: str) -> Iterator[None]:
    """Set the environment in which Ray starts for this machine only, and restore it on exit.

    Args:
        folder: a folder of `make_folder`, for the token if the home folder cannot be used.
    """
    variables = {LOOPBACK_SWITCH: "0", **SAFE_PATH_ENVIRONMENT, **_guard_token(folder)}
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        with loopback_only():
            yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _guard_token(folder: str) -> dict[str, str]:
    """Make Ray's token private, or make a private token before Ray makes one that all users can read.

    Returns:
        The environment variable with the token's path, if it is not in the home folder.
    """
    if {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
        return {}
    try:
        token = Path.home() / ".ray" / "auth_token"
        token.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=token.parent) as draft:
            draft.write(secrets.token_hex(32))
            draft.flush()
            # Of two searches that start at the same time, one makes the token.
            with contextlib.suppress(FileExistsError):
                os.link(draft.name, token)
        token.chmod(0o600)
        return {}
    except (OSError, RuntimeError):
        # The home folder is missing, belongs to another user or cannot be written.
        token = Path(folder) / "token"
        token.touch(0o600)
        token.write_text(_TOKEN, encoding="utf-8")
        return {"RAY_AUTH_TOKEN_PATH": str(token)}
