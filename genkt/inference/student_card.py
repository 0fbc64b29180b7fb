"""The model card beside an exported student."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from genkt.inference.snippets import load_snippet, preprocessing, timm_snippet
from genkt.models.backbone import Backbone
from genkt.report.transfer.headline import headline_text, how_sure
from genkt.report.transfer.kept_students import kept_texts
from genkt.report.transfer.report_data import ReportData
from genkt.runs.set_card import inline
from genkt.runs.versions import versions
from genkt.types import counted

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
    summary = [
        f"{headline_text(data)} {' '.join(how_sure(data))}",
        *kept_texts(data),
        "The report of the run is next to this folder.",
    ]
    made = [f"{part.name}: {counted(part.num_samples, 'image')}" for part in data.splits]
    card = _Card(data.title, summary, data.classes, made, data.versions)
    return card.text(student, teachers)


def first_card(
    student: Backbone, teachers: Sequence[Backbone], classes: Sequence[str], accuracy: float
) -> str:
    """The card of a run's first student, while the run goes on.

    Args:
        accuracy: on the test images, 0..1.
    """
    summary = [
        f"The student of the first label draw answers {100 * accuracy:.1f} % of the test images "
        "right. Its run has not finished: whether it is better than plain fine-tuning, and how "
        "sure that is, will be here once it has.",
    ]
    return _Card("A first student", summary, classes, [], versions()).text(student, teachers)


@dataclass(frozen=True)
class _Card:
    """What cards differ in.

    Args:
        summary: paragraphs.
        made: what the student was made of, beside its teachers.
    """

    title: str
    summary: Sequence[str]
    classes: Sequence[str]
    made: Sequence[str]
    versions: Mapping[str, str]

    def text(self, student: Backbone, teachers: Sequence[Backbone]) -> str:
        """The card in Markdown."""
        front, title = _front(student), f"# {inline(self.title)}"
        body = self._body(student, teachers)
        return "\n".join(["---", *front, "---", title, "", *body, ""])

    def _body(self, student: Backbone, teachers: Sequence[Backbone]) -> Iterator[str]:
        yield f"{student.name}, {student.num_parameters:,} parameters, trained by `genkt transfer`."
        yield from self.summary
        if student.is_timm:
            yield from ("", "## Use", "", "```python", load_snippet(HERE), "```")
            yield from ("", "```python", timm_snippet(HERE), "```")
        yield from ("", "## Input", "", preprocessing(student.transform))
        yield from ("", "## Classes", "", _classes(self.classes))
        yield from ("", "## Made of", "")
        for part in self.made:
            yield f"- {part}"
        for teacher in teachers:
            yield f"- teacher: {inline(teacher.name)}{_licence(teacher)}"
        versions = ", ".join(f"{name} {value}" for name, value in self.versions.items())
        yield f"- {inline(versions)}"


def _front(student: Backbone) -> list[str]:
    library = ["library_name: timm"] if student.is_timm else []
    return [*library, "tags: [image-classification]"]


def _classes(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_CLASSES} more" if len(names) > _MOST_CLASSES else ""
    return ", ".join(f"`{inline(name)}`" for name in names[:_MOST_CLASSES]) + more + "."


def _licence(teacher: Backbone) -> str:
    """The licence that timm states for the weights of a name."""
    stated = getattr(teacher.model, "pretrained_cfg", {}).get("license")
    return f" (timm states the licence {stated} for the weights of this name)" if stated else ""
