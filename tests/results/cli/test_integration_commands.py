"""Exports to TensorBoard, MLflow, Optuna's dashboard and Parquet, read back with these tools; times of trials."""

import io
import json
import resource
import shutil
import sys
import threading
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta

import optuna
import pytest
from optuna.trial import TrialState
from pyarrow import parquet

from huetune.data_tools.common.errors import StorageError, UserError
from huetune.data_tools.storage.bucket_cache import local_path, push
from huetune.data_tools.storage.output_files import RECORD_FILE
from huetune.results.analysis.winner import find_winner
from huetune.results.integrations import tensorboard
from huetune.results.integrations.mlflow import MLflowWriter, check_uri
from huetune.results.integrations.optuna_dashboard import serve_dashboard
from huetune.results.records.run import MANIFEST, STUDY, backup_path, find_run
from huetune.results.records.trial_record import TrialRecord
from huetune.results.tables import formats, trial_table


@pytest.fixture(scope="module")
def run(searched):
    return find_run("tiny", searched[0])


@pytest.fixture(scope="module")
def study(run):
    return run.study()


def read_back(folder):
    """Read a folder of event files with TensorBoard: its scalars as {tag: {step: value}}, and its HPARAMS."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    scalars = {
        tag: {event.step: event.value for event in accumulator.Scalars(tag)} for tag in accumulator.Tags()["scalars"]
    }
    content = accumulator.summary_metadata
    read = {
        "experiment": metadata.parse_experiment_plugin_data,
        "session_start_info": metadata.parse_session_start_info_plugin_data,
        "session_end_info": metadata.parse_session_end_info_plugin_data,
    }
    hparams = {
        name: parse(content[f"_hparams_/{name}"].plugin_data.content)
        for name, parse in read.items()
        if f"_hparams_/{name}" in content
    }
    return scalars, hparams


def test_tensorboard_reads_epochs_and_states_of_all_trials(study, tmp_path):
    assert tensorboard.write(study, tmp_path) == 6
    table = {row["trial"]: row for row in trial_table.rows(study)}
    statuses = {"complete": 1, "failed": 2, "pruned": 0}
    for trial in study.trials:
        scalars, hparams = read_back(tmp_path / f"{trial.number:04}")
        row = table[trial.number]
        for epoch in TrialRecord.of(trial).epochs:
            for name in ("train_loss", "chroma_mse", "skill"):
                assert scalars[name][epoch.epoch] == pytest.approx(epoch[name], rel=1e-6)
        if row["score"] is not None:
            assert scalars["score"][row["epochs"]] == pytest.approx(row["score"], rel=1e-6)
        begun = hparams["session_start_info"]
        assert {name: begun.hparams[name].number_value for name in trial.params} == trial.params
        assert begun.start_time_secs == pytest.approx(trial.datetime_start.timestamp())
        assert hparams["session_end_info"].status == statuses[row["state"]]
    about = read_back(tmp_path)[1]["experiment"]
    assert [setting.name for setting in about.hparam_infos] == ["learning_rate", "mse_weight", "preset"]
    assert [metric.name.tag for metric in about.metric_infos][:1] == ["score"]


def test_tensorboard_appends_new_epochs_of_a_trial(study, tmp_path):
    whole = next(trial for trial in study.trials if trial.state == TrialState.COMPLETE)
    attributes = {name: value for name, value in whole.user_attrs.items() if name != "epoch-3"}
    begun = optuna.trial.create_trial(
        state=TrialState.RUNNING, params=whole.params, distributions=whole.distributions, user_attrs=attributes
    )
    begun.datetime_start = whole.datetime_start

    def written(trial, folder):
        made = optuna.create_study(study_name="tiny")
        for name, value in study.user_attrs.items():
            made.set_user_attr(name, value)
        made.add_trial(trial)
        tensorboard.write(made, tmp_path / folder)
        (path,) = (tmp_path / folder / "0000").iterdir()
        return path

    with written(begun, "followed").open("rb") as followed:
        seen = followed.read()
        assert seen == written(begun, "begun").read_bytes()
        for _ in range(2):
            written(whole, "followed")
            seen += followed.read()
            assert seen == written(whole, "whole").read_bytes()
    assert set(read_back(tmp_path / "followed" / "0000")[0]["chroma_mse"]) == {1, 2, 3}


def test_tensorboard_command_is_reproducible(huetune, searched, study, tmp_path):
    done = huetune("tensorboard", "tiny", "--storage", searched[0], "--out", tmp_path / "there")
    assert done.returncode == 0 and "6 trials in" in done.stdout
    tensorboard.write(study, tmp_path / "here")
    files = [path.relative_to(tmp_path / "here") for path in (tmp_path / "here").rglob("*tfevents*")]
    assert len(files) == 7
    assert all((tmp_path / "here" / file).read_bytes() == (tmp_path / "there" / file).read_bytes() for file in files)


def test_tensorboard_write_on_a_full_disk_raises(study, tmp_path):
    """A writer with its own thread, such as tensorboardX's SummaryWriter, would wait forever."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            tensorboard.write(study, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_export_of_run_in_bucket_on_another_machine(store, huetune, searched, study, tmp_path, monkeypatch):
    here = local_path(place := store.uri("hue/handed/tiny"))
    shutil.copytree(searched[0] / "tiny", here)
    for file in (here / MANIFEST, backup_path(here / STUDY)):
        push(file)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
    done = huetune("tensorboard", place, "--out", tmp_path / "events")
    assert done.returncode == 0, done.stderr
    tensorboard.write(study, tmp_path / "expected")
    assert contents(tmp_path / "events") == contents(tmp_path / "expected") != {}
    done = huetune("mlflow", place, "--uri", f"sqlite:///{tmp_path}/mlflow.db")
    assert done.returncode == 0 and f"logged {len(study.trials)} new trials of 'tiny' to MLflow" in done.stdout, (
        done.stderr
    )


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*tfevents*")}


