"""Scales and axes of all charts: where a value lies, round numbers, grid lines and their labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from genkt.report.kit import svg


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic axis: where a value lies in pixels.

    Args:
        low, high: values at its ends.  left, right: the ends in pixels; of a vertical axis they
            are its bottom and its top.
    """

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

    def all(self, values: Iterable[float]) -> list[float]:
        """Where several values lie."""
        return [self(float(value)) for value in values]

    @property
    def middle(self) -> float:
        """Pixels."""
        return (self.left + self.right) / 2


def padded(
    values: Sequence[float], share: float, least: float, *, percent: bool = False
) -> tuple[float, float]:
    """The range of some values with a margin.

    Args:
        share: of the range, on each side.  least: the smallest margin.
        percent: the values are shares of 100, so is the range.
    """
    low, high = min(values), max(values)
    margin = max(share * (high - low), least)
    if percent:
        return max(low - margin, 0.0), min(high + margin, 100.0)
    return low - margin, high + margin


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


def log_ticks(low: float, high: float) -> list[float]:
    """1, 1.5, 2, 3, 5, 7 and their tenfolds within [low, high], or the ends."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [digit * 10.0**power for power in powers for digit in (1, 1.5, 2, 3, 5, 7)]
    return [value for value in values if low <= value <= high] or [low, high]


def tick_label(value: float) -> str:
    """A short number: 2k for 2000, 0.05, 70."""
    if abs(value) >= 1000:
        return f"{value / 1000:g}k".replace("-", "−")
    return f"{round(value, 6):g}".replace("-", "−")


def percent_label(value: float) -> str:
    """A short number in percent."""
    return f"{tick_label(value)} %"


def vertical(y: Scale, values: Sequence[float], left: float, right: float) -> str:
    """Grid lines across the plot, each with its number on the left."""
    parts = []
    for value in values:
        parts.append(svg.line(left, y(value), right, y(value), css="grid"))
        parts.append(svg.text(left - 6, y(value) + 4, tick_label(value), anchor="end", css="small"))
    return "".join(parts)


def horizontal(
    x: Scale,
    values: Sequence[float],
    bottom: float,
    *,
    label: Callable[[float], str] = tick_label,
    top: float | None = None,
    below: float = 17,
    gap: float = 0,
    inside: bool = False,
) -> str:
    """Numbers below the plot.

    Args:
        top: of grid lines; None: none are drawn.  below: from the bottom to the numbers.
        gap: a number nearer than this to the one before it is left out.
        inside: numbers at the ends do not stick out of the plot.
    """
    parts, last = [], -math.inf
    for value in values:
        at = x(value)
        if at - last < gap:
            continue
        last = at
        if top is not None:
            parts.append(svg.line(at, top, at, bottom, css="grid"))
        anchor = "middle"
        if inside:
            anchor = "end" if at > x.right - 14 else "start" if at < x.left + 10 else "middle"
        parts.append(svg.text(at, bottom + below, label(value), anchor=anchor, css="small"))
    return "".join(parts)


def floor(left: float, right: float, bottom: float, title: str, at: float) -> str:
    """The line that the plot stands on, and what its numbers are, ``at`` a height."""
    line = svg.line(left, bottom, right, bottom, css="axis")
    return line + svg.text((left + right) / 2, at, title, anchor="middle", css="small")


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
