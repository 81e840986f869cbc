"""The parts and rooms of the package depend on each other in one direction, and no file is too long to read."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("data_tools", "model", "results", "search")
"""From the lowest to the highest: a part imports itself and those before it."""
MAX_LINES = 400


def modules() -> dict[str, Path]:
    """Return the path of each module of the package by its name, such as `results.tables.formats`."""
    paths = (path.relative_to(ROOT) for part in PARTS for path in (ROOT / part).rglob("*.py"))
    return {".".join(path.with_suffix("").parts).removesuffix(".__init__"): ROOT / path for path in paths}


def imports_of(path: Path) -> Iterator[str]:
    """Yield the full name of everything that a file imports, also within functions and for types alone."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)


def room_of(name: str, known: dict[str, Path]) -> str:
    """Return the folder of a module, or of what is imported from it."""
    while name not in known:
        name = name.rpartition(".")[0]
    return name if known[name].name == "__init__.py" else name.rpartition(".")[0]


def test_parts_import_only_lower_parts_and_ray_only_in_search():
    wrong = []
    for name, path in modules().items():
        part = name.partition(".")[0]
        higher = tuple(f"huetune.{other}." for other in PARTS[PARTS.index(part) + 1 :])
        for imported in imports_of(path):
            if f"{imported}.".startswith(higher) or (part != "search" and imported.partition(".")[0] == "ray"):
                wrong.append(f"{name} imports {imported}")
    assert not wrong


def test_rooms_import_each_other_in_one_direction():
    known = modules()
    graph: dict[str, set[str]] = defaultdict(set)
    for name, path in known.items():
        for imported in imports_of(path):
            inner = imported.removeprefix("huetune.")
            if inner != imported and inner.partition(".")[0] in PARTS:
                graph[room_of(name, known)].add(room_of(inner, known))
    for room, others in graph.items():
        others.discard(room)
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"these rooms import each other: {' -> '.join(error.args[1])}")
    assert {"data_tools.storage", "results.tables", "search.tuning"} <= {*order}


def test_files_of_code_have_at_most_400_lines():
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules().items()}
    assert not {name: length for name, length in lengths.items() if length > MAX_LINES}
