"""How often answers of some confidence are right, as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from genkt.metrics.calibration import Reliability
from genkt.report.kit import axes, svg
from genkt.report.kit.axes import Scale
from genkt.report.kit.charts import WIDTH
from genkt.report.kit.templates import shorten

_HEIGHT, _LEFT, _TOP, _BOTTOM = 330, 44, 12, 38
_LARGEST, _SMALLEST = 16.0, 2.0


def reliability_chart(curves: Sequence[tuple[str, str, Reliability]]) -> Markup:
    """A line through the bins that have answers; a dot's area is the share of the answers in it.

    Args:
        curves: (name, colour, curve).
    """
    lowest = min(float(np.nanmin(curve.confidence)) for _, _, curve in curves)
    x = Scale(10 * (10 * lowest // 1), 100, _LEFT, WIDTH - 14)
    if x.low >= 100:
        x = Scale(90, 100, x.left, x.right)
    y = Scale(0, 100, _HEIGHT - _BOTTOM, _TOP)
    parts = [
        axes.vertical(y, axes.ticks(0, 100), _LEFT, x.right),
        axes.horizontal(
            x, axes.ticks(x.low, 100), y.left, label=axes.percent_label, below=16, inside=True
        ),
        axes.floor(_LEFT, x.right, y.left, "confidence of the answer", _HEIGHT - 4),
        svg.line(x(x.low), y(x.low), x(100), y(100), css="reference"),
    ]
    for index, (name, color, curve) in enumerate(curves):
        parts.append(_curve(name, color, curve, x, y))
        at = _TOP + 14 + 17 * index
        parts.append(svg.text(_LEFT + 8, at, shorten(name, 30), css="label halo", fill=color))
    title = "Share of right answers by their confidence"
    return svg.svg(WIDTH, _HEIGHT, title, "".join(parts))


def _curve(name: str, color: str, curve: Reliability, x: Scale, y: Scale) -> str:
    used = curve.count > 0
    sure, right = 100 * curve.confidence[used], 100 * curve.accuracy[used]
    shares = curve.count[used] / curve.count.sum()
    parts = [svg.polyline(x.all(sure), y.all(right), stroke=color, css="curve thin")]
    for a, b, share in zip(sure, right, shares, strict=True):
        radius = max(_LARGEST * float(np.sqrt(share)), _SMALLEST)
        title = f"{name}: {100 * share:.1f} % of the answers, sure {a:.1f} %, right {b:.1f} %"
        parts.append(svg.dot(x(a), y(b), radius, fill=color, title=title))
    return "".join(parts)
