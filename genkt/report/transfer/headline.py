"""The answer of a run in sentences: how much, how sure, and against its teachers."""

from __future__ import annotations

from collections.abc import Iterator

from genkt.metrics.intervals import Design, ScoreInterval
from genkt.metrics.planning import Needed
from genkt.metrics.verdicts import (
    BETTER,
    BEYOND,
    MIN_DRAWS,
    MIN_IMAGES,
    OPEN,
    WITHIN,
    WORSE,
    centre,
    ends,
    few_images,
)
from genkt.report.kit.design_text import (
    covered,
    labels_used,
    overlap,
    unit_of,
    what_varied,
)
from genkt.report.transfer.kept_students import kept_texts
from genkt.report.transfer.report_data import ReportData
from genkt.report.transfer.summary import (
    MARGIN,
    ArmDifference,
    ArmMean,
    TeacherSummary,
    against_baseline,
    against_teachers,
    main_arm,
    planned,
    signed,
    summarise,
)
from genkt.types import counted

_POINTS = f"{100 * MARGIN:g} points"

Pieces = list[tuple[str, bool]]
"""(text, whether it is a key figure)."""


def headline(data: ReportData) -> Pieces:
    """The answer in one sentence."""
    main = main_arm(summarise(data))
    subject = data.subject if main.arm != "stl" else f"{main.name}:"
    pieces = [(f"{subject} ", False), (mean_text(main.accuracy), True)]
    if span := span_text(main.accuracy.interval):
        pieces.append((f" ({span})", False))
    difference = against_baseline(data)
    if difference is None:
        pieces.append((", no baseline in this run", False))
    else:
        pieces += [(", ", False), *_comparison(data, difference)]
    return [*pieces, (f"; {varied_text(data)}.", False)]


def _comparison(data: ReportData, difference: ArmDifference) -> Pieces:
    name, said = data.name_of(data.baseline), difference.verdict
    other = f"{name[:1].lower()}{name[1:]} {_same(data)}"
    points, span = difference_text(difference), span_text(difference.interval)
    if said.word == BETTER:
        return [(points, True), (f" ({span}) over {other}", False)]
    if said.word == WORSE:
        return [(points, True), (f" ({span}): worse than {other}", False)]
    if said.reason:
        shown = f" ({span})" if span else ""
        return [(f"{points}{shown} against {other}, {OPEN} ({said.reason})", False)]
    return [("no established difference", True), (f" from {other} ({points}, {span})", False)]


def _same(data: ReportData) -> str:
    """What the baseline shares with the method. Teachers, and making images, come on top."""
    mine, its = (data.budgets.get(arm) for arm in (data.method, data.baseline))
    if mine and its and mine.search_seconds and not its.search_seconds:
        return "with the same labels and as much training, but no search"
    return "with the same labels and as much training"


def headline_text(data: ReportData) -> str:
    """The answer in one plain sentence."""
    return "".join(text for text, _ in headline(data))


def verdict_word(data: ReportData) -> str | None:
    """How the method stands against the baseline, see ``genkt.metrics.verdicts``; None: alone."""
    difference = against_baseline(data)
    return None if difference is None else difference.verdict.word


def mean_text(found: ArmMean) -> str:
    """ "93.9 %"."""
    return f"{100 * found.mean:.1f} %" if found.interval is None else centre(found.interval)


def difference_text(found: ArmDifference) -> str:
    """ "+8.0 points"."""
    if found.interval is None:
        return f"{signed(100 * found.mean)} points"
    return centre(found.interval)


def span_text(interval: ScoreInterval | None) -> str:
    """ "91.2 to 95.8", or "" where there is no interval."""
    return "" if interval is None else ends(interval)


def main_interval(data: ReportData) -> ScoreInterval | None:
    """Of the difference to the baseline; where there is none, of the method alone."""
    difference = against_baseline(data)
    if difference is not None and difference.interval is not None:
        return difference.interval
    return main_arm(summarise(data)).accuracy.interval


