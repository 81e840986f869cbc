"""Fuzzing of photo decoding with atheris, guided by the coverage of Pillow's Python code.

atheris is not in requirements.lock: it is built for few versions of Python, and only this module needs it.

    pip install --target /tmp/atheris atheris
    PYTHONPATH=/tmp/atheris nice -n 19 python -m tests.fuzz.guided corpus -max_total_time=1800 -timeout=10

`corpus` is the folder for inputs that reached new code; the options after it are those of libFuzzer. A finding ends the
process and is saved as `crash-*`, `timeout-*` or `oom-*`.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["PIL"]):
    from PIL import Image

    from huetune.data_tools.photos import dataset

    Image.init()  # imports all decoders, which Pillow otherwise imports when a file needs them

from tests.fuzz.photos import read_outcome, seed_files

PHOTO_PATH = Path(tempfile.mkdtemp(), "photo.jpg")


def read_input(data: bytes) -> None:
    """Read one input.

    Raises:
        RuntimeError: the input became neither a photo nor a PhotoError of one line.
    """
    PHOTO_PATH.write_bytes(data)
    outcome = read_outcome(PHOTO_PATH, dataset.read_square)
    if outcome.startswith("!"):
        raise RuntimeError(outcome)


if __name__ == "__main__":
    corpus = Path(sys.argv[1])
    corpus.mkdir(exist_ok=True)
    for number, data in enumerate(seed_files()):
        (corpus / f"seed-{number:02}").write_bytes(data)
    atheris.Setup(sys.argv, read_input)
    atheris.Fuzz()
