"""A pseudo-terminal of a given size that runs a program, with the content of its screen."""

import os
import time
from collections.abc import Callable

import pexpect
import pyte


class Terminal:
    """A pseudo-terminal that runs a command.

    Args:
        columns: Width in characters.
        lines: Height in lines.
        command: The command and its arguments.
        environment: Variables to set in addition to those of this process.

    Attributes:
        raw: All bytes that the command has written.
        process: The running command.
    """

    def __init__(self, columns: int, lines: int, *command: str, **environment: str):
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self.raw = b""
        env = {**os.environ, "TERM": "xterm-256color", **environment}
        env = {name: value for name, value in env.items() if name not in ("COLUMNS", "LINES")}
        self.process = pexpect.spawn(command[0], list(command[1:]), dimensions=(lines, columns), env=env, timeout=100)

    def resize(self, columns: int, lines: int) -> None:
        """Change the size and clear the screen; the program has to draw it again."""
        self.process.setwinsize(lines, columns)
        self._screen.reset()
        self._screen.resize(lines, columns)

    def type(self, keys: str) -> None:
        """Send keys to the program."""
        self.process.send(keys)

    @property
    def text(self) -> str:
        """The text on the screen, with single spaces between words."""
        return " ".join(" ".join(self._screen.display).split())

    @property
    def screen(self) -> list[str]:
        """The lines of the screen."""
        return [line.rstrip() for line in self._screen.display]

    def wait_for(self, *parts: str, seconds: float = 90) -> None:
        """Wait until all parts are on the screen at the same time."""
        self._until(lambda: all(part in self.text for part in parts), seconds)

    def end(self, seconds: float = 90) -> int:
        """Wait until the program ends and return its exit code."""
        self._until(lambda: not self.process.isalive(), seconds)
        self._read()
        self.process.close()
        return self.process.exitstatus

    def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        limit = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > limit:
                raise TimeoutError("\n".join(self.screen))
            self._read()

    def _read(self) -> None:
        try:
            new = self.process.read_nonblocking(100_000, 0.1)
        except (pexpect.TIMEOUT, pexpect.EOF):
            return
        self.raw += new
        self._stream.feed(new)
