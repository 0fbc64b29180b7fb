"""The house: what may import what, how long a file may be."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "genkt"
FILES = sorted(PACKAGE.rglob("*.py"))
FLOORS = [
    "__init__", "types", "synonyms", "disk", "io", "settings", "files", "locks",
    "stopping", "precision", "losses", "metrics", "execution", "data", "readers", "models",
    "transfer_set", "stores", "generative", "methods", "training", "report", "config",
    "runs", "upstream", "retrieval", "synthesis", "inference", "stages", "transfers", "comparison",
    "analysis", "cli", "api", "__main__",
]  # fmt: skip
"""Every file and folder of the package: each imports from those before it only."""
NOT_YET = {
    ("runs/session.py", "transfers/retriever.py"),
    ("transfer_set/composition.py", "transfer_set/open_images.py"),
    ("transfer_set/composition.py", "transfer_set/read_set.py"),
    ("transfer_set/composition.py", "transfer_set/save_set.py"),
}
"""Imports that still lead upwards or round in a circle."""
LARGEST_SHARE = 0.12
"""Of the package's lines, in one folder."""


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


def modules_imported(path: Path) -> set[Path]:
    """The files of genkt that a file imports, wherever in the file."""
    names = {name.removeprefix("genkt.").replace(".", "/") for name in imports_of(path)}
    found = {PACKAGE / f"{name}.py" for name in names} & set(FILES)
    mine = str(path.relative_to(PACKAGE))
    return {each for each in found if (mine, str(each.relative_to(PACKAGE))) not in NOT_YET}


def test_every_file_imports_from_lower_floors_only() -> None:
    assert {part_of(path) for path in FILES} == set(FLOORS)
    floor = {part: number for number, part in enumerate(FLOORS)}
    above = [
        f"{path.relative_to(PACKAGE)} imports {other}"
        for path in FILES
        for other in map(part_of, modules_imported(path))
        if floor[other] > floor[part_of(path)]
    ]
    assert not above


def test_no_files_import_each_other_in_a_circle() -> None:
    edges = {path: modules_imported(path) for path in FILES if path.parent != PACKAGE}
    while edges:  # take away what imports nothing that is left, until nothing is left
        free = [path for path, others in edges.items() if not others & edges.keys()]
        assert free, f"a circle among {sorted(str(p.relative_to(PACKAGE)) for p in edges)}"
        for path in free:
            del edges[path]


def test_no_folder_is_the_house() -> None:
    lines = Counter[str]()
    for path in FILES:
        lines[part_of(path)] += len(path.read_text(encoding="utf-8").splitlines())
    part, most = lines.most_common(1)[0]
    assert most <= LARGEST_SHARE * lines.total(), part


def test_names_say_where_one_is() -> None:
    """Only a command in Python and in the shell share the name of a file; classes are unique."""
    names = Counter(path.name for path in FILES if part_of(path) not in ("api", "cli"))
    twins = {name for name, count in names.items() if count > 1} - {"__init__.py", "base.py"}
    assert not twins
    homes: dict[str, list[str]] = {}
    for path in FILES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(str(path.relative_to(PACKAGE)))
    assert not {name: where for name, where in homes.items() if len(where) > 1}


@pytest.mark.parametrize(
    ("part", "forbidden"),
    [
        ("methods", ("genkt.data", "torch.utils.data", "pathlib", "PIL")),
        ("losses", ("genkt.data", "genkt.models", "torch.utils.data", "pathlib")),
        ("data", ("genkt.models", "torch.nn", "timm")),
        ("metrics", ("genkt.data", "genkt.models")),
        ("retrieval/search", ("genkt.data", "genkt.models", "torch.utils.data", "PIL")),
        ("execution", ("genkt.data", "genkt.models", "genkt.generative")),
    ],
)
def test_what_a_part_must_never_see(part: str, forbidden: tuple[str, ...]) -> None:
    for path in FILES:
        if path.is_relative_to(PACKAGE / part):
            for name in imports_of(path):
                allowed = name.startswith("torch.nn.functional")  # tensor arithmetic, no network
                assert allowed or not name.startswith(forbidden), f"{path} imports {name}"


def test_hydra_is_known_in_one_place_and_by_its_public_names() -> None:
    for path in FILES:
        hydras = [n for n in imports_of(path) if n.split(".")[0] in ("hydra", "omegaconf")]
        assert part_of(path) in ("settings", "cli") or not hydras, path
        assert not any(part.startswith("_") for name in hydras for part in name.split(".")), path


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


def test_no_folder_hides_a_public_name() -> None:
    """Importing genkt.x.y sets genkt.x to the folder, whatever genkt.x was."""
    import genkt

    assert not set(genkt.__all__) & {part_of(path) for path in FILES} - {"__init__"}
