"""Damaged photos that follow the coverage of Pillow's Python code, with atheris.

atheris is in no lock: it is built for few Pythons, and nothing but this needs it.

    pip install --target /tmp/atheris atheris
    PYTHONPATH=/tmp/atheris nice -n 19 python -m tests.fuzz.guided corpus -max_total_time=1800 -timeout=10

What follows `corpus`, the folder that keeps what reached new code, is libFuzzer's. A finding ends it and stays as a
file `crash-*`, `timeout-*` or `oom-*`.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["PIL"]):
    from PIL import Image

    from huetune.data_tools.photos import dataset

    Image.init()  # all decoders, which Pillow would import when a file asks for them

from tests.fuzz.photos import judged, seeds

PATH = Path(tempfile.mkdtemp(), "photo.jpg")


def read(data: bytes) -> None:
    """Have a file end as it may, or complain."""
    PATH.write_bytes(data)
    end = judged(PATH, dataset.read_square)
    if end.startswith("!"):
        raise RuntimeError(end)


if __name__ == "__main__":
    corpus = Path(sys.argv[1])
    corpus.mkdir(exist_ok=True)
    for number, data in enumerate(seeds()):
        (corpus / f"seed-{number:02}").write_bytes(data)
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()
