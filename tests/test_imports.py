"""The drawing of what imports what: layers without an arrow upwards, and no circle among modules."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import hf_scorevi

ROOT = Path(hf_scorevi.__file__).parent
# From the bottom: each part imports from those in lines above its own only. "hf_scorevi" is the package's `__init__`,
# which loads the rest when it is first asked for.
LAYERS = (
    ("errors", "json_values", "random_state"),
    ("hf_scorevi", "acquisition", "batch_norm", "models", "padding", "structure"),
    ("audio_data", "heads", "image_data", "numbers"),
    ("metrics", "posterior"),
    ("conformal", "inference", "ood", "plots", "twin"),
    ("blackbox", "predictive"),
    ("posthoc", "time_series"),
    ("hub",),
    ("labelled_data", "prediction", "training"),
    ("recalibration",),
    ("modeling",),
    ("evaluation", "pipelines"),
    ("cli",),
)


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Imports that are carried out, now or in a function; not those for type checkers."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node
    is_for_types = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    for child in node.orelse if is_for_types else ast.iter_child_nodes(node):
        yield from statements(child)


def import_graph(root: Path) -> dict[str, set[str]]:
    """The modules of a package, and which of them each imports: of `from a import b` the module `a.b`, or else `a`."""
    paths = {module_name(path, root): path for path in root.rglob("*.py")}
    graph: dict[str, set[str]] = {name: set() for name in paths}
    for name, path in paths.items():
        package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
        for statement in statements(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(statement, ast.Import):
                found = {alias.name for alias in statement.names}
            else:
                start = package[: len(package) - statement.level + 1] if statement.level else []
                home = ".".join([*start, *([statement.module] if statement.module else [])])
                found = {f"{home}.{alias.name}" for alias in statement.names}
                found = {own if own in paths else home for own in found}
            graph[name] |= {own for own in found if own in paths and own != name}
    return graph


def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else module


GRAPH = import_graph(ROOT)


def test_no_circle_leads_through_modules():
    TopologicalSorter(GRAPH).prepare()  # or it would raise
    assert GRAPH["hf_scorevi.training.trainer"] and sum(map(len, GRAPH.values())) > 2 * len(GRAPH)


def test_no_arrow_leads_upwards():
    heights = {part: height for height, parts in enumerate(LAYERS) for part in parts}
    assert heights.keys() == {part_of(module) for module in GRAPH}
    upwards = [
        f"{module} imports {other}"
        for module, others in GRAPH.items()
        for other in others
        if part_of(module) != part_of(other) and heights[part_of(other)] >= heights[part_of(module)]
    ]
    assert not upwards


def test_imports_of_every_form_are_found(tmp_path):
    root = tmp_path / "own"
    files = {
        "__init__.py": "from .deep import below\nfrom typing import TYPE_CHECKING\n",
        "top.py": "import own.deep.below\nif TYPE_CHECKING:\n    from . import late\n",
        "late.py": "def f():\n    from .deep.below import x\n    from . import top as t\n",
        "deep/__init__.py": "",
        "deep/below.py": "try:\n    from ..late import f\nexcept ImportError:\n    import os\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    graph = import_graph(root)
    assert graph == {
        "own": {"own.deep.below"},
        "own.top": {"own.deep.below"},
        "own.late": {"own.deep.below", "own.top"},
        "own.deep": set(),
        "own.deep.below": {"own.late"},
    }
    with pytest.raises(CycleError):
        TopologicalSorter(graph).prepare()
