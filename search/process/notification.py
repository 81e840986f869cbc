"""Notifications: a message at the end of a search, by any service that Apprise supports.

The URL of a service may contain a token. Therefore it is kept out of everything that is written or shown: the manifest,
Ray's records of the command line, the list of processes, and messages of any library.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from huetune.data_tools.common.errors import Interrupted, UserError, first_line
from huetune.data_tools.common.optional_imports import import_extra
from huetune.data_tools.common.terminal import say, stderr
from huetune.search.process.environment import restart

VARIABLE = "HUETUNE_NOTIFY"
OPTION = "--notify"


def hide_url() -> None:
    """If the command line contains the URL, restart this command with the URL in its environment instead.

    All users of a machine can read the command line of a process, and Ray writes it down. Only a restart removes it
    reliably: setproctitle 1.3.8 does nothing, without an error, if the environment was moved before.
    """
    words, kept, url = sys.orig_argv[1:], [], None
    while words:
        word = words.pop(0)
        if word == OPTION and words:
            url = words.pop(0)
        elif word.startswith(f"{OPTION}="):
            url = word.partition("=")[2]
        else:
            kept.append(word)
    if url is not None:
        restart(kept, **{VARIABLE: url})


def check_url(url: str | None) -> None:
    """Check the URL of a service before a search starts.

    Args:
        url: URL of a service; None for no notification.

    Raises:
        UserError: Apprise does not support the URL, or is not installed.
    """
    if url:
        _services(url)


@contextlib.contextmanager
def notify_on_exit(url: str | None, name: str, storage: Path) -> Iterator[Callable[[], None]]:
    """Send a message when the search in this context has ended or failed; print one line if that is impossible.

    Args:
        url: URL of a service; None for no notification.
        name: name of the run.
        storage: folder of runs.

    Yields:
        A function that cancels the notification, for a search that turns out to have ended before.

    Raises:
        UserError: Apprise does not support the URL.
    """
    # Workers and other child processes do not need the URL.
    os.environ.pop(VARIABLE, None)
    canceled = False

    def cancel() -> None:
        nonlocal canceled
        canceled = True

    if not url:
        yield cancel
        return
    services = _services(url)
    try:
        yield cancel
    except (Exception, Interrupted) as error:
        _notify(services, f"huetune: {name} ended early", first_line(error))
        raise
    if not canceled:
        try:
            summary = _summary(name, storage)
        except Exception as error:  # the storage may be unavailable; the search has ended all the same
            summary = f"its results cannot be read now: {first_line(error)}"
        _notify(services, f"huetune: {name} is done", summary)


def _services(url: str) -> Any:
    apprise = import_extra("apprise", "notify")
    services = apprise.Apprise()
    with _logging_disabled():
        supported = services.add(url)
    if not supported:
        raise UserError(
            f"{OPTION}: Apprise does not support the URL (not shown, it may contain a token); pass one as in ntfy://topic"
        )
    return services


def _summary(name: str, storage: Path) -> str:
    from huetune.results.analysis.winner import headline
    from huetune.results.records.run import find_run
    from huetune.results.tables.trial_table import rows, winner_row

    run = find_run(name, storage)
    study, replicates = run.snapshot()
    table = rows(study, replicates)
    if winner_row(table) is None:
        return f"none of its {len(table)} trials is complete"
    front = sum(bool(row["front"]) for row in table)
    return headline(study, replicates) or f"{front} of {len(table)} trials are on the Pareto front"


def _notify(services: Any, title: str, body: str) -> None:
    names = ", ".join(str(service.service_name) for service in services)
    try:
        with _logging_disabled():
            accepted = services.notify(title=title, body=body)
    except Exception:  # the search has ended all the same, and the message of the error may contain the token
        accepted = False
    if not accepted:
        say(f"notification failed: {names} rejected the message", "yellow", stderr)


@contextlib.contextmanager
def _logging_disabled() -> Iterator[None]:
    """Disable logging: libraries log the URLs of their requests, with tokens."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
