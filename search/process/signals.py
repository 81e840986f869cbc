"""Ctrl-C and SIGTERM: the first signal stops a search cleanly, the second ends the process immediately."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from huetune.data_tools.common.errors import Interrupted
from huetune.data_tools.common.terminal import restore_codes

_listener: Callable[[Interrupted], None] | None = None
_remedy = ""
_signaled = False


def install_handlers() -> None:
    """Handle both signals in this process; in a thread that is not the main thread, do nothing.

    `ray.init` handles SIGTERM itself, so this has to be called again after it.
    """
    global _signaled, _remedy
    _signaled, _remedy = False, ""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _handle)


@contextlib.contextmanager
def deliver_to(listener: Callable[[Interrupted], None], remedy: str) -> Iterator[None]:
    """Pass the first signal to a listener, instead of raising an exception at an arbitrary point of the program.

    Args:
        listener: called with the signal.
        remedy: how to continue; printed after a second signal, also after one that comes when this context has ended
            and Ray is stopped.
    """
    global _listener, _remedy
    _listener, _remedy = listener, remedy
    try:
        yield
    finally:
        _listener = None


def _handle(number: int, frame: Any) -> None:
    global _signaled
    if _signaled:
        # Every finished epoch is on disk; only the running trials are not yet recorded as interrupted. Ray's processes
        # end with this one.
        if screen := restore_codes():
            os.write(1, screen)
        os.write(2, os.fsencode(f"huetune: stopped immediately{_remedy and '; '}{_remedy}\n"))
        os._exit(128 + number)
    _signaled = True
    interrupted = Interrupted(number)
    if _listener is None:
        raise interrupted
    _listener(interrupted)
