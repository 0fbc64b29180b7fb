"""The floors of the package, drawn from its imports.

    python tools/floors.py                               # prints what imports what
    python tools/floors.py --write docs/internals.md     # its table, and floors.svg beside it

Each part imports from those before it in ``FLOORS`` only (test_floors.py). In the picture a
part stands one row above the highest part that it imports; of its imports only those are drawn
that no other one brings along.
"""

from __future__ import annotations

import argparse
import ast
import functools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "genkt"
FLOORS = [
    "__init__", "types", "earlier", "synonyms", "disk", "io", "settings", "files", "locks",
    "progress", "stopping", "precision", "losses", "metrics", "execution", "data", "readers",
    "models", "transfer_set", "stores", "generative", "methods", "training", "report",
    "config", "runs", "upstream", "retrieval", "synthesis", "inference", "stages", "transfers",
    "comparison", "analysis", "cli", "api", "__main__",
]  # fmt: skip
"""Every file and folder of the package: each imports from those before it only."""
PICTURE = "floors.svg"
BEGIN, END = "<!-- floors: written by tools/floors.py -->", "<!-- end of floors -->"

_ROW, _HEIGHT, _GAP, _WIDTH, _MARGIN = 64, 30, 16, 900, 20
_LETTER, _PADDING = 7.4, 24
_STYLE = """
.page{fill:#fbfaf7}.part rect{fill:#fff;stroke:#767b85}.part text{fill:#1d1f24}
.import{fill:none;stroke:#0a6cb4;stroke-opacity:.45}.upwards{stroke:#c4510c;stroke-opacity:1;
stroke-dasharray:5 4}text{font:13.5px system-ui,sans-serif;text-anchor:middle}
@media (prefers-color-scheme:dark){.page{fill:#131519}.part rect{fill:#1b1e24;stroke:#9aa0ab}
.part text{fill:#e8e8ea}.import{stroke:#58b0f4}.upwards{stroke:#f0935a}}
"""


def files() -> list[Path]:
    """Every file of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    """The top-level part a file belongs to: "data", "types", "__init__" ..."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@functools.cache
def imports_of(path: Path) -> tuple[str, ...]:
    """Every module a file imports, wherever in the file; ``from a import b`` gives a and a.b."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import in line {node.lineno}"
            assert node.module is not None
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(found)


def parts_imported(path: Path) -> set[str]:
    """The parts of genkt that a file imports from."""
    inside = [name.split(".") for name in imports_of(path) if name.split(".")[0] == "genkt"]
    known = {parts[1] for parts in inside if len(parts) > 1 and parts[1] in FLOORS}
    return known | ({"__init__"} if any(parts == ["genkt"] for parts in inside) else set())


@dataclass(frozen=True)
class House:
    """What the picture shows; ``__init__`` and ``__main__`` are left out.

    Args:
        imports: part -> parts that it imports, all of them.
        rows: part -> its row, 0 at the bottom.
        about: part -> the first sentence of its docstring.
    """

    imports: Mapping[str, frozenset[str]]
    rows: Mapping[str, int]
    about: Mapping[str, str]

    def below(self, part: str) -> list[str]:
        """The imports that lead downwards, in the order of the floors."""
        order = FLOORS.index(part)
        return [each for each in FLOORS[:order] if each in self.imports[part]]

    def upwards(self, part: str) -> list[str]:
        """The imports that do not."""
        return sorted(self.imports[part] - {*self.below(part)})

    def nearest(self, part: str) -> list[str]:
        """The downward imports that no other downward import brings along."""
        below = self.below(part)
        brought = {each for other in below for each in self.reached(other)}
        return [each for each in below if each not in brought]

    def reached(self, part: str) -> set[str]:
        """All parts below that importing a part loads."""
        below = self.below(part)
        return {*below}.union(*(self.reached(each) for each in below))


def house() -> House:
    """The parts and their imports, as the files have them now."""
    imports: dict[str, set[str]] = {}
    for path in files():
        part = part_of(path)
        imports.setdefault(part, set()).update(parts_imported(path) - {part, "__init__"})
    for hidden in ("__init__", "__main__"):
        imports.pop(hidden, None)
    rows: dict[str, int] = {}
    for part in (part for part in FLOORS if part in imports):
        rows[part] = 1 + max((rows[o] for o in imports[part] if o in rows), default=-1)
    kept = {part: frozenset(others) for part, others in imports.items()}
    return House(kept, rows, {part: _about(part) for part in rows})


def _about(part: str) -> str:
    """The first line of a part's docstring, as Markdown."""
    path = PACKAGE / part / "__init__.py"
    path = path if path.is_file() else PACKAGE / f"{part}.py"
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.split("\n")[0].replace("``", "`").replace("|", "\\|")