@pytest.fixture
def address(study):
    with serve_dashboard(study, 0) as (server, page):
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        assert server.server_address[0] == "127.0.0.1"
        try:
            yield page
        finally:
            server.shutdown()
            thread.join()


def ask(url, method="GET", body=None, **headers):
    request = urllib.request.Request(url, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_dashboard_is_read_only(address, study):
    site, _, number = address.rpartition("/dashboard/studies/")
    status, page = ask(address)
    assert status == 200 and b"<html" in page.lower()
    status, content = ask(f"{site}/api/studies/{number}")
    assert status == 200 and len(json.loads(content)["trials"]) == 6
    for method, path in (("DELETE", ""), ("PUT", "/note"), ("POST", "/rename")):
        status, reason = ask(f"{site}/api/studies/{number}{path}", method, b"{}")
        assert status == 405 and b"the study cannot be changed" in reason
    assert len(study.trials) == 6 and study.study_name == "tiny"


def test_dashboard_refuses_foreign_host_header(address):
    assert ask(address, Host="evil.example:80")[0] == 403
    assert ask(address, Host="localhost:9999")[0] == 200


def test_dashboard_without_port_or_package_is_refused(address, study, monkeypatch):
    port = int(address.split(":")[2].split("/")[0])
    with (
        pytest.raises(UserError, match=f"--port {port}: cannot be used .* choose another, or 0"),
        serve_dashboard(study, port),
    ):
        pass
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with pytest.raises(UserError, match=r"get it with: pip install 'huetune\[dashboard\]'"), serve_dashboard(study, 0):
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> str:
    """URI of a database, which MLflow accepts in place of a server."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


def test_mlflow_logs_each_trial_once(server, run, study, in_zone):
    from mlflow import MlflowClient

    in_zone("WEST+11")
    assert MLflowWriter(server, run).write(run.study()) == 6
    # A later export, as by another process, finds every trial logged.
    assert MLflowWriter(server, run).write(study) == 0
    client = MlflowClient(tracking_uri=server)
    experiment = client.get_experiment_by_name("huetune")
    assert experiment
    logged = client.search_runs([experiment.experiment_id])
    children = {int(one.data.tags["huetune.trial"]): one for one in logged if "mlflow.parentRunId" in one.data.tags}
    (parent,) = (one for one in logged if "mlflow.parentRunId" not in one.data.tags)
    assert parent.info.run_name == "tiny" and parent.data.params["epochs"] == "3"
    won = find_winner(run)
    assert won and parent.data.metrics["score"] == won.score and parent.data.tags["huetune.winner"] == str(won)
    assert len(client.get_metric_history(parent.info.run_id, "score")) == 1
    assert sorted(children) == list(range(6))
    ends = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
    for row in trial_table.rows(study):
        child = children[row["trial"]]
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert child.info.status == ends[row["state"]] and child.data.tags["state"] == row["state"]
        assert float(child.data.params["learning_rate"]) == row["learning_rate"]
        history = client.get_metric_history(child.info.run_id, "chroma_mse")
        expected = {epoch.epoch: epoch["chroma_mse"] for epoch in TrialRecord.of(study.trials[row["trial"]]).epochs}
        assert {metric.step: metric.value for metric in history} == expected
        assert (child.data.tags.get("error"), child.data.tags.get("note")) == (row["error"], row["note"])
        assert 0 <= child.info.end_time - child.info.start_time < 600_000, "whatever zone it is read in"


def test_trial_times_do_not_depend_on_time_zone(run, in_zone):
    """A run may be searched in one time zone and read in another."""
    seen = []
    for rule in ("WEST+11", "UTC0", "EAST-13"):
        in_zone(rule)
        seen.append([(TrialRecord.of(trial).start, TrialRecord.of(trial).end) for trial in run.study().trials])
        assert all(start and end and start < end for start, end in seen[-1])
    assert seen[0] == seen[1] == seen[2]


@pytest.fixture
def stored(tmp_path):
    """Return a function that stores a trial with given times in a study's file, and returns what reads it back."""

    def store(start, end, begun):
        url = f"sqlite:///{tmp_path}/study.db"
        study = optuna.create_study(storage=url)
        trial = optuna.trial.create_trial(value=0.5, user_attrs={"begun": begun})
        trial.datetime_start, trial.datetime_complete = start, end
        study.add_trial(trial)
        return lambda: optuna.load_study(study_name=study.study_name, storage=url).trials[0]

    return store


def test_start_of_an_old_trial_is_never_after_its_end(stored, in_zone):
    """Older versions recorded local times without a zone; in another zone Optuna's own time is used."""
    start = datetime(2026, 7, 1, 12, tzinfo=UTC)
    in_zone("EAST-13")
    trial = stored(start + timedelta(hours=2), start + timedelta(hours=3), "2026-07-02T01:00:00.000000")
    assert TrialRecord.of(trial()).start == start
    for rule in ("WEST+11", "UTC0"):
        in_zone(rule)
        begun, ended = TrialRecord.of(trial()).start, TrialRecord.of(trial()).end
        assert begun and ended and begun < ended == start + timedelta(hours=3)


def test_trial_end_in_repeated_hour_is_after_start(stored, in_zone):
    """When summer time ends, an hour is repeated, and Optuna's local times do not tell which one is meant."""
    in_zone("CET-1CEST,M3.5.0,M10.5.0/3")
    begun = datetime(2026, 10, 25, 0, 50, tzinfo=UTC)
    for minutes in (5, 20, 80):
        trial = stored(begun, begun + timedelta(minutes=minutes), begun.isoformat())()
        assert TrialRecord.of(trial).end == begun + timedelta(minutes=minutes)


def test_list_shows_local_start_time(in_process, run, in_zone):
    in_zone("EAST-13")
    begun = datetime.fromisoformat(run.manifest["started"]) + timedelta(hours=13)
    said = in_process("list", "--storage", run.folder.parent).stdout
    assert f"tiny  {begun:%Y-%m-%d %H:%M:%S}  " in said


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("http://me:secret@host", "MLFLOW_TRACKING_PASSWORD"),
        ("http://token@host", "MLFLOW_TRACKING_PASSWORD"),
        ("nowhere", "'nowhere' is not a URI such as"),
        ("sqlite:///\udcfc.db", "must be UTF-8; choose another name"),
    ],
)
def test_mlflow_uri_with_credentials_or_bad_form_is_refused(uri, message):
    with pytest.raises(UserError, match=message) as refused:
        check_uri(uri)
    assert "secret" not in str(refused.value) and "token" not in str(refused.value)


