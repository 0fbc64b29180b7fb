"""The snippets of README.md and docs/: commands whose options exist, Python that runs.

    python tools/snippets.py           # all of them, slow ones too; make docs does it
    python tools/snippets.py --quick   # as the test suite does

Marks stand behind the language of a fence:

    ```sh                  every genkt command in it has options that exist; here its settings are
                           read and checked as genkt does it
    ```sh slow             ... and it runs here
    ```python run          runs in the test suite; blocks of a page share their names
    ```python slow         runs here, not in the test suite
    ```python shown        is compiled, and what it imports of genkt is there
    ```yaml file=PATH      is written to PATH before the blocks below it

Everything happens in a folder with tiny images under the names that the pages use. Exits with 1
where a snippet is at fault.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args, get_origin
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from settings_pages import CONFIGS, config_of, written  # noqa: E402

from genkt.cli.compare import read_comparison  # noqa: E402
from genkt.cli.main import COMMANDS  # noqa: E402
from genkt.cli.positional import with_positionals  # noqa: E402
from genkt.cli.synthesize import as_synthesis  # noqa: E402
from genkt.config.read_config import read_config  # noqa: E402
from genkt.data.packages.package import Package  # noqa: E402
from genkt.settings.assignments import Said  # noqa: E402
from genkt.settings.kinds import kinds_of  # noqa: E402
from genkt.settings.words import MODEL_GROUPS, sort_words  # noqa: E402
from genkt.types import UserError  # noqa: E402

PLACES = {"predict": ("run", "images"), "export": ("run",), "inspect": ("set",),
          "convert": ("checkpoint",)}  # fmt: skip
"""Commands that take words without a key, and whose words these are."""

LISTED = ("methods", "transfer_sets", "teachers", "students")
"""What genkt compare takes every combination of."""
FOLDERS = (
    *("photos", "more_photos", "other_photos", "web_images", "conf", "gen", "data", "places"),
    *("runs/photos", "runs/near", "runs/synth", "runs/a", "runs/b"),
    *("runs/composed_digg", "runs/composed_retrieved"),
)
"""Folders that the pages name."""
LISTS = ("train.csv", "val.csv", "test.csv", "all.csv", "decisions.csv", "labels.txt")

_FENCE = re.compile(r"^```(\w+)((?: [\w-]+(?:=\S+)?)*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_WRAPPERS = re.compile(r"^(?:\w+=\S+\s+)*(?:torchrun|srun)\s.*?(?=genkt\s)")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    marks: tuple[str, ...]
    text: str

    @property
    def file(self) -> str | None:
        """Where it is to be written, if it is a file."""
        return next((m.removeprefix("file=") for m in self.marks if m.startswith("file=")), None)

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """README.md and all pages of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, match.start()) + 1,
            match[1],
            tuple(match[2].split()),
            match[3],
        )
        for match in _FENCE.finditer(text)
    ]


def make_world(folder: Path) -> None:
    """Fill a folder with what the pages name: tiny images, lists, empty runs."""
    from PIL import Image

    for name in FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for part, count in (("train", 6), ("val", 2), ("test", 3), ("unlabelled", 4)):
        for place, label in enumerate(("cat", "dog", "elk")):
            inner = folder / "photos" / part / ("" if part == "unlabelled" else label)
            inner.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                colour = (80 * place, 20 * number, 40 * len(part))
                Image.new("RGB", (24, 20), colour).save(inner / f"{label}{number}.jpg")
    for name in LISTS:
        (folder / name).write_text("train/cat/cat0.jpg,cat\ntrain/dog/dog0.jpg,dog\n")
    for name in ("image.jpg", "weights.pth", "last.ckpt", "model.yaml"):
        (folder / name).write_bytes(b"")


