"""Stages in which teachers teach: all at once, one after the other, or a soup of students."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genkt.config.recipe_settings import DistilStage, SoupStage
from genkt.methods.base import MethodOptions, Objective
from genkt.methods.build import METHODS, build_objective
from genkt.methods.shapes import TrainingRows
from genkt.models.backbone import Backbone
from genkt.runs.pool import Draw
from genkt.runs.run_log import StageLog
from genkt.runs.session import Session, TeacherSet, draw_seed
from genkt.stages.beta_search import FOLDER, searched
from genkt.stages.course import Course
from genkt.stages.prepare_teachers import fixed_outputs, frozen_teacher, no_teachers
from genkt.stages.train_stage import train_stage
from genkt.training.batches import Batches
from genkt.training.checkpoint import save_weights
from genkt.training.soup import average_weights, recalibrate_batch_norm
from genkt.training.stage import Record
from genkt.training.train_settings import TrainSettings
from genkt.types import Cost

_MOST_CALIBRATED = 100
"""Batches that batch-norm statistics of a soup are estimated on, at most."""


def distil_stage(course: Course, name: str, stage: DistilStage) -> None:
    """Teach the student by all teachers at once, or by each in turn."""
    draw, settings = stage_rows(course.session, course.draw, stage)
    teachers = _chosen(course, stage)
    options = _options(course, name, stage, draw, teachers, settings)
    in_turn = stage.teachers == "in_turn"
    for number, some in enumerate(teachers.each() if in_turn else [teachers]):
        own = f"{name}-{number}" if in_turn else name
        cost, records, artifacts = distil(
            course.session, draw, course.student, options, some, settings,
            course.directory / own, course.log, name=own,
        )  # fmt: skip
        course.add(own, cost, records)
        course.artifacts |= artifacts


def soup_stage(course: Course, name: str, stage: SoupStage) -> None:
    """A copy of the student learns from each teacher; the student gets their mean weights.

    Source: Wortsman et al., "Model soups"; Roth et al., "Fantastic Gains and Where to Find Them",
    Section 4.3. Batch-norm statistics are estimated anew for the mean, by every process on the
    same images.
    """
    draw, settings = stage_rows(course.session, course.draw, stage)
    teachers = _chosen(course, stage)
    options = _options(course, name, stage, draw, teachers, settings)
    members = []
    for number, one in enumerate(teachers.each()):
        own, member = f"{name}-{number}", copy.deepcopy(course.student)
        cost, records, _ = distil(
            course.session, draw, member, options, one, settings,
            course.directory / own, course.log, name=own,
        )  # fmt: skip
        course.add(own, cost, records)
        members.append(member.model.state_dict())
    started = time.perf_counter()
    course.student.model.load_state_dict(average_weights(members))
    course.student.to(course.session.fabric.device)
    batches = course.session.batches(
        draw, settings, [course.student.transform], labelled_only=False, shared=False
    )
    recalibrate_batch_norm(course.student, _pictures(batches, course.session))
    if course.session.fabric.is_global_zero:
        save_weights(
            course.directory / name / "last.safetensors", course.student.model.state_dict()
        )
    course.costs[name] = Cost(seconds=time.perf_counter() - started)


def stage_rows(session: Session, draw: Draw, stage: DistilStage) -> tuple[Draw, TrainSettings]:
    """The draw as the stage sees it, and the stage's settings."""
    if stage.images == "labelled":
        draw = replace(draw, transfer=draw.transfer[:0], parts=())
    return draw, stage.settings(session.config.train)


def distil_images(session: Session, draw: Draw, stage: DistilStage) -> int:
    """Images that students see in the stage."""
    draw, settings = stage_rows(session, draw, stage)
    rounds = len(session.teachers) if _several(stage) else 1
    return rounds * distil_steps(draw, settings) * settings.batch_size


def distil_steps(draw: Draw, settings: TrainSettings) -> int:
    """Optimizer steps of one distillation on this draw."""
    if not len(draw.transfer):
        return settings.num_steps(len(draw.labelled), settings.batch_size)
    transfer_per_batch = settings.batch_size - settings.labelled_per_batch
    return settings.num_steps(len(draw.transfer), transfer_per_batch)


