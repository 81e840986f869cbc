"""Tests that damaged and malicious models are refused in one line, and that no code in them is run."""

import io
import itertools
import json
import os
import pickle
import re
import shutil
import stat
import subprocess
import sys
import tokenize
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from huetune.data_tools.common.errors import CheckpointError, StorageError
from huetune.data_tools.datasets.synthetic_garden import garden
from huetune.data_tools.storage.atomic import atomic_folder
from huetune.data_tools.storage.checksums import SUMS_FILE, sha256_of
from huetune.model import training_state
from huetune.model.checkpoint import load_colorizer, save_checkpoint
from huetune.model.checkpoint_format import MODEL_CARD_FILE, SELF_TEST_FILE, SETTINGS_FILE, WEIGHTS_FILE, Checkpoint
from huetune.model.config import Config
from huetune.model.network import build
from huetune.results.export.best_model import export, find_model
from huetune.results.records.run import find_run

CONFIG = Config(merge_units=1)
METRIC = {"objective": "chroma_mse", "direction": "minimize", "score": 0.02, "zero_line": 0.06}


class Canary:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return open, (self._path, "w")


def update_checksums(folder):
    """Renew all checksums, as an attacker would who knows the format."""
    record = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
    if "files" in record:
        for name in record["files"]:
            if (folder / name).is_file():
                record["files"][name] = {"bytes": (folder / name).stat().st_size, "sha256": sha256_of(folder / name)}
    (folder / SETTINGS_FILE).write_text(json.dumps(record), encoding="utf-8")
    update_sum_file(folder)


def update_sum_file(folder):
    """Renew the file of checksums only."""
    files = sorted(path for path in folder.iterdir() if stat.S_ISREG(path.lstat().st_mode) and path.name != SUMS_FILE)
    (folder / SUMS_FILE).write_text("".join(f"{sha256_of(path)}  {path.name}\n" for path in files), encoding="utf-8")


def settings(change):
    """Return a function that changes the record in the settings of a model."""

    def harm(folder):
        record = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
        change(record)
        (folder / SETTINGS_FILE).write_text(json.dumps(record), encoding="utf-8")
        update_checksums(folder)

    return harm


def text(change):
    """Return a function that changes the text of the settings."""

    def harm(folder):
        (folder / SETTINGS_FILE).write_text(change((folder / SETTINGS_FILE).read_text(encoding="utf-8")))
        update_sum_file(folder)

    return harm


def weights(change):
    """Return a function that changes the arrays of the weights."""

    def harm(folder):
        with np.load(folder / WEIGHTS_FILE) as file:
            arrays = dict(file)
        np.savez(folder / WEIGHTS_FILE, **change(arrays))
        update_checksums(folder)

    return harm


def members(change, compression=zipfile.ZIP_STORED):
    """Return a function that changes the names and bytes of the members of the weights' archive."""

    def harm(folder):
        with zipfile.ZipFile(folder / WEIGHTS_FILE) as file:
            found = [(name, file.read(name)) for name in file.namelist()]
        with zipfile.ZipFile(folder / WEIGHTS_FILE, "w", compression) as file:
            for name, content in change(found):
                file.writestr(name, content)
        update_checksums(folder)

    return harm


def replaced(name, make):
    """Return a function that replaces a file of a model by something else."""

    def harm(folder):
        (folder / name).unlink()
        make(folder / name)
        if name == WEIGHTS_FILE:
            update_checksums(folder)
        elif name != SUMS_FILE:
            update_sum_file(folder)

    return harm


def header(shape, descr="<f4"):
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": descr, "fortran_order": False, "shape": shape})
    return content.getvalue()


def header_of_text(text):
    """Return the start of an array file whose header is any text."""
    return b"\x93NUMPY\2\0" + len(text).to_bytes(4, "little") + text.encode()


def first_member(change):
    """Return a function that changes the first of a list of names and bytes."""
    return lambda found: [change(*found[0]), *found[1:]]


