"""Handwritten forms that no font has: crossed sevens, flagged ones, open fours, curled nines.

Written down by hand as pen strokes, never traced from a data set. Every copy jitters the control
points. This changes a form in ways that a warp of a finished glyph cannot.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

Stroke = tuple[tuple[float, float], ...]

LINE, CURVE = "line", "curve"

FORMS: tuple[tuple[str, tuple[tuple[str, Stroke], ...]], ...] = (
    ("1", ((LINE, ((0.05, 0.45), (0.6, 0.0), (0.6, 1.0))),)),
    ("1", ((LINE, ((0.15, 0.3), (0.6, 0.0), (0.55, 1.0))),)),
    ("1", ((CURVE, ((0.0, 0.5), (0.3, 0.35), (0.65, 0.0))), (LINE, ((0.65, 0.0), (0.6, 1.0))))),
    ("2", ((CURVE, ((0.1, 0.2), (0.45, 0.0), (0.8, 0.2), (0.6, 0.55), (0.15, 0.95),
                     (0.3, 0.8), (0.55, 0.95), (0.95, 0.95))),)),
    ("2", ((CURVE, ((0.1, 0.25), (0.5, 0.0), (0.75, 0.25), (0.55, 0.6), (0.1, 1.0))),
           (LINE, ((0.1, 1.0), (0.9, 1.0))))),
    ("3", ((LINE, ((0.1, 0.0), (0.85, 0.0), (0.4, 0.4))),
           (CURVE, ((0.4, 0.4), (0.85, 0.55), (0.8, 0.9), (0.4, 1.0), (0.05, 0.85))))),
    ("3", ((CURVE, ((0.1, 0.1), (0.5, 0.0), (0.8, 0.2), (0.4, 0.45))),
           (CURVE, ((0.4, 0.45), (0.85, 0.65), (0.7, 0.95), (0.3, 1.0), (0.05, 0.9))))),
    ("4", ((LINE, ((0.3, 0.0), (0.05, 0.6), (0.95, 0.6))), (LINE, ((0.7, 0.25), (0.6, 1.0))))),
    ("4", ((CURVE, ((0.15, 0.0), (0.1, 0.4), (0.4, 0.55), (0.8, 0.45))),
           (LINE, ((0.85, 0.0), (0.75, 1.0))))),
    ("4", ((LINE, ((0.55, 0.0), (0.05, 0.65), (0.95, 0.6))), (LINE, ((0.6, 0.4), (0.5, 1.0))))),
    ("5", ((LINE, ((0.9, 0.0), (0.25, 0.02), (0.15, 0.45))),
           (CURVE, ((0.15, 0.45), (0.6, 0.4), (0.85, 0.65), (0.65, 0.95), (0.1, 0.95))))),
    ("6", ((CURVE, ((0.6, 0.0), (0.25, 0.35), (0.12, 0.75), (0.4, 1.0), (0.8, 0.88),
                     (0.75, 0.62), (0.4, 0.6), (0.15, 0.8))),)),
    ("6", ((CURVE, ((0.35, 0.0), (0.15, 0.5), (0.15, 0.9), (0.55, 1.0), (0.85, 0.75),
                     (0.5, 0.6), (0.15, 0.85))),)),
    ("7", ((LINE, ((0.05, 0.03), (0.9, 0.0), (0.4, 1.0))), (LINE, ((0.25, 0.5), (0.9, 0.48))))),
    ("7", ((CURVE, ((0.1, 0.1), (0.45, 0.03), (0.85, 0.0))),
           (CURVE, ((0.85, 0.0), (0.6, 0.45), (0.45, 1.0))), (LINE, ((0.2, 0.52), (0.95, 0.5))))),
    ("7", ((CURVE, ((0.05, 0.2), (0.2, 0.0), (0.5, 0.08), (0.85, 0.0))),
           (CURVE, ((0.85, 0.0), (0.6, 0.5), (0.5, 1.0))), (LINE, ((0.25, 0.55), (0.95, 0.5))))),
    ("8", ((CURVE, ((0.8, 0.12), (0.45, 0.0), (0.2, 0.22), (0.5, 0.48), (0.8, 0.75), (0.5, 1.0),
                     (0.2, 0.78), (0.5, 0.48), (0.8, 0.22), (0.7, 0.05))),)),
    ("9", ((CURVE, ((0.8, 0.15), (0.45, 0.0), (0.15, 0.2), (0.4, 0.42), (0.8, 0.15),
                     (0.8, 0.55), (0.7, 1.0))),)),
    ("9", ((CURVE, ((0.8, 0.2), (0.4, 0.0), (0.15, 0.25), (0.45, 0.45), (0.8, 0.2), (0.85, 0.65),
                     (0.6, 0.98), (0.1, 0.92))),)),
    ("9", ((CURVE, ((0.7, 0.05), (0.2, 0.1), (0.2, 0.4), (0.7, 0.35), (0.75, 0.1), (0.85, 0.6),
                     (0.5, 1.0), (0.15, 1.0))),)),
    ("Z", ((LINE, ((0.05, 0.0), (0.95, 0.0), (0.05, 1.0), (0.95, 1.0))),
           (LINE, ((0.2, 0.5), (0.8, 0.5))))),
    ("g", ((CURVE, ((0.75, 0.1), (0.35, 0.0), (0.1, 0.3), (0.35, 0.55), (0.75, 0.4))),
           (CURVE, ((0.8, 0.0), (0.78, 0.5), (0.7, 0.95), (0.3, 1.0), (0.05, 0.85))))),
    ("q", ((CURVE, ((0.7, 0.08), (0.3, 0.0), (0.1, 0.25), (0.35, 0.5), (0.7, 0.35))),
           (LINE, ((0.72, 0.0), (0.7, 1.0), (0.9, 0.85))))),
)  # fmt: skip
"""(character, strokes) in a unit box, x to the right, y down."""

_JITTER = 0.045
_WIDTH = 0.11


def write_forms(num_copies: int, *, seed: int, side: int, box: int) -> list[tuple[str, np.ndarray]]:
    """Write every form several times, each with its own jitter.

    Args:
        num_copies: copies of a form.  side: of the canvas, pixels.  box: longer side of the ink.

    Returns:
        (character, bool [side, side]) pairs, the same for the same arguments.
    """
    rng = np.random.default_rng(seed)
    return [
        (character, _write(strokes, rng, side, box))
        for character, strokes in FORMS
        for _ in range(num_copies)
    ]


def _write(
    strokes: tuple[tuple[str, Stroke], ...], rng: np.random.Generator, side: int, box: int
) -> np.ndarray:
    narrow = rng.uniform(0.55, 0.9)  # handwriting is taller than wide
    paths = []
    for kind, points in strokes:
        moved = np.asarray(points) + rng.normal(0, _JITTER, (len(points), 2))
        paths.append((_smooth(moved) if kind == CURVE else moved) * (narrow, 1.0))
    ends = np.concatenate(paths)
    low, high = ends.min(axis=0), ends.max(axis=0)
    scale = box / (high - low).max()
    image = Image.new("L", (side, side))
    draw = ImageDraw.Draw(image)
    for path in paths:
        placed = (path - (low + high) / 2) * scale + side / 2
        draw.line([tuple(point) for point in placed], fill=255, width=round(_WIDTH * box),
                  joint="curve")  # fmt: skip
    return np.asarray(image) > 127


def _smooth(points: np.ndarray, steps: int = 8) -> np.ndarray:
    """A Catmull-Rom curve through the points: [P, 2] -> [(P - 1) * steps + 1, 2]."""
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    curve = []
    for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        curve.append(
            0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2
                   + (3 * b - a - 3 * c + d) * t**3)
        )  # fmt: skip
    return np.concatenate([*curve, points[-1:]])
