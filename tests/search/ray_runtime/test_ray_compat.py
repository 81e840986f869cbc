"""The installed Ray has the private names that huetune uses."""

from pathlib import Path

from ray.tune.schedulers import ASHAScheduler, MedianStoppingRule

from huetune.search.ray_runtime import ray_compat
from tests.private_names import Makers, missing, parts, used

MAKERS: Makers = {
    "ray.tune.schedulers.ASHAScheduler": ASHAScheduler,
    "ray.tune.schedulers.async_hyperband._Bracket": lambda: ASHAScheduler()._brackets[0],
    "ray.tune.schedulers.MedianStoppingRule": MedianStoppingRule,
}


def test_ray_has_all_private_names():
    assert missing(ray_compat.PRIVATE, MAKERS) == []


def test_private_names_of_ray_are_all_listed():
    assert used(Path(ray_compat.__file__)) <= parts(ray_compat.PRIVATE) and "GcsClient" in ray_compat.ASK_FOR_TOKEN


def test_missing_private_name_of_ray_names_what_breaks(monkeypatch):
    monkeypatch.delattr("ray._private.services.find_bootstrap_address")
    (line,) = missing(ray_compat.PRIVATE, MAKERS)
    assert "has no ray._private.services.find_bootstrap_address" in line and "--address auto" in line
