"""How often the 95 % intervals of ``genkt.metrics`` cover the truth, by simulation.

    python tools/coverage.py                             # prints the tables
    python tools/coverage.py --write docs/coverage.md    # a few minutes on one core

Every repetition makes new students and new test images of the same kind, scores 0 or 1 each answer
of two arms, and asks whether the interval covers the true difference. Exits with 1 where a cell of
3 or more draws and 50 or more images is covered less often than promised.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from scipy.special import ndtr, ndtri, stdtrit  # noqa: E402

from genkt.metrics import (  # noqa: E402
    balanced_accuracy,
    class_counts,
    paired_interval,
    pseudo_values,
    ratio_interval,
)
from genkt.metrics.crossed import mean_squares, mean_squares_of_seeds  # noqa: E402
from genkt.metrics.limits import Limits, difference_limits, share_limits  # noqa: E402

Scores = NDArray[np.float32]

DRAWS = (1, 2, 3, 5, 10)
IMAGES = (5, 20, 50, 200, 2000)
PROMISED_DRAWS, PROMISED_IMAGES = 3, 50
PROMISE, NOISE = 0.93, 0.01
"""Least coverage there, and what 4,000 repetitions may miss it by (2.5 standard errors)."""

CHUNK = 2_000_000
"""Scores of one arm that are made at a time."""


@dataclass(frozen=True)
class World:
    """Two arms whose answers are wrong where a sum of normal effects of variance 1 is large.

    Args:
        accuracy_a, accuracy_b: the truth.
        shared: variance of what makes an image hard for both arms and all draws.
        own: of what makes it hard for all draws of one arm.
        draw: of what makes a draw of an arm good or bad; the rest differs everywhere.
        overlap: share of the draws' variance that all draws of an arm have in common.
        seed: variance from seed to seed within a draw.
    """

    accuracy_a: float
    accuracy_b: float
    shared: float = 0.0
    own: float = 0.0
    draw: float = 0.01
    overlap: float = 0.0
    seed: float = 0.0

    @property
    def difference(self) -> float:
        """The truth."""
        return self.accuracy_a - self.accuracy_b


INDEPENDENT = {"shared": 0.0, "own": 0.0, "draw": 0.01}
CORRELATED = {"shared": 0.4, "own": 0.3, "draw": 0.002}
WORLDS = {
    "independent, null": World(0.9, 0.9, **INDEPENDENT),
    "independent": World(0.9, 0.85, **INDEPENDENT),
    "correlated, null": World(0.9, 0.9, **CORRELATED),
    "correlated": World(0.9, 0.85, **CORRELATED),
}
HARD = {
    ".97 against .90": World(0.97, 0.9, **CORRELATED),
    ".70 against .60": World(0.7, 0.6, **CORRELATED),
    ".99 against .95": World(0.99, 0.95, **CORRELATED),
    ".999 against .98": World(0.999, 0.98, **CORRELATED),
    ".98 against .96, only images matter": World(0.98, 0.96, shared=0.8),
    ".99 against .95, only images matter": World(0.99, 0.95, shared=0.8),
    ".90 against .85, draws matter": World(0.9, 0.85, shared=0.4, own=0.3, draw=0.02),
    ".90 against .85, only own images": World(0.9, 0.85, own=0.8),
    ".90 against .85, draws matter most": World(0.9, 0.85, shared=0.3, own=0.2, draw=0.1),
    ".99 against .95, draws matter most": World(0.99, 0.95, shared=0.3, own=0.2, draw=0.1),
}
HARD_SIZES = ((3, 50), (3, 200), (5, 50), (5, 200), (10, 50), (10, 200))


def answers(
    world: World, shape: tuple[int, ...], rng: np.random.Generator
) -> tuple[Scores, Scores, NDArray[np.float64]]:
    """0/1 scores of both arms, and what of each difference is true of these students alone.

    Args:
        shape: repetitions, draws, (seeds,) images.

    Returns: a and b of that shape; [repetitions, draws] true difference given the draws' effects.
    """
    repetitions, draws, *between, images = shape
    image = (repetitions, *(1 for _ in shape[1:-1]), images)
    hard = _normal(rng, image, world.shared)
    scores, given = [], []
    for accuracy in (world.accuracy_a, world.accuracy_b):
        own = _normal(rng, image, world.own)
        common = _normal(rng, (repetitions, *(1 for _ in shape[1:])), world.draw * world.overlap)
        draw = _normal(rng, (*shape[:2], *(1 for _ in shape[2:])), world.draw * (1 - world.overlap))
        effect = common + draw
        rest = 1 - world.shared - world.own - world.draw - world.seed
        total = _normal(rng, shape, rest)
        total += hard + own
        total += effect
        if between:
            total += _normal(rng, (*shape[:-1], 1), world.seed)
        limit = ndtri(accuracy)
        scores.append((total < limit).astype(np.float32))
        level = effect.reshape(repetitions, draws).astype(np.float64)
        given.append(ndtr((limit - level) / math.sqrt(1 - world.draw)))
    return scores[0], scores[1], given[0] - given[1]


def _normal(rng: np.random.Generator, shape: tuple[int, ...], variance: float) -> Scores:
    if variance == 0:
        return np.zeros(shape, np.float32)
    found = rng.standard_normal(shape, dtype=np.float32)
    found *= np.float32(math.sqrt(variance))
    return found


def chunks(
    world: World, shape: tuple[int, ...], repetitions: int, seed: int
) -> Iterator[tuple[Scores, Scores, NDArray[np.float64]]]:
    """All repetitions of a cell, some at a time."""
    rng = np.random.default_rng([seed, *shape])
    most = max(1, CHUNK // math.prod(shape))
    for start in range(0, repetitions, most):
        yield answers(world, (min(most, repetitions - start), *shape), rng)


@dataclass(frozen=True)
class Coverage:
    """Shares of repetitions in which the interval covers the truth.

    Args:
        pair: of the difference.  arm: of the accuracy of the first arm.
        student: of the difference, by Student's t over the draws' means, the usual interval.
    """

    pair: float
    arm: float
    student: float


def coverage(world: World, draws: int, images: int, repetitions: int, seed: int) -> Coverage:
    """Of one cell. With one draw the truth is that of these two students (and one arm has none)."""
    hits = np.zeros(3)
    for a, b, given in chunks(world, (draws, images), repetitions, seed):
        truth = given[:, 0] if draws == 1 else world.difference
        hits[0] += _covers(limits(a, b), truth)
        if draws > 1:
            hits[1] += _covers(share_limits(mean_squares(a)), world.accuracy_a)
            hits[2] += _student(a, b, world.difference)
    pair, arm, student = hits / repetitions
    return Coverage(pair, arm, student) if draws > 1 else Coverage(pair, math.nan, math.nan)


def limits(a: Scores, b: Scores, pool_share: float = 0.0) -> Limits:
    """Of every repetition, from [repetitions, draws, (seeds,) images] scores."""
    squares = (mean_squares if a.ndim == 3 else mean_squares_of_seeds)(a - b)
    axes = tuple(range(1, a.ndim))
    mean_a, mean_b, both = (each.mean(axis=axes, dtype=np.float64) for each in (a, b, a * b))
    return difference_limits(squares, mean_a, mean_b, both, pool_share)


def _covers(found: Limits, truth: Any) -> int:
    inside = (found.low <= truth + 1e-9) & (truth - 1e-9 <= found.high)
    return int(inside.sum())


def _student(a: Scores, b: Scores, truth: float) -> int:
    means = (a - b).mean(axis=-1, dtype=np.float64)
    draws = means.shape[-1]
    reach = stdtrit(draws - 1, 0.975) * means.std(axis=-1, ddof=1) / math.sqrt(draws)
    return int((np.abs(means.mean(axis=-1) - truth) <= reach + 1e-12).sum())


def overlapping(repetitions: int, seed: int) -> list[tuple[str, float]]:
    """Draws of half of a pool: with the correction of the labels' part, and without."""
    world = World(0.9, 0.85, shared=0.3, own=0.2, draw=0.05, overlap=0.5)
    rows = []
    for draws in (3, 5, 10):
        hits = np.zeros(2)
        for a, b, _ in chunks(world, (draws, 200), repetitions, seed):
            hits += [_covers(limits(a, b, share), world.difference) for share in (0.5, 0.0)]
        name = f"{draws} draws of half of the pool, `pool_share=0.5`"
        rows += [(name, hits[0] / repetitions), ("the same, not given", hits[1] / repetitions)]
    return rows


