"""What tests share: small sets of real photos and garden scenes, one real search, and ways to call the command."""

# Before all that reads the home or the environment when it is imported.
import tests.machine  # noqa: F401

# isort: split
import contextlib
import io
import itertools
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
from filelock import FileLock

from huetune.data_tools.datasets.synthetic_garden import garden
from huetune.data_tools.photos.dataset import PhotoSet, load, prepare
from huetune.data_tools.photos.discovery import find_photos
from huetune.data_tools.photos.split import Split, split
from huetune.data_tools.storage import object_store
from tests import allowed_skips
from tests.allowed_skips import SHARED, skip_without
from tests.store import ENVIRONMENT, Network, Store


def pytest_configure(config: pytest.Config) -> None:
    """Fail tests whose skip is not allowed."""
    config.pluginmanager.register(allowed_skips)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest, so that pytest's workers are busy to the end: they take each other's last ones."""
    folders = ["faults", "search", "results", "model"]
    items.sort(key=lambda item: next((place for place, name in enumerate(folders) if name in item.path.parts), 9))


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory) -> Iterator[Path]:
    """No test reads or writes the cache of whoever runs it."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUETUNE_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def scenes() -> PhotoSet:
    """16 scenes of the garden."""
    return prepare(garden(16), [f"garden-{index:04}.png" for index in range(16)])


@pytest.fixture(scope="session")
def parts(scenes: PhotoSet) -> Split:
    """The scenes, split: 11 to learn from, 3 to rank by, 2 for the end."""
    return split(scenes, seed=0)


@pytest.fixture(scope="session")
def roses() -> PhotoSet:
    """12 real photos."""
    skip_without("photos")
    return load(find_photos(SHARED / "roses-train")[:12])[0]


@pytest.fixture(scope="session")
def once(tmp_path_factory) -> Callable[[str, Callable[[Path], Any]], tuple[Path, Any]]:
    """Have a folder made once, by whichever of pytest's workers needs it first, and read by all: searches are long."""
    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        # That of the whole session, in which each worker has its own.
        place = place.parent

    def make(name: str, fill: Callable[[Path], Any]) -> tuple[Path, Any]:
        folder, made = place / name, place / f"{name}.made"
        with FileLock(place / f"{name}.lock"):
            if not made.exists():
                # Whoever began before has failed.
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                made.write_bytes(pickle.dumps(fill(folder)))
        return folder, pickle.loads(made.read_bytes())

    return make


_connected: list[list[str]] = []


def _note_connection(event: str, details: tuple[Any, ...]) -> None:
    if event == "sqlite3.connect" and _connected:
        _connected[-1].append(str(details[0]))


sys.addaudithook(_note_connection)


@pytest.fixture
def connections() -> Iterator[list[str]]:
    """The SQLite files that are connected to, in turn: a study is read once a connection."""
    _connected.append([])
    yield _connected[-1]
    _connected.pop()


Command = Callable[..., subprocess.CompletedProcess]


@pytest.fixture(scope="session")
def executable() -> str:
    """The installed command."""
    return str(Path(sys.executable).with_name("huetune"))


@pytest.fixture(scope="session")
def huetune(executable) -> Command:
    """Call the installed command, as a user does."""

    def run(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess:
        command = [executable, *map(str, words)]
        return subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, encoding="utf-8", timeout=400, stdin=subprocess.DEVNULL
        )

    return run


