"""Only one package is installed, `huetune`, and nothing is imported from the current folder."""

import os
import shutil
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from tests.interpreter import output_of

ROOT = Path(__file__).parents[2]
PARTS = ("data_tools", "model", "results", "search")
WHERE = "import huetune.search.spec.space, huetune.model.config; print(huetune.__file__, huetune.open_run.__module__)"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel of this checkout, built from a copy."""
    source, target = (tmp_path_factory.mktemp(name) for name in ("source", "wheel"))
    for part in PARTS:
        shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", source)
    words = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(target), str(source)]
    output_of("-m", "pip", *words)
    (path,) = target.iterdir()
    return path


@pytest.fixture(scope="module", params=["wheel", "editable"])
def installed(request, tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """The folder of the installed package, and an environment in which Python finds it."""
    if request.param == "editable":
        return Path(sys.prefix) / "links", dict(os.environ)
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(request.getfixturevalue("wheel")) as file:
        file.extractall(folder)
    return folder, {**os.environ, "PYTHONPATH": str(folder)}


def test_wheel_holds_the_package_and_nothing_else(wheel):
    """A top-level `model` or `results` in site-packages would conflict with many projects."""
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        described = Parser().parsestr(file.read(metadata).decode())
    assert {name.partition("/")[0] for name in names} == {"huetune", metadata.partition("/")[0]}
    for part in PARTS:
        modules = [path for path in (ROOT / part).rglob("*.py") if "api" not in path.parts]
        shipped = {f"huetune/{path.relative_to(ROOT)}" for path in modules if (path.parent / "__init__.py").exists()}
        assert shipped and shipped <= names
    assert {
        "huetune/__init__.py",
        "huetune/__main__.py",
        "huetune/py.typed",
        "huetune/results/report/template.html",
    } <= names
    assert described["Summary"] and described["Keywords"] and described.get_all("Classifier")
    text = str(described.get_payload())
    assert "huetune.open_run" in text and "](" not in text, "links and pictures of files are broken outside of here"


def test_every_folder_of_modules_is_a_listed_package():
    """setuptools does not discover them, so that an unlisted folder would be missing only in the wheel."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    found = {path.parent.relative_to(ROOT) for part in PARTS for path in (ROOT / part).rglob("__init__.py")}
    packages = {"huetune" if path == Path("search/api") else f"huetune.{'.'.join(path.parts)}" for path in found}
    assert set(listed["packages"]) == packages


def _run(installed: tuple[Path, dict[str, str]], folder: Path, *words: str) -> str:
    environment = {name: value for name, value in installed[1].items() if name != "PYTHONSAFEPATH"}
    return output_of(*words, folder=folder, environment=environment)


@pytest.mark.parametrize("layout", ["files", "packages", "namespaces"])
def test_command_imports_nothing_of_the_current_folder(installed, lay_traps, tmp_path, layout):
    """`python -m` searches it first; a clone of this repository is a folder `huetune` without `__init__.py`."""
    names = dict.fromkeys([*PARTS, "keras", "random"], layout) | {"huetune": "namespaces"}
    executed = lay_traps(tmp_path, **names)
    assert "model-6" in _run(installed, tmp_path, "-m", "huetune", "presets")
    assert not executed()


@pytest.mark.parametrize("layout", ["files", "packages", "namespaces"])
def test_notebook_imports_our_modules_not_its_neighbors(installed, lay_traps, tmp_path, layout):
    """The folder of a notebook is on its path, and often contains a `model.py` or an older checkout."""
    executed = lay_traps(tmp_path, **dict.fromkeys(PARTS, layout), huetune="namespaces")
    place, name = _run(installed, tmp_path, "-c", WHERE).split()
    assert Path(place) == installed[0] / "huetune" / "__init__.py" and name == "huetune.results.notebook"
    assert not executed()