def several_seeds(repetitions: int, seed: int) -> list[tuple[str, float]]:
    """Draws of 3 seeds, the draws of half of a pool."""
    world = World(0.9, 0.85, shared=0.3, own=0.2, draw=0.05, overlap=0.5, seed=0.02)
    hits = 0
    for a, b, _ in chunks(world, (5, 3, 200), repetitions, seed):
        hits += _covers(limits(a, b, 0.5), world.difference)
    return [("5 such draws of 3 seeds each, `pool_share=0.5`", hits / repetitions)]


def grouped(repetitions: int, seed: int) -> list[tuple[str, float]]:
    """60 groups of 1 to 6 images that are hard or easy together; larger groups are harder."""
    rng = np.random.default_rng([seed, 60])
    world = World(0.9, 0.85, own=0.5)
    sizes = np.arange(1, 7)
    harder = (sizes - 3.5) * 0.1
    truth = [
        (sizes * ndtr(ndtri(accuracy) - harder)).sum() / sizes.sum()
        for accuracy in (world.accuracy_a, world.accuracy_b)
    ]
    hits = np.zeros(2)
    for _ in range(repetitions):
        size = rng.choice(sizes, 60)
        groups = np.repeat(np.arange(60), size)
        shift = np.repeat((size - 3.5) * 0.1, size)
        arms = []
        for accuracy in (world.accuracy_a, world.accuracy_b):
            total = rng.standard_normal(60)[groups] * math.sqrt(world.own) + shift
            total = total + rng.standard_normal((5, 1)) * math.sqrt(world.draw)
            rest = math.sqrt(1 - world.own - world.draw)
            total = total + rng.standard_normal((5, groups.size)) * rest
            arms.append((total < ndtri(accuracy)).astype(np.float64))
        for place, ids in enumerate((list(groups), None)):
            found = paired_interval(arms[0], arms[1], groups=ids)
            hits[place] += found.low <= truth[0] - truth[1] <= found.high
    names = ("images in 60 groups of 1 to 6, `groups` given", "the same, `groups` not given")
    return list(zip(names, hits / repetitions, strict=True))


