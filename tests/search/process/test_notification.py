"""Notifications keep the token of their URL secret; neither they nor MLflow can make a search fail."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest

from huetune.data_tools.common.errors import Interrupted, StorageError, UserError
from huetune.results.records.run import find_run
from huetune.search.process import mlflow_follower
from huetune.search.process.mlflow_follower import logged_to_mlflow
from huetune.search.process.notification import VARIABLE, notify_on_exit
from tests.faults.chaos import MINIMAL_OPTIONS

TOKEN = "s3cr3tt0k3n"


class Service(HTTPServer):
    """A server that records requests as (path, message)."""

    def __init__(self):
        self.received: list[tuple[str, dict]] = []
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"json://127.0.0.1:{self.server_port}/{TOKEN}"


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.received.append((self.path, message))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *words):
        pass


@pytest.fixture
def service():
    server = Service()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_search_with_notify_and_mlflow_hides_the_token(executable, service, lay_traps, tmp_path):
    """The token is not in files, output, Ray's logs or the list of processes.

    None of the processes imports code from the current folder.
    """
    others = {"data_tools": "files", "search": "files", "random": "files", "keras": "files"}
    executed = lay_traps(tmp_path, model="packages", results="namespaces", **others)
    words = f"search {' '.join(MINIMAL_OPTIONS)} --trials 1 --epochs 1 --scheduler none --name roses --storage runs"
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    command = [executable, *words.split(), "--mlflow", uri, "--notify", service.url]
    begun, seen, written = time.time(), set(), dict[Path, bytes]()
    with (tmp_path / "said").open("w", encoding="utf-8") as said:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=said, stderr=said, stdin=subprocess.DEVNULL)
        while process.poll() is None:
            if time.time() > begun + 5:  # the command needs a moment to restart without the URL
                for one in psutil.process_iter(["cmdline"]):
                    seen |= {word for word in one.info["cmdline"] or () if TOKEN in word}
                # Ray deletes these files when the search ends.
                with contextlib.suppress(FileNotFoundError):
                    for file in Path(tempfile.gettempdir()).glob(f"hue-*/ray/session_2*_{process.pid}/**/*"):
                        if file.is_file() and not file.is_symlink():
                            written[file] = file.read_bytes()
            time.sleep(0.5)
    assert process.returncode == 0, (tmp_path / "said").read_text(encoding="utf-8")
    ((path, message),) = service.received
    assert path.endswith(TOKEN) and message["title"] == "huetune: roses is done"
    assert message["message"].startswith("trial 0 has the best chroma_mse of 1 complete trial, 0.")
    assert "the mean-color baseline (" in message["message"]
    assert not seen and not executed()
    assert {"raylet.out", "gcs_server.out"} <= {file.name for file in written}
    written |= {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file() and not file.is_symlink()}
    assert not [file for file, content in written.items() if TOKEN.encode() in content]
    manifest = json.loads((tmp_path / "runs" / "roses" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["search"]["mlflow"] == uri and "--mlflow" in manifest["command"]

    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("huetune")
    assert experiment
    logged = client.search_runs([experiment.experiment_id], "tags.`huetune.trial` = '0'")
    (score,) = {trial.value for trial in find_run("roses", tmp_path / "runs").study().trials}
    assert [one.data.metrics["score"] for one in logged] == [score]


def test_notification_that_fails_prints_one_line(searched, capsys, monkeypatch):
    monkeypatch.setenv(VARIABLE, "x")
    with notify_on_exit(f"json://127.0.0.1:9/{TOKEN}", "tiny", searched[0]):
        assert VARIABLE not in os.environ
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "notification failed: JSON rejected the message"


BROKEN = [
    (StorageError("the disk is full"), "the disk is full"),
    (Interrupted(15, "continue with: huetune resume tiny"), "interrupted; continue with: huetune resume tiny"),
    (ZeroDivisionError(), "ZeroDivisionError"),
]


@pytest.mark.parametrize(("error", "why"), BROKEN)
def test_notification_of_a_failed_search_has_the_reason(error, why, service, searched):
    with pytest.raises(type(error)), notify_on_exit(service.url, "tiny", searched[0]):
        raise error
    ((_, message),) = service.received
    assert (message["title"], message["message"]) == ("huetune: tiny ended early", why)


def test_resume_of_a_finished_search_sends_no_notification(service, searched, in_process, tmp_path):
    shutil.copytree(searched[0], tmp_path / "runs")
    done = in_process("resume", "tiny", "--storage", tmp_path / "runs", "--notify", service.url)
    assert done.returncode == 0 and "is finished, nothing was changed" in done.stdout, done.stderr
    assert not service.received


def test_notification_without_readable_results_is_sent(service, tmp_path):
    with notify_on_exit(service.url, "gone", tmp_path):
        pass
    [(_, message)] = service.received
    assert message["title"] == "huetune: gone is done" and "its results cannot be read now" in message["message"]


def test_notification_to_unsupported_url_hides_the_url(capsys, tmp_path):
    with pytest.raises(UserError) as refused, notify_on_exit(f"nonsense://{TOKEN}", "roses", tmp_path):
        pytest.fail("it was begun")
    assert "Apprise does not support the URL" in str(refused.value)
    assert TOKEN not in str(refused.value) + "".join(capsys.readouterr())


def test_mlflow_that_refuses_or_hangs_prints_one_line(searched, capsys, monkeypatch):
    run = find_run("tiny", searched[0])
    # Whatever else its process says, at its very end too, is not taken for the reason.
    monkeypatch.setenv("PYTHONVERBOSE", "1")
    with logged_to_mlflow(run, "http://127.0.0.1:9", quiet=False):
        pass
    monkeypatch.delenv("PYTHONVERBOSE")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("not all trials are in MLflow (mlflow 'http://127.0.0.1:9'") and "Traceback" not in line
    assert "log the rest with: huetune mlflow" in line
    monkeypatch.setattr(mlflow_follower, "FINISH_TIMEOUT_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with logged_to_mlflow(run, f"http://127.0.0.1:{silent.getsockname()[1]}", quiet=False):
            pass
        (line,) = capsys.readouterr().err.splitlines()
    assert "it took longer than 1 s" in line
