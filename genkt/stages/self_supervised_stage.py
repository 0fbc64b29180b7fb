"""Stages that train the student's backbone on images without labels."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from genkt.config.stage_settings import SelfSupervisedStage
from genkt.data.jitter import JitterSpec, JitterViews
from genkt.data.views import ViewSpec
from genkt.methods.self_supervised import SimCLR, SimCLROptions, nt_xent
from genkt.methods.shapes import Shapes
from genkt.models.backbone import Backbone
from genkt.runs.notices import warn
from genkt.runs.pool import Draw
from genkt.runs.run_images import RunImages
from genkt.stages.backbone_stage import train_body
from genkt.stages.recipe_stage import RecipeStage
from genkt.stages.student_training import StudentTraining
from genkt.training.batches import Batches, TransferPart
from genkt.training.train_settings import TrainSettings
from genkt.training.view_pairs import PairPlan
from genkt.types import UNLABELLED, UserError, counted


@dataclass(frozen=True)
class SelfSupervision(RecipeStage):
    """Train the backbone on pairs of views of the labelled and the transfer images.

    Source: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations".

    Args:
        settings: as ``train``, with what the stage says.
        views: of the transfer images in the run.
        stage: settings of the objective and of its own views.
    """

    settings: TrainSettings
    views: ViewSpec
    stage: SelfSupervisedStage

    @property
    def trains_classifier(self) -> bool:
        return False

    def run(self, training: StudentTraining) -> None:
        draw, images, settings = training.draw, training.images, self.settings
        plan = _plan(draw, settings)
        num_images, num_pairs = len(plan.transfer), settings.batch_size // 2
        if not settings.num_steps(num_images, num_pairs):
            return
        if num_images < num_pairs:
            warn(
                training.log, self.name,
                f"a step shows {counted(num_pairs, 'pair')} of views of "
                f"{counted(num_images, 'image')}: "
                "a repeated image counts as different from itself; a smaller batch_size "
                "avoids that",
            )  # fmt: skip
        objective = SimCLR(
            SimCLROptions(temperature=self.stage.temperature, projection=self.stage.projection),
            Shapes(training.student.width, images.num_classes),
            draw.seed_for(self.name),
        )
        batches = _batches(images, draw, training.student, plan, self._own_views())
        train_body(training, self.name, objective, batches, settings)

    def num_images(self, draw: Draw) -> int:
        """Both views of an image count."""
        settings = self.settings
        nt_xent(self.stage.temperature)
        self._own_views()
        _plan(draw, settings)
        num_images = len(draw.transfer) + len(np.setdiff1d(draw.labelled, draw.transfer))
        return settings.num_steps(num_images, settings.batch_size // 2) * settings.batch_size

    def _own_views(self) -> JitterSpec:
        """Fresh views by ``data.views``, with the stage's own crops and colours.

        Raises:
            UserError: views that cannot be drawn, or that would all be the same.
        """
        stage = self.stage
        own: dict[str, Any] = {"num_views": 0, "color_jitter": stage.color_jitter}
        if stage.crop_scale is not None:
            own["crop_scale"] = stage.crop_scale
        try:
            spec = JitterSpec(**(asdict(self.views) | own))
        except UserError as error:  # of the stage: the data's own views were looked at before
            raise UserError(f"recipe.stages.{self.name}.{error}") from error
        if not spec.is_random and not spec.color_jitter:
            raise UserError(
                f"recipe.stages: {stage.objective} compares random views: give the stage "
                "crop_scale below 1 or color_jitter above 0, or data.views some geometry"
            )
        return spec


def _plan(draw: Draw, settings: TrainSettings) -> PairPlan:
    """Sample all images equally often, or by the shares of the transfer set's parts.

    With shares, a labelled image is drawn as often as the average transfer image.
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
        first_epoch=draw.first_epoch,
        parts=parts,
    )


def _batches(
    images: RunImages, draw: Draw, student: Backbone, plan: PairPlan, views: JitterSpec
) -> Batches:
    return Batches(
        JitterViews(draw.images, views, [student.transform]),
        np.full_like(draw.labels, UNLABELLED),
        plan,
        rank=images.fabric.global_rank,
        world_size=images.fabric.world_size,
        num_workers=images.num_workers,
        lost=images.lost,
        labelled=draw.labelled,
    )
