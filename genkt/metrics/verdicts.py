"""What an interval allows to be said, in the same words everywhere."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from genkt.metrics.intervals import Design, ScoreInterval
from genkt.types import UserError

BETTER, WORSE, OPEN = "better", "worse", "not established"
"""The verdicts on a difference or a ratio."""

WITHIN, BEYOND = "within", "beyond"
"""The verdicts of ``non_inferior``, besides ``OPEN``."""

MIN_DRAWS = 3
"""Under it nothing is established. The t of two draws has one degree of freedom: +- 12.7 errors."""

MIN_IMAGES, FEW_IMAGES = 30, 100
"""Independent test images: under the first nothing is established, under the second with a note."""

LEVEL = 0.05


@dataclass(frozen=True)
class Verdict:
    """A word, why it cannot be another one, and what to keep in mind.

    Args:
        word: one of the constants above.
        reason: why nothing can be established with these draws and images; empty where it can.
        notes: sentences.
    """

    word: str
    reason: str = ""
    notes: tuple[str, ...] = ()

    @property
    def established(self) -> bool:
        """Whether the word says more than ``OPEN``."""
        return self.word != OPEN


def verdict(interval: ScoreInterval, p: float | None = None) -> Verdict:
    """How a stands against b, from a difference or a ratio.

    Args:
        p: to decide by, such as one that ``holm`` adjusted; the interval's own by default.

    Raises: UserError for one arm alone.
    """
    if interval.kind in ("share", "mean"):
        raise UserError("verdict: expected a difference or a ratio, got the mean of one arm")
    reason = _too_few(interval)
    decides = interval.p if p is None else p
    if reason or not decides < LEVEL:
        return Verdict(OPEN, reason, few_images(interval))
    return Verdict(BETTER if interval.mean > interval.null else WORSE, "", few_images(interval))


def non_inferior(interval: ScoreInterval, margin: float = 0.02) -> Verdict:
    """Whether a is no worse than b by more than a margin, such as a student than its teacher.

    ``WITHIN`` where the whole interval is above -margin ("within 2 points of its teacher"),
    ``BEYOND`` where all of it is below. Not being ``WORSE`` is not enough: that also holds where
    too little was measured.

    Args:
        margin: a share, above 0.
    """
    if interval.kind != "difference" or not margin > 0:
        raise UserError(
            "non-inferiority: expected a difference and a margin above 0, got a "
            f"{interval.kind} and {margin}"
        )
    reason, word = _too_few(interval), OPEN
    if not reason and interval.low > -margin:
        word = WITHIN
    elif not reason and interval.high < -margin:
        word = BEYOND
    return Verdict(word, reason, few_images(interval))


def holm(p_values: Sequence[float], contrasts: Sequence[Hashable] | None = None) -> list[float]:
    """P-values adjusted for being several: all below 0.05 hold together with 95 % confidence.

    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979. NaN (no test)
    counts as one of the several and stays NaN.

    Args:
        contrasts: what each p-value is of. One that is listed twice counts once, and so do the
            pairs (a, b) and (b, a). Without it all are different.

    Raises: UserError for a p-value outside 0..1, or two p-values of the same contrast.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    >>> holm([0.01, 0.04, 0.01], [("a", "b"), ("a", "c"), ("b", "a")])
    [0.02, 0.04, 0.02]
    """
    if contrasts is not None and len(contrasts) != len(p_values):
        raise UserError(f"holm: expected {len(p_values)} contrasts, got {len(contrasts)}")
    family: dict[Hashable, float] = {}
    keys = [_key(contrast) for contrast in contrasts or range(len(p_values))]
    for key, p in zip(keys, p_values, strict=True):
        if not (math.isnan(p) or 0 <= p <= 1):
            raise UserError(f"holm: expected p-values in 0..1, got {p}")
        known = family.setdefault(key, p)
        if not math.isclose(known, p, abs_tol=1e-12) and not (math.isnan(known) and math.isnan(p)):
            raise UserError(f"holm: expected one p-value per contrast, got {known} and {p}")
    adjusted: dict[Hashable, float] = {}
    reached, left = 0.0, len(family)
    for key, p in sorted(family.items(), key=lambda item: (math.isnan(item[1]), item[1])):
        reached = max(reached, min(1.0, left * p)) if not math.isnan(p) else reached
        adjusted[key] = math.nan if math.isnan(p) else reached
        left -= 1
    return [adjusted[key] for key in keys]


def is_shown(interval: ScoreInterval) -> bool:
    """Whether its ends are told anywhere: not those of two draws."""
    return interval.design.draws != 2


def ends(interval: ScoreInterval) -> str:
    """ "7.1 to 12.5" in percent or points, a loss as it is; "" where it is not shown."""
    if not is_shown(interval):
        return ""
    low, high = (_number(interval, end) for end in (interval.low, interval.high))
    return f"{low} to {high}"


def span(interval: ScoreInterval, of: str = "student") -> str:
    """ "7.1 to 12.5" in percent or points, or why there is none; never wider than 0 to 100.

    Args:
        of: what one draw is alone of, such as "model".
    """
    if not is_shown(interval):
        return _two_are_few(interval.design)
    alone = interval.kind in ("share", "mean")
    whose = f"this {of}" if alone else f"these two {of}s"
    return ends(interval) + (f", of {whose} alone" if interval.design.draws == 1 else "")


def centre(interval: ScoreInterval) -> str:
    """The mean alone: "+8.0 points", "93.9 %", of a ratio "98.0 %", of a loss "0.21"."""
    mean = _number(interval, interval.mean)
    if interval.kind == "mean":
        return mean
    if interval.kind == "difference":
        sign = "+" if interval.mean > 0 and float(mean) != 0 else ""
        return f"{sign}{mean} points"
    return f"{mean} %"


def spelled(interval: ScoreInterval, of: str = "student") -> str:
    """ "+8.0 points (4.9 to 11.0)", "93.9 % (91.2 to 95.8)" or, of a ratio, "98.0 % (...)".

    Args:
        of: see ``span``.
    """
    return f"{centre(interval)} ({span(interval, of)})"


def _two_are_few(design: Design) -> str:
    return f"two {design.varying}s are too few for an interval"


def _too_few(interval: ScoreInterval) -> str:
    design = interval.design
    if design.draws == 1:
        return "one draw: the interval is of these two students alone"
    if design.draws < MIN_DRAWS:
        return _two_are_few(design)
    if design.images < MIN_IMAGES:
        unit = "groups of test images" if design.grouped else "test images"
        return f"{design.images} {unit} are too few: {MIN_IMAGES} or more are needed"
    return ""


def few_images(interval: ScoreInterval) -> tuple[str, ...]:
    design = interval.design
    if MIN_IMAGES <= design.images < FEW_IMAGES:
        unit = "groups of test images" if design.grouped else "test images"
        return (f"Only {design.images} {unit}: the interval is rough under {FEW_IMAGES}.",)
    return ()


def _key(contrast: Hashable) -> Hashable:
    if isinstance(contrast, tuple) and len(contrast) == 2 and contrast[0] != contrast[1]:
        return frozenset(contrast)
    return contrast


def _decimals(interval: ScoreInterval) -> int:
    """One, two of a loss, or as many as the two ends need to differ."""
    scale, fewest = _scale(interval)
    for decimals in range(fewest, 6):
        if f"{scale * interval.low:.{decimals}f}" != f"{scale * interval.high:.{decimals}f}":
            return decimals
    return 6


def _number(interval: ScoreInterval, value: float) -> str:
    """In percent, with a true minus; what rounds to zero has no sign."""
    scale, _ = _scale(interval)
    text = f"{abs(scale * value):.{_decimals(interval)}f}"
    return text if float(text) == 0 or value > 0 else f"−{text}"


def _scale(interval: ScoreInterval) -> tuple[int, int]:
    """What a value is told in, and the fewest decimals."""
    return (1, 2) if interval.kind == "mean" else (100, 1)