def test_unreachable_mlflow_server_is_one_line(run, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(StorageError) as refused:
        MLflowWriter("http://127.0.0.1:9", run)
    assert str(refused.value).startswith("mlflow 'http://127.0.0.1:9'") and "refused" in str(refused.value)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 250


def test_parquet_keeps_types_of_rows(study):
    table = trial_table.rows(study)
    assert parquet.read_table(io.BytesIO(formats.to_parquet(table))).to_pylist() == table
    mixed: list[trial_table.Row] = [
        {"decay": 0.5, "units": 96},
        {"decay": "none", "units": 1},
        {"decay": None, "units": None},
    ]
    read = parquet.read_table(io.BytesIO(formats.to_parquet(mixed))).to_pydict()
    assert read == {"decay": ["0.5", "none", None], "units": [96, 1, None]}


def test_trials_parquet_goes_to_file_or_pipe(in_process, executable, searched, run, tmp_path):
    import subprocess

    words = ["trials", "tiny", "--storage", str(searched[0]), "--format", "parquet"]
    file = tmp_path / "trials.parquet"
    assert in_process(*words, "--out", file).returncode == 0
    assert parquet.read_table(file).to_pylist() == trial_table.run_rows(run)
    piped = subprocess.run([executable, *words], capture_output=True, check=True).stdout
    assert piped == file.read_bytes()
    refused = in_process("trials", "tiny", "--out", tmp_path / "table.txt")
    assert refused.returncode == 2 and "needs a --format other than table" in refused.stderr
    assert sorted(tmp_path.iterdir()) == [tmp_path / RECORD_FILE, file]
