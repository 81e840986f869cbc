"""What tests share: small sets of real photos and garden scenes, and one real search."""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

from data_tools import bucket
from data_tools.garden import garden
from data_tools.photos import PhotoSet, find_photos, load, prepare
from data_tools.split import Split, split
from tests.store import ENVIRONMENT, Network, Store

SHARED = Path(__file__).parents[2] / "shared" / "photos"


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
    if not SHARED.is_dir():
        pytest.skip(f"the photos are not there: {SHARED}")
    return load(find_photos(SHARED / "roses-train")[:12])[0]


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
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=400, stdin=subprocess.DEVNULL)

    return run


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


@pytest.fixture(scope="session")
def searched(huetune, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """The storage of a real search, `tiny`, in which trials complete, are pruned and fail; and what it printed."""
    storage = tmp_path_factory.mktemp("storage")
    (storage / "space.toml").write_text(SPACE)
    options = {
        "--garden": 12,
        "--name": "tiny",
        "--searcher": "grid",
        "--epochs": 3,
        "--warm-start": "none",
        "--seed": 5,  # the two that train well come first: ASHA has something to compare the others with
    }
    options |= {"--storage": storage, "--space": storage / "space.toml"}
    done = huetune("search", *itertools.chain(*options.items()))
    assert done.returncode == 0, done.stderr
    return storage, done


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Iterator[Store]:
    """A store with a bucket `hue`."""
    started = Store(tmp_path_factory.mktemp("store") / "log")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        started.make_bucket("hue")
        yield started
    started.process.kill()
    started.process.wait()


@pytest.fixture
def network(store, monkeypatch) -> Iterator[Network]:
    """A way to the store that can be broken; patience with it is short."""
    monkeypatch.setattr(bucket, "PATIENCE", 1.5)
    monkeypatch.setattr(bucket, "SILENCE", 1.0)
    between = Network(store.port)
    yield between
    between.close()


@pytest.fixture(autouse=True)
def state_folder(tmp_path, monkeypatch) -> Path:
    """No test writes the mirrors of whoever runs it: each is a machine of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture(scope="session")
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
