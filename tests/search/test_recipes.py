"""The recipes are what Ray and KubeRay take."""

import json
import re
from pathlib import Path

import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

RECIPES = Path(__file__).parents[2] / "search" / "recipes"


def test_rays_cluster_launcher_takes_the_cluster_file():
    config = yaml.safe_load((RECIPES / "ray-cluster.yaml").read_text(encoding="utf-8"))
    validate_config(prepare_config(config))
    with pytest.raises(Exception, match="no_such_key"):
        validate_config(prepare_config({**config, "no_such_key": 1}))
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert all("RAY_AUTH_MODE=token" in command for command in config[commands] if "ray start" in command)


def test_the_job_has_what_kuberay_wants_and_the_token_on_every_pod():
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
def test_every_word_of_the_recipes_is_one_of_the_command(name, in_process):
    text = (RECIPES / name).read_text(encoding="utf-8")
    known = in_process("search", "--help").stdout + in_process("resume", "--help").stdout
    searches = re.findall(r"huetune (?:search|resume)([^\n`]*)", text)
    assert searches
    for words in searches:
        for option in re.findall(r"--[a-z-]+", words):
            assert option in known, json.dumps(words)
