"""Tables of the page and numbers with units."""

from __future__ import annotations

from collections.abc import Sequence


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    main: Sequence[bool] | None = None,
    *,
    words: bool = False,
) -> str:
    """A table that scrolls sideways on a small screen; cells are markup, escaped by the caller.

    Args:
        main: which rows stand out.  words: the cells are text: left-aligned and wrapped.
    """
    css = ' class="words"' if words else ""
    top = "".join(f'<th scope="col"{css}>{cell}</th>' for cell in head)
    body = []
    for index, row in enumerate(rows):
        strong = ' class="main"' if main is not None and main[index] else ""
        cells = "".join(f"<td{css}>{cell}</td>" for cell in row)
        body.append(f"<tr{strong}>{cells}</tr>")
    thead = f"<thead><tr>{top}</tr></thead>" if any(head) else ""
    return f'<div class="scroll"><table>{thead}<tbody>{"".join(body)}</tbody></table></div>'


def named(color: str, name: str) -> str:
    """A name with a dot in its colour; the name is markup, escaped by the caller."""
    return f'<span class="named" style="--dot:{color}">{name}</span>'


def meter(share: float) -> str:
    """A bar whose length is a share 0..1 of its track."""
    return f'<span class="track"><i class="meter" style="width:{100 * share:.1f}%"></i></span>'


def amount(value: float) -> str:
    """A count with a unit: 320 k, 2.8 M, 1.1 B."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:g}"


def duration(seconds: float) -> str:
    """Wall time: 8.4 s, 2 min 5 s, 1 h 20 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
