"""Output to a terminal: the consoles for standard output and standard error, plain lines and progress bars."""

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.progress import track

MAX_TABLE_COLUMNS = 240
"""Width of a console that is not a terminal, in characters: no table is wider."""


def _console(stderr: bool = False) -> Console:
    """Return a console whose layout follows its stream, and whose colors follow the environment as Rich reads it.

    A pipe or a file gets a width that no table exceeds, and no board, progress bar or cursor codes, even where
    FORCE_COLOR or TTY_COMPATIBLE requests colors: Rich takes these variables for a terminal.
    """
    colored = Console(stderr=stderr)
    terminal = colored.file.isatty() and os.environ.get("TTY_COMPATIBLE") != "0"
    colors: Any = colored.color_system  # Rich annotates the option with a Literal of all names
    width = None if terminal else MAX_TABLE_COLUMNS
    return Console(stderr=stderr, force_terminal=terminal, color_system=colors, width=width)


stdout, stderr = _console(), _console(stderr=True)


def printable(text: str, keep: str = "") -> str:
    """Escape all characters that control a terminal or cannot be shown.

    A file may have any name: an escape sequence in it could color, hide or forge the output.

    Args:
        text: Any text.
        keep: Characters that are not escaped, for example line ends.
    """
    return "".join(sign if sign.isprintable() or sign in keep else ascii(sign)[1:-1] for sign in text)


def program_name() -> str:
    """Return the command that starts huetune, quoted for a shell: its path if PATH does not lead to it."""
    folder, name = os.path.split(sys.argv[0])
    if name != "huetune" or not folder or shutil.which(name):
        return "huetune"
    return shlex.quote(os.path.join(os.path.relpath(folder), name))


def is_utf8(text: str) -> bool:
    """Return whether a text, such as a path or an argument of the command line, can be encoded as UTF-8.

    Python keeps bytes that are not UTF-8 as lone surrogates, which cannot.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def local_time(recorded: str, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Format a recorded time in the local time zone.

    Args:
        recorded: Time in ISO 8601. Without an offset, as older versions wrote it, it counts as local time.
        form: Format for `strftime`.

    Returns:
        The formatted time; a text that is not a time is returned unchanged.
    """
    try:
        return datetime.fromisoformat(recorded).astimezone().strftime(form)
    except (ValueError, OverflowError):
        return recorded


def say(text: str, style: str | None = None, console: Console = stdout) -> None:
    """Print a line without Rich's markup, highlighting and wrapping, and with control characters escaped.

    Args:
        text: The line. Brackets and numbers in it are printed as they are.
        style: Style of Rich, as "yellow".
        console: Console to print to.
    """
    console.print(printable(text), style=style, markup=False, highlight=False, soft_wrap=True)


def restore_codes() -> bytes:
    """Return the escape codes that show the cursor and leave the alternate screen; print them before exiting."""
    return b"\x1b[?1049l\x1b[?25h" if stdout.is_alt_screen else b"\x1b[?25h" if stdout.is_terminal else b""


def progress_bar(description: str, total: int, quiet: bool = False) -> Callable[[Iterable], Iterable]:
    """Return a function that wraps an iterable and shows a progress bar on standard error while it is iterated.

    Args:
        description: Text before the bar.
        total: Number of items.
        quiet: Show no bar. None is shown either if standard error is not a terminal.
    """
    hidden = quiet or not stderr.is_terminal
    return lambda items: track(items, description, total=total, console=stderr, transient=True, disable=hidden)
