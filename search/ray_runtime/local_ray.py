"""Ray on this machine alone, closed to everybody else.

Left to itself, Ray listens on every address of a machine, keeps its files where each of its users may change them, and
writes the token that lets one in for all to read. Whoever gets at one of these can run code as whoever searches.
"""

import contextlib
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import lock_descriptor

from huetune.data_tools.common.errors import StorageError
from huetune.search.ray_runtime.ray_compat import LOOPBACK_SWITCH, loopback_only

SAFE_PYTHON = (sys.executable, "-P")
"""How every child Python is started: the current folder stays off its `sys.path`, where a user's `model.py` or
`random.py` would be imported, and so executed, in place of ours or of Python's."""
SAFE_PATH_ENVIRONMENT = {"PYTHONSAFEPATH": "1"}
"""The same in the environment, for the processes that Ray starts and what these start."""

PREFIX = "hue-"
MAX_FOLDER_BYTES = 107 - len("/hue-01234567/ray/session_2026-11-28_23-59-59_999999_4194304/sockets/plasma_store")
"""Of the folder in which ours is made: Unix has no room for more in a socket's path."""
SHORT_FOLDERS = ("/tmp", "/var/tmp")
LEFTOVER_SECONDS = 86_400.0
"""Seconds that the files of a killed search stay."""
_TOKEN = secrets.token_hex(32)
"""One for all that this process starts: Ray reads it once a process."""
_locks: dict[str, int] = {}


@contextlib.contextmanager
def temporary_folder() -> Iterator[str]:
    """Have a folder of `make_folder` for a while."""
    folder = make_folder()
    try:
        yield folder
    finally:
        remove_folder(folder)


def make_folder() -> str:
    """Make a folder that nobody else can look into, for Ray to have its files beneath: it opens its own to all.

    Its path is short, for there will be sockets. What searches left that were killed is taken away, a day later: Ray's
    logs in there may say why.

    Raises:
        StorageError: the folder for temporary files is missing or cannot be written.
    """
    variable = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), "TMPDIR")
    place = os.path.abspath(os.environ.get(variable) or SHORT_FOLDERS[0])
    if os.path.isdir(place) and len(os.fsencode(place)) > MAX_FOLDER_BYTES:
        place = next((folder for folder in SHORT_FOLDERS if os.access(folder, os.W_OK | os.X_OK)), place)
    for left in Path(place).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            old = time.time() - left.stat().st_mtime > LEFTOVER_SECONDS
            if old and left.stat().st_uid == os.getuid() and _hold(str(left)):
                remove_folder(str(left))
    try:
        folder = tempfile.mkdtemp(prefix=PREFIX, dir=place)
    except OSError as error:
        remedy = f"set {variable} to a folder that you can write to"
        raise StorageError(f"{place!r}: temporary files cannot be written there ({error.strerror}); {remedy}") from None
    _hold(folder)
    return folder


def remove_folder(folder: str) -> None:
    """Take such a folder away, with all that Ray has put there."""
    shutil.rmtree(folder, ignore_errors=True)
    os.close(_locks.pop(folder))


def _hold(folder: str) -> bool:
    """Lock a folder as long as this process lives: what it starts does not inherit the lock."""
    # The folder's own descriptor, not a FileLock: whatever removes the folder's content leaves it locked.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    with contextlib.suppress(OSError):  # a disk without locks
        if lock_descriptor(descriptor, blocking=False):
            _locks[folder] = descriptor
            return True
    os.close(descriptor)
    return False


@contextlib.contextmanager
def local_only(folder: str) -> Iterator[None]:
    """A context in which Ray is started for this machine alone.

    Args:
        folder: of `make_folder`, for a token where there is no home to keep it in.
    """
    wanted = {LOOPBACK_SWITCH: "0", **SAFE_PATH_ENVIRONMENT, **_guard_token(folder)}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
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
    """Have Ray's token be readable by its owner alone; where there is none yet, make it, or Ray would do so for all.

    Returns:
        The variable that tells Ray where the token is, where that is not in the home.
    """
    if {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
        return {}
    try:
        token = Path.home() / ".ray" / "auth_token"
        token.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=token.parent) as draft:
            draft.write(secrets.token_hex(32))
            draft.flush()
            # Of two searches that begin at once, one makes it.
            with contextlib.suppress(FileExistsError):
                os.link(draft.name, token)
        token.chmod(0o600)
        return {}
    except (OSError, RuntimeError):
        # No home, another's or one that cannot be written.
        token = Path(folder) / "token"
        token.touch(0o600)
        token.write_text(_TOKEN, encoding="utf-8")
        return {"RAY_AUTH_TOKEN_PATH": str(token)}
