"""The trials of a run in MLflow: one run for the search, and under it one for each trial."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from huetune.data_tools.common.errors import StorageError, UserError, first_line
from huetune.data_tools.common.optional_imports import import_extra
from huetune.data_tools.common.terminal import is_utf8
from huetune.data_tools.common.url_secrets import has_secret
from huetune.results.analysis.winner import Winner, winner_of
from huetune.results.records.run import Run
from huetune.results.records.study_record import StudyRecord
from huetune.results.records.trial_record import TrialRecord

EXPERIMENT = "huetune"
SEARCH, TRIAL, WINNER = "huetune.search", "huetune.trial", "huetune.winner"
"""Tags by which what was logged is found again."""
ENDS = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED", TrialState.FAIL: "FAILED"}
DEFAULTS = {
    # MLflow would go on asking for many minutes.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    # What is searched is nobody else's business.
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
SIZES = {"metrics": 1000, "params": 100}
"""Most that MLflow takes at once."""
SCHEMES = ("http", "https", "file", "databricks", "sqlite", "postgresql", "mysql", "mssql")
"""Where MLflow can keep runs; a database may also name its driver, as in postgresql+psycopg."""


def check_uri(uri: str) -> str:
    """Return an MLflow URI if it may be written down.

    Raises:
        UserError: it is none, or holds a password.
    """
    if not is_utf8(uri):
        raise UserError(f"mlflow: {uri!r} must be UTF-8; choose another name")
    try:
        url = make_url(uri)
    except ArgumentError:
        raise UserError(f"mlflow: {uri!r} is no URI such as http://host:5000 or sqlite:///mlflow.db") from None
    if url.get_backend_name() not in SCHEMES:
        raise UserError(f"mlflow: {uri!r} is of no kind that MLflow knows: {', '.join(SCHEMES)}")
    if url.username or "user" in url.query or has_secret(url):
        raise UserError(
            "mlflow: the URI holds a user or password, which would be written down; "
            "use MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    return uri


class Log:
    """What MLflow has of one run.

    Args:
        uri: of a server, or of a database.
        run: of a search.

    Raises:
        UserError: the URI is none, or MLflow is not installed.
        StorageError: the server does not answer.
    """

    def __init__(self, uri: str, run: Run):
        check_uri(uri)
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        self._mlflow = import_extra("mlflow", "mlflow")
        self._entities = import_extra("mlflow.entities", "mlflow")
        for logger in ("mlflow", "urllib3", "alembic"):
            logging.getLogger(logger).setLevel(logging.ERROR)
        self._uri = uri
        # A name can be used again when its run is taken away.
        self._key = f"{run.study_name} {run.manifest['started']}"
        self._name = run.study_name
        self._run = run
        self._done: set[int] = set()
        self._begun: dict[int, str] = {}
        with _said(uri):
            self._client = self._mlflow.MlflowClient(tracking_uri=uri)
            self._experiment = self._find_experiment()
            self._parent = self._find_parent(run)
            self._recall()

    def write(self, study: optuna.Study, progress: Callable[[Iterable], Iterable] = iter) -> int:
        """Log the trials that have ended and are not logged yet, and return how many these are.

        Raises:
            StorageError: the server does not take it; what was not logged is logged the next time.
        """
        count, objective = 0, StudyRecord.of(study).objective
        with _said(self._uri):
            for trial in progress(study.get_trials(deepcopy=False)):
                if trial.state in ENDS and trial.number not in self._done:
                    self._log(trial, objective)
                    self._done.add(trial.number)
                    count += 1
            self._log_winner(study)
        return count

    def _log_winner(self, study: optuna.Study) -> None:
        """Have the search's own run say who wins, and the scores of the winner's checkpoint and configuration."""
        replicates = self._run.replicates()
        won = winner_of(study, replicates)
        if won is None or self._client.get_run(self._parent).data.tags.get(WINNER) == (name := _winner_tag(won)):
            return
        self._client.log_metric(self._parent, "score", won.score, step=len(self._done))
        if won.confirmed:
            self._client.log_metric(self._parent, "confirmed", won.confirmed.value, step=len(self._done))
        self._client.set_tag(self._parent, WINNER, name)

    def _find_experiment(self) -> str:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        return found.experiment_id if found else self._client.create_experiment(EXPERIMENT)

    def _find_parent(self, run: Run) -> str:
        found = self._search(f"tags.`{SEARCH}` = '{self._key}'")
        if found:
            return found[0].info.run_id
        manifest = run.manifest
        tags = {SEARCH: self._key, "mlflow.note.content": f"huetune search, in {run.location}"}
        made = self._client.create_run(self._experiment, tags=tags, run_name=self._name)
        asked = {name: str(value) for name, value in manifest["search"].items() if value is not None}
        params = [self._entities.Param(name, value[:500]) for name, value in asked.items()]
        self._client.log_batch(made.info.run_id, params=params)
        self._client.set_terminated(made.info.run_id)
        return made.info.run_id

    def _recall(self) -> None:
        for logged in self._search(f"tags.`mlflow.parentRunId` = '{self._parent}'"):
            number = int(logged.data.tags[TRIAL])
            if logged.info.status in ENDS.values():
                self._done.add(number)
            else:
                self._begun[number] = logged.info.run_id

    def _search(self, condition: str) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            page = self._client.search_runs([self._experiment], condition, max_results=1000, page_token=token)
            found += page
            if not (token := page.token):
                return found

    def _log(self, trial: FrozenTrial, objective: str) -> None:
        record = TrialRecord.of(trial)
        start = _milliseconds(record.start)
        tags = {"mlflow.parentRunId": self._parent, TRIAL: str(trial.number), "state": record.state}
        about = {"preset": record.preset, "host": record.host, "error": record.failure, "note": record.note}
        tags |= {name: str(value)[:5000] for name, value in about.items() if value is not None}
        if not (key := self._begun.get(trial.number)):
            made = self._client.create_run(self._experiment, start, tags, f"{self._name}-{trial.number:04}")
            key = self._begun[trial.number] = made.info.run_id
        params = [self._entities.Param(name, str(value)) for name, value in (record.config or {}).items()]
        scores, now, metrics = record.best_so_far(objective), float(start or 0), []
        for epoch in record.epochs:
            now += epoch.seconds * 1000
            patches = {} if epoch.patches is None else {"boxes": epoch.patches}
            for name, value in {"score": scores[epoch.epoch], **patches, **epoch}.items():
                metrics.append(self._entities.Metric(name, value, int(now), epoch.epoch))
        for first in range(0, max(len(metrics), 1), SIZES["metrics"]):
            self._client.log_batch(key, metrics[first : first + SIZES["metrics"]])
        self._client.log_batch(key, params=params[: SIZES["params"]])
        # Last: until then it is one that was begun.
        self._client.set_terminated(key, ENDS[trial.state], _milliseconds(record.end))


def _winner_tag(won: Winner) -> str:
    confirmed = f", confirmed {won.confirmed.value:.4g} from {won.seeds} seeds" if won.confirmed else ""
    return f"{won}{confirmed}"


def _milliseconds(time: Any) -> int | None:
    return time and int(time.timestamp() * 1000)


@contextlib.contextmanager
def _said(uri: str) -> Iterator[None]:
    """Say in one line what MLflow says in many."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise StorageError(f"mlflow {uri!r}: {first_line(_root(error))[:200]}") from None


def _root(error: BaseException) -> BaseException:
    """What an error came from: it is the only part of MLflow's long ones that says what is wrong."""
    while before := error.__cause__ or error.__context__:
        error = before
    return error
