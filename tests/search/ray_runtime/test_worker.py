"""What a trial asks of TensorFlow before anything else; there is no GPU here, so TensorFlow is only listened to."""

import json
import subprocess
import sys

import pytest

LISTEN = """
import json, sys
import tensorflow as tf

asked = {}
card = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
tf.config.list_physical_devices = lambda kind: [card] if kind == "GPU" else []
tf.config.experimental.set_memory_growth = lambda device, on: asked.update(growth=[device.name, on])
tf.config.set_visible_devices = lambda devices, kind: asked.update(visible=[devices, kind])

from huetune.search.ray_runtime.worker import take_devices

take_devices(3, json.loads(sys.argv[1]))
threads = tf.config.threading
asked["rounding"] = tf.config.experimental.tensor_float_32_execution_enabled()
asked["threads"] = threads.get_intra_op_parallelism_threads(), threads.get_inter_op_parallelism_threads()
print(json.dumps(asked))
"""


@pytest.mark.parametrize(
    ("gpus", "asked"),
    [
        ([], {"visible": [[], "GPU"], "rounding": True}),
        (["0"], {"growth": ["/physical_device:GPU:0", True], "rounding": False}),
    ],
    ids=["on the CPU", "on a part of a card"],
)
def test_take_devices_restricts_tensorflow_to_assigned_devices(gpus, asked):
    told = subprocess.run(
        [sys.executable, "-c", LISTEN, json.dumps(gpus)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=True,
    )
    assert json.loads(told.stdout.splitlines()[-1]) == {**asked, "threads": [3, 1]}
