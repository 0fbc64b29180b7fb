"""The house: what may import what, how long a file may be."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "genkt"
FILES = sorted(PACKAGE.rglob("*.py"))
FLOORS = {
    "types": 0, "disk": 0, "io": 0, "files": 0, "locks": 0, "stopping": 0, "synonyms": 0,
    "written": 0, "bounds": 0,
    "losses": 1, "metrics": 1, "models": 1, "data": 1, "generative": 1, "execution": 1,
    "methods": 2, "analysis": 2, "retrieval": 2,
    "training": 3,
    "recipes": 4, "report": 4,
    "cli": 5, "api": 5, "api_synthesis": 5, "api_retrieval": 5, "api_compare": 5,
    "__init__": 5, "__main__": 5,
}  # fmt: skip


def part_of(path: Path) -> str:
    """The top-level part a file belongs to: "data", "types", "__init__" ..."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports_of(path: Path) -> list[str]:
    """Every module a file imports, wherever in the file; ``from a import b`` gives a and a.b."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import in line {node.lineno}"
            assert node.module is not None
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def parts_imported(path: Path) -> set[str]:
    """The parts of genkt that a file imports from."""
    inside = [name.split(".") for name in imports_of(path) if name.split(".")[0] == "genkt"]
    known = {parts[1] for parts in inside if len(parts) > 1 and parts[1] in FLOORS}
    return known | ({"__init__"} if any(parts == ["genkt"] for parts in inside) else set())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_file_stands_on_lower_floors(path: Path) -> None:
    mine = part_of(path)
    assert mine in FLOORS, f"{mine}: give it a floor"
    above = [other for other in parts_imported(path) if FLOORS[other] > FLOORS[mine]]
    assert not above, f"{path} imports from above: {above}"


def test_parts_of_one_floor_do_not_import_each_other_in_a_circle() -> None:
    edges: dict[str, set[str]] = {name: set() for name in FLOORS}
    for path in FILES:
        edges[part_of(path)] |= parts_imported(path) - {part_of(path)}
    edges = {name: {o for o in to if FLOORS[o] == FLOORS[name]} for name, to in edges.items()}
    edges["__init__"] = set()  # its names are lazy
    seen: list[str] = []

    def visit(name: str) -> None:
        assert name not in seen, f"circle: {' -> '.join([*seen, name])}"
        seen.append(name)
        for other in edges[name]:
            visit(other)
        seen.pop()

    for name in edges:
        visit(name)


@pytest.mark.parametrize(
    ("part", "forbidden"),
    [
        ("methods", ("genkt.data", "torch.utils.data", "pathlib", "PIL")),
        ("losses", ("genkt.data", "genkt.models", "torch.utils.data", "pathlib")),
        ("metrics", ("genkt.data", "genkt.models", "torch.utils.data", "pathlib")),
        ("data", ("genkt.models", "torch.nn", "timm")),
        ("analysis", ("genkt.data", "genkt.models")),
        ("retrieval", ("genkt.data", "genkt.models", "torch.utils.data", "PIL")),
        ("execution", ("genkt.data", "genkt.models", "genkt.generative")),
    ],
)
def test_what_a_part_must_never_see(part: str, forbidden: tuple[str, ...]) -> None:
    for path in FILES:
        if part_of(path) == part:
            for name in imports_of(path):
                allowed = name.startswith("torch.nn.functional")  # tensor arithmetic, no network
                assert allowed or not name.startswith(forbidden), f"{path} imports {name}"


def test_only_the_command_line_knows_hydra() -> None:
    for path in FILES:
        if part_of(path) != "cli":
            names = [name.split(".")[0] for name in imports_of(path)]
            assert "hydra" not in names and "omegaconf" not in names, path


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            documented = ast.get_docstring(node, clean=False)
            lines = (node.end_lineno or 0) - node.lineno
            length = lines - (len(documented.splitlines()) if documented else 0)
            assert length < 50, f"{path}: {node.name} has {length} lines"