def keras_file(path):
    """Save a Keras model with a layer that creates a file when the model is loaded."""
    inputs = keras.Input((1,))
    canary = str(path.parent / "canary")
    # A default argument is saved with the code of the layer.
    layer = keras.layers.Lambda(lambda x, canary=canary: (open(canary, "w", encoding="utf-8"), x)[1])  # noqa: SIM115
    keras.Model(inputs, layer(inputs)).save(path.with_suffix(".keras"))


def with_keras_file(folder):
    keras_file(folder / "model.keras")
    (folder / "canary").unlink(missing_ok=True)
    update_sum_file(folder)


def keras_file_as_weights(folder):
    keras_file(folder / "model.keras")
    (folder / "canary").unlink(missing_ok=True)
    (folder / "model.keras").replace(folder / WEIGHTS_FILE)
    update_checksums(folder)


def overlapping(folder):
    """Add 50 members to the archive that share the bytes of the largest one."""
    with zipfile.ZipFile(folder / WEIGHTS_FILE, "a") as file:
        for number in range(50):
            twin = zipfile.ZipInfo(f"twin-{number}.npy")
            largest = max(file.infolist(), key=lambda member: member.file_size)
            twin.header_offset, twin.CRC = largest.header_offset, largest.CRC
            twin.file_size = twin.compress_size = largest.file_size
            file.filelist.append(twin)
            file.NameToInfo[twin.filename] = twin
        file._didModify = True  # type: ignore[attr-defined]
    update_checksums(folder)


def object_array(found):
    content = io.BytesIO()
    np.save(content, np.array([Canary("canary")], object), allow_pickle=True)
    return [(found[0][0], content.getvalue()), *found[1:]]


def other_model(folder):
    """Replace the weights by those of another model with the same shapes."""
    network = build(CONFIG)
    np.savez(folder / WEIGHTS_FILE, **{weight.path: weight.numpy() for weight in network.vae.trainable_weights})
    update_checksums(folder)


def self_test(folder, change):
    """Change the arrays of the self-test."""
    with np.load(folder / SELF_TEST_FILE) as file:
        arrays = dict(file)
    np.savez(folder / SELF_TEST_FILE, **change(arrays))
    update_checksums(folder)


def sparse(path):
    with path.open("wb") as file:
        file.truncate(2**40)


def set_first(value):
    def change(arrays):
        name = next(iter(arrays))
        spoilt = arrays[name].copy()
        spoilt.flat[0] = value
        return {**arrays, name: spoilt}

    return change


