"""Errors that users can cause. Each is one line that names what failed, why and what to do, and has an exit code.

The command `huetune` prints the line and exits with the code; scripts can rely on the codes.
"""

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "choose from") -> str:
    """Return the remedy for an unknown word, to end an error message with.

    Args:
        word: The unknown word.
        known: All valid words.
        otherwise: Introduces the list of valid words if none of them is similar.

    Returns:
        A question with the most similar valid word, or the list of all valid words.
    """
    known = list(known)
    near = difflib.get_close_matches(word, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"{otherwise} {', '.join(known)}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class if the message is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class UserError(ValueError):
    """An invalid argument, option or file. Exit code 2."""

    exit_code = 2


class PhotoError(UserError):
    """Photos that cannot be used. Exit code 3."""

    exit_code = 3


class StorageError(UserError):
    """A run, study, folder, bucket or cluster that is missing, locked or cannot be reached. Exit code 4."""

    exit_code = 4


class ClusterLostError(StorageError):
    """Ray died during a search. Exit code 4."""


class NoTrialError(UserError):
    """A run without a usable trial. Exit code 5."""

    exit_code = 5


class CheckpointError(UserError):
    """A folder that is not a model, is damaged or was written by a newer version of huetune. Exit code 6."""

    exit_code = 6


class Interrupted(KeyboardInterrupt):  # without the suffix Error, like its base class
    """Ctrl-C or SIGTERM. The exit code is 128 plus the signal's number, as in a shell.

    Args:
        number: Number of the signal.
        remedy: How to continue; ends the message.
    """

    def __init__(self, number: int, remedy: str = ""):
        super().__init__(f"interrupted{remedy and '; '}{remedy}")
        self.number, self.exit_code = number, 128 + number