def picture(built: House) -> str:
    """The floors as an SVG: boxes in rows, lines to what they import; light and dark."""
    places = _places(built)
    height = 2 * _MARGIN + _ROW * max(built.rows.values()) + _HEIGHT
    lines, boxes = [], []
    for part, (x, y, width) in places.items():
        for other in built.nearest(part):
            lines.append(_line(places[part], places[other], "import"))
        for other in built.upwards(part):
            lines.append(_line(places[other], places[part], "import upwards"))
        below = ", ".join(built.below(part)) or "nothing of genkt"
        boxes.append(
            f'<g class="part"><title>{escape(f"{part} imports {below}")}</title>'
            f'<rect x="{x - width / 2:.1f}" y="{y}" width="{width:.1f}" height="{_HEIGHT}" rx="6"/>'
            f'<text x="{x:.1f}" y="{y + 20}">{escape(part)}</text></g>'
        )
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        'aria-label="Folders and files of genkt, each above what it imports">',
        f"<style>{_STYLE}</style>",
        f'<rect class="page" width="{_WIDTH}" height="{height}" rx="10"/>',
        *lines, *boxes, "</svg>\n",
    ])  # fmt: skip


def _places(built: House) -> dict[str, tuple[float, int, float]]:
    """Part -> (middle, top, width) of its box; each row in the order of what its boxes import."""
    found: dict[str, tuple[float, int, float]] = {}
    highest = max(built.rows.values())
    for row in range(highest + 1):
        parts = [part for part, its in built.rows.items() if its == row]
        parts.sort(key=lambda part: _wanted(built.nearest(part), found))
        widths = [_LETTER * len(part) + _PADDING for part in parts]
        space = (_WIDTH - sum(widths)) / (len(parts) + 1)
        left, top = space, _MARGIN + _ROW * (highest - row)
        for part, width in zip(parts, widths, strict=True):
            found[part] = (left + width / 2, top, width)
            left += width + space
    return found


def _wanted(others: Sequence[str], places: Mapping[str, tuple[float, int, float]]) -> float:
    """The mean place of what a part imports."""
    xs = [places[other][0] for other in others]
    return sum(xs) / len(xs) if xs else _WIDTH / 2


def _line(upper: tuple[float, int, float], lower: tuple[float, int, float], css: str) -> str:
    """From the bottom of a box to the top of one below."""
    (x1, y1, _), (x2, y2, _) = upper, lower
    start, end = y1 + _HEIGHT, y2
    bend = min(40.0, (end - start) / 2)
    return (
        f'<path class="{css}" d="M{x1:.1f} {start}C{x1:.1f} {start + bend:.1f} '
        f'{x2:.1f} {end - bend:.1f} {x2:.1f} {end}"/>'
    )


def table(built: House) -> str:
    """What each part holds, from the top floor down, as Markdown with the picture above."""
    rows = []
    for part in sorted(built.rows, key=lambda each: (-built.rows[each], FLOORS.index(each))):
        name = f"`{part}/`" if (PACKAGE / part).is_dir() else f"`{part}.py`"
        nearest = ", ".join(f"`{each}`" for each in built.nearest(part)) or "–"
        rows.append(f"| {name} | {built.about[part]} | {nearest} |")
    wrong = any(built.upwards(part) for part in built.rows)
    return "\n".join([
        BEGIN, "", f"![Folders and files of genkt, each above what it imports]({PICTURE})", "",
        *(["A broken line is an import that still leads upwards.", ""] if wrong else []),
        "| Part | What it holds | Stands on |", "| --- | --- | --- |", *rows, "", END,
    ])  # fmt: skip


def written(page: Path) -> dict[Path, str]:
    """Path -> text of the page and of its picture as the imports have them now.

    Raises:
        ValueError: the page has no place for the table.
    """
    text, built = page.read_text(encoding="utf-8"), house()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page}: expected the lines {BEGIN} and {END}, got a page without them")
    return {page: before + table(built) + after, page.with_name(PICTURE): picture(built)}


def main(words: Sequence[str] | None = None) -> int:
    """Write or print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path, help="a page with a place for the table")
    given = parser.parse_args(words)
    if given.write is None:
        built = house()
        for part in built.rows:
            print(f"{built.rows[part]:>2}  {part}: {', '.join(built.below(part))}")
        return 0
    for path, text in written(given.write).items():
        path.write_text(text, encoding="utf-8")
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
