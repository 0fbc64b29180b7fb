"""Distillation stages: all teachers at once, one after the other, or a soup of students."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genkt.methods.base import MethodOptions, Objective
from genkt.methods.build import METHODS, beta_candidates, build_objective, with_beta
from genkt.methods.shapes import TrainingRows
from genkt.models.backbone import Backbone
from genkt.runs.pool import Draw
from genkt.runs.run_images import batch_plan
from genkt.stages.asked_views import AskedViews
from genkt.stages.beta_search import cost_name, searched
from genkt.stages.recipe_stage import RecipeStage
from genkt.stages.student_training import SEARCH, StudentTraining
from genkt.stages.teacher_set import TeacherSet
from genkt.stages.train_stage import train_stage
from genkt.training.batches import Batches
from genkt.training.checkpoint import save_weights
from genkt.training.probe import OutputRows
from genkt.training.soup import average_weights, recalibrate_batch_norm
from genkt.training.stage import Record
from genkt.training.train_settings import TrainSettings
from genkt.types import Cost

_MOST_CALIBRATED = 100
"""Limit of batches for the batch-norm statistics of a soup."""
_TRIAL_DECAY = 0.999
"""Of the mean weights of a trial: about the last tenth of up to 9000 steps."""


@dataclass(frozen=True)
class Distillation(RecipeStage):
    """Teach the student with all teachers at once, or with each in turn.

    Args:
        options: of the method.
        settings: as ``train``, with what the stage says.
        on: which images it trains on.
        by: all teachers at once, ``in_turn``, or the numbers of some, from 0.
        num_teachers: of the run.
    """

    options: MethodOptions
    settings: TrainSettings
    on: Literal["all", "labelled"]
    by: Literal["all", "in_turn"] | list[int]
    num_teachers: int

    def run(self, training: StudentTraining) -> None:
        draw, options, teachers = self._prepared(training)
        in_turn = self.by == "in_turn"
        for number, some in enumerate(teachers.each() if in_turn else [teachers]):
            own = f"{self.name}-{number}" if in_turn else self.name
            cost, records, artifacts = distil(
                training, draw, training.student, options, some, self.settings,
                training.directory / own, name=own,
            )  # fmt: skip
            training.add(own, cost, records)
            training.artifacts |= artifacts

    def num_images(self, draw: Draw) -> int:
        return self.num_students * self.num_steps(draw) * self.settings.batch_size

    def num_steps(self, draw: Draw) -> int:
        """Optimizer steps of one distillation on this draw."""
        return distil_steps(self.rows(draw), self.settings)

    def lengths(self, draw: Draw) -> dict[str, int]:
        return {self.name: self.num_steps(draw)}

    def epochs(self, draw: Draw, num_samples: int) -> NDArray[np.int64]:
        if not METHODS[self.options.name].needs:
            return super().epochs(draw, num_samples)
        # Without blocks: they change which samples are seen, hardly how many.
        plan = replace(batch_plan(self.rows(draw), self.settings, labelled_only=False), blocks=None)
        return plan.epochs(self.num_steps(draw), num_samples)

    @property
    def num_students(self) -> int:
        """The number of distillations."""
        return self.num_teachers if self.by == "in_turn" else 1

    def rows(self, draw: Draw) -> Draw:
        """The draw as the stage sees it."""
        if self.on == "labelled":
            return replace(draw, transfer=draw.transfer[:0], parts=())
        return draw

    def trial(
        self, training: StudentTraining, lr: float, steps: int, name: str
    ) -> tuple[Backbone, Cost]:
        """A fresh student after so many steps at one rate, with the mean weights of the last tenth.

        The rate does not fall at the end, so that the same trial goes on where it is called again
        for more steps; its cost is that of all of them. Beta is the middle of its grid.
        """
        student, options = training.fresh(), self.options
        training = replace(training, asked=AskedViews())
        if values := beta_candidates(options):
            options = with_beta(options, values[(len(values) - 1) // 2])
        settings = replace(
            self.settings, lr=lr, steps=steps, epochs=None, ema=_TRIAL_DECAY, ema_every=1,
            eval_every=0, select="last",
        )  # fmt: skip
        student.to(training.images.fabric.device)
        cost, _, _ = distil(
            training, self.rows(training.draw), student, options, self._chosen(training), settings,
            training.directory / name, name=name, steady=True,
        )  # fmt: skip
        return student, cost

    def _prepared(self, training: StudentTraining) -> tuple[Draw, MethodOptions, TeacherSet]:
        """The draw as the stage sees it, the method with its beta searched, and the teachers."""
        draw, teachers = self.rows(training.draw), self._chosen(training)
        return draw, self._searched(training), teachers

    def _chosen(self, training: StudentTraining) -> TeacherSet:
        """The teachers of the stage; none where its method reads none."""
        if not METHODS[self.options.name].needs:
            return TeacherSet.none()
        teachers = training.teachers()
        return teachers.select(self.by) if isinstance(self.by, list) else teachers

    def _searched(self, training: StudentTraining) -> MethodOptions:
        """The stage's method, after a search for beta if requested.

        A draw's first student searches; the others, and the folds of all, take its beta.
        """
        known = training.known.get(self._beta)
        if known is not None:
            training.extras |= {"beta": known, self._beta: known}
            return with_beta(self.options, float(known))

        def trial(
            own: StudentTraining, student: Backbone, options: MethodOptions, name: str
        ) -> Cost:
            return distil(
                own, self.rows(own.draw), student, options, self._chosen(own), self.settings,
                own.directory / SEARCH / name, name=name,
            )[0]  # fmt: skip

        found, cost = searched(training, self.options, trial, self.name)
        if cost.steps:
            training.costs[cost_name(self.name)] = cost
            beta: float = found.beta  # type: ignore[attr-defined]
            training.extras |= {"beta": beta, self._beta: beta}
        return found

    @property
    def _beta(self) -> str:
        """The extra with the beta of this stage; "beta" has that of the last one."""
        return f"beta.{self.name}"


@dataclass(frozen=True)
class Soup(Distillation):
    """A copy of the student learns from each teacher; the student gets their mean weights.

    Source: Wortsman et al., "Model soups"; Roth et al., "Fantastic Gains and Where to Find Them",
    Section 4.3. Batch-norm statistics are estimated anew for the mean, by every process on the
    same images.
    """

    @property
    def num_students(self) -> int:
        return self.num_teachers

    def run(self, training: StudentTraining) -> None:
        draw, options, teachers = self._prepared(training)
        members = []
        for number, one in enumerate(teachers.each()):
            own, member = f"{self.name}-{number}", copy.deepcopy(training.student)
            cost, records, _ = distil(
                training, draw, member, options, one, self.settings, training.directory / own,
                name=own,
            )  # fmt: skip
            training.add(own, cost, records)
            members.append(member.model.state_dict())
        started, student, images = time.perf_counter(), training.student, training.images
        student.model.load_state_dict(average_weights(members))
        student.to(images.fabric.device)
        batches = images.batches(
            draw, self.settings, [student.transform], labelled_only=False, shared=False
        )
        recalibrate_batch_norm(student, _pictures(batches, images.fabric.device))
        if images.fabric.is_global_zero:
            path = training.directory / self.name / "last.safetensors"
            save_weights(path, student.model.state_dict())
        training.costs[self.name] = Cost(seconds=time.perf_counter() - started)


def distil_steps(draw: Draw, settings: TrainSettings) -> int:
    """Optimizer steps of one distillation on this draw."""
    if not len(draw.transfer):
        return settings.num_steps(len(draw.labelled), settings.batch_size)
    transfer_per_batch = settings.batch_size - settings.labelled_per_batch
    return settings.num_steps(len(draw.transfer), transfer_per_batch)


def distil(
    training: StudentTraining, draw: Draw, student: Backbone, options: MethodOptions,
    teachers: TeacherSet, settings: TrainSettings, directory: Path, *, name: str,
    steady: bool = False,
) -> tuple[Cost, list[Record], dict[str, Tensor]]:  # fmt: skip
    """A method on labelled and transfer images together; also what it learned.

    Args:
        training: the training it belongs to.
        draw, student: what to train, possibly other than those of ``training``.
        steady: as in ``train_stage``.
    """
    images = training.images
    if METHODS[options.name].objective.needs_frozen:
        frozen = training.all_teachers.frozen(draw, student, online=teachers.online)
        teachers = teachers.behind(*frozen)
    objective = build_objective(
        options,
        student_width=student.width,
        num_classes=images.num_classes,
        teachers=teachers.shapes,
        student_map_width=student.map_width,
        seed=draw.seed_for("objective"),
    )
    transforms = [student.transform]
    if teachers.online:
        transforms += [model.transform for model in teachers.models]
    batches = images.batches(draw, settings, transforms, teachers.stores, labelled_only=False)
    _look_first(training, draw, student, objective, teachers, batches)
    cost, curve = train_stage(
        images, draw, name, student, objective, batches, settings, directory, training.log,
        online=teachers.models if teachers.online else (), momentum=options.weight_rule,
        steady=steady,
    )  # fmt: skip
    asked = cost.samples * len(teachers.models)
    if not teachers.online:
        asked = _num_asked(
            training, draw, teachers, batches.plan.epochs(cost.steps, len(draw.images))
        )
    cost = replace(cost, teacher_images=asked)
    return cost, curve, {name: value.cpu() for name, value in objective.artifacts().items()}


def _num_asked(
    training: StudentTraining, draw: Draw, teachers: TeacherSet, epochs: NDArray[np.int64]
) -> int:
    """Views that a training asks its teachers about, beyond those that its student asked before.

    A linear probe was fitted to all views of the labelled images: these are in its cost.
    """
    num_views, beside = max(1, training.images.views.num_views), epochs.copy()
    beside[draw.labelled] = 0
    return sum(
        training.asked.add(
            model.fingerprint(), beside if how == "linear_probe" else epochs, num_views
        )
        for model, how in zip(teachers.models, teachers.adapted, strict=True)
    )


def _look_first(
    training: StudentTraining, draw: Draw, student: Backbone, objective: Objective,
    teachers: TeacherSet, batches: Batches,
) -> None:  # fmt: skip
    """All checks before the first step, and the objective's ``prepare``."""
    objective.check_labels(torch.from_numpy(draw.labels))
    num_views = max(1, training.images.views.num_views)
    if not teachers.online:
        first = batches.stored_rows(0)
        for store in teachers.stores:
            store.fill(first)
        lost = [row for store in teachers.stores for row in store.lost]
        row = first[~np.isin(first, lost)][:1]
        objective.check_teachers([store.rows(row) for store in teachers.stores])
    if not objective.prepares:
        return
    rows = np.union1d(draw.labelled, draw.transfer)
    wanted, fixed = objective.prepares, training.all_teachers.fixed_outputs
    stores: list[tuple[OutputRows, int]] = []
    if "teachers" in wanted:
        stores = [(store, num_views) for store in teachers.stores]
    if "teachers" in wanted and teachers.online:
        stores = [(fixed(draw, model, rows, survives=True), 1) for model in teachers.models]
    own = fixed(draw, student, rows, survives=True) if "student" in wanted else None
    for each, views in stores:
        each.fill(rows * views)
    unseen = {row // views for each, views in stores for row in each.lost}
    rows = rows[~np.isin(rows, [*unseen, *(own.lost if own is not None else ())])]
    objective.prepare(
        TrainingRows(
            labels=torch.from_numpy(draw.labels[rows]),
            teachers=tuple(store.rows(rows * views, maps=False) for store, views in stores),
            student=own.rows(rows) if own is not None else None,
        )
    )


def _pictures(batches: Batches, device: torch.device) -> Iterator[Tensor]:
    """One pass over a stage's images, uint8 on the device."""
    plan = batches.plan
    num_steps = math.ceil((len(plan.labelled) + len(plan.transfer)) / plan.batch_size)
    for batch in batches.iterate(0, min(num_steps, _MOST_CALIBRATED)):
        yield batch.images.to(device)