ALL_MODELS = {
    "a pickle in an array": members(object_array),
    "a pickle instead of the weights": replaced(
        WEIGHTS_FILE, lambda path: path.write_bytes(pickle.dumps(Canary("canary")))
    ),
    "a Keras file beside the weights": with_keras_file,
    "a Keras file as weights": keras_file_as_weights,
    "a checksum of a file outside the folder": lambda folder: (folder / SUMS_FILE).write_text(
        (folder / SUMS_FILE).read_text(encoding="utf-8")
        + f"{sha256_of(Path('/etc/passwd'))}  ../../../../../../../../etc/passwd\n"
    ),
    "an array whose name leads out of the folder": members(
        lambda found: [*found, *((name, found[0][1]) for name in ("../../canary", "/tmp/canary"))]
    ),
    "a layer of a billion units": settings(lambda record: record["config"].update(merge_units=10**9)),
    "the largest layers, without weights": settings(lambda record: record["config"].update(merge_units=4096)),
    "an array of 4 TB": members(first_member(lambda name, content: (name, header((10**6, 10**6)) + content[-1000:]))),
    "an array of a negative size": members(
        first_member(lambda name, content: (name, header((-1, 5)) + content[-1000:]))
    ),
    "an array of Python objects": members(
        first_member(lambda name, content: (name, header((9,), "|O") + content[-72:]))
    ),
    **{
        f"a header that is {text[:9]!r}": members(
            first_member(lambda name, content, text=text: (name, header_of_text(text) + content))
        )
        for text in (
            "{[]: 1}",
            "{1: 2, 'a': 3}",
            "{'descr': (), 'shape': (), 'fortran_order': 0}",
            "{'descr'",
            "-" * 9000 + "1",
        )
    },
    "an array of doubles": weights(lambda arrays: {name: array.astype(float) for name, array in arrays.items()}),
    "a decompression bomb": members(
        first_member(lambda name, content: (name, header((5 * 10**7,)) + bytes(2 * 10**8))), zipfile.ZIP_DEFLATED
    ),
    "arrays that overlap": overlapping,
    "one name for two arrays": members(lambda found: [found[0], *found]),
    "an additional array": weights(lambda arrays: {**arrays, "more": np.zeros(3, np.float32)}),
    "a weight that is not a number": weights(set_first(np.nan)),
    "an infinite weight": weights(set_first(np.inf)),
    "weights that are a symbolic link": replaced(WEIGHTS_FILE, lambda path: path.symlink_to("/etc/passwd")),
    "settings that are a symbolic link": replaced(SETTINGS_FILE, lambda path: path.symlink_to("/etc/passwd")),
    "weights that are an endless device": replaced(WEIGHTS_FILE, lambda path: path.symlink_to("/dev/zero")),
    "weights that are a FIFO": replaced(WEIGHTS_FILE, os.mkfifo),
    "settings that are a FIFO": replaced(SETTINGS_FILE, os.mkfifo),
    "weights that are a folder": replaced(WEIGHTS_FILE, Path.mkdir),
    "weights of a terabyte": lambda folder: sparse(folder / WEIGHTS_FILE),
    "checksums of 200 MB": replaced(SUMS_FILE, lambda path: path.write_bytes(b"a" * 2 * 10**8)),
    "no weights": lambda folder: (folder / WEIGHTS_FILE).unlink(),
    "no checksums": lambda folder: (folder / SUMS_FILE).unlink(),
    "an additional file": lambda folder: (
        (folder / "more").write_text("more", encoding="utf-8"),
        update_sum_file(folder),
    ),
    "a thousand files": lambda folder: [(folder / f"{number}.txt").touch() for number in range(1000)],
    "a newer schema": settings(lambda record: record.update(schema=99)),
    "a schema that is a string": settings(lambda record: record.update(schema="2")),
    "a schema that is true": settings(lambda record: record.update(schema=True)),
    "settings that are not JSON": text(lambda text: "\x00\xff{}"),
    "settings of 100 MB": text(lambda text: text + " " * 10**8),
    "settings nested 100,000 levels deep": text(lambda text: '{"schema":' * 10**5),
    "a duplicate key": text(lambda text: text.replace('"seed"', '"seed": 1, "seed"')),
    "NaN in the settings": text(lambda text: text.replace('"skill": 0.25', '"skill": NaN')),
    "a number beyond float64": text(lambda text: text.replace('"skill": 0.25', '"skill": 1e999')),
    "a number of 400 digits": text(lambda text: text.replace('"skill": 0.25', f'"skill": {"9" * 400}')),
    "settings that are a list": settings(lambda record: record.update(config=[])),
    "an unknown setting": settings(lambda record: record["config"].update(lambda_layer="import os")),
    "code for an activation": settings(lambda record: record["config"].update(activation="lambda x: x")),
    "a seed that is not an integer": settings(lambda record: record.update(seed=1.5)),
    "metrics that are a list": settings(lambda record: record.update(figures=[1])),
    "a mean chroma of strings": settings(lambda record: record.update(mean_chroma=["0", "0"])),
    "a run name with escape codes": settings(lambda record: record["origin"].update(run="\x1b[2Jrun")),
    "an unknown key": settings(lambda record: record.update(code="import os")),
}
"""Damage that checkpoints in a run and exports can have, by description."""

