"""What a user can cause: one line that says what, which, why and the remedy, and the exit code that scripts see."""

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "known are") -> str:
    """Return the remedy for an unknown word: the known one that it is most like, or else all of them."""
    known = list(known)
    near = difflib.get_close_matches(word, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"{otherwise} {', '.join(known)}"


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its name where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class UserError(ValueError):
    """A wrong word on the command line or in a file: 2."""

    exit_code = 2


class PhotoError(UserError):
    """Photos that cannot be used: 3."""

    exit_code = 3


class StorageError(UserError):
    """A run, a study, a folder or a cluster that is missing, taken or out of reach: 4."""

    exit_code = 4


class ClusterLostError(StorageError):
    """Ray died under a search: 4."""


class NoTrialError(UserError):
    """A run without a trial that could be used: 5."""

    exit_code = 5


class CheckpointError(UserError):
    """A model on disk that is damaged, newer than this program, or not a model at all: 6."""

    exit_code = 6


class Interrupted(KeyboardInterrupt):  # as the class that it is one of
    """Ctrl-C or SIGTERM: 128 and the signal's number, as from a shell.

    Args:
        number: of the signal.
        remedy: how to go on.
    """

    def __init__(self, number: int, remedy: str = ""):
        super().__init__(f"interrupted{remedy and '; '}{remedy}")
        self.number, self.exit_code = number, 128 + number