def distil(
    session: Session, draw: Draw, student: Backbone, options: MethodOptions, teachers: TeacherSet,
    settings: TrainSettings, directory: Path, log: StageLog, *, name: str,
) -> tuple[Cost, list[Record], dict[str, Tensor]]:  # fmt: skip
    """A method on labelled and transfer images together; also what it learned."""
    if METHODS[options.name].objective.needs_frozen:
        teachers = teachers.behind(*frozen_teacher(session, draw, student, teachers.online))
    objective = build_objective(
        options,
        student_width=student.width,
        num_classes=session.num_classes,
        teachers=teachers.shapes,
        student_map_width=student.map_width,
        seed=draw_seed(draw, "objective"),
    )
    _look_first(session, draw, student, objective, teachers)
    transforms = [student.transform]
    if teachers.online:
        transforms += [model.transform for model in teachers.models]
    batches = session.batches(draw, settings, transforms, teachers.stores, labelled_only=False)
    cost, curve = train_stage(
        session, draw, name, student, objective, batches, settings, directory, log,
        online=teachers.models if teachers.online else (), momentum=options.weight_rule,
    )  # fmt: skip
    return cost, curve, {name: value.cpu() for name, value in objective.artifacts().items()}


def _look_first(
    session: Session, draw: Draw, student: Backbone, objective: Objective, teachers: TeacherSet
) -> None:
    """All checks before the first step, and what the objective prepares."""
    objective.check_labels(torch.from_numpy(draw.labels))
    num_views = max(1, session.views.num_views)
    if not teachers.online:
        row = draw.labelled[:1] * num_views
        objective.check_teachers([store.rows(row) for store in teachers.stores])
    if not objective.prepares:
        return
    rows = np.union1d(draw.labelled, draw.transfer)
    wanted = objective.prepares
    outputs = []
    if "teachers" in wanted:
        outputs = [store.rows(rows * num_views, maps=False) for store in teachers.stores]
    if "teachers" in wanted and teachers.online:
        outputs = [fixed_outputs(session, draw, model, rows) for model in teachers.models]
    objective.prepare(
        TrainingRows(
            labels=torch.from_numpy(draw.labels[rows]),
            teachers=tuple(outputs) if "teachers" in wanted else (),
            student=fixed_outputs(session, draw, student, rows) if "student" in wanted else None,
        )
    )


def _several(stage: DistilStage) -> bool:
    return isinstance(stage, SoupStage) or stage.teachers == "in_turn"


def _chosen(course: Course, stage: DistilStage) -> TeacherSet:
    """The teachers of the stage; none where its method reads none."""
    options = stage.method or course.session.config.method
    if not METHODS[options.name].needs:
        return no_teachers()
    teachers = course.teachers()
    return teachers.select(stage.teachers) if isinstance(stage.teachers, list) else teachers


def _options(
    course: Course, name: str, stage: DistilStage, draw: Draw, teachers: TeacherSet,
    settings: TrainSettings,
) -> MethodOptions:  # fmt: skip
    """The stage's method, its beta searched where that is asked for."""

    def trial(search: Draw, student: Backbone, options: MethodOptions, trial_name: str) -> Cost:
        return distil(
            course.session, search, student, options, teachers, settings,
            course.directory / FOLDER / trial_name, course.log, name=trial_name,
        )[0]  # fmt: skip

    options = stage.method or course.session.config.method
    found, cost = searched(course.session, draw, course.student, options, trial, name)
    if cost.steps:
        course.costs["search" if name == "distil" else f"search-{name}"] = cost
        course.extras["beta"] = found.beta  # type: ignore[attr-defined]
    return found


def _pictures(batches: Batches, session: Session) -> Iterator[Tensor]:
    """One pass over a stage's images, uint8 on the device."""
    plan = batches.plan
    num_steps = math.ceil((len(plan.labelled) + len(plan.transfer)) / plan.batch_size)
    for batch in batches.iterate(0, min(num_steps, _MOST_CALIBRATED)):
        yield batch.images.to(session.fabric.device)
