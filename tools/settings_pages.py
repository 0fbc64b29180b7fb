"""The configuration reference: every setting with its type, bounds, default and meaning.

    python tools/settings_pages.py DIR    # writes the pages; make docs does it while it builds

Types and bounds are those of the settings dataclasses, defaults and comments those of ``configs/``.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
import sys
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from genkt.cli.main import COMMANDS  # noqa: E402
from genkt.settings.objects import GivenObject  # noqa: E402
from genkt.settings.schema import OneOf  # noqa: E402
from genkt.types import Range  # noqa: E402

CONFIGS = ROOT / "configs"
VERBATIM = ("recipe", "study", "experiment")
"""Groups whose files are lists of stages or arms: shown as they are."""

_KEY = re.compile(r"( *)([\w]+):(?: ([^#]*?))?(?: *# (.*))?$")
_SCALARS = {bool: "true, false", int: "whole number", float: "number", str: "text"}
_ARGUMENT = re.compile(r"^ +([a-z_]+(?:, [a-z_]+)*): (.*)$")


@dataclasses.dataclass(frozen=True)
class Setting:
    """One row of a table: dotted key, what it takes, default as YAML writes it, meaning."""

    key: str
    takes: str
    default: str
    meaning: str


def config_of(command: str) -> Any:
    """The dataclass of a command's settings, by its name in the command's module."""
    module = importlib.import_module(f"genkt.cli.{command}")
    name = f"{command.capitalize()}Config"
    return getattr(module, name)


@dataclasses.dataclass(frozen=True)
class Written:
    """What a YAML file says of its keys: dotted key -> default, and -> comment."""

    title: str
    groups: Mapping[str, str]
    defaults: Mapping[str, str]
    comments: Mapping[str, str]


def written(path: Path) -> Written:
    """Read a file of ``configs``, and the files it takes in at the same place."""
    lines = path.read_text(encoding="utf-8").splitlines()
    title = " ".join(
        line.lstrip("# ") for line in lines[: _header(lines)] if "@package" not in line
    )
    groups: dict[str, str] = {}
    defaults: dict[str, str] = {}
    comments: dict[str, str] = {}
    for each in yaml.safe_load("\n".join(lines)).get("defaults", []):
        name, choice = next(iter(each.items())) if isinstance(each, dict) else (each, None)
        name = name.removeprefix("optional ")
        if name.endswith("@_here_"):
            file = name.removesuffix("@_here_").lstrip("/")
            other = written(CONFIGS / (f"{file}/{choice}.yaml" if choice else f"{file}.yaml"))
            defaults |= other.defaults
            comments |= other.comments
        elif choice is not None or (CONFIGS / name).is_dir():
            groups[name] = str(choice)
    stack: list[tuple[int, str]] = []
    last = ""
    for line in lines[_header(lines) :]:
        match = _KEY.match(line)
        if match:
            depth = len(match[1])
            stack = [each for each in stack if each[0] < depth]
            last = ".".join([*(name for _, name in stack), match[2]])
            stack.append((depth, match[2]))
            defaults[last] = (match[3] or "").strip()
            comments[last] = match[4] or ""
        elif last and line.strip().startswith("# "):
            comments[last] = f"{comments[last]} {line.strip()[2:]}".strip()
    return Written(title, groups, defaults, comments)


def _header(lines: Sequence[str]) -> int:
    return next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))


def settings(kind: Any, said: Written, prefix: str = "") -> Iterator[Setting]:
    """The settings of a dataclass, the inner ones by dotted keys; groups are left out."""
    hints = typing.get_type_hints(kind, include_extras=True)
    told = _arguments(kind)
    for field in dataclasses.fields(kind):
        key, hint = prefix + field.name, hints[field.name]
        inner = [each for each in _options(hint) if dataclasses.is_dataclass(each)]
        if key in said.groups or _by_name(hint) or _is_named(inner):
            continue
        meaning = said.comments.get(key) or _of_yaml(told.get(field.name, ""))
        if len(inner) == 1:
            yield Setting(key, "", "", meaning)
            yield from settings(inner[0], said, f"{key}.")
            continue
        yield Setting(key, takes(hint), said.defaults.get(key, _default(field)), meaning)


def _of_yaml(text: str) -> str:
    """A docstring in the words of YAML and Markdown."""
    return text.replace("``", "`").replace("None:", "null:").removesuffix(".")


def _default(field: Any) -> str:
    if field.default is dataclasses.MISSING:
        return ""
    return "null" if field.default is None else str(field.default)


def _arguments(kind: Any) -> dict[str, str]:
    """Field -> what the docstring of its dataclass says of it."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        name = ""
        for line in (each.__doc__ or "").partition("Args:\n")[2].splitlines():
            if not line.strip():
                break
            if match := _ARGUMENT.match(line):
                name = match[1]
                found |= dict.fromkeys(name.split(", "), match[2])
            elif name:
                found |= {part: f"{found[part]} {line.strip()}" for part in name.split(", ")}
    return found