def commands(block: Block) -> Iterator[list[str]]:
    """The genkt commands of a shell block, as words; "..." stands for words left out."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(_WRAPPERS.sub("", line), comments=True)
        if words[:1] == ["genkt"]:
            yield [word for word in words[1:] if word != "..."]


def command_fault(words: Sequence[str]) -> str | None:
    """What genkt says against a command line; None where it takes it.

    Packages that readers bring count as brought: they are not on every machine that checks this.
    """
    if (fault := option_fault(words)) or not _has_settings(words):
        return fault
    command, *rest = words
    rest = [word for word in rest if word != "method=auto"]  # looks at the data first
    try:
        if command == "compare":
            read_comparison(rest)
        else:
            said = [word for word in _spelled(command, rest) if word != "-m"]
            with mock.patch.object(Package, "find", return_value=Path()):
                read_config(config_of(command), command, said)
    except UserError as error:
        return str(error)
    return None


def option_fault(words: Sequence[str]) -> str | None:
    """An option or a choice of a command line that does not exist; quick."""
    if not _has_settings(words):
        known = not words or words[0] in (*COMMANDS, "COMMAND", "--help", "--version")
        return None if known else f"no such command: {words[0]}"
    command, *rest = words
    names = [command, "transfer"] if command == "compare" else [command]
    groups = {group for name in names for group in written(CONFIGS / f"{name}.yaml").groups}
    sorted_ = sort_words(_spelled(command, rest), command)
    if sorted_.faults:
        return str(sorted_.faults[0])
    for each in sorted_.settings:
        key, value = each.key, each.text
        if key in groups:
            choices = [*sorted_.choices(key), "auto"]
            if key not in MODEL_GROUPS and value not in choices:
                return f"{key}={value}: expected one of {', '.join(choices)}"
            continue
        kinds = [kind for name in names for kind in kinds_of(config_of(name), key)]
        if not kinds and not (command == "compare" and key in LISTED):
            return f"{key}: genkt {command} has no such setting"
        literals = [each for each in kinds if get_origin(each) is Literal]
        if len(literals) == len(kinds) > 0:
            choices = [str(choice) for each in literals for choice in get_args(each)]
            if value not in choices:
                return f"{key}={value}: expected one of {', '.join(choices)}"
    return None


def _has_settings(words: Sequence[str]) -> bool:
    return bool(words) and words[0] in COMMANDS and "--help" not in words


def _spelled(command: str, words: list[str]) -> Sequence[Said]:
    """The words as settings: those without a key get theirs."""
    if command == "synthesize":
        return as_synthesis(words)
    return with_positionals(words, *PLACES[command]) if command in PLACES else words


def shell_faults(block: Block, *, slow: bool) -> list[str]:
    """What is wrong with the commands of a shell block; slow: with all their settings."""
    faults = []
    for words in commands(block):
        if fault := (command_fault if slow else option_fault)(words):
            faults.append(f"{block}: genkt {shlex.join(words)}\n    {fault}")
    for script in re.findall(r"python ((?:tools|benchmarks)/\w+\.py)", block.text):
        if not (ROOT / script).is_file():
            faults.append(f"{block}: no such file: {script}")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for names in re.findall(r"genkt\[([\w,]+)\]", block.text):
        for name in set(names.split(",")) - set(extras["optional-dependencies"]):
            faults.append(f"{block}: no such extra: {name}")
    return faults


def import_faults(block: Block) -> list[str]:
    """Syntax errors of a Python block, and names of genkt in it that are not there."""
    try:
        tree = ast.parse(block.text)
    except SyntaxError as error:
        return [f"{block}: {error}"]
    faults = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("genkt"):
            module: Any = importlib.import_module(str(node.module))
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id != "genkt":
                continue
            module, names = importlib.import_module("genkt"), [node.attr]
        else:
            continue
        faults += [
            f"{block}: {module.__name__} has no {n}" for n in names if not hasattr(module, n)
        ]
    return faults


def page_faults(page: Path, folder: Path, *, slow: bool) -> list[str]:
    """What is wrong with the snippets of a page.

    Args:
        folder: where they run (see ``make_world``); the working directory is there meanwhile.
        slow: whether blocks marked so are run.
    """
    faults, space = [], ModuleType("snippets_of_a_page")
    sys.modules[space.__name__] = space  # dataclasses look their module up
    with contextlib.chdir(folder):
        for block in blocks(page):
            if block.file is not None:
                Path(block.file).parent.mkdir(parents=True, exist_ok=True)
                Path(block.file).write_text(block.text, encoding="utf-8")
            if block.language == "sh":
                faults += shell_faults(block, slow=slow)
                if slow and "slow" in block.marks:
                    faults += _run_shell(block)
            elif block.language == "python":
                faults += import_faults(block)
                if "run" in block.marks or (slow and "slow" in block.marks):
                    faults += _run_python(block, vars(space))
    return faults


def _run_python(block: Block, space: dict[str, Any]) -> list[str]:
    source = "\n" * block.line + block.text  # an error names the page's line
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(source, str(block.page), "exec"), space)
    except Exception:
        return [f"{block}:\n{traceback.format_exc(limit=-3)}"]
    return []


def _run_shell(block: Block) -> list[str]:
    bin_ = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    ran = subprocess.run(
        ["bash", "-ec", block.text],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": bin_},
    )
    return (
        []
        if ran.returncode == 0
        else [f"{block}: exit code {ran.returncode}\n{ran.stderr[-2000:]}"]
    )


def main(words: Sequence[str]) -> int:
    """Check all pages. Returns: the exit code."""
    faults = []
    for page in pages():
        with tempfile.TemporaryDirectory() as folder:
            make_world(Path(folder))
            found = page_faults(page, Path(folder), slow="--quick" not in words)
        print(
            f"{page.relative_to(ROOT)}: {len(blocks(page))} blocks, {len(found)} faults", flush=True
        )
        faults += found
    print("\n".join(faults) or "every snippet is sound")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
