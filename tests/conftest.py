"""Fixtures that tests share: small sets of photos and scenes, one real search, and calls of the command."""

# First, because other modules read the home folder and the environment when they are imported.
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
from tests.store import ENVIRONMENT, FaultyProxy, S3Server


def pytest_configure(config: pytest.Config) -> None:
    """Register the plugin that fails tests with a skip that is not allowed."""
    config.pluginmanager.register(allowed_skips)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slowest folders first, so that all of pytest's workers stay busy until the end."""
    folders = ["faults", "search", "results", "model"]
    items.sort(
        key=lambda item: next((rank for rank, name in enumerate(folders) if name in item.path.parts), len(folders))
    )


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory) -> Iterator[Path]:
    """Use a cache of this session's own instead of the user's."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUETUNE_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def scenes() -> PhotoSet:
    """16 scenes of the synthetic garden."""
    return prepare(garden(16), [f"garden-{index:04}.png" for index in range(16)])


@pytest.fixture(scope="session")
def parts(scenes: PhotoSet) -> Split:
    """The scenes, split: 11 training, 3 validation, 2 test."""
    return split(scenes, seed=0)


@pytest.fixture(scope="session")
def roses() -> PhotoSet:
    """12 real photos."""
    skip_without("photos")
    return load(find_photos(SHARED / "roses-train")[:12])[0]


@pytest.fixture(scope="session")
def once(tmp_path_factory) -> Callable[[str, Callable[[Path], Any]], tuple[Path, Any]]:
    """Return a function that fills a folder once per session, for all workers of pytest, because searches are slow."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        # The folder of the session, which contains one folder per worker.
        root = root.parent

    def make(name: str, fill: Callable[[Path], Any]) -> tuple[Path, Any]:
        folder, made = root / name, root / f"{name}.made"
        with FileLock(root / f"{name}.lock"):
            if not made.exists():
                # What another worker left when its attempt failed.
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
    """The SQLite files that the test connects to, in order: each reading of a study opens one connection."""
    _connected.append([])
    yield _connected[-1]
    _connected.pop()


Command = Callable[..., subprocess.CompletedProcess]


@pytest.fixture(scope="session")
def executable() -> str:
    """The path of the installed command."""
    return str(Path(sys.executable).with_name("huetune"))


@pytest.fixture(scope="session")
def huetune(executable) -> Command:
    """Run the installed command in a process of its own, as a user does."""

    def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess:
        command = [executable, *map(str, arguments)]
        return subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, encoding="utf-8", timeout=400, stdin=subprocess.DEVNULL
        )

    return run


@pytest.fixture
def in_process(monkeypatch) -> Command:
    """Run the command in this process, which saves the seconds that its imports take."""
    from huetune.search.cli.main import main

    def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess:
        out, err = io.StringIO(), io.StringIO()
        monkeypatch.setattr(sys, "argv", ["huetune", *map(str, arguments)])
        # The command installs signal handlers in place of pytest's.
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
"""Layouts of Python files in the current folder that could shadow modules; an older checkout has `packages`."""


@pytest.fixture
def lay_traps(tmp_path) -> Callable[..., Callable[[], list[str]]]:
    """Return a function that creates Python files named like modules in use and returns which of them ran."""

    def lay(folder: Path, **layouts: str) -> Callable[[], list[str]]:
        executed = tmp_path / "executed"
        for name, layout in layouts.items():
            for trap in (folder / path.format(name) for path in TRAPS[layout]):
                trap.parent.mkdir(exist_ok=True)
                code = f"with open({str(executed)!r}, 'a') as file: print(__file__, file=file)\n"
                trap.write_text(code, encoding="utf-8")
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
"""A grid of six points: two learn well, two hardly learn, and two diverge."""

KERAS = '{"floatx": "float16", "epsilon": 0.1, "image_data_format": "channels_first"}'


@pytest.fixture(scope="session")
def searched(huetune, once) -> tuple[Path, subprocess.CompletedProcess]:
    """The storage of a real search named `tiny`, with complete, pruned and failed trials, and what the search printed.

    A test that changes it must change a copy.
    """

    def search(storage: Path) -> subprocess.CompletedProcess:
        # A file name that is not UTF-8: Ray stores the command line of the search.
        space = storage / os.fsdecode(b"sp\xfcce.toml")
        space.write_text(SPACE, encoding="utf-8")
        options = {
            "--garden": 12,
            "--name": "tiny",
            "--searcher": "grid",
            "--epochs": 3,
            "--warm-start": "none",
            "--seed": 5,  # the two that learn well come first, so that ASHA can compare the others with them
        }
        options |= {"--storage": storage, "--space": space}
        with pytest.MonkeyPatch.context() as patch:
            # Hostile settings of Keras, in the driver and in the workers.
            (storage / "keras.json").write_text(KERAS, encoding="utf-8")
            patch.setenv("KERAS_HOME", str(storage))
            patch.setenv("KERAS_BACKEND", "jax")
            done = huetune("search", *itertools.chain(*options.items()))
        assert done.returncode == 0, done.stderr
        return done

    return once("searched", search)


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Iterator[S3Server]:
    """An S3 server with a bucket `hue`."""
    started = S3Server(tmp_path_factory.mktemp("store") / "log")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        started.make_bucket("hue")
        yield started
    started.stop()


@pytest.fixture
def network(store, monkeypatch) -> Iterator[FaultyProxy]:
    """A proxy in front of the store that can be made to fail, with short timeouts for its clients."""
    monkeypatch.setattr(object_store, "RETRY_SECONDS", 1.5)
    monkeypatch.setattr(object_store, "REQUEST_TIMEOUT_SECONDS", 1.0)
    proxy = FaultyProxy(store.port)
    yield proxy
    proxy.close()


@pytest.fixture(autouse=True)
def state_folder(tmp_path, monkeypatch) -> Path:
    """Give each test a state folder, and so mirrors of buckets, of its own: it acts as a separate machine."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def in_zone(monkeypatch) -> Iterator[Callable[[str], None]]:
    """Return a function that moves this process to another time zone, given as a POSIX rule such as CET-1."""

    def move(rule: str) -> None:
        monkeypatch.setenv("TZ", rule)
        time.tzset()

    yield move
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
