"""The page: head, the answer on top, the sections in order; one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from genkt.report.kit.style import CSS
from genkt.report.kit.svg import esc
from genkt.report.transfer import answers, sections
from genkt.report.transfer.report_data import ReportData
from genkt.report.transfer.summary import BETTER, WORSE, headline, headline_text, summarise, verdict

# Nothing may be fetched and no script may run, even if a hostile name slipped through.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def render(data: ReportData) -> str:
    """The whole report as one HTML document."""
    summaries = summarise(data)
    parts = [
        ("result", "Result", sections.result(data, summaries)),
        ("learning", "Learning curves", sections.learning(data, summaries)),
        ("predictions", "Predictions", answers.predictions(data)),
        ("flips", "Gained and lost", answers.flipped(data)),
        ("teacher", "Teacher features", sections.teacher_features(data)),
        ("transfer", "Transfer set", sections.transfer_set(data)),
        ("cost", "Cost", sections.cost(data, summaries)),
        ("data", "Data", sections.data_summary(data)),
        ("repeat", "Use and repeat", sections.repeat(data)),
    ]
    links, bodies = body_of(parts)
    return document(
        f"{data.title} · genkt report",
        headline_text(data),
        f"{_header(data, links)}<main>{bodies}</main>"
        f"<footer>Written by genkt {esc(data.versions.get('genkt', ''))}. The same numbers, "
        "machine-readable: report.json.</footer>",
    )


def body_of(parts: Sequence[tuple[str, str, str]]) -> tuple[str, str]:
    """(links, sections) of the (key, title, markup) parts that have something to show."""
    present = [(key, title, body) for key, title, body in parts if body]
    links = "".join(f'<a href="#{key}">{title}</a>' for key, title, _ in present)
    bodies = "".join(
        f'<section id="{key}" class="{"long" if len(body) > 20_000 else ""}">'
        f"<h2>{title}</h2>{body}</section>"
        for key, title, body in present
    )
    return links, bodies


def document(title: str, description: str, body: str) -> str:
    """One self-contained page in genkt's style; title and description are plain text."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<meta name="description" content="{esc(description)}">'
        f"<title>{esc(title)}</title><style>{CSS}</style></head><body>{body}</body></html>\n"
    )


def _header(data: ReportData, links: str) -> str:
    state = verdict(data)
    css = state if state in (BETTER, WORSE) else ""
    pieces, seen_key = [], 0
    for words, is_key in headline(data):
        tied = (
            esc(words)
            .replace(" %", "&nbsp;%")
            .replace(" points", "&nbsp;points")
            .replace(" ± ", "&nbsp;±&nbsp;")
        )
        if is_key:
            seen_key += 1
            tied = f'<b class="{css if seen_key > 1 else ""}">{tied}</b>'
        pieces.append(tied)
    date = data.versions.get("date", "")
    when = f" · {esc(date)}" if date else ""
    listed = "".join(f"<li>{esc(note)}</li>" for note in data.notes)
    notes = f'<ul class="notes">{listed}</ul>' if listed else ""
    return (
        f'<header><p class="eyebrow"><b>{esc(data.title)}</b> · genkt report{when}</p>'
        f"<h1>{''.join(pieces)}</h1>{sections.facts(data)}{notes}<nav>{links}</nav></header>"
    )
