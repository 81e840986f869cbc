"""Exports a run to MLflow: a parent run for the search, and a child run for each trial that has ended."""

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
SEARCH_TAG, TRIAL_TAG, WINNER_TAG = "huetune.search", "huetune.trial", "huetune.winner"
"""Tags that identify the runs of earlier exports."""
STATUSES = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED", TrialState.FAIL: "FAILED"}
DEFAULT_ENVIRONMENT = {
    # By default MLflow retries for many minutes.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    # Searches are private.
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
MAX_METRICS_PER_CALL, MAX_PARAMS_PER_CALL = 1000, 100
"""MLflow's limits for `log_batch`."""
MAX_PARAM_CHARACTERS, MAX_TAG_CHARACTERS = 500, 5000
SCHEMES = ("http", "https", "file", "databricks", "sqlite", "postgresql", "mysql", "mssql")
"""Kinds of URIs that MLflow supports; a database may also name its driver, as in postgresql+psycopg."""


def check_uri(uri: str) -> str:
    """Check an MLflow URI and return it. It is stored with the run, so it must not contain credentials.

    Raises:
        UserError: the URI is invalid, of an unsupported kind, or contains a user or password.
    """
    if not is_utf8(uri):
        raise UserError(f"mlflow: {uri!r} must be UTF-8; choose another name")
    try:
        url = make_url(uri)
    except ArgumentError:
        raise UserError(f"mlflow: {uri!r} is not a URI such as http://host:5000 or sqlite:///mlflow.db") from None
    if url.get_backend_name() not in SCHEMES:
        raise UserError(f"mlflow: {uri!r} is not supported by MLflow; choose one of {', '.join(SCHEMES)}")
    if url.username or "user" in url.query or has_secret(url):
        raise UserError(
            "mlflow: the URI contains a user or password, which would be stored with the run; "
            "use MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    return uri


class MLflowWriter:
    """Writes the trials of a run to MLflow, each once.

    Args:
        uri: URI of an MLflow server or database.
        run: run of a search.

    Raises:
        UserError: the URI is invalid, or MLflow is not installed.
        StorageError: the server does not answer.
    """

    def __init__(self, uri: str, run: Run):
        check_uri(uri)
        for name, value in DEFAULT_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        self._mlflow = import_extra("mlflow", "mlflow")
        self._entities = import_extra("mlflow.entities", "mlflow")
        for logger in ("mlflow", "urllib3", "alembic"):
            logging.getLogger(logger).setLevel(logging.ERROR)
        self._uri = uri
        # The start time is part of the key: a deleted run's name can be used again.
        self._key = f"{run.study_name} {run.manifest['started']}"
        self._name = run.study_name
        self._run = run
        self._logged: set[int] = set()
        self._started: dict[int, str] = {}
        with _one_line_errors(uri):
            self._client = self._mlflow.MlflowClient(tracking_uri=uri)
            self._experiment = self._find_experiment()
            self._parent = self._find_parent(run)
            self._find_logged_trials()

    def write(self, study: optuna.Study, progress: Callable[[Iterable], Iterable] = iter) -> int:
        """Log the trials that have ended and are not logged yet.

        Args:
            study: study of the run.
            progress: wraps the trials to show progress.

        Returns:
            The number of newly logged trials.

        Raises:
            StorageError: the server failed; the next call logs the remaining trials.
        """
        count, objective = 0, StudyRecord.of(study).objective
        with _one_line_errors(self._uri):
            for trial in progress(study.get_trials(deepcopy=False)):
                if trial.state in STATUSES and trial.number not in self._logged:
                    self._log(trial, objective)
                    self._logged.add(trial.number)
                    count += 1
            self._log_winner(study)
        return count

    def _log_winner(self, study: optuna.Study) -> None:
        """Log the winner to the parent run: its tag, the score of its checkpoint and its confirmed score."""
        replicates = self._run.replicates()
        won = winner_of(study, replicates)
        if won is None or self._client.get_run(self._parent).data.tags.get(WINNER_TAG) == (name := _winner_tag(won)):
            return
        self._client.log_metric(self._parent, "score", won.score, step=len(self._logged))
        if won.confirmed:
            self._client.log_metric(self._parent, "confirmed", won.confirmed.value, step=len(self._logged))
        self._client.set_tag(self._parent, WINNER_TAG, name)

    def _find_experiment(self) -> str:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        return found.experiment_id if found else self._client.create_experiment(EXPERIMENT)

    def _find_parent(self, run: Run) -> str:
        found = self._search(f"tags.`{SEARCH_TAG}` = '{self._key}'")
        if found:
            return found[0].info.run_id
        manifest = run.manifest
        tags = {SEARCH_TAG: self._key, "mlflow.note.content": f"huetune search in {run.location}"}
        created = self._client.create_run(self._experiment, tags=tags, run_name=self._name)
        settings = {name: str(value) for name, value in manifest["search"].items() if value is not None}
        params = [self._entities.Param(name, value[:MAX_PARAM_CHARACTERS]) for name, value in settings.items()]
        self._client.log_batch(created.info.run_id, params=params)
        self._client.set_terminated(created.info.run_id)
        return created.info.run_id

    def _find_logged_trials(self) -> None:
        for logged in self._search(f"tags.`mlflow.parentRunId` = '{self._parent}'"):
            number = int(logged.data.tags[TRIAL_TAG])
            if logged.info.status in STATUSES.values():
                self._logged.add(number)
            else:
                self._started[number] = logged.info.run_id

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
        tags = {"mlflow.parentRunId": self._parent, TRIAL_TAG: str(trial.number), "state": record.state}
        details = {"preset": record.preset, "host": record.host, "error": record.failure, "note": record.note}
        tags |= {name: str(value)[:MAX_TAG_CHARACTERS] for name, value in details.items() if value is not None}
        if not (key := self._started.get(trial.number)):
            created = self._client.create_run(self._experiment, start, tags, f"{self._name}-{trial.number:04}")
            key = self._started[trial.number] = created.info.run_id
        params = [self._entities.Param(name, str(value)) for name, value in (record.config or {}).items()]
        scores, now, metrics = record.best_so_far(objective), float(start or 0), []
        for epoch in record.epochs:
            now += epoch.seconds * 1000
            patches = {} if epoch.patches is None else {"boxes": epoch.patches}
            for name, value in {"score": scores[epoch.epoch], **patches, **epoch}.items():
                metrics.append(self._entities.Metric(name, value, int(now), epoch.epoch))
        for first in range(0, max(len(metrics), 1), MAX_METRICS_PER_CALL):
            self._client.log_batch(key, metrics[first : first + MAX_METRICS_PER_CALL])
        self._client.log_batch(key, params=params[:MAX_PARAMS_PER_CALL])
        # The status is set last: without it, an interrupted export logs this trial again.
        self._client.set_terminated(key, STATUSES[trial.state], _milliseconds(record.end))


def _winner_tag(won: Winner) -> str:
    confirmed = f", confirmed {won.confirmed.value:.4g} from {won.seeds} seeds" if won.confirmed else ""
    return f"{won}{confirmed}"


def _milliseconds(time: Any) -> int | None:
    return time and int(time.timestamp() * 1000)


@contextlib.contextmanager
def _one_line_errors(uri: str) -> Iterator[None]:
    """Raise MLflow's errors, whose messages have many lines, as a StorageError of one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise StorageError(f"mlflow {uri!r}: {first_line(_root_cause(error))[:200]}") from None


def _root_cause(error: BaseException) -> BaseException:
    """Return the first error of a chain: only that one names the actual problem."""
    while before := error.__cause__ or error.__context__:
        error = before
    return error