def balanced(repetitions: int, seed: int) -> list[tuple[str, float]]:
    """Balanced accuracy of 3 classes of 60, 30 and 10 % of 200 images, by pseudo-values."""
    rng = np.random.default_rng([seed, 3])
    world, accuracies = World(0.9, 0.85, **CORRELATED), np.array([0.95, 0.85, 0.7])
    hits = 0
    for _ in range(repetitions):
        labels = rng.choice(3, 200, p=[0.6, 0.3, 0.1])
        hard = rng.standard_normal(200) * math.sqrt(world.shared)
        values = []
        for worse in (0.0, 0.05):
            own = rng.standard_normal(200) * math.sqrt(world.own)
            draw = rng.standard_normal((5, 1)) * math.sqrt(world.draw)
            rest = math.sqrt(1 - world.shared - world.own - world.draw)
            total = hard + own + draw + rng.standard_normal((5, 200)) * rest
            right = total < ndtri(accuracies - worse)[labels]
            predicted = np.where(right, labels, (labels + 1) % 3)
            values.append(pseudo_values(class_counts(labels, predicted), balanced_accuracy))
        found = paired_interval(values[0], values[1], pseudo=True)
        hits += found.low <= 0.05 <= found.high
    return [("balanced accuracy, 3 classes, pseudo-values", hits / repetitions)]


def ratio(repetitions: int, seed: int) -> list[tuple[str, float]]:
    """The ratio of .85 and .90."""
    world, hits = World(0.85, 0.9, **CORRELATED), 0
    for a, b, _ in chunks(world, (5, 200), repetitions, seed):
        for first, second in zip(a, b, strict=True):
            found = ratio_interval(first, second)
            hits += found.low <= world.accuracy_a / world.accuracy_b <= found.high
    return [("the ratio of .85 and .90", hits / repetitions)]


SPECIAL: tuple[Callable[[int, int], list[tuple[str, float]]], ...] = (
    overlapping, several_seeds, grouped, balanced, ratio,
)  # fmt: skip


