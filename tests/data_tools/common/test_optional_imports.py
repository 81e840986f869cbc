"""Optional packages need not be installed; an error names the extra that installs a missing one."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

from huetune.data_tools.common.optional_imports import import_extra
from huetune.model.diagram import missing_graphviz

ROOT = Path(__file__).parents[3]
MODULES = {
    "apprise": "notify",
    "mlflow": "mlflow",
    "optuna_dashboard": "dashboard",
    "pooch": "fetch",
    "psycopg": "postgres",
    "pydot": "structure",
}


def test_import_extra_with_broken_package_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "broken_extra.py").write_text("import no_such_module", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        import_extra("broken_extra", "any")


def test_optional_packages_are_imported_by_import_extra_only():
    """Any other import would fail after a plain `pip install huetune`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    plain = {re.split(r"[\[>]", line)[0].replace("-", "_") for line in project["dependencies"]}
    assert not plain & set(MODULES)
    imported = {}
    for path in (path for part in ("data_tools", "model", "results", "search") for path in (ROOT / part).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not {alias.name.partition(".")[0] for alias in node.names} & set(MODULES), path
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").partition(".")[0] not in MODULES, path
            elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
                "import_extra",
                "require_extra",
            ):
                module, name = (ast.literal_eval(word) for word in node.args)
                imported[module.partition(".")[0]] = name
    assert imported == MODULES
    for module, name in imported.items():
        assert any(line.startswith(module.replace("_", "-")) for line in project["optional-dependencies"][name])


@pytest.mark.parametrize(
    ("words", "module"),
    [
        ("search --notify json://127.0.0.1:1", "apprise"),
        ("search --mlflow http://127.0.0.1:1", "mlflow"),
        ("search --study postgresql://127.0.0.1:1/x", "psycopg"),
        ("data fetch flowers --url http://127.0.0.1:1/x", "pooch"),
    ],
)
def test_command_without_its_extra_names_the_extra(words, module, in_process, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, module, None)
    done = in_process(*words.split(), cwd=tmp_path)
    expected = f"huetune: {module} is not installed; get it with: pip install 'huetune[{MODULES[module]}]'\n"
    assert (done.returncode, done.stderr) == (2, expected) and not list(tmp_path.iterdir())


def test_missing_graphviz_without_pydot_names_the_extra(monkeypatch):
    """The report and the experiment log are made without pictures of the structure then."""
    monkeypatch.setitem(sys.modules, "pydot", None)
    line = missing_graphviz()
    assert line and line.endswith("pydot is not installed; get it with: pip install 'huetune[structure]'")
