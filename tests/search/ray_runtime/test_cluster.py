"""Slots of a cluster, and errors of Ray."""

import pytest

from huetune.data_tools.common.errors import UserError
from huetune.search.ray_runtime.cluster import count_slots, raised_by_ray


@pytest.mark.parametrize(
    ("cpus", "gpus", "resources", "expected"),
    [
        (1, 0, {"CPU": 2.0}, 2),
        (0.5, 0, {"CPU": 2.0}, 4),
        (2, 0, {"CPU": 7.0, "GPU": 1.0}, 3),
        (1, 0.125, {"CPU": 16.0, "GPU": 1.0}, 8),
        (1, 0.1, {"CPU": 16.0, "GPU": 0.3}, 3),
    ],
)
def test_slots_are_what_the_resources_allow(cpus, gpus, resources, expected):
    assert count_slots(cpus, gpus, resources) == expected


def test_slots_without_resources_for_one_trial_fail():
    with pytest.raises(UserError) as refused:
        count_slots(1, 1, {"CPU": 4.0})
    assert str(refused.value) == (
        "Ray has too few resources for a trial: CPUs 4 of 1, GPUs 0 of 1; change --cpus-per-trial or --gpus-per-trial"
    )


def test_raised_by_ray_follows_the_traceback():
    from ray import tune

    def error_of(action):
        try:
            action()
        except Exception as error:
            return error

    assert raised_by_ray(error_of(lambda: tune.Tuner("no such trainable").fit()))
    assert not raised_by_ray(error_of(lambda: count_slots(1, 1, {})))
