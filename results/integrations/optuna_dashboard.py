"""Optuna's own dashboard on the study of a run, to look and not to touch, for this machine alone."""

import contextlib
import json
import socketserver
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import optuna
from optuna.storages import BaseStorage

from huetune.data_tools.common.errors import UserError
from huetune.data_tools.common.optional_imports import import_extra
from huetune.results.analysis.winner import Winner
from huetune.results.records.optuna_compat import storage_with_overrides

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")

Application = Callable[[dict[str, Any], Callable], Iterable[bytes]]


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *values: object) -> None:
        """Nothing: the terminal is not a server's log."""


@contextlib.contextmanager
def serving(
    study: optuna.Study, port: int, winner: Callable[[], Winner | None] = lambda: None
) -> Iterator[tuple[WSGIServer, str]]:
    """Yield a server of the dashboard, which `serve_forever` runs, and the address of the study's page.

    Args:
        study: opened to be read only, and for nothing else than this.
        port: of this machine, 0 for any free one.
        winner: says who is the winner by now, whom the page names as the best trial, with a note; None for nobody.

    Raises:
        UserError: the port is taken, or optuna-dashboard is not installed.
    """
    wsgi = import_extra("optuna_dashboard", "dashboard").wsgi
    try:
        server = _Server((HOST, port), _Quiet)
    except (OSError, OverflowError) as error:
        raise UserError(f"--port {port}: cannot be used ({error}); choose another, or 0 for any free one") from None
    with server:
        storage, number = _naming_winner(study, winner)
        server.set_app(_reading(wsgi(storage)))
        yield server, f"http://{HOST}:{server.server_port}/dashboard/studies/{number}"


def _naming_winner(study: optuna.Study, winner: Callable[[], Winner | None]) -> tuple[BaseStorage, int]:
    """Return a storage that tells the dashboard the winner where it would tell the trial with the best score.

    Its tables and plots still rank by score: a confirmed winner need not come first there, which the note says. Read
    from optuna-dashboard 0.21: `_app.py` asks `get_best_trial`, `_note.py` names the attributes of a note.
    """

    def attributes() -> dict[str, Any]:
        won = winner()
        return {"dashboard:note_ver": 1, "dashboard:note_str:0": note(won)} if won else {}

    return storage_with_overrides(study, lambda: won.searched.trial if (won := winner()) else None, attributes)


def note(won: Winner) -> str:
    """Return which trial is the winner, and that Optuna ranks by another number."""
    how = "the mean over fresh seeds decides" if won.confirmed else "it has the best score of the search"
    return f"Winner: {won}; {how}. {won.comparison.sentence()} Tables and plots here rank by the score of the search."


def _reading(app: Application) -> Application:
    """Refuse what would change anything, and whoever came here by a name that is not this machine's.

    The page has buttons to rename, to delete, to take notes. And a page from elsewhere, whose name its owner lets point
    to this machine, could read what is served here; it cannot hide by which name it came.
    """

    def answer(environment: dict[str, Any], start: Callable) -> Iterable[bytes]:
        host = environment.get("HTTP_HOST", HOST).rpartition(":")[0] or environment.get("HTTP_HOST", HOST)
        if host not in NAMES:
            return refuse(start, "403 Forbidden", f"served to {' and '.join(NAMES)} only")
        if environment["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return refuse(start, "405 Method Not Allowed", "huetune shows a study and lets nothing be changed in it")
        return app(environment, start)

    def refuse(start: Callable, status: str, reason: str) -> list[bytes]:
        start(status, [("Content-Type", "application/json")])
        return [json.dumps({"reason": reason}).encode()]

    return answer