EXPORTS_ONLY = {
    "another model's weights": other_model,
    "no self-test": lambda folder: ((folder / SELF_TEST_FILE).unlink(), update_sum_file(folder)),
    "a self-test with other arrays": lambda folder: self_test(folder, lambda arrays: {"grey": np.zeros(3, np.uint8)}),
    "a self-test of NaN": lambda folder: self_test(
        folder, lambda arrays: {**arrays, "chroma": arrays["chroma"] * np.nan}
    ),
    "a self-test that is slightly off": lambda folder: self_test(
        folder, lambda arrays: {**arrays, "chroma": arrays["chroma"] + np.float32(2e-4)}
    ),
    "no model card": lambda folder: ((folder / MODEL_CARD_FILE).unlink(), update_sum_file(folder)),
    "another model card": lambda folder: (
        (folder / MODEL_CARD_FILE).write_text("Trust me.", encoding="utf-8"),
        update_sum_file(folder),
    ),
    "a training state": lambda folder: (
        (folder / training_state.STATE_FILE).write_bytes(b"PK"),
        update_sum_file(folder),
    ),
    "a training state of a terabyte": lambda folder: sparse(folder / training_state.STATE_FILE),
    "photos prepared in another way": settings(lambda record: record["preparation"].update(version=99)),
}

TRIED_IN_A_RUN = (
    "a pickle in an array",
    "a layer of a billion units",
    "an array of 4 TB",
    "weights that are a symbolic link",
    "settings that are a FIFO",
    "a weight that is not a number",
    "no weights",
    "an additional file",
)
"""Damage that is also tried on a run: a selection, because the same code reads it."""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An undamaged export."""
    folder = tmp_path_factory.mktemp("models")
    photos = {"training": 3, "validation": 1, "test": 0, "fingerprint": "0" * 64}
    about = Checkpoint(CONFIG, 7, {"epoch": 1, "skill": 0.25}, (0.1, -0.2), photos, {"preset": "model-2"})
    save_checkpoint(folder / "checkpoint", about, build(CONFIG).vae)
    export(folder / "checkpoint", folder / "export", METRIC)
    return folder / "export"


CALL = """
import contextlib, io, json, resource, sys

def watch(event, arguments):
    if event == "pickle.find_class" and watching:
        ran.append(f"{watching}: {arguments}")