def varied_text(data: ReportData) -> str:
    """ "5 label draws, 797 test images; 20 training labels a draw, 100 validation labels"."""
    interval = main_interval(data)
    if interval is not None:
        varied = what_varied(interval.design)
    else:
        varied = counted(len({cell.draw for cell in data.cells}), "label draw")
    used = labels_used(data.training_labels, data.validation_labels)
    return f"{varied}; {used}" if used else varied


def scope(data: ReportData) -> list[tuple[str, str]]:
    """What stands below the headline, as (title, text): how sure it is, the teachers, what next."""
    found = [("How sure:", " ".join(how_sure(data)))]
    found += [("Teacher:", text) for text in teacher_texts(data)]
    found += [("Kept:", text) for text in kept_texts(data)]
    plan, interval = planned(data), main_interval(data)
    if plan is not None and interval is not None:
        found.append((f"To show {_POINTS}:", plan_text(plan, interval.design)))
    return found


def how_sure(data: ReportData) -> Iterator[str]:
    """Sentences on what the intervals cover and what they do not."""
    interval = main_interval(data)
    if interval is None:
        yield "There are no intervals: the scores of two test images or more are needed."
    else:
        yield from covered(interval.design)
        yield from overlap(interval.design, data.design.pool_share)
        yield from few_images(interval)
        if interval.design.images < MIN_IMAGES:
            images = counted(interval.design.images, unit_of(interval.design))
            yield f"Only {images}: nothing is established under {MIN_IMAGES}."
    yield f"All figures hold for {_settings(data)}."


def _settings(data: ReportData) -> str:
    """ "this teacher, this generator and these settings"."""
    num_teachers = sum(model.role == "teacher" for model in data.models)
    parts = [] if not num_teachers else ["this teacher" if num_teachers == 1 else "these teachers"]
    sources = " ".join(source for source, count in data.transfer_composition.items() if count)
    if "synthesized" in sources or "re-represented" in sources:
        parts.append("this generator")
    if "retrieved" in sources:
        parts.append("this gallery")
    return f"{', '.join(parts)} and these settings" if parts else "these settings"


def teacher_texts(data: ReportData) -> list[str]:
    """A sentence on every teacher: how much of it the student reaches, and whether it is as good.

    Of the heads of a teacher the one that taught.
    """
    return [_teacher_text(each) for each in against_teachers(data) if each.teacher.taught]


def _teacher_text(found: TeacherSummary) -> str:
    name, said = found.teacher.name, found.within
    own = f"{name[:1].lower()}{name[1:]}"
    if found.ratio is None:
        known = "" if found.difference is not None else f"; {said.reason}"
        return f"{name} has {mean_text(found.accuracy)}{known}."
    span = span_text(found.ratio)
    reached = f"The student reaches {centre(found.ratio)} of its {own}"
    reached += f" ({span})" if span else ""
    if said.word == WITHIN:
        return f"{reached} and is within {_POINTS} of it."
    if said.word == BEYOND:
        return f"{reached} and is more than {_POINTS} below it."
    reason = f" ({said.reason})" if said.reason else ""
    return f"{reached}; whether it is within {_POINTS} of it is {OPEN}{reason}."


def plan_text(plan: Needed, design: Design) -> str:
    """How many draws or test images would establish a difference."""
    images = counted(max(design.images, MIN_IMAGES), unit_of(design))
    draws = counted(max(design.draws, MIN_DRAWS), design.varying)
    chance = f"{100 * plan.power:g} %"
    if plan.draws is not None and plan.draws <= design.draws:
        return f"these {draws} and {images} are enough, with a probability of {chance}."
    ways = []
    if plan.draws is not None:
        ways.append(f"{counted(plan.draws, design.varying)} with {images}")
    if plan.images is not None:
        ways.append(f"{counted(plan.images, unit_of(design))} with {draws}")
    if not ways:
        both = [(d, n) for d, n in plan.images_at if n is not None]
        ways = [
            f"{counted(d, design.varying)} with {counted(n, unit_of(design))}" for d, n in both[:1]
        ]
    if not ways:
        return "no number of draws and test images that was tried is enough."
    return (
        f"about {' or '.join(ways)}, by the variances measured here and with a probability of "
        f"{chance}."
    )
