"""Serves Optuna's dashboard for the study of a run: read-only, and on this machine only."""

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
HOST_NAMES = (HOST, "localhost")
"""Values of the Host header, port aside, that are answered."""

Application = Callable[[dict[str, Any], Callable], Iterable[bytes]]


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *values: object) -> None:
        """Do not print requests to the terminal."""


@contextlib.contextmanager
def serve_dashboard(
    study: optuna.Study, port: int, winner: Callable[[], Winner | None] = lambda: None
) -> Iterator[tuple[WSGIServer, str]]:
    """Yield a server of the dashboard, to be run with `serve_forever`, and the address of the study's page.

    Args:
        study: study that is opened read-only and used for nothing else.
        port: port of this machine; 0 for any free port.
        winner: returns the present winner or None. The page shows it as the best trial, with a note.

    Raises:
        UserError: the port cannot be used, or optuna-dashboard is not installed.
    """
    wsgi = import_extra("optuna_dashboard", "dashboard").wsgi
    try:
        server = _Server((HOST, port), _QuietHandler)
    except (OSError, OverflowError) as error:
        raise UserError(f"--port {port}: cannot be used ({error}); choose another, or 0 for any free port") from None
    with server:
        storage, number = _storage_with_winner(study, winner)
        server.set_app(_read_only(wsgi(storage)))
        yield server, f"http://{HOST}:{server.server_port}/dashboard/studies/{number}"


def _storage_with_winner(study: optuna.Study, winner: Callable[[], Winner | None]) -> tuple[BaseStorage, int]:
    """Return a storage whose best trial is the winner instead of the trial with the best score, and the study's id.

    The dashboard's tables and plots still rank by score, so a confirmed winner may not come first there; the note says
    so. As of optuna-dashboard 0.21, `_app.py` calls `get_best_trial`, and `_note.py` names the attributes of a note.
    """

    def attributes() -> dict[str, Any]:
        won = winner()
        return {"dashboard:note_ver": 1, "dashboard:note_str:0": winner_note(won)} if won else {}

    return storage_with_overrides(study, lambda: won.searched.trial if (won := winner()) else None, attributes)


def winner_note(won: Winner) -> str:
    """Return a note that names the winner and says that Optuna ranks by the score of the search."""
    how = "the mean over fresh seeds decides" if won.confirmed else "it has the best score of the search"
    return f"Winner: {won}; {how}. {won.comparison.sentence()} Tables and plots here rank by the score of the search."


def _read_only(app: Application) -> Application:
    """Wrap an application to refuse requests that change something, and requests with a foreign Host header.

    The dashboard's page has buttons to rename, delete and take notes. The Host header is checked against DNS rebinding:
    a web page whose name points to this machine could otherwise read the study.
    """

    def answer(environment: dict[str, Any], start: Callable) -> Iterable[bytes]:
        host = environment.get("HTTP_HOST", HOST).rpartition(":")[0] or environment.get("HTTP_HOST", HOST)
        if host not in HOST_NAMES:
            return refuse(start, "403 Forbidden", f"only {' and '.join(HOST_NAMES)} are served")
        if environment["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return refuse(start, "405 Method Not Allowed", "the dashboard is read-only: the study cannot be changed")
        return app(environment, start)

    def refuse(start: Callable, status: str, reason: str) -> list[bytes]:
        start(status, [("Content-Type", "application/json")])
        return [json.dumps({"reason": reason}).encode()]

    return answer
