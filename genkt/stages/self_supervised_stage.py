"""Stages in which the student's backbone learns from images without any label."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from genkt.config.recipe_settings import SelfSupervisedStage
from genkt.data.jitter import JitterSpec, JitterViews
from genkt.methods.self_supervised import SimCLR, SimCLROptions, nt_xent
from genkt.methods.shapes import Shapes
from genkt.models.backbone import Backbone
from genkt.runs.notices import warn
from genkt.runs.pool import Draw
from genkt.runs.session import Session, draw_seed
from genkt.stages.backbone_stage import train_body
from genkt.stages.course import Course
from genkt.training.batches import Batches, TransferPart
from genkt.training.train_settings import TrainSettings
from genkt.training.view_pairs import PairPlan
from genkt.types import UNLABELLED, UserError


def self_supervised_stage(course: Course, name: str, stage: SelfSupervisedStage) -> None:
    """Train the backbone on pairs of views of the labelled and the transfer images.

    Source: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations".
    """
    session, draw = course.session, course.draw
    settings = stage.settings(session.config.train)
    plan = _plan(draw, settings)
    if not settings.num_steps(len(plan.transfer), settings.batch_size // 2):
        return
    _warn_of_repeats(course, name, len(plan.transfer), settings.batch_size // 2)
    objective = SimCLR(
        SimCLROptions(temperature=stage.temperature, projection=stage.projection),
        Shapes(course.student.width, session.num_classes),
        draw_seed(draw, name),
    )
    batches = _batches(session, draw, course.student, plan, _views(session, stage))
    train_body(course, name, objective, batches, settings)


def _warn_of_repeats(course: Course, name: str, num_images: int, num_pairs: int) -> None:
    if num_images < num_pairs:
        warn(
            course.session, course.draw.index, name,
            f"a step shows {num_pairs} pairs of views of {num_images} images: an image that comes "
            "twice is held to differ from itself; a smaller batch_size avoids that",
        )  # fmt: skip


def self_supervised_images(session: Session, draw: Draw, stage: SelfSupervisedStage) -> int:
    """Images that the student sees in the stage: both views of each count.

    Raises:
        UserError: whatever would stop the stage; said here, as this is asked before any training.
    """
    settings = stage.settings(session.config.train)
    nt_xent(stage.temperature)
    _views(session, stage)
    _plan(draw, settings)
    num_images = len(draw.transfer) + len(np.setdiff1d(draw.labelled, draw.transfer))
    return settings.num_steps(num_images, settings.batch_size // 2) * settings.batch_size


def _plan(draw: Draw, settings: TrainSettings) -> PairPlan:
    """All images equally often, or by the shares of the transfer set's parts.

    A labelled image then comes as often as a transfer image does on the average.
    """
    parts = draw.parts
    others = np.setdiff1d(draw.labelled, draw.transfer)
    if parts and len(others):
        share = sum(part.share for part in parts) * len(others) / len(draw.transfer)
        parts = (*parts, TransferPart(others, share))
    images = np.union1d(draw.labelled, draw.transfer)
    return PairPlan(
        labelled=images[:0],
        transfer=images,
        batch_size=settings.batch_size,
        labelled_per_batch=0,
        seed=draw.seed,
        parts=parts,
    )


def _views(session: Session, stage: SelfSupervisedStage) -> JitterSpec:
    """Fresh views by ``data.views``, with the stage's own crops and colours.

    Raises:
        UserError: all views would be the same.
    """
    own: dict[str, Any] = {"num_views": 0, "color_jitter": stage.color_jitter}
    if stage.crop_scale is not None:
        own["crop_scale"] = stage.crop_scale
    spec = JitterSpec(**(asdict(session.views) | own))
    if not spec.is_random and not spec.color_jitter:
        raise UserError(
            f"recipe.stages: {stage.objective} compares random views: give the stage crop_scale "
            "below 1 or color_jitter above 0, or data.views some geometry"
        )
    return spec


def _batches(
    session: Session, draw: Draw, student: Backbone, plan: PairPlan, views: JitterSpec
) -> Batches:
    return Batches(
        JitterViews(draw.images, views, [student.transform]),
        np.full_like(draw.labels, UNLABELLED),
        plan,
        rank=session.fabric.global_rank,
        world_size=session.fabric.world_size,
        num_workers=session.workers,
    )
