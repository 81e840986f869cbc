"""A worker restricts TensorFlow to its devices. Without a GPU, the test records the calls to TensorFlow."""

import json
import subprocess
import sys

import pytest

RECORD_CALLS = """
import json, sys
import tensorflow as tf

calls = {}
card = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
tf.config.list_physical_devices = lambda kind: [card] if kind == "GPU" else []
tf.config.experimental.set_memory_growth = lambda device, on: calls.update(growth=[device.name, on])
tf.config.set_visible_devices = lambda devices, kind: calls.update(visible=[devices, kind])

from huetune.search.ray_runtime.worker import take_devices

take_devices(3, json.loads(sys.argv[1]))
threads = tf.config.threading
calls["rounding"] = tf.config.experimental.tensor_float_32_execution_enabled()
calls["threads"] = threads.get_intra_op_parallelism_threads(), threads.get_inter_op_parallelism_threads()
print(json.dumps(calls))
"""


@pytest.mark.parametrize(
    ("gpus", "calls"),
    [
        ([], {"visible": [[], "GPU"], "rounding": True}),
        (["0"], {"growth": ["/physical_device:GPU:0", True], "rounding": False}),
    ],
    ids=["on the CPU", "on a part of a GPU"],
)
def test_take_devices_restricts_tensorflow_to_assigned_devices(gpus, calls):
    done = subprocess.run(
        [sys.executable, "-c", RECORD_CALLS, json.dumps(gpus)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == {**calls, "threads": [3, 1]}