def main_table(repetitions: int, seed: int) -> tuple[list[list[str]], list[str]]:
    """Rows of the table over ``DRAWS`` and ``IMAGES``, and the cells under the promise."""
    rows, faults = [], []
    for draws in DRAWS:
        for images in IMAGES:
            found = {
                name: coverage(world, draws, images, repetitions, seed)
                for name, world in WORLDS.items()
            }
            arms = [found[name].arm for name in ("independent", "correlated")]
            student = min(each.student for each in found.values())
            numbers = [*(each.pair for each in found.values()), *arms]
            rows.append([str(draws), f"{images:,}", *map(_percent, numbers), _percent(student)])
            if draws >= PROMISED_DRAWS and images >= PROMISED_IMAGES:
                faults += [f"{draws} x {images}: {n:.3f}" for n in numbers if n < PROMISE - NOISE]
    return rows, faults


def hard_table(repetitions: int, seed: int) -> list[list[str]]:
    """Rows of harder worlds, by size: the difference, then one arm."""
    rows = []
    for name, world in HARD.items():
        found = [coverage(world, *size, repetitions, seed) for size in HARD_SIZES]
        rows.append([name, *(f"{_percent(each.pair)} / {_percent(each.arm)}" for each in found)])
    return rows


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


ABOUT = """\
How often a 95 % interval of `genkt.metrics` covers the truth for new students and new test images
of the same kind. Each repetition simulates both: an answer is wrong where a sum of normal effects
is large, of the image for both arms, of the image for one arm, of the draw, and of all the rest.
*Independent*: errors fall on other images in every draw; the accuracy varies by 2 points from draw
to draw. *Correlated*: students err on the same images from draw to draw (40 % of the variance is
how hard an image is for both arms, 30 % how hard for one), and the accuracy varies by 1 point.
*Null*: both arms have an accuracy of .90, and what is missing to 100 is how often equal arms are
taken to differ; otherwise .90 against .85. *One arm*: the accuracy of the first. *Student's t*: the
usual interval, over the draws' means on one test set; the lowest of the four. Scores are 0 or 1.

With one draw the interval is over images, and the truth is that of these two students. Two draws
are shown here, but no report prints an interval of two. Promised are 93 % at 3 or more draws and 50
or more images."""

HARDER = """\
The difference / one arm, at draws x images. In the last row accuracies vary from draw to draw by 1
to 3 points near the end of the scale: a mean of few such draws is skewed, and no interval from
their own spread knows by how much."""


def page(repetitions: int, seed: int, words: Sequence[str]) -> tuple[str, list[str]]:
    """The page of documentation, and the cells under the promise."""
    start = time.perf_counter()
    rows, faults = main_table(repetitions, seed)
    hard = hard_table(repetitions, seed)
    special = [row for study in SPECIAL for row in study(repetitions, seed)]
    head = [
        "draws",
        "images",
        *WORLDS,
        "one arm, independent",
        "one arm, correlated",
        "Student's t",
    ]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "scipy")]
    lines = [
        "# Coverage of the intervals", "", ABOUT, "",
        f"- Command: `python tools/coverage.py {' '.join(words)}`",
        f"- Date: {time.strftime('%Y-%m-%d')}",
        f"- Repetitions: {repetitions:,} a cell, so ± {_noise(repetitions)} points; seed {seed}",
        f"- Time: {time.perf_counter() - start:.0f} seconds on one core",
        f"- Versions: Python {platform.python_version()}, {', '.join(versions)}", "",
        *_table(head, rows), "", "## Harder cases", "", HARDER, "",
        *_table(["accuracies", *(f"{d} x {n}" for d, n in HARD_SIZES)], hard), "",
        "## Draws that overlap, seeds, groups, other metrics", "",
        "The difference of .90 and .85 or near it, with 5 draws and 200 images if not said:", "",
        *_table(["case", "covered"], [[name, _percent(share)] for name, share in special]), "",
    ]  # fmt: skip
    return "\n".join(lines), faults


def _noise(repetitions: int) -> str:
    return f"{100 * 2 * math.sqrt(0.05 * 0.95 / repetitions):.1f}"


def main(words: Sequence[str]) -> int:
    """Simulate and print or write. Returns: the exit code."""
    parser = argparse.ArgumentParser(description="Coverage of the intervals, by simulation.")
    parser.add_argument("--repetitions", type=int, default=4000, help="of each cell")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, help="the page, Markdown")
    options = parser.parse_args(words)
    text, faults = page(options.repetitions, options.seed, words)
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    else:
        print(text)
    for fault in faults:
        print(f"under {PROMISE}: {fault}", file=sys.stderr)
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