@pytest.fixture
def in_process(monkeypatch) -> Command:
    """Call the command in this process, where what it imports is there already: an answer takes no seconds."""
    from huetune.search.cli.main import main

    def run(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess:
        out, err = io.StringIO(), io.StringIO()
        monkeypatch.setattr(sys, "argv", ["huetune", *map(str, words)])
        # The command takes the signals for itself, which are pytest's.
        taken = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            with (
                contextlib.chdir(cwd or "."),
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
                pytest.raises(SystemExit) as end,
            ):
                main()
        finally:
            for number, handler in taken.items():
                signal.signal(number, handler)
        assert isinstance(end.value.code, int)
        return subprocess.CompletedProcess(sys.argv, end.value.code, out.getvalue(), err.getvalue())

    return run


TRAPS = {
    "files": ("{}.py",),
    "packages": ("{}/__init__.py",),
    "namespaces": ("{}/command.py", "{}/trial.py", "{}/config.py"),
}
"""How code of another may lie in the current folder; a package is what an older checkout has there."""


@pytest.fixture
def lay_traps(tmp_path) -> Callable[..., Callable[[], list[str]]]:
    """Fill a folder with Python files named like ours and like modules we use; see which of them were executed."""

    def lay(folder: Path, **layouts: str) -> Callable[[], list[str]]:
        executed = tmp_path / "executed"
        for name, layout in layouts.items():
            for place in (folder / path.format(name) for path in TRAPS[layout]):
                place.parent.mkdir(exist_ok=True)
                code = f"with open({str(executed)!r}, 'a') as file: print(__file__, file=file)\n"
                place.write_text(code, encoding="utf-8")
        return lambda: executed.read_text(encoding="utf-8").splitlines() if executed.exists() else []

    return lay


SPACE = """
[learning_rate]
choices = [0.002, 1e-7, 1e30]

[mse_weight]
low = 1.0
high = 4.0
step = 3.0

[clip]
value = 0.0
"""
"""Of its six points two train well, two next to nothing, and two diverge."""

KERAS = '{"floatx": "float16", "epsilon": 0.1, "image_data_format": "channels_first"}'


@pytest.fixture(scope="session")
def searched(huetune, once) -> tuple[Path, subprocess.CompletedProcess]:
    """The storage of a real search, `tiny`, in which trials complete, are pruned and fail; and what it printed.

    Whoever changes it changes a copy.
    """

    def search(storage: Path) -> subprocess.CompletedProcess:
        # A name that is not UTF-8, on the command line of a search: Ray is told that line.
        space = storage / os.fsdecode(b"sp\xfcce.toml")
        space.write_text(SPACE, encoding="utf-8")
        options = {
            "--garden": 12,
            "--name": "tiny",
            "--searcher": "grid",
            "--epochs": 3,
            "--warm-start": "none",
            "--seed": 5,  # the two that train well come first: ASHA has something to compare the others with
        }
        options |= {"--storage": storage, "--space": space}
        with pytest.MonkeyPatch.context() as patch:
            # Keras of this machine is set otherwise, in the driver and in the workers.
            (storage / "keras.json").write_text(KERAS, encoding="utf-8")
            patch.setenv("KERAS_HOME", str(storage))
            patch.setenv("KERAS_BACKEND", "jax")
            done = huetune("search", *itertools.chain(*options.items()))
        assert done.returncode == 0, done.stderr
        return done

    return once("searched", search)


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Iterator[Store]:
    """A store with a bucket `hue`."""
    started = Store(tmp_path_factory.mktemp("store") / "log")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        started.make_bucket("hue")
        yield started
    started.end()


@pytest.fixture
def network(store, monkeypatch) -> Iterator[Network]:
    """A way to the store that can be broken; patience with it is short."""
    monkeypatch.setattr(object_store, "RETRY_SECONDS", 1.5)
    monkeypatch.setattr(object_store, "REQUEST_TIMEOUT_SECONDS", 1.0)
    between = Network(store.port)
    yield between
    between.close()


@pytest.fixture(autouse=True)
def state_folder(tmp_path, monkeypatch) -> Path:
    """No test writes the mirrors of whoever runs it: each is a machine of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def in_zone(monkeypatch) -> Iterator[Callable[[str], None]]:
    """Have this process be in another time zone, by its POSIX rule as in CET-1."""

    def move(rule: str) -> None:
        monkeypatch.setenv("TZ", rule)
        time.tzset()

    yield move
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