def _options(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a type; objects that can only be given in Python are left out."""
    if get_origin(hint) is Annotated:
        return _options(get_args(hint)[0])
    found = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return tuple(each for each in found if each is not GivenObject)


def _by_name(hint: Any) -> Mapping[str, Any]:
    """Name -> dataclass, where a setting's name says which of several it is."""
    for option in (hint, *get_args(hint)):
        for mark in getattr(option, "__metadata__", ()):
            if isinstance(mark, OneOf):
                return mark.by_name
    return {}


def _is_named(kinds: Sequence[Any]) -> bool:
    """Whether a setting is a choice of groups, each with a name or a verb."""
    return bool(kinds) and all({"name", "do"} & set(kind.__annotations__) for kind in kinds)


def takes(hint: Any) -> str:
    """What a setting takes, in words.

    >>> takes(Literal["a", "b"] | None), takes(Annotated[int, Range(1, 8)])
    ('a, b or null', 'whole number 1 .. 8')
    """
    origin = get_origin(hint)
    if origin is Annotated:
        own = [bound for bound in hint.__metadata__ if isinstance(bound, Range)]
        return _joined(get_args(hint)[0], " ".join(filter(None, map(_bounds, own))))
    if origin is Literal:
        return ", ".join(str(choice) for choice in get_args(hint))
    if origin in (Union, types.UnionType):
        return " or ".join(takes(option) for option in _options(hint))
    if origin is tuple and get_args(hint)[-1] is not Ellipsis:
        return f"list of {len(get_args(hint))}: {takes(get_args(hint)[0])}"
    if origin in (list, tuple):
        return f"list of: {takes(get_args(hint)[0])}"
    if origin is dict:
        return "mapping"
    return "null" if hint is type(None) else _SCALARS.get(hint, "anything")


def _joined(hint: Any, bounds: str) -> str:
    """A type with its bounds, which are those of its numbers."""
    words = [takes(each) for each in _options(hint)]
    places = [i for i, each in enumerate(_options(hint)) if each is not type(None)]
    if bounds:
        words[places[0]] += f" {bounds}"
    return " or ".join(words)


def _bounds(bound: Range) -> str:
    """Bounds that a reader may meet; those beyond any machine are left out."""
    if bound.high is not None and bound.high >= 10**6:
        low = bound.low if bound.low is not None and bound.low > -(10**6) else None
        return "" if low is None else str(Range(low, None, bound.above))
    return str(bound)


def table(rows: Sequence[Setting]) -> str:
    """A table of settings in Markdown."""
    lines = ["| setting | default | takes | what it is |", "|---|---|---|---|"]
    for row in rows:
        meaning = "" if row.meaning.replace(" | ", ", ") == row.takes else row.meaning
        cells = [f"`{row.key}`", f"`{row.default}`" if row.default else "", row.takes, meaning]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def command_page(command: str) -> str:
    """The page of one command."""
    said = written(CONFIGS / f"{command}.yaml")
    rows = list(settings(config_of(command), said))
    title = re.sub(r"^genkt [^:]+: ", "", said.title)
    parts = [f"# genkt {command}", f"{title[0].upper()}{title[1:]}"]
    groups = [name for name in said.groups if (CONFIGS / name).is_dir() and name != "hydra"]
    if groups:
        parts.append("It chooses one of each of these groups, which bring settings of their own:")
        parts.append("\n".join(_group_line(name, said.groups[name]) for name in groups))
    parts += ["## Settings", table(rows)]
    return "\n\n".join(parts) + "\n"


def _group_line(group: str, default: str) -> str:
    if group == "experiment":
        return "- `experiment`: see [the papers' settings](../papers.md)"
    named = ", ".join(f"`{each}`" for each in choices(group))
    return f"- [`{group}`]({group}.md): {named} (default `{default}`)"


def choices(group: str) -> list[str]:
    """The files of a group."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def groups() -> dict[str, Any]:
    """Group -> the type of its settings, in the order in which the commands name them."""
    found: dict[str, Any] = {}
    for command in COMMANDS:
        hints = typing.get_type_hints(config_of(command), include_extras=True)
        for name in written(CONFIGS / f"{command}.yaml").groups:
            if name in hints and (CONFIGS / name).is_dir():
                found.setdefault(name, hints[name])
    return found


def group_page(group: str, hint: Any) -> str:
    """The page of one group: a section for each of its choices."""
    parts = [f"# {group}", f"Written `{group}=CHOICE`, its settings `{group}.KEY=VALUE`."]
    for choice in choices(group):
        path = CONFIGS / group / f"{choice}.yaml"
        said = written(path)
        parts += [f"## {group}={choice}", f"{said.title[:1].upper()}{said.title[1:]}"]
        if group in VERBATIM:
            lines = path.read_text(encoding="utf-8").rstrip().splitlines()
            parts.append("\n".join(["```yaml", *lines[_header(lines) :], "```"]))
            continue
        rows = settings(_chosen(hint, choice), said)
        shown = [Setting(f"{group}.{r.key}", r.takes, r.default, r.meaning) for r in rows]
        shown = [row for row in shown if row.key != f"{group}.name"]
        parts.append(table(shown) if shown else "No settings of its own.")
    if group == "recipe":
        parts += _stage_parts(hint)
    if group == "study":
        parts += ["## What a study may say", table(list(settings(hint, Written("", {}, {}, {}))))]
    return "\n\n".join(parts) + "\n"


def _chosen(hint: Any, choice: str) -> Any:
    """The dataclass of a choice."""
    if by_name := _by_name(hint):
        return by_name[choice]
    kinds = [each for each in _options(hint) if dataclasses.is_dataclass(each)]
    for kind in kinds:
        name = typing.get_type_hints(kind, include_extras=True).get("name")
        if choice in get_args(name):
            return kind
    return kinds[0]


def _stage_parts(hint: Any) -> Iterator[str]:
    """A section for every kind of stage that a recipe may list."""
    staged = next(k for k in _options(hint) if "stages" in k.__annotations__)
    inner = get_args(typing.get_type_hints(staged, include_extras=True)["stages"])[1]
    for kind in _options(inner):
        verb = get_args(typing.get_type_hints(kind, include_extras=True)["do"])[0]
        rows = list(settings(kind, Written("", {}, {}, {})))
        yield f"## do: {verb}"
        yield _of_yaml((kind.__doc__ or "").partition("\n")[0].partition("``: ")[2])
        yield table([row for row in rows if row.key != "do"])


def names() -> list[str]:
    """The files of the whole reference."""
    return ["index.md", *(f"{each}.md" for each in (*COMMANDS, *groups()))]


def pages() -> dict[str, str]:
    """File name -> text, of the whole reference."""
    found = {f"{command}.md": command_page(command) for command in COMMANDS}
    found |= {f"{group}.md": group_page(group, hint) for group, hint in groups().items()}
    lines = [f"| [`{name}`]({name}.md) | {text} |" for name, text in COMMANDS.items()]
    found["index.md"] = "\n".join(
        [
            "# Configuration reference",
            "",
            "These pages are made from genkt's settings dataclasses and the YAML files in "
            "`configs/`. `genkt COMMAND --help` prints the same.",
            "",
            "On the command line a setting is written `key=value`, an inner one with dots: "
            "`train.lr=1e-3`. A list is `[a,b]`, a mapping `{a: 1}`, nothing `null`. From Python "
            'the same words are keyword arguments: `train={"lr": 1e-3}`.',
            "",
            "`--config-dir DIR` looks into a folder of your own before genkt's: `recipe=mine` then "
            "reads `DIR/recipe/mine.yaml`. `--config-name NAME` starts from another file, for "
            "example from the `config.yaml` of a run. `-m` runs a sweep: `-m train.lr=1e-3,3e-3`.",
            "",
            "| command | what it does |",
            "|---|---|",
            *lines,
            "",
        ]
    )
    return found


def main(words: Sequence[str]) -> int:
    """Write the pages into a folder. Returns: the exit code."""
    folder = Path(words[0])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
