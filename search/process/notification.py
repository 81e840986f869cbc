"""Telling someone that a search is over, by whatever service they use.

The URL of a service may hold a token. So it is kept from all that is written or seen: the manifest, Ray's records of
who started what, the list of processes, messages of any library.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from huetune.data_tools.common.errors import Interrupted, UserError, in_a_line
from huetune.data_tools.common.optional_imports import extra
from huetune.data_tools.common.terminal import say, stderr
from huetune.search.process.environment import restart

VARIABLE = "HUETUNE_NOTIFY"
OPTION = "--notify"

notify_option = click.option(
    OPTION,
    metavar="URL",
    envvar=VARIABLE,
    show_envvar=True,
    help="Tell a service that knows this URL of Apprise's when it is over, as in ntfy://topic or mailto://...",
)


def hide() -> None:
    """Start this command again with the URL in its environment, if it is among its words.

    Words of a command can be read by all users of a machine, and Ray writes them down. Only the kernel takes them away
    for sure: setproctitle does nothing, and says nothing, where the environment was moved before (1.3.8).
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


def check(url: str | None) -> None:
    """Make sure that somebody can be told, before there is anything to tell.

    Args:
        url: of a service; None for nobody.

    Raises:
        UserError: Apprise knows no such service, or is not installed.
    """
    if url:
        _services(url)


@contextlib.contextmanager
def told(url: str | None, name: str, storage: Path) -> Iterator[Callable[[], None]]:
    """Tell of a search when it is over, or broke off; what goes wrong with that is one line.

    What it gives is called where there turns out to be nothing to tell.

    Args:
        url: of a service; None for nobody.
        name: of the run, in its storage.
        storage: folder of runs.

    Raises:
        UserError: the URL is none that Apprise knows.
    """
    # Workers, and all else that is started from here, have no use for it.
    os.environ.pop(VARIABLE, None)
    over = True

    def keep_silent() -> None:
        nonlocal over
        over = False

    if not url:
        yield keep_silent
        return
    services = _services(url)
    try:
        yield keep_silent
    except (Exception, Interrupted) as error:
        _tell(services, f"huetune: {name} broke off", in_a_line(error))
        raise
    if over:
        try:
            summary = _summary(name, storage)
        except Exception as error:  # a store that does not answer now: the search is done all the same
            summary = f"what came of it cannot be read now: {in_a_line(error)}"
        _tell(services, f"huetune: {name} is done", summary)


def _services(url: str) -> Any:
    apprise = extra("apprise", "notify")
    services = apprise.Apprise()
    with _silent():
        known = services.add(url)
    if not known:
        raise UserError(
            f"{OPTION}: not a URL that Apprise knows (it is not shown, it may hold a token); as in ntfy://topic"
        )
    return services


def _summary(name: str, storage: Path) -> str:
    from huetune.results.analysis.winner import headline
    from huetune.results.records.run import find_run
    from huetune.results.tables.trial_table import rows, winner

    run = find_run(name, storage)
    study, replicates = run.snapshot()
    table = rows(study, replicates)
    if winner(table) is None:
        return f"none of its {len(table)} trials is complete"
    front = sum(bool(row["front"]) for row in table)
    return headline(study, replicates, table) or f"{front} of {len(table)} trials are on the Pareto front"


def _tell(services: Any, title: str, body: str) -> None:
    names = ", ".join(str(service.service_name) for service in services)
    try:
        with _silent():
            taken = services.notify(title=title, body=body)
    except Exception:  # whatever a service does: the search is done, and what it says may hold the token
        taken = False
    if not taken:
        say(f"nobody was told: {names} did not take the message", "yellow", stderr)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Libraries log the URLs that they ask, tokens among them."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