watching, ran = [], []
sys.addaudithook(watch)
from huetune.search.cli.main import main
import tensorflow
answers = {}
for name, words in json.load(sys.stdin):
    said = io.StringIO()
    sys.argv = ["huetune", *words]
    watching.append(name)
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code
        except BaseException as error:
            code = repr(error)
    watching.clear()
    answers[name] = [code, said.getvalue()]
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"answers": answers, "ran": ran, "memory": memory}))
"""


def call(cases, cwd):
    """Run each command line in one process; return exit codes and output, what was unpickled, and the peak memory."""
    command = [sys.executable, "-c", CALL]
    done = subprocess.run(
        command, input=json.dumps(cases), capture_output=True, text=True, encoding="utf-8", cwd=cwd, timeout=500
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found["answers"]) == len(cases)
    return found


@pytest.mark.long
def test_hostile_models_are_refused_and_none_of_their_code_runs(exported, searched, tmp_path):
    (tmp_path / "photos").mkdir()
    Image.fromarray(garden(1, seed=9)[0]).save(tmp_path / "photos" / "scene.png")
    cases = []

    def evaluated(name, model):
        cases.append((name, ["evaluate", str(model), "--photos", str(tmp_path / "photos"), "--out", f"{model}-out"]))

    for number, (name, harm) in enumerate({**ALL_MODELS, **EXPORTS_ONLY}.items()):
        folder = tmp_path / f"export-{number}"
        shutil.copytree(exported, folder)
        harm(folder)
        evaluated(name, folder)
    run = searched[0] / "tiny"
    best = find_model("tiny", searched[0])[0].relative_to(run)
    for name in TRIED_IN_A_RUN:
        folder = tmp_path / name.replace(" ", "-")
        folder.mkdir()
        for part in ("manifest.json", "study.db"):
            shutil.copy(run / part, folder)
        shutil.copytree(run / best, folder / best)
        ALL_MODELS[name](folder / best)
        evaluated(f"{name}, in a run", folder)

    found = call(cases, tmp_path)
    wrong = {
        name: (code, said)
        for name, (code, said) in found["answers"].items()
        if code != 6 or len(said) > 700 or not said.removesuffix("\n").isprintable()
    }
    assert not wrong and len(cases) > 60
    # Names that lead out of a model's folder would create files in a parent folder.
    outside = [path for place in tmp_path.parents for path in place.glob("*canary*")]
    assert not list(tmp_path.rglob("*canary*")) and not outside and not found["ran"]
    assert found["memory"] < 2 * 10**9
    assert not list(tmp_path.glob("*-out"))


def test_no_command_unpickles_anything_of_a_run(exported, searched, tmp_path):
    """Not even `resume` before Ray starts, although the run contains pickles, as older versions of Tune wrote them."""
    shutil.copytree(searched[0] / "tiny", tmp_path / "tiny")
    for name in ("tuner.pkl", "searcher-state.pkl", "trials/0000/trainable.pkl"):
        (tmp_path / "tiny" / name).write_bytes(pickle.dumps(Canary("canary")))
    Image.fromarray(garden(1)[0]).save(tmp_path / "scene.png")
    verbs = {
        "list": [],
        "trials": ["tiny"],
        "effects": ["tiny"],
        "best": ["tiny", "--export", "best"],
        "evaluate": ["tiny", "--photos", str(tmp_path / "photos"), "--samples", "1", "--allow-leakage"],
        "colorize": [str(exported), "scene.png", "--out", "colored"],
        "verify": ["tiny"],
        "resume": ["tiny"],
    }
    (tmp_path / "photos").mkdir()
    shutil.copy(tmp_path / "scene.png", tmp_path / "photos")
    cases = [(verb, [verb, *words, "--storage", str(tmp_path)]) for verb, words in verbs.items()]
    found = call(cases, tmp_path)
    # The pickle in the folder of the trials belongs to no trial, which `verify` reports.
    assert {verb: code for verb, (code, _) in found["answers"].items()} == {**dict.fromkeys(verbs, 0), "verify": 1}
    assert found["answers"]["verify"][1].count("no epoch of its trial refers to it") == 1, found["answers"]["verify"]
    assert not found["ran"] and not list(tmp_path.rglob("canary"))


def test_load_of_a_training_state_with_pickles_is_refused(tmp_path):
    with atomic_folder(tmp_path / "after-001-x") as draft:
        np.savez(draft / training_state.STATE_FILE, counters=np.array([Canary(str(tmp_path / "canary"))], object))
        (draft / training_state.LOG).write_text(json.dumps({"config": {}, "seed": 0, "epochs": []}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="damaged"):
        training_state.load(tmp_path / "after-001-x")
    assert not (tmp_path / "canary").exists()


def test_no_module_contains_code_that_unpickles_or_evaluates():
    """A change that adds one of these calls must consider which data the call reads."""
    root = Path(__file__).parents[2]
    words = re.compile(r"\b(c?pickle|dill|joblib|shelve|marshal|load_model|exec|eval|allow_pickle=True)\b")
    parts = [list((root / part).rglob("*.py")) for part in ("data_tools", "model", "results", "search")]
    assert all(parts)
    for path in itertools.chain(*parts):
        code = "".join(
            token.string + " "
            for token in tokenize.generate_tokens(path.open(encoding="utf-8").readline)
            if token.type == 1
        )
        assert not words.search(code), path


def test_load_of_the_undamaged_export_works(exported):
    assert load_colorizer(exported)[0].origin == {"preset": "model-2"}


def test_canary_creates_a_file_when_unpickled(tmp_path):
    """The canaries work, so their absence in the other tests proves something."""
    (tmp_path / "one").write_bytes(pickle.dumps(Canary(str(tmp_path / "canary"))))
    pickle.loads((tmp_path / "one").read_bytes())
    assert (tmp_path / "canary").exists()


def test_run_path_outside_the_run_is_refused(searched):
    run = find_run("tiny", searched[0])
    for name in ("../../elsewhere", "/etc"):
        with pytest.raises(StorageError, match="outside of the run"):
            run.path(name)
