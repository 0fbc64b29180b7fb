"""The page: head, the answer on top, the sections in order; one file that needs nothing else."""

from __future__ import annotations

from genkt.metrics.verdicts import BETTER, WORSE
from genkt.report.kit.templates import page, sections
from genkt.report.transfer import answers
from genkt.report.transfer import sections as shown
from genkt.report.transfer.budget_section import budget
from genkt.report.transfer.headline import headline, headline_text, scope, verdict_word
from genkt.report.transfer.metrics_section import beyond_accuracy
from genkt.report.transfer.report_data import ReportData
from genkt.report.transfer.summary import summarise


def render(data: ReportData) -> str:
    """The whole report as one HTML document."""
    summaries = summarise(data)
    return page(
        "report.html",
        command="report",
        title=data.title,
        date=data.versions.get("date", ""),
        version=data.versions.get("genkt", ""),
        description=headline_text(data),
        pieces=_pieces(data),
        facts=shown.facts(data),
        notes=[*scope(data), *(("", note) for note in data.notes)],
        sections=sections("transfer", [
            ("result", "Result", shown.result(data, summaries)),
            ("metrics", "Beyond accuracy", beyond_accuracy(data)),
            ("learning", "Learning curves", shown.learning(data, summaries)),
            ("predictions", "Predictions", answers.predictions(data)),
            ("flips", "Gained and lost", answers.flipped(data)),
            ("teacher", "Teacher features", shown.teacher_features(data)),
            ("transfer", "Transfer set", shown.transfer_set(data)),
            ("cost", "Cost", shown.cost(data, summaries)),
            ("budget", "Budget", budget(data)),
            ("near", "Near copies of test images", shown.near_copies(data)),
            ("data", "Data", shown.data_summary(data)),
            ("repeat", "Use and repeat", shown.repeat(data)),
        ]),
    )  # fmt: skip


def _pieces(data: ReportData) -> list[tuple[str, str | None]]:
    """The answer as (text, its class, None where it is no key figure); the verdict has a colour."""
    state = verdict_word(data)
    color = state if state in (BETTER, WORSE) else ""
    pieces: list[tuple[str, str | None]] = []
    for text, is_key in headline(data):
        first = all(css is None for _, css in pieces)
        pieces.append((text, ("" if first else color) if is_key else None))
    return pieces
