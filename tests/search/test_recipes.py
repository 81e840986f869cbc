"""Ray and KubeRay accept the recipes, and their commands work."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
import ray
import yaml
from optuna.trial import TrialState
from ray.autoscaler._private.util import prepare_config, validate_config

from huetune.results.records.run import Run
from tests.allowed_skips import skip_without
from tests.faults.chaos import MINIMAL_OPTIONS

RECIPES = Path(__file__).parents[2] / "search" / "recipes"


def test_cluster_launcher_accepts_the_recipe():
    config = yaml.safe_load((RECIPES / "ray-cluster.yaml").read_text(encoding="utf-8"))
    validate_config(prepare_config(config))
    with pytest.raises(Exception, match="no_such_key"):
        validate_config(prepare_config({**config, "no_such_key": 1}))
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        (start,) = (command for command in config[commands] if "ray start" in command)
        assert "RAY_AUTH_MODE=token" in start


def test_rayjob_has_the_token_on_every_pod():
    job = yaml.safe_load((RECIPES / "rayjob.yaml").read_text(encoding="utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    lock = (Path(__file__).parents[2] / "requirements.lock").read_text(encoding="utf-8")
    assert cluster["rayVersion"] == ray.__version__ and f"ray=={ray.__version__}" in lock
    pods = [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster["workerGroupSpecs"])]
    for pod in (*pods, job["spec"]["submitterPodTemplate"]):
        (container,) = pod["spec"]["containers"]
        environment = {entry["name"]: entry["value"] for entry in container["env"]}
        assert environment["RAY_AUTH_MODE"] == "token"
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert environment["RAY_AUTH_TOKEN_PATH"].startswith(mounts["token"])
        assert set(mounts) <= {volume["name"] for volume in pod["spec"]["volumes"]}
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


@pytest.mark.parametrize("name", ["README.md", "rayjob.yaml"])
def test_recipe_options_exist(name, in_process):
    text = (RECIPES / name).read_text(encoding="utf-8")
    help_texts = in_process("search", "--help").stdout + in_process("resume", "--help").stdout
    known = set(re.findall(r"--[a-z-]+", help_texts))
    searches = re.findall(r"huetune (?:search|resume)([^\n`]*)", text)
    assert searches
    for words in searches:
        for option in re.findall(r"--[a-z-]+", words):
            assert option in known, json.dumps(words)


def test_lock_has_the_packages_of_ray_default():
    """Jobs and the dashboard need `ray[default]`, most of which `ray[tune]` does not install."""
    lock = (Path(__file__).parents[2] / "requirements.lock").read_text(encoding="utf-8")
    needed = {one.partition(";")[0] for one in requires("ray") or () if 'extra == "default"' in one}
    names = {re.split(r"[^\w.-]", one)[0].replace("_", "-") for one in needed}
    assert "aiohttp-cors" in names
    assert names <= set(re.findall(r"^([\w.-]+)", lock, re.MULTILINE))


SMALL = {
    "--photos /shared/roses": " ".join(MINIMAL_OPTIONS),
    "--trials 200": "--trials 1 --epochs 1 --scheduler none",
    " --no-wait": "",  # the test ends when the search does
}
"""Replacements that make the search of the recipe small. Paths below /shared become paths below the test's folder."""


def test_job_recipe_runs_a_search_as_written(tmp_path):
    """`ray job submit` and the dashboard need packages that a search does not."""
    skip_without("ray[default]")
    # A network of its own, where Ray's ports are free, and processes that all end with it.
    alone = ["unshare", "--net", "--pid", "--mount-proc", "--fork", "--kill-child", "sh", "-ec"]
    skip_without("networks")
    text = (RECIPES / "README.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)
    (three,) = (section for section in sections if section.startswith("Three machines"))
    (job,) = (section for section in sections if section.startswith("A job that"))
    typed = re.findall(r"^    ssh one +'(.*?)'", three, re.MULTILINE)[:1] + re.findall("ssh one '(.*?)'", job)
    commands = [command for command in typed if "pip install" not in command]
    known = ["get-auth-token", "start", "job submit", "job list"]
    assert [next(word for word in known if f"ray {word}" in command) for command in commands] == known
    for replaced, small in SMALL.items():
        commands = [command.replace(replaced, small) for command in commands]
    script = "\n".join(["ip link set lo up", *commands]).replace("/shared", str(tmp_path))
    (tmp_path / "hue").symlink_to(sys.prefix)
    done = subprocess.run(
        [*alone, script],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (trial,) = Run(tmp_path / "runs" / "roses").study().trials
    assert trial.state == TrialState.COMPLETE and "SUCCEEDED" in done.stdout
    assert (tmp_path / ".ray" / "auth_token").stat().st_mode & 0o77 == 0
