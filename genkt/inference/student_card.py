"""The model card beside an exported student."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from genkt.inference.snippets import load_snippet, preprocessing, timm_snippet
from genkt.models.backbone import Backbone
from genkt.report.transfer.headline import headline_text, how_sure
from genkt.report.transfer.report_data import ReportData
from genkt.runs.set_card import inline

HERE = "path/to/this/folder"
"""Placeholder for the folder in the card, as the folder may be moved."""

_MOST_CLASSES = 100


def student_card(data: ReportData, student: Backbone, teachers: Sequence[Backbone]) -> str:
    """The card in Markdown: what the student can do, how to load it, how it was made.

    Args:
        data: the run's report.
        student: as exported.
        teachers: of the run; the card gives their licences.
    """
    return "\n".join(
        [
            "---",
            *_front(student),
            "---",
            f"# {inline(data.title)}",
            "",
            *_body(data, student, teachers),
            "",
        ]
    )


def _front(student: Backbone) -> list[str]:
    library = ["library_name: timm"] if student.is_timm else []
    return [*library, "tags: [image-classification]"]


def _body(data: ReportData, student: Backbone, teachers: Sequence[Backbone]) -> Iterator[str]:
    yield f"{student.name}, {student.num_parameters:,} parameters, trained by `genkt transfer`."
    yield f"{headline_text(data)} {' '.join(how_sure(data))}"
    yield "The report of the run is next to this folder."
    if student.is_timm:
        yield from ("", "## Use", "", "```python", load_snippet(HERE), "```")
        yield from ("", "```python", timm_snippet(HERE), "```")
    yield from ("", "## Input", "", preprocessing(student.transform))
    yield from ("", "## Classes", "", _classes(data.classes))
    yield from ("", "## Made of", "")
    for part in data.splits:
        yield f"- {part.name}: {part.num_samples:,} images"
    for teacher in teachers:
        yield f"- teacher: {inline(teacher.name)}{_licence(teacher)}"
    made = ", ".join(f"{name} {value}" for name, value in data.versions.items())
    yield f"- {inline(made)}"


def _classes(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_CLASSES} more" if len(names) > _MOST_CLASSES else ""
    return ", ".join(f"`{inline(name)}`" for name in names[:_MOST_CLASSES]) + more + "."


def _licence(teacher: Backbone) -> str:
    """The licence that timm states for the weights of a name."""
    stated = getattr(teacher.model, "pretrained_cfg", {}).get("license")
    return f" (timm states the licence {stated} for the weights of this name)" if stated else ""
