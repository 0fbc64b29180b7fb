"""A griffe extension: examples of docstrings become code blocks, wherever they stand in them."""

from __future__ import annotations

from typing import Any

import griffe


class DocstringExamples(griffe.Extension):  # type: ignore[misc]  # griffe comes with mkdocs
    """Puts doctests between fences; "Example:" becomes a bold word."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every object that has been read."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """The text with every doctest, up to the next blank line, between fences."""
    found: list[str] = []
    indent: str | None = None  # of the open block
    for line in [*text.splitlines(), ""]:
        if indent is None and line.lstrip().startswith(">>> "):
            indent = line[: len(line) - len(line.lstrip())]
            if found and found[-1].strip() in ("Example:", "Examples:"):
                found[-1:] = ["**Example**", ""]
            elif found and found[-1].strip():
                found.append("")
            found.append("```pycon")
        elif indent is not None and not line.strip():
            found.append("```")
            indent = None
        found.append(line if indent is None else line.removeprefix(indent))
    return "\n".join(found)
