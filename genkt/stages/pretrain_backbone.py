"""Stages that train the student's backbone on the classes of another labelled set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from genkt.data.images import ImageSet, from_arrays
from genkt.data.separation import without_held_out
from genkt.data.splits import Splits
from genkt.io import derive_seed, home_path
from genkt.methods.shapes import Shapes
from genkt.methods.source_classes import SourceClasses, SourceClassesOptions
from genkt.readers.folders import read_classes
from genkt.readers.scan import left_out_notes
from genkt.runs.notices import warn
from genkt.runs.pool import Draw
from genkt.stages.backbone_stage import train_body
from genkt.stages.recipe_stage import RecipeStage
from genkt.stages.student_training import StudentTraining
from genkt.training.train_settings import TrainSettings
from genkt.transfer_set.open_images import open_images
from genkt.transfer_set.set_files import HEADER
from genkt.types import UNLABELLED, UserError
from genkt.upstream.upstream_pictures import GLYPHS, GlyphUpstream

_GLYPH_SIZE, _GLYPHS_AT_ONCE = 32, 500


@dataclass(frozen=True)
class Pretraining(RecipeStage):
    """Train the backbone on a labelled source; the head for its classes is dropped afterwards.

    Source: the supervised ImageNet pretraining that Vemulapalli et al., "Knowledge Transfer from
    Vision Foundation Models for Efficient Training of Small Task-specific Models", compare with.

    Args:
        settings: as ``train``, with what the stage says.
        source, most_images, seed: see ``source_images``.
        splits: the data, whose test and validation images are left out.
    """

    settings: TrainSettings
    source: str
    most_images: int
    seed: int
    splits: Splits

    @property
    def trains_classifier(self) -> bool:
        return False

    def run(self, training: StudentTraining) -> None:
        draw, settings = training.draw, self.settings
        images, notes = self._images()
        if not settings.num_steps(len(images)):
            return
        for note in notes:
            warn(training.log, self.name, note)
        rows = Draw(
            draw.index, draw.seed, images, images.labels,
            labelled=np.arange(len(images)), transfer=np.empty(0, dtype=np.int64),
            student=draw.student,
        )  # fmt: skip
        objective = SourceClasses(
            SourceClassesOptions(),
            Shapes(training.student.width, len(images.classes)),
            draw.seed_for(f"{self.name} head"),
        )
        transforms = [training.student.transform]
        batches = training.images.batches(rows, settings, transforms, labelled_only=True)
        train_body(training, self.name, objective, batches, settings)

    def num_images(self, draw: Draw) -> int:
        images, _ = self._images()
        return self.settings.num_steps(len(images)) * self.settings.batch_size

    def _images(self) -> tuple[ImageSet, tuple[str, ...]]:
        """The images without those of test and validation, and notes on what is left out."""
        images = source_images(self.source, self.most_images, self.seed)
        rows, notes = without_held_out(images, self.splits, self.source)
        left_out = tuple(f"{self.source}: {note}" for note in left_out_notes(images.skipped))
        return images.select(rows) if notes else images, (*left_out, *notes)


def source_images(source: str, num_images: int, seed: int) -> ImageSet:
    """At most ``most_images`` labelled images of a source, the same for every draw of a run.

    Args:
        source: ``glyphs``, a folder with one folder per class, or any other place of images.
        seed: of the glyphs, or of which images are taken.

    Raises:
        UserError: no labelled images, or a single class.
    """
    if source == GLYPHS:
        return _glyphs(num_images, derive_seed(seed, "source"))
    path = home_path(source)
    if path.is_dir() and not (path / HEADER).is_file():
        images = read_classes(path)
    else:
        images = open_images(source, in_full=True)
    rows = np.flatnonzero(images.labels != UNLABELLED)
    if len(set(images.labels[rows].tolist())) < 2:
        raise UserError(
            f"recipe.stages: source: {source}: expected labelled images of at least 2 "
            f"classes (a folder with one folder per class), got {images}"
        )
    if len(rows) > num_images:
        order = np.random.default_rng(derive_seed(seed, "source")).permutation(len(rows))
        rows = np.sort(rows[order[:num_images]])
    return images.select(rows)


@lru_cache(maxsize=1)  # drawing them takes seconds, and every draw of a run asks for the same
def _glyphs(num_images: int, seed: int) -> ImageSet:
    """Drawn characters, half of them on photographs."""
    upstream = GlyphUpstream(_GLYPHS_AT_ONCE, seed, _GLYPH_SIZE)
    steps = upstream.iterate(0, math.ceil(num_images / _GLYPHS_AT_ONCE))
    pictures, labels = (torch.cat(parts)[:num_images] for parts in zip(*steps, strict=True))
    pixels = pictures.permute(0, 2, 3, 1).contiguous().numpy()
    return from_arrays(pixels, labels.numpy(), upstream.classes, GLYPHS)
