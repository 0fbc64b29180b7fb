"""Reads the results of the arms, and checks that they shared draws, images and first weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from genkt.comparison.arm_budget import arm_budget
from genkt.comparison.arm_task import ArmTask
from genkt.config.compare_settings import Arm
from genkt.io import fingerprint, read_json, reading
from genkt.metrics.scored_arms import DrawDesign
from genkt.report.compare.compare_data import ComparedArm, ComparedCell
from genkt.types import EARLIER, KEPT, StudentResult, draw_text

_TEACHER = "teacher_accuracy."


@dataclass(frozen=True)
class ReadArm:
    """A finished arm, and what its run tells of the data.

    Args:
        test_ids: [N] of the test images, in the order of its scores.
        design: where its students come from.
    """

    arm: ComparedArm
    test_ids: tuple[str, ...]
    design: DrawDesign


def read_arm(task: ArmTask, arm: Arm) -> ReadArm | None:
    """A finished arm; None if it failed or has not ended."""
    report = task.folder / "report.json"
    if not report.is_file() or task.failure() is not None:
        return None
    remedy = "the same command writes it again"
    facts: dict[str, Any] = read_json(report, "a report", remedy)
    cells = [
        ComparedCell(replace(result, curve=[]), stages, scores, weights)
        for (result, stages), scores, weights in zip(
            task.results(), task.scores(), task.weights(), strict=True
        )
    ]
    with reading(report, "a report", remedy):
        found = ComparedArm(
            name=arm.name,
            title=arm.title,
            words=arm.words,
            cells=cells,
            config=facts["config"],
            versions=facts["versions"],
            listed=arm.point is None,
            budget=arm_budget(facts, task.config.main_arm),
            head_taught=not task.config.head_untaught,
        )
        return ReadArm(found, tuple(map(str, facts["predictions"]["ids"])), _design(facts, task))


def _design(facts: dict[str, Any], task: ArmTask) -> DrawDesign:
    """Where the students come from; an earlier genkt, which did not tell, had one seed a draw."""
    groups = facts["predictions"].get("groups")
    stored = facts.get("design")
    if stored is None:
        data = task.config.data
        varies = data.labels_per_class is not None or (data.label_fraction or 1.0) < 1.0
        return DrawDesign(labels_vary=varies)
    return DrawDesign(
        labels_vary=bool(stored["labels_vary"]),
        pool_share=float(stored["pool_share"]),
        groups=None if groups is None else tuple(map(str, groups)),
    )


@dataclass(frozen=True)
class SharedImages:
    """Arms whose scores are of the same test images, in one order.

    Args:
        test_ids: [N].  notes: on arms that have no scores, or had some of other images.
    """

    arms: list[ComparedArm]
    test_ids: tuple[str, ...]
    notes: list[str]


def with_shared_images(found: Sequence[ReadArm]) -> SharedImages:
    """The arms, with such scores alone as can be compared image by image.

    Scores of other test images than those of the first arm that has any are left out: such an arm
    has its means alone, as one has whose scores an older genkt did not keep.
    """
    ids = next((each.test_ids for each in found if _kept(each.arm)), ())
    arms, old, other = [], [], []
    for each in found:
        arm = each.arm
        if not _kept(arm):
            old.append(arm.title)
        elif each.test_ids != ids or not _fit(arm, len(ids)):
            other.append(arm.title)
            arm = replace(arm, cells=[replace(cell, scores=None) for cell in arm.cells])
        arms.append(arm)
    notes = []
    if old:
        notes.append(
            "Trained by an earlier genkt, which kept no score for each test image, so these have "
            f"means without intervals: {', '.join(old)}. overwrite=true trains them again."
        )
    if other:
        notes.append(
            f"Tested on other images than the rest, so without intervals: {', '.join(other)}. "
            "overwrite=true trains them again."
        )
    return SharedImages(arms, ids, notes)


def _kept(arm: ComparedArm) -> bool:
    return any(cell.scores is not None for cell in arm.cells)


def _fit(arm: ComparedArm, num_images: int) -> bool:
    return all(len(c.scores.final) == num_images for c in arm.cells if c.scores is not None)


def warnings(tasks: Sequence[ArmTask], arms: Sequence[ComparedArm]) -> list[str]:
    """Notes on the comparability of these arms."""
    known = {task.name: task for task in tasks}
    pairs = [(known[arm.name], arm) for arm in arms]
    notes = _unequal(pairs, "The teacher", _teacher_settings, _teacher_accuracy)
    notes += _unequal(pairs, "The students' first weights", _student_settings, _first_weights)
    ran_with = {_packages(arm) for arm in arms}
    if len(ran_with) > 1:
        notes.append("Not all arms ran with the same versions: compare.json has those of each.")
    untaught = [arm.title for task, arm in pairs if task.config.head_untaught]
    if untaught:
        notes.append(
            "Distilled only, no loss trains the classifier, so that column is chance for: "
            f"{', '.join(untaught)} (a method that teaches features alone, and has no label loss "
            "or train.labelled_per_batch=0). It is left out of every question there."
        )
    if kept := [note for arm in arms if (note := _kept_note(arm))]:
        notes.append(f"The last stage was taken back where it did harm: {'; '.join(kept)}.")
    return notes


def _kept_note(arm: ComparedArm) -> str:
    """Of how many students of an arm the last column shows the one before the last stage."""
    number = sum(cell.result.extras.get(KEPT) == EARLIER for cell in arm.cells)
    return f"{arm.title}, {number} of {len(arm.cells)} students" if number else ""


def _unequal(
    pairs: Sequence[tuple[ArmTask, ComparedArm]],
    what: str,
    settings: Callable[[ArmTask], dict[str, Any]],
    value: Callable[[StudentResult], str | None],
) -> list[str]:
    """A warning for the first draw in which arms of equal settings have unequal values."""
    groups: dict[tuple[str, int, int], dict[str, str]] = {}
    for task, arm in pairs:
        key = fingerprint(settings(task))
        for cell in arm.cells:
            if (seen := value(cell.result)) is not None:
                place = (key, cell.result.draw, cell.result.seed)
                groups.setdefault(place, {})[arm.name] = seen
    for (_, draw, seed), values in sorted(groups.items(), key=lambda group: group[0][1:]):
        if len(set(values.values())) > 1:
            shown = ", ".join(f"{name} {seen}" for name, seen in values.items())
            return [
                f"{what} must be the same in all arms of a draw, and is not "
                f"({draw_text(draw, seed)}: {shown}):"
                " so differences between these arms have two causes. A linear probe sees "
                "the stored views: give all arms the same number of views."
            ]
    return []


def _teacher_settings(task: ArmTask) -> dict[str, Any]:
    config = task.config
    return {"teacher": asdict(config.teacher), "adapt": asdict(config.adapt),
            "irf": asdict(config.irf), "how": config.adaptation}  # fmt: skip


def _teacher_accuracy(cell: StudentResult) -> str | None:
    found = {key: value for key, value in cell.extras.items() if key.startswith(_TEACHER)}
    return " and ".join(f"{100 * float(found[key]):.2f} %" for key in sorted(found)) or None


def _student_settings(task: ArmTask) -> dict[str, Any]:
    return asdict(task.config.student)


def _first_weights(cell: StudentResult) -> str | None:
    found = cell.extras.get("first_weights")
    return None if found is None else str(found)[:8]


def _packages(arm: ComparedArm) -> str:
    """Versions without the date, as a text that can be compared."""
    return fingerprint({key: value for key, value in arm.versions.items() if key != "date"})
