"""Ctrl-C and SIGTERM: the first leaves a search cleanly, the second at once."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from huetune.data_tools.common.errors import Interrupted
from huetune.data_tools.common.terminal import given_back

_listener: Callable[[Interrupted], None] | None = None
_remedy = ""
_asked = False


def install() -> None:
    """Take both signals; again after `ray.init`, which takes SIGTERM for itself. Only in a main thread."""
    global _asked, _remedy
    _asked, _remedy = False, ""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _interrupt)


@contextlib.contextmanager
def told(listener: Callable[[Interrupted], None], remedy: str) -> Iterator[None]:
    """Have a listener told of the first signal, where an exception in the middle of things would do harm.

    Args:
        listener: of that signal.
        remedy: how to go on after a second signal, also one that comes while Ray is stopped afterwards.
    """
    global _listener, _remedy
    _listener, _remedy = listener, remedy
    try:
        yield
    finally:
        _listener = None


def _interrupt(number: int, frame: Any) -> None:
    global _asked
    if _asked:
        # All is on disk but that the running trials wait; Ray's processes end with this one.
        if screen := given_back():
            os.write(1, screen)
        os.write(2, os.fsencode(f"huetune: left at once{_remedy and '; '}{_remedy}\n"))
        os._exit(128 + number)
    _asked = True
    interrupted = Interrupted(number)
    if _listener is None:
        raise interrupted
    _listener(interrupted)
