"""Find the private parts of other libraries that a file uses, and check that the installed version has them."""

import ast
import importlib
import inspect
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

LIBRARIES = ("ray", "optuna", "keras", "tensorflow")
Makers = Mapping[str, Callable[[], Any]]
"""Maps the name of a class to a function that creates an instance."""
PUBLIC = {"_replace", "_asdict", "_fields", "_exit"}
"""Names with a leading underscore that Python documents as public."""


def missing(private: Mapping[str, tuple[tuple[str, ...] | None, str]], makers: Makers) -> list[str]:
    """Return a line for each private name that the installed library lacks, or has with other parameters.

    Args:
        private: `PRIVATE` of a compat module.
        makers: For classes with attributes that only their instances have.
    """
    lines = []
    for name, (parameters, need) in private.items():
        library = name.partition(".")[0]
        what = f"{library} {version(library)} has no {name}"
        try:
            found = _find(name, makers)
            if parameters is None:
                continue
            seen = tuple(inspect.signature(found).parameters)
            if seen == parameters:
                continue
            what = f"{library} {version(library)} has {name} with the parameters {seen}, not {parameters}"
        except (ImportError, AttributeError):
            pass
        lines.append(f"{what}; in huetune this breaks: {need}; change the compat module")
    return lines


def _find(name: str, makers: Makers) -> Any:
    name, _, keyword = name.partition(":")
    parts = name.split(".")
    found, path = importlib.import_module(parts[0]), parts[0]
    for part in parts[1:]:
        path = f"{path}.{part}"
        if inspect.ismodule(found) and not hasattr(found, part):
            found = importlib.import_module(path)
        elif inspect.isclass(found) and not hasattr(found, part) and (owner := path.rpartition(".")[0]) in makers:
            found = getattr(makers[owner](), part)
        else:
            found = getattr(found, part)
    if keyword and f'"{keyword}"' not in inspect.getsource(found):
        raise AttributeError(f"{name} does not use {keyword}")
    return found


def parts(private: Mapping[str, Any]) -> set[str]:
    """Return all modules, classes and names in `PRIVATE` of a compat module, without dots."""
    return {part for name in private for part in name.replace(":", ".").split(".")}


def used(path: Path) -> set[str]:
    """Return the private names of `LIBRARIES`, without their modules, that a Python file uses."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree))
    own = {node.attr for node in nodes if isinstance(node, ast.Attribute) and _is_own(node)}
    own |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    modules = {}
    names = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in LIBRARIES:
            for alias in node.names:
                if _is_private(f"{node.module}.{alias.name}"):
                    modules[alias.asname or alias.name] = alias.name
        elif isinstance(node, ast.keyword) and _is_private(node.arg or ""):
            names.add(node.arg or "")
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    own |= PUBLIC
    names |= {one.attr for one in attributes if _is_private(one.attr) and not _is_own(one) and one.attr not in own}
    through = {(one.value.id, one.attr) for one in attributes if isinstance(one.value, ast.Name)}
    names |= {attribute for module, attribute in through if module in modules}
    mentioned = {node.id for node in nodes if isinstance(node, ast.Name)}
    return names | {modules[name] for name in modules if name in mentioned - {module for module, _ in through}}


def _is_own(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def _is_private(name: str) -> bool:
    parts = name.split(".")
    return "src" in parts or "tensorflow.python" in name or any(p.startswith("_") and p[:2] != "__" for p in parts)
