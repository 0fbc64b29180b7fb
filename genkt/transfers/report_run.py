"""Collects the results of a run as plain values for the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from genkt.config.irf_settings import BASELINE
from genkt.config.transfer_settings import TransferConfig
from genkt.data.splits import Splits
from genkt.inference.snippets import student_snippet
from genkt.metrics.choice_values import SHOWN, Metric, validation_key
from genkt.metrics.scored_arms import DrawDesign, Scored
from genkt.models.backbone import Backbone
from genkt.models.weights import weights_notes
from genkt.report.kit.sheets import pick_samples
from genkt.report.transfer.report_data import ModelSummary, ReportData, SplitSummary
from genkt.runs.draw_design import draw_design
from genkt.runs.label_budget import label_budget
from genkt.runs.pool import Draw
from genkt.runs.student_files import TrainedStudent
from genkt.runs.versions import versions
from genkt.stages.keep import KEEPING
from genkt.stages.student_training import CROSS_VALIDATION
from genkt.transfers.average_notes import average_notes
from genkt.transfers.count_budget import budgets, search_notes, uncounted_notes
from genkt.transfers.phases import RunWithSets, TrainedRun
from genkt.transfers.pilot_file import Pilot
from genkt.transfers.plan_file import PLAN, read_plan
from genkt.transfers.report_images import (
    composition,
    near_copy_rows,
    sheet_link,
    transfer_samples,
)
from genkt.transfers.report_teachers import teacher_arms, untested
from genkt.transfers.upstream_distance import upstream_distance, upstream_of
from genkt.types import ACCURACY, EARLIER, KEPT, Cost, counted


def report_data(trained: TrainedRun, command: str) -> ReportData:
    """The run as plain values; pictures are loaded only for the sheets."""
    run, opened, chosen = trained.run, trained.run.opened, trained.chosen
    students, mine = trained.students, trained.exported
    config, draw, splits = run.config, run.pool.draws[mine.result.draw], run.pool.splits
    method = config.main_arm
    baseline = None
    if BASELINE in students and method != BASELINE:
        baseline = students[BASELINE][chosen].prediction
    rows = pick_samples(mine.prediction, baseline)
    test = splits.parts["test"]
    student = opened.fresh_student()
    models = _models(run, student, trained.main)
    pilot = opened.pilot or Pilot({})
    labels = label_budget(config, run.pool, piloted=pilot.labels)
    return ReportData(
        title=_title(config, run.pool.draws[0]),
        cells=[each.result for found in students.values() for each in found],
        classes=splits.classes,
        method=method,
        baseline=BASELINE,
        budgets=budgets(trained),
        exported_draw=mine.result.draw,
        exported_seed=mine.result.seed,
        predictions={arm: found[chosen].prediction for arm, found in students.items()},
        **_answers(students),
        teachers=teacher_arms(_teacher_names(run), trained.main),
        design=_design(run),
        curves=_curves(config.task.metric),
        artifacts=_artifacts(models, mine),
        sample_images={test.ids[row]: test.load(row) for row in rows},
        transfer_samples=transfer_samples(run, draw),
        transfer_composition=composition(run, draw),
        transfer_sheet=sheet_link(run, draw),
        near_copies=near_copy_rows(opened),
        distance=upstream_distance(opened),
        models=models,
        stages=_stages(trained.main),
        after=_accuracy_after(trained.main),
        splits=_split_summaries(splits, draw),
        training_labels=labels.training,
        validation_labels=labels.validation,
        skipped=_skipped(run),
        command=command,
        versions=versions(),
        config=pilot.recorded(run.folder.config),
        snippet=student_snippet(run.folder.path, student),
        notes=_notes(trained),
        **opened.plan.report_names(),
    )


def _skipped(run: RunWithSets) -> list[tuple[str, str]]:
    """Damaged files, with the reasons: left out at the start, or lost later."""
    every = [*run.pool.skipped, *run.opened.lost.entries()]
    return [(entry.path, entry.reason) for entry in every if entry.is_damage]


def _title(config: TransferConfig, draw: Draw) -> str:
    data = config.data
    if data.labels_per_class is not None:
        return f"{data.title}, {counted(data.labels_per_class, 'label')} per class"
    return f"{data.title}, {counted(len(draw.labelled), 'labelled image')}"


def _curves(metric: Metric) -> dict[str, str]:
    return {validation_key(metric): f"Validation {SHOWN[metric]}", "total": "Training loss"}


def _answers(students: Mapping[str, Sequence[TrainedStudent]]) -> dict[str, Any]:
    """What every student of every arm answers on the test images, and whether it is right."""
    return {
        "probabilities": {arm: _probabilities(found) for arm, found in students.items()},
        "scores": {arm: _scores(found) for arm, found in students.items()},
        "distilled": {arm: _distilled_scores(found) for arm, found in students.items()},
    }


def _scores(students: Sequence[TrainedStudent]) -> Scored:
    return {(each.result.draw, each.result.seed): each.scores.final for each in students}


def _probabilities(students: Sequence[TrainedStudent]) -> Scored:
    """[N, C] of each student."""
    return {
        (each.result.draw, each.result.seed): each.prediction.probabilities.numpy()
        for each in students
    }


def _distilled_scores(students: Sequence[TrainedStudent]) -> Scored:
    """Of the students that have them; an older genkt did not keep any."""
    return {
        (each.result.draw, each.result.seed): each.scores.distilled
        for each in students
        if each.scores.distilled is not None
    }


def _design(run: RunWithSets) -> DrawDesign:
    """What the draws have in common, and which test images belong together."""
    splits = run.pool.splits
    design = draw_design(run.config.data, splits, run.pool.draws[0])
    return replace(design, groups=splits.parts["test"].groups)


def _teacher_names(run: RunWithSets) -> list[str]:
    return [run.teachers.base(index).name for index in range(len(run.teachers))]


def _artifacts(
    models: list[ModelSummary], student: TrainedStudent
) -> dict[str, np.ndarray[Any, Any]]:
    """What the method learned, under the teachers' names."""
    names = [model.name for model in models if model.role == "teacher"]
    found = {}
    for key, value in student.artifacts.items():
        index = key.rpartition(".")[2]
        known = index.isdigit() and int(index) < len(names)
        found[names[int(index)] if known else key] = value.float().numpy()
    return found


