"""Searches on real clusters, whose nodes have their own addresses, a Python without huetune, and a token."""

import os
import subprocess

import psutil
import pytest
from optuna.trial import TrialState

from huetune.data_tools.storage.bucket_cache import local_path
from tests.faults.chaos import HUETUNE, MINIMAL_OPTIONS
from tests.faults.nodes import cluster
from tests.faults.program import NAME, assert_verified, epochs, search, states, trials
from tests.store import ENVIRONMENT, S3Server


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    """A cluster of two nodes. A test that kills one adds another."""
    with cluster(tmp_path_factory.mktemp("nodes"), 2) as found:
        yield found


@pytest.fixture(scope="module")
def bucket(nodes, tmp_path_factory):
    """The URI of a storage in an object store, the only thing that the nodes share."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        store = S3Server(tmp_path_factory.mktemp("store") / "log", nodes.ip(253))
        store.make_bucket("hue")
        yield store.uri("hue/runs")
        store.stop()


def test_cluster_search_survives_lost_node_and_uses_new_one(start, nodes, bucket, lay_traps, tmp_path):
    """huetune's code is sent to the nodes; a killed node's trial resumes on another node, also on a new one."""
    storage = local_path(bucket)
    executed = lay_traps(
        tmp_path, model="packages", search="files", data_tools="files", results="files", random="files", keras="files"
    )
    program = start(
        *(storage, *search(3, 20), "--address", nodes.address),
        before=nodes.inside(0, "env", "--chdir", str(tmp_path)),
        **nodes.environment,
    )
    program.wait_for(lambda trials: len(trials) >= 2 and all(trial.intermediate_values for trial in trials[:2]))
    nodes.kill(nodes.newest)
    nodes.add()
    code, output = program.end(300)
    assert code == 0, output
    after = trials(storage)
    assert states(storage) == {TrialState.COMPLETE} and len(after) == 3
    assert sum("deaths" in trial.user_attrs for trial in after) == 1 and " died " in output and " resumed " in output
    assert len({trial.user_attrs["pid"] for trial in after}) > 1
    assert not executed()
    assert not list(storage.glob("*/trials/*/*/*")), "checkpoints must not pass through the driver's machine"
    assert_verified(storage)


def _search(nodes, storage, **environment):
    words = [HUETUNE, "search", *MINIMAL_OPTIONS, "--name", NAME, "--storage", storage, "--address", nodes.address]
    return subprocess.run(
        nodes.inside(0, *words),
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, **environment},
        timeout=120,
    )


def test_cluster_worker_with_other_packages_is_refused(nodes, tmp_path):
    with nodes.pretending("numpy", "9.9"):
        done = _search(nodes, tmp_path, **nodes.environment)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "has numpy 9.9, not " in done.stderr and "huetune resume" in done.stderr


def test_cluster_search_without_token_fails(nodes, tmp_path):
    done = _search(nodes, tmp_path, RAY_AUTH_MODE="disabled")
    assert done.returncode == 2 and "the cluster requires a token" in done.stderr
    assert not (tmp_path / NAME).exists()


def test_cluster_without_token_is_refused(tmp_path):
    with cluster(tmp_path, 1, token=False) as nodes:
        done = _search(nodes, tmp_path)
        assert (
            done.returncode == 2 and "the cluster requires no token" in done.stderr and "get-auth-token" in done.stderr
        )
        assert not (tmp_path / NAME).exists()


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(("seconds", "wanted"), [(10, 40), (120, 200)])
def test_cluster_node_cut_off_reports_nothing_twice(start, nodes, tmp_path, seconds, wanted):
    """The node is offline for a while. Its trial resumes there or elsewhere, and no epoch is recorded twice."""
    program = start(tmp_path, *search(2, wanted), "--address", "auto", before=nodes.inside(0), **nodes.environment)
    program.wait_for(epochs(4))
    nodes.cut(nodes.newest)
    with pytest.raises(psutil.TimeoutExpired):
        program.process.wait(seconds)
    nodes.cut(nodes.newest, off=False)
    code, output = program.end(900)
    assert code == 0, output
    assert states(tmp_path) == {TrialState.COMPLETE}
    assert [list(trial.intermediate_values) for trial in trials(tmp_path)] == [list(range(1, wanted + 1))] * 2
    assert_verified(tmp_path)
