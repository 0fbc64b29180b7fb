"""The few SVG marks our charts are drawn with; colours are CSS variables of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

# C0 controls break markup and terminals; bidirectional overrides let a name rewrite its
# neighbours on screen. Both are shown as the replacement character.
_UNSAFE = {code: "\ufffd" for code in [*range(9), 11, 12, *range(14, 32), 127]}
_UNSAFE |= {code: "\ufffd" for code in [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]}


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic axis: where a value lies in pixels."""

    low: float
    high: float
    left: float
    right: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = (math.log2(each) for each in (value, low, high))
        return self.left + (value - low) / (high - low) * (self.right - self.left)


def esc(value: object) -> str:
    """Text that is safe in markup and in attributes, whatever a file or class is called."""
    text = str(value).encode("utf-8", "replace").decode("utf-8")
    return escape(text.translate(_UNSAFE), quote=True)


def shorten(text: str, most: int) -> str:
    """At most ``most`` characters, cut with an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"


def num(value: float) -> str:
    """A coordinate with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")


def hover(title: str) -> str:
    """A tooltip, empty for no title."""
    return f"<title>{esc(title)}</title>" if title else ""


def svg(width: float, height: float, title: str, body: str, css: str = "") -> str:
    """An inline picture with an accessible title that scales down with its column."""
    return (
        f'<svg viewBox="0 0 {num(width)} {num(height)}" role="img" aria-label="{esc(title)}" '
        f'class="chart {css}" style="max-width:{num(width * 1.25)}px">{body}</svg>'
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


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About ``count`` round numbers within [low, high]."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def tick_label(value: float) -> str:
    """A short number: 2k for 2000, 0.05, 70."""
    if abs(value) >= 1000:
        return f"{value / 1000:g}k".replace("-", "−")
    return f"{round(value, 6):g}".replace("-", "−")


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions near the wanted ones, at least ``gap`` apart where [low, high] has the room."""
    if not wanted:
        return []
    gap = min(gap, (high - low) / max(len(wanted) - 1, 1))
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    placed = [0.0] * len(wanted)
    previous = low - gap
    for index in order:
        previous = max(min(max(wanted[index], low), high), previous + gap)
        placed[index] = previous
    limit = high
    for index in reversed(order):
        placed[index] = min(placed[index], limit)
        limit = placed[index] - gap
    return placed