def _models(
    run: RunWithSets, student: Backbone, trained: Sequence[TrainedStudent]
) -> list[ModelSummary]:
    """The student, and each teacher with its mean test accuracy over the draws."""
    size = _size(run.folder.path / "student" / "model.safetensors")
    found = [ModelSummary("student", student.name, student.num_parameters, size)]
    for index in range(len(run.teachers)):
        teacher = run.teachers.base(index)
        key = f"teacher_accuracy.{index}"
        every = (each.result.extras for each in trained)
        values = [float(extras[key]) for extras in every if key in extras]
        accuracy = sum(values) / len(values) if values else None
        found.append(
            ModelSummary("teacher", teacher.name, teacher.num_parameters, accuracy=accuracy)
        )
    return found


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _stages(students: Sequence[TrainedStudent]) -> dict[str, Cost]:
    """The method's stages, summed over the draws."""
    total: dict[str, Cost] = {}
    for student in students:
        for name, cost in student.stages.items():
            total[name] = total.get(name, Cost()) + cost
    return total


def _accuracy_after(students: Sequence[TrainedStudent]) -> dict[str, float]:
    """Mean test accuracy after every stage that trained the student."""
    known: dict[str, list[float]] = {}
    for student in students:
        for key, value in student.result.extras.items():
            if key.startswith(ACCURACY):
                known.setdefault(key.removeprefix(ACCURACY), []).append(float(value))
        trained = [name for name, cost in student.stages.items() if cost.steps]
        own = [name for name in trained if name not in (KEEPING, CROSS_VALIDATION)]
        if own and student.result.extras.get(KEPT) != EARLIER:  # else it is among the extras
            known.setdefault(own[-1], []).append(student.result.accuracy)
    return {name: sum(values) / len(values) for name, values in known.items()}


def _split_summaries(splits: Splits, draw: Draw) -> list[SplitSummary]:
    counts = np.bincount(draw.labels[draw.labelled], minlength=len(splits.classes))
    found = [SplitSummary("labelled", len(draw.labelled), tuple(int(n) for n in counts))]
    if len(draw.transfer):
        found.append(SplitSummary("transfer", len(draw.transfer)))
    for name in ("validation", "test"):
        if name in splits.parts:
            part = splits.parts[name]
            found.append(SplitSummary(name, len(part), tuple(part.class_counts().values())))
    return found


def _notes(trained: TrainedRun) -> list[str]:
    run = trained.run
    students = [each for each in trained.main if not each.result.seed]
    config, draw, plan = run.config, run.pool.draws[0], run.opened.plan
    notes = [*run.pool.notes, *run.opened.all_near_copies.notes()]
    notes += [*run.opened.lost.notes(), *(run.opened.pilot or Pilot({})).notes()]
    if config.adaptation != "none" and len(run.teachers):
        notes.append(f"Teachers were adapted to the labels of each draw ({_adapted(students)}).")
    notes += [*search_notes(trained), *uncounted_notes(run)]
    if (metric := config.task.metric) != "accuracy":
        notes.append(f"Choices went by {SHOWN[metric]} (task.metric={metric}).")
    if config.num_students > 1:
        several = "draw and seed" if config.seeds_per_draw > 1 else "draw"
        notes.append(
            f"The exported student is the {several} that did best on the validation images."
            if run.images.has_validation
            else f"The exported student is that of the first {several}: nothing compares students."
        )
    names = _teacher_names(run)
    notes += untested(names, teacher_arms(names, students), students)
    notes += average_notes(config, plan.lengths(draw))
    if (path := run.folder.path / PLAN).is_file():
        words = " ".join(each.word for each in read_plan(path))
        notes.append(f"Derived for these data (plan=auto): {words}. Reasons are in {PLAN}.")
    notes += [*weights_notes(config.weights_files), *_image_notes(run)]
    compared = upstream_of(config) is not None
    return notes + plan.notes(draw, has_teachers=len(run.teachers) > 0, compared=compared)


def _adapted(students: Sequence[TrainedStudent]) -> str:
    """How teachers were adapted, with counts if draws differ."""
    ways = Counter(
        str(value).replace("_", "-")
        for student in students
        for key, value in student.result.extras.items()
        if key.startswith("teacher_adapted.")
    )
    return ", ".join(ways if len(ways) == 1 else (f"{way}: {n}" for way, n in ways.items()))


def _image_notes(run: RunWithSets) -> list[str]:
    """Notes on the origin of transfer images, and on what a generator made."""
    config, maker, notes = run.config, run.opened.maker, []
    if maker is not None:
        notes.append(maker.note(run.sets))
    shares = [(part.share, len(part.rows)) for part in run.pool.draws[0].parts]
    if note := config.read_set.note(shares):
        notes.append(note)
    if run.represented is not None:
        notes.append(f"Labelled images were re-represented by {config.irf.generator} (IRF).")
    return notes
