"""How a command ends: every expected error becomes one line on stderr and an exit code."""

import os
import sys

import click

from huetune.data_tools.common.errors import ClusterLostError, Interrupted, StorageError, UserError, first_line
from huetune.data_tools.common.terminal import say, stderr, stdout


def run_command(command: click.Command) -> int:
    """Run a command with the arguments of this process, report an error in one line, and return the exit code.

    An error that is a bug of huetune is not caught, so that its traceback is shown.
    """
    try:
        return command(prog_name="huetune", standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        remedy = f"; see `{context.command_path} --help`" if context else ""
        _report(" ".join(error.format_message().split()).rstrip(".") + remedy)
        return error.exit_code
    except UserError as error:
        _report(str(error))
        if isinstance(error, ClusterLostError):
            # Ray's exit handlers would wait for an answer of the lost cluster.
            stdout.file.flush()
            os._exit(error.exit_code)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        # Click turns every KeyboardInterrupt into an Abort.
        signal = next((cause for cause in (error, error.__cause__) if isinstance(cause, Interrupted)), None)
        say(f"huetune: {signal or 'interrupted'}", console=stderr)
        return signal.exit_code if signal else 130
    except BrokenPipeError:
        # The reader of a pipe has closed it, as in `huetune trials | head`. Python would raise again when it flushes
        # stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        _report(f"{error.filename!r}: {error.strerror}" if error.filename else str(error))
        return StorageError.exit_code
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("optuna", "sqlalchemy"):
            raise
        # The database is no longer available.
        _report(f"the study cannot be used ({first_line(error.__cause__ or error)})")
        return StorageError.exit_code


def _report(message: str) -> None:
    say(f"huetune: {message}", "red", stderr)
