"""Private parts of Ray, Optuna and Keras are used in one module each, and only with tested versions."""

import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.private_names import LIBRARIES, missing, used

ROOT = Path(__file__).parents[1]
COMPAT = {"data_tools/common/keras_compat.py", "results/records/optuna_compat.py", "search/ray_runtime/ray_compat.py"}


def test_private_names_are_used_in_compat_modules_only():
    """The compat modules list what breaks with a library's next version."""
    paths = [path for part in ("data_tools", "model", "results", "search") for path in (ROOT / part).rglob("*.py")]
    found = {str(path.relative_to(ROOT)): names for path in paths if (names := used(path))}
    assert found.keys() == COMPAT, found


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("from ray._private import services\nservices.find()", {"find"}),
        ("from ray._private.services import find\nfind()", {"find"}),
        ("from keras.src import backend as b\nb.x.y", {"x"}),
        ("import optuna\noptuna.create_study()._storage.get()", {"_storage"}),
        ("import ray\nray.init(_temp_dir='x', address='local')", {"_temp_dir"}),
        ("class A:\n    def f(self):\n        return self._x._replace(a=1)", set()),
        ("import os\nos._exit(1)\nf.__name__", set()),
    ],
)
def test_used_finds_private_names(code, expected, tmp_path):
    (tmp_path / "code.py").write_text(code, encoding="utf-8")
    assert used(tmp_path / "code.py") == expected


def test_missing_name_is_reported_with_what_breaks():
    private = {
        "optuna.study.gone": (None, "trials begin"),
        "optuna.gone.at_all": (None, "trials end"),
        "optuna.study.create_study:_gone": (None, "trials pause"),
        "optuna.Study.tell": (("self", "trial"), "trials resume"),
        "optuna.create_study": (None, "all is well"),
    }
    lines = missing(private, {})
    assert len(lines) == 4 and all(line.startswith(f"optuna {version('optuna')} has ") for line in lines)
    for line, need in zip(lines, ("begin", "end", "pause", "resume"), strict=True):
        assert f"; in huetune this breaks: trials {need};" in line
    assert "has no optuna.study.gone;" in lines[0] and "with the parameters ('self', 'trial', 'values'" in lines[3]


def test_libraries_are_capped_below_the_next_minor_version():
    """Private parts change without notice, so an untested version must not be installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["cluster"]]
    wanted = [one for one in map(Requirement, lines) if one.name in LIBRARIES]
    assert {one.name for one in wanted} == set(LIBRARIES) and len(wanted) == len(LIBRARIES) + 1
    for one in wanted:
        here = Version(version(one.name))
        assert here in one.specifier and f"{here.major}.{here.minor}.999" in one.specifier
        assert f"{here.major}.{here.minor + 1}.0" not in one.specifier, one
