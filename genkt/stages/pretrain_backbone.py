"""Stages in which the student's backbone learns the classes of another labelled set."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch

from genkt.config.recipe_settings import PretrainStage
from genkt.data.images import ImageSet, from_arrays
from genkt.data.separation import without_held_out
from genkt.io import derive_seed, home_path
from genkt.methods.shapes import Shapes
from genkt.methods.source_classes import SourceClasses, SourceClassesOptions
from genkt.readers.folders import read_classes
from genkt.readers.scan import left_out_notes
from genkt.runs.notices import warn
from genkt.runs.pool import Draw
from genkt.runs.session import Session, draw_seed
from genkt.stages.backbone_stage import train_body
from genkt.stages.course import Course
from genkt.transfer_set.open_images import open_images
from genkt.transfer_set.set_files import HEADER
from genkt.types import UNLABELLED, UserError
from genkt.upstream.upstream_pictures import GLYPHS, GlyphUpstream

_GLYPH_SIZE, _GLYPHS_AT_ONCE = 32, 500


def pretrain_stage(course: Course, name: str, stage: PretrainStage) -> None:
    """Train the backbone on a labelled source; the head that knows its classes is left behind.

    Source: the supervised ImageNet pretraining that Vemulapalli et al., "Knowledge Transfer from
    Vision Foundation Models for Efficient Training of Small Task-specific Models", compare with.
    """
    session, draw = course.session, course.draw
    source, notes = _source(session, stage)
    settings = stage.settings(session.config.train)
    if not settings.num_steps(len(source)):
        return
    for note in notes:
        warn(session, draw.index, name, note)
    rows = Draw(
        draw.index, draw.seed, source, source.labels,
        labelled=np.arange(len(source)), transfer=np.empty(0, dtype=np.int64),
    )  # fmt: skip
    objective = SourceClasses(
        SourceClassesOptions(),
        Shapes(course.student.width, len(source.classes)),
        draw_seed(draw, f"{name} head"),
    )
    batches = session.batches(rows, settings, [course.student.transform], labelled_only=True)
    train_body(course, name, objective, batches, settings)


def pretrain_images(session: Session, draw: Draw, stage: PretrainStage) -> int:
    """Images that the student sees in the stage."""
    source, _ = _source(session, stage)
    settings = stage.settings(session.config.train)
    return settings.num_steps(len(source)) * settings.batch_size


def _source(session: Session, stage: PretrainStage) -> tuple[ImageSet, tuple[str, ...]]:
    """The stage's images without those of test and validation, and notes on what is left out."""
    images = source_images(stage.source, stage.num_images, session.config.seed)
    rows, notes = without_held_out(images, session.pool.splits, stage.source)
    left_out = tuple(f"{stage.source}: {note}" for note in left_out_notes(images.skipped))
    return images.select(rows) if notes else images, (*left_out, *notes)


def source_images(source: str, num_images: int, seed: int) -> ImageSet:
    """At most so many labelled images of a source; the same for every draw of a run.

    Args:
        source: ``glyphs``, a folder with one folder a class, or any other place of images.
        seed: of the glyphs, or of which images are taken.

    Raises:
        UserError: nothing labelled there, or a single class.
    """
    if source == GLYPHS:
        return _glyphs(num_images, derive_seed(seed, "source"))
    path = home_path(source)
    if path.is_dir() and not (path / HEADER).is_file():
        images = read_classes(path)
    else:
        images = open_images(source)
    rows = np.flatnonzero(images.labels != UNLABELLED)
    if len(set(images.labels[rows].tolist())) < 2:
        raise UserError(
            f"recipe.stages: source: {source}: expected labelled images of at least 2 classes (a "
            f"folder with one folder a class), got {images}"
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
