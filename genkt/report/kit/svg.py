"""The few SVG marks our charts are drawn with; colours are CSS variables of the page."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from genkt.report.kit.templates import plain


def esc(value: object) -> str:
    """Text that is safe in markup and in attributes, whatever a file or class is called."""
    return str(escape(plain(value)))


def num(value: float) -> str:
    """A coordinate with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")


def hover(title: str) -> str:
    """A tooltip, empty for no title."""
    return f"<title>{esc(title)}</title>" if title else ""


def svg(width: float, height: float, title: str, body: str) -> Markup:
    """An inline picture with an accessible title that scales down with its column."""
    return Markup(
        f'<svg viewBox="0 0 {num(width)} {num(height)}" role="img" aria-label="{esc(title)}" '
        f'class="chart" style="max-width:{num(width * 1.25)}px">{body}</svg>'
    )


def text(
    x: float, y: float, content: str, *, anchor: str = "start", css: str = "", fill: str = ""
) -> str:
    """One line of text, its baseline at y."""
    style = f' style="fill:{fill}"' if fill else ""
    return (
        f'<text x="{num(x)}" y="{num(y)}" text-anchor="{anchor}" class="{css}"{style}>'
        f"{esc(content)}</text>"
    )


def line(x1: float, y1: float, x2: float, y2: float, *, css: str, stroke: str = "") -> str:
    """A straight line."""
    style = f' style="stroke:{stroke}"' if stroke else ""
    return (
        f'<line x1="{num(x1)}" y1="{num(y1)}" x2="{num(x2)}" y2="{num(y2)}" class="{css}"{style}/>'
    )


def dot(
    x: float, y: float, radius: float, *, fill: str = "", css: str = "", title: str = ""
) -> str:
    """A filled circle with a tooltip."""
    style = f' style="fill:{fill}"' if fill else ""
    return (
        f'<circle cx="{num(x)}" cy="{num(y)}" r="{num(radius)}" class="{css}"{style}>'
        f"{hover(title)}</circle>"
    )


def rect(
    x: float,
    y: float,
    width: float,
    height: float,
    *,
    fill: str = "",
    opacity: float = 1.0,
    css: str = "",
    title: str = "",
) -> str:
    """A rectangle with a tooltip."""
    style = f' style="fill:{fill};fill-opacity:{opacity:.3g}"' if fill else ""
    return (
        f'<rect x="{num(x)}" y="{num(y)}" width="{num(max(width, 0))}" '
        f'height="{num(max(height, 0))}" class="{css}"{style}>{hover(title)}</rect>'
    )


def polyline(xs: Sequence[float], ys: Sequence[float], *, stroke: str, css: str) -> str:
    """An open line through the points."""
    points = " ".join(f"{num(x)},{num(y)}" for x, y in zip(xs, ys, strict=True))
    return f'<polyline points="{points}" class="{css}" style="stroke:{stroke}"/>'


def band(xs: Sequence[float], low: Sequence[float], high: Sequence[float], *, fill: str) -> str:
    """The area between two lines."""
    there = [f"{num(x)},{num(y)}" for x, y in zip(xs, high, strict=True)]
    back = [f"{num(x)},{num(y)}" for x, y in zip(xs, low, strict=True)]
    points = " ".join(there + back[::-1])
    return f'<polygon points="{points}" class="band" style="fill:{fill}"/>'
