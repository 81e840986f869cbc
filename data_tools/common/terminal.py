"""How huetune speaks to a terminal: plain lines, progress bars, and what all verbs' options share."""

import importlib
import logging
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import track

from huetune.data_tools.storage.atomic import by_name
from huetune.data_tools.storage.bucket_cache import path_of
from huetune.data_tools.storage.object_store import SCHEME


class _Filled(click.ParamType):
    """A word or several, as in roses,tulips: an empty one comes of a variable that a script forgot to set."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and not value.strip(" ,"):
            self.fail(f"{value!r} says nothing", param, ctx)
        return value


class _Folder(click.Path):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return by_name(Path(os.fsdecode(super().convert(TEXT.convert(value, param, ctx), param, ctx))))


TEXT = _Filled()
FOLDER = _Folder(path_type=Path)
MOST = 1_000_000
"""Of whatever is counted, above which it is a slip."""
MAX_SEED = 2**31 - 1


class _Place(click.ParamType):
    """A folder, or a place in a bucket, which is the folder of its mirror from here on."""

    name = "folder or s3://..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        return (
            path_of(value) if isinstance(value, str) and value.startswith(SCHEME) else FOLDER.convert(value, param, ctx)
        )


PLACE = _Place()


def _console(stderr: bool = False) -> Console:
    """Return a console whose layout follows its stream, and whose colors follow the environment as Rich reads it.

    A pipe or a file is as wide as no table is, and gets no board, progress bar or cursor codes, even where FORCE_COLOR
    or TTY_COMPATIBLE asks for colors: Rich takes these variables for a terminal.
    """
    colored = Console(stderr=stderr)
    terminal = colored.file.isatty() and os.environ.get("TTY_COMPATIBLE") != "0"
    colors: Any = colored.color_system  # Rich's annotation of the option lists the names
    return Console(stderr=stderr, force_terminal=terminal, color_system=colors, width=None if terminal else 240)


stdout, stderr = _console(), _console(stderr=True)


def plain(text: str, keep: str = "") -> str:
    """Return a text of one line in which everything that a terminal would act on, or cannot show, is spelled out.

    A file may be called anything: a name with an escape sequence in it could color, hide or forge what is printed.

    Args:
        text: anything.
        keep: signs that stay as they are, line ends for example.
    """
    return "".join(sign if sign.isprintable() or sign in keep else ascii(sign)[1:-1] for sign in text)


def program() -> str:
    """Return what huetune is called here, for a shell: by its path where PATH does not lead to it."""
    folder, name = os.path.split(sys.argv[0])
    if name != "huetune" or not folder or shutil.which(name):
        return "huetune"
    return shlex.quote(os.path.join(os.path.relpath(folder), name))


def is_utf8(text: str) -> bool:
    """Return whether a text, such as a path or a word of the command line, has no bytes that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def local_time(recorded: str, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return a recorded time as this machine's clock shows it.

    Args:
        recorded: in ISO 8601; without an offset, as an older huetune wrote it, it is taken for local time.
        form: as `strftime` takes it.

    Returns:
        The time in local time; text that is no time as it is.
    """
    try:
        return datetime.fromisoformat(recorded).astimezone().strftime(form)
    except (ValueError, OverflowError):
        return recorded


def say(text: str, style: str | None = None, console: Console = stdout) -> None:
    """Print a line as it is, whatever brackets and numbers are in it, but `plain`."""
    console.print(plain(text), style=style, markup=False, highlight=False, soft_wrap=True)


def given_back() -> bytes:
    """Return what gives a terminal back its cursor and its own screen, for who leaves without a farewell."""
    return b"\x1b[?1049l\x1b[?25h" if stdout.is_alt_screen else b"\x1b[?25h" if stdout.is_terminal else b""


def bar(what: str, total: int, quiet: bool = False) -> Callable[[Iterable], Iterable]:
    """Return what wraps an iterable of a known length so that a terminal shows how far it is."""
    hidden = quiet or not stderr.is_terminal
    return lambda items: track(items, what, total=total, console=stderr, transient=True, disable=hidden)


def count_from(low: int) -> click.IntRange:
    """Return the type of an option that counts, from `low` on."""
    return click.IntRange(low, MOST)


def words(text: str | None) -> tuple[str, ...]:
    """Return the words of an option such as `roses,tulips`."""
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())


def shared(*options: Callable) -> Callable:
    """Return one decorator for options that several verbs have."""

    def decorate(verb: Callable) -> Callable:
        for option in reversed(options):
            verb = option(verb)
        return verb

    return decorate


seed_option = click.option("--seed", type=click.IntRange(0, MAX_SEED), default=0, show_default=True)


def import_tensorflow() -> None:
    """Import TensorFlow without its greetings, which come before its own log level counts."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryFile() as greetings:
        terminal = os.dup(2)
        os.dup2(greetings.fileno(), 2)
        try:
            importlib.import_module("huetune.data_tools.common.keras_backend")
            # It takes one model after another for one that is traced too often.
            logging.getLogger("tensorflow").setLevel(logging.ERROR)
        except BaseException:
            greetings.seek(0)
            os.write(terminal, greetings.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
