"""Ray on this machine alone, closed to everybody else.

Left to itself, Ray listens on every address of a machine, keeps its files where each of its users may change them, and
writes the token that lets one in for all to read. Whoever gets at one of these can run code as whoever searches.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ray._common.utils import get_default_system_temp_dir
from ray._private import ray_constants
from ray.job_config import JobConfig

PYTHON = (sys.executable, "-P")
"""How every child Python is started: the current folder stays off its `sys.path`, where a user's `model.py` or
`random.py` would be imported, and so executed, in place of ours or of Python's."""
SAFE_PATH = {"PYTHONSAFEPATH": "1"}
"""The same in the environment, for the processes that Ray starts and what these start."""

SWITCH = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
"""Off, Ray keeps to the loopback address. It is there for desktops whose firewalls ask about each port; the address
that `ray.init` is given would not do, as Ray replaces the loopback's by one that others reach."""

PREFIX = "hue-"
KEPT = 86_400.0
"""Seconds that the files of a killed search stay."""
_locks: dict[str, int] = {}


class Job(JobConfig):
    """A Ray job whose workers import what is installed or travels with it, and nothing else."""

    def _runtime_env_has_working_dir(self) -> bool:
        # Without one, Ray puts the driver's current folder and its script's in front of the workers' `sys.path`.
        return True


@contextlib.contextmanager
def own_folder() -> Iterator[str]:
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
    """
    place = get_default_system_temp_dir()
    for left in Path(place).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            old = time.time() - left.stat().st_mtime > KEPT
            if old and left.stat().st_uid == os.getuid() and _hold(str(left)):
                remove_folder(str(left))
    folder = tempfile.mkdtemp(prefix=PREFIX, dir=place)
    _hold(folder)
    return folder


def remove_folder(folder: str) -> None:
    """Take such a folder away, with all that Ray has put there."""
    shutil.rmtree(folder, ignore_errors=True)
    os.close(_locks.pop(folder))


def _hold(folder: str) -> bool:
    """Hold a folder as long as this process lives: what it starts does not inherit the lock."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return False
    _locks[folder] = descriptor
    return True


@contextlib.contextmanager
def enclosed() -> Iterator[None]:
    """A context in which Ray is started for this machine alone."""
    _guard_token()
    wanted = {SWITCH: "0", **SAFE_PATH}
    before, enabled = {name: os.environ.get(name) for name in wanted}, ray_constants.ENABLE_RAY_CLUSTER
    # Of Ray's processes each reads the variables; this one has read the switch when it imported ray.
    os.environ.update(wanted)
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        ray_constants.ENABLE_RAY_CLUSTER = enabled


def _guard_token() -> None:
    """Have Ray's token be readable by its owner alone; where there is none yet, make it, or Ray would do so for all."""
    if {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
        return
    # Without a home, or in another's, Ray says itself what is wrong.
    with contextlib.suppress(OSError, RuntimeError):
        token = Path.home() / ".ray" / "auth_token"
        token.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=token.parent) as draft:
            draft.write(secrets.token_hex(32))
            draft.flush()
            # Of two searches that begin at once, one makes it.
            with contextlib.suppress(FileExistsError):
                os.link(draft.name, token)
        token.chmod(0o600)
