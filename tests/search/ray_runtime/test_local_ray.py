"""A local Ray has a private token and private files, and child Pythons ignore the current folder."""

import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest

from huetune.data_tools.common.errors import StorageError
from huetune.search.process.environment import SAFE_PYTHON
from huetune.search.ray_runtime import local_ray, ray_compat
from tests.interpreter import output_of

IMPORTS = """
import random, sys
import huetune.data_tools.common.errors, huetune.model.config
import huetune.results.experiment_log.messages, huetune.search.process.signals
for part in ("data_tools", "model", "results", "search"):
    print(sys.modules[f"huetune.{part}"].__file__)
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TMPDIR", raising=False)
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", ray_compat.LOOPBACK_SWITCH):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def place(monkeypatch):
    """Set a folder for temporary files with a short path."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield Path(folder)


def test_local_only_makes_a_private_token(home):
    with local_ray.local_only(str(home)):
        token = home / ".ray" / "auth_token"
        assert len(token.read_text(encoding="utf-8")) == 64 and token.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in token.parent.iterdir()] == ["auth_token"]


def test_local_only_makes_an_existing_token_private(home):
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("mine", encoding="utf-8")
    (home / ".ray" / "auth_token").chmod(0o644)
    with local_ray.local_only(str(home)):
        assert (home / ".ray" / "auth_token").read_text(encoding="utf-8") == "mine"
        assert (home / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600


def test_local_only_uses_the_token_of_the_environment(home, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "mine")
    with local_ray.local_only(str(home)):
        pass
    assert not (home / ".ray").exists()


def test_local_only_without_writable_home_keeps_token_elsewhere(home, monkeypatch):
    """Ray needs a token, and not even root can write to the home folder."""
    monkeypatch.setenv("HOME", "/proc")
    with local_ray.local_only(str(home)):
        token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
        assert token.parent == home and token.stat().st_mode & 0o777 == 0o600
        assert len(token.read_text(encoding="utf-8")) == 64
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ


def test_local_only_restores_the_environment(home):
    with pytest.raises(RuntimeError), local_ray.local_only(str(home)):
        assert os.environ[ray_compat.LOOPBACK_SWITCH] == "0" and not ray_compat.ray_constants.ENABLE_RAY_CLUSTER
        raise RuntimeError
    assert ray_compat.LOOPBACK_SWITCH not in os.environ and ray_compat.ray_constants.ENABLE_RAY_CLUSTER


def test_local_only_loads_no_dashboard_packages(home):
    """They are installed for clusters; a local Ray would spend time, memory and open ports on them."""
    with local_ray.local_only(str(home)):
        assert ray_compat.utils.get_dashboard_dependency_error() is not None
    assert ray_compat.utils.get_dashboard_dependency_error() is None


def test_make_folder_is_private(place):
    folder = local_ray.make_folder()
    assert os.stat(folder).st_mode & 0o777 == 0o700 and os.path.dirname(folder) == str(place)


def test_make_folder_with_a_long_path_uses_a_shorter_one(home, monkeypatch):
    """Ray appends its session and sockets to the path, and a Unix socket's path has at most 107 bytes."""
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    for length, fits in [(local_ray.MAX_FOLDER_BYTES, True), (local_ray.MAX_FOLDER_BYTES + 1, False)]:
        deep = Path(tempfile.mkdtemp(dir="/tmp"))
        place = deep / ("x" * (length - len(f"{deep}/")))
        place.mkdir()
        monkeypatch.setenv("TMPDIR", str(place))
        folder = local_ray.make_folder()
        assert (os.path.dirname(folder) == str(place)) is fits
        assert len(f"{folder}/ray/session_2026-11-28_02-21-37_683583_4194304/sockets/plasma_store") <= 107
        local_ray.remove_folder(folder)
        shutil.rmtree(deep)


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
@pytest.mark.parametrize("place", ["/nowhere/at/all", "/proc"])
def test_make_folder_names_an_unusable_folder(home, monkeypatch, variable, place):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(variable, place)
    with pytest.raises(StorageError) as refused:
        local_ray.make_folder()
    assert str(refused.value).startswith(f"'{place}': temporary files cannot be written there (No such file")
    assert str(refused.value).endswith(f"; set {variable} to a folder that you can write to")


def test_make_folder_removes_day_old_folders_of_killed_searches(place):
    """Younger folders, folders locked by a running process and folders of other programs stay."""
    held = local_ray.make_folder()
    for name in ("hue-old", "hue-young", "others"):
        (place / name / "ray").mkdir(parents=True)
    (place / "hue-link").symlink_to(place / "others")
    yesterday = time.time() - local_ray.LEFTOVER_SECONDS - 60
    for path in (held, place / "hue-old", place / "others"):
        os.utime(path, (yesterday, yesterday))
    new = local_ray.make_folder()
    left = {path.name for path in place.iterdir()}
    assert left == {os.path.basename(held), os.path.basename(new), "hue-young", "others", "hue-link"}
    assert (place / "others" / "ray").is_dir()


@pytest.mark.parametrize("layout", ["files", "packages", "namespaces"])
def test_child_python_ignores_the_current_folder(lay_traps, tmp_path, layout):
    """A user's `model.py` or an older checkout there would be imported and would train the trials."""
    names = ["data_tools", "model", "results", "search"]
    executed = lay_traps(tmp_path, **dict.fromkeys([*names, "huetune"], layout), random="files", numpy="files")
    said = output_of(*SAFE_PYTHON[1:], "-c", IMPORTS, folder=tmp_path)
    root = Path(local_ray.__file__).parents[2]
    assert said.split() == [str(root / name / "__init__.py") for name in names]
    assert not executed()


def test_child_pythons_are_all_started_by_safe_python():
    """`sys.executable` alone imports from the current folder; `restart` repeats the options of this process."""
    root = Path(local_ray.__file__).parents[2]
    sources = [path for part in ("data_tools", "model", "results", "search") for path in (root / part).rglob("*.py")]
    users = {path.name for path in sources if "sys.executable" in path.read_text(encoding="utf-8")}
    assert users == {"environment.py"}
