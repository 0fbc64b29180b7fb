"""The house: what may import what, how long a file may be."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest
from floors import FLOORS, PACKAGE, ROOT, files, house, imports_of, part_of, written

FILES = files()
NOT_YET: set[tuple[str, str]] = set()
"""Imports that still lead upwards or round in a circle."""
LARGEST_SHARE = 0.12
"""Of the package's lines, in one folder."""


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


def test_the_picture_shows_the_imports() -> None:
    """Where they differ: python tools/floors.py --write docs/internals.md."""
    built = house()
    assert built.rows.keys() == {*FLOORS} - {"__init__", "__main__"}
    for part, row in built.rows.items():
        assert all(built.rows[other] < row for other in built.below(part)), part
        assert (
            {*built.nearest(part)}
            <= built.imports[part]
            <= {*built.reached(part)} | {*built.upwards(part)}
        )
    assert built.imports["losses"] == {"types"} and "models" in built.below("training")
    for path, text in written(ROOT / "docs" / "internals.md").items():
        assert path.read_text(encoding="utf-8") == text, path


def test_the_guide_names_files_that_are_there() -> None:
    text = (ROOT / "docs" / "internals.md").read_text(encoding="utf-8")
    named = re.findall(r"`(genkt/[^`]*)`", text)
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists()] == []


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
