"""The teachers of a draw: as they come, linearly probed, or fine-tuned; outputs computed once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from genkt.data.cache import OutputStore
from genkt.data.images import ImageSet
from genkt.data.views import FIXED_VIEW, ViewSpec
from genkt.methods.base import TeacherShape
from genkt.models.backbone import Backbone
from genkt.recipes.data import Draw
from genkt.recipes.irf import SETTINGS, train_setting
from genkt.recipes.run_folder import StageLog
from genkt.recipes.session import Session, TeacherSet, draw_seed
from genkt.recipes.stages import train_supervised
from genkt.training.probe import PartStore, ProbedStore, Rows, fit_head, install_head
from genkt.training.teacher import Precision, cache_outputs
from genkt.types import Cost

AUTOCAST: dict[str, Precision] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""What a teacher computes in when the student trains in a precision."""


def prepare_teachers(session: Session, draw: Draw, log: StageLog) -> tuple[TeacherSet, Cost]:
    """The teachers of a draw, adapted to its labels where asked for, outputs cached.

    A teacher that is not fine-tuned is the same for every draw: its features are computed once
    for the whole run (and for every later run on the same images), and a linear probe is fitted
    on them without running the teacher again.
    """
    one = _WAYS[session.adapt]
    found = [one(session, draw, index, log) for index in range(len(session.teachers))]
    models = tuple(model for model, *_ in found)
    online = session.config.teacher.outputs == "online"
    num_classes = None if session.adapt == "none" else session.num_classes
    teachers = TeacherSet(
        models=models,
        stores=tuple(store for _, store, _, _ in found if store is not None),
        online=online,
        shapes=tuple(TeacherShape(m.name, m.width, num_classes or m.num_classes) for m in models),
        test_accuracy=tuple(accuracy for *_, accuracy, _ in found),
    )
    return teachers, sum((cost for *_, cost in found), Cost())


Found = tuple[Backbone, Rows | None, float | None, Cost]


def _as_it_comes(session: Session, draw: Draw, index: int, log: StageLog) -> Found:
    model = session.teacher(index)
    online = session.config.teacher.outputs == "online"
    return model, None if online else _pool_store(session, index, model), None, Cost()


def _probed(session: Session, draw: Draw, index: int, log: StageLog) -> Found:
    """Fit a head on the labelled images' cached features."""
    base = session.teacher(index)
    online = session.config.teacher.outputs == "online"
    if online:
        images = session.pool.images.select(draw.labelled)
        store = _cached(session, base, images, FIXED_VIEW, session.cache_home)
        rows, num_views = np.arange(len(images)), 1
    else:
        store = _pool_store(session, index, base)
        num_views = session.views.num_views
        rows = (draw.labelled[:, None] * num_views + np.arange(num_views)).reshape(-1)
    labels = np.repeat(draw.labels[draw.labelled], num_views)
    head = fit_head(store.rows(rows).features, labels, session.num_classes, num_views)
    test = session.pool.splits.parts["test"]
    if f"test{index}" not in session.shared:
        session.shared[f"test{index}"] = _cached(
            session, base, test, FIXED_VIEW, session.cache_home
        )
    answers = ProbedStore(session.shared[f"test{index}"], head).rows(np.arange(len(test))).logits
    assert answers is not None
    right = answers.argmax(dim=1) == torch.from_numpy(test.labels)
    accuracy = right.double().mean().item()
    if not online:
        return base, ProbedStore(store, head), accuracy, Cost()
    model = session.teachers[index](session.num_classes, draw_seed(draw, "teacher head"))
    install_head(model, head)
    return model.freeze().to(session.fabric.device), None, accuracy, Cost()


def _fine_tuned(session: Session, draw: Draw, index: int, log: StageLog) -> Found:
    """Train the teacher on the labels; its cache is this draw's and goes with it."""
    model = session.teachers[index](session.num_classes, draw_seed(draw, "teacher head"))
    directory = session.folder.cell(draw.index, f"teacher{index}")
    cost = _adapt(session, draw, model, directory, log)
    model.freeze().to(session.fabric.device)
    accuracy = session.predictions(model, "test").accuracy
    if session.config.teacher.outputs == "online":
        return model, None, accuracy, cost
    home, pool = session.folder.cell(draw.index, "cache"), session.pool.images
    rows = np.union1d(draw.labelled, draw.transfer)  # no other draw reads these outputs
    store = _cached(session, model, pool.select(rows), session.views, home)
    num_views = max(1, session.views.num_views)
    return model, PartStore(store, rows, len(pool), num_views), accuracy, cost


_WAYS = {
    "none": _as_it_comes,
    "linear_probe": _probed,
    "fine_tune": _fine_tuned,
    "irf": _fine_tuned,
}


def _adapt(session: Session, draw: Draw, teacher: Backbone, directory: Path, log: StageLog) -> Cost:
    """Fine-tune all of the teacher, or its head first on re-represented images (IRF)."""
    short, name = session.config.adapt, f"adapt-{directory.name}"
    settings = replace(
        session.config.train, steps=short.steps, lr=short.lr, batch_size=short.batch_size,
        labelled_per_batch=short.batch_size, ema=None, eval_every=0,
    )  # fmt: skip
    if session.adapt == "irf":
        costs, _ = train_setting(
            session, draw, teacher, SETTINGS["irf"], settings, directory, log, prefix=f"{name}-"
        )
        return sum(costs.values(), Cost())
    return train_supervised(session, draw, name, teacher, settings, directory, log)[0]


def _pool_store(session: Session, index: int, model: Backbone) -> OutputStore:
    if f"pool{index}" not in session.shared:
        session.shared[f"pool{index}"] = _cached(
            session, model, session.pool.images, session.views, session.cache_home
        )
    return session.shared[f"pool{index}"]


def _cached(
    session: Session, teacher: Backbone, images: ImageSet, views: ViewSpec, home: Path
) -> OutputStore:
    return cache_outputs(
        teacher,
        images,
        views,
        home,
        dtype=session.config.cache_dtype,
        device=session.fabric.device,
        num_workers=session.workers,
        precision=AUTOCAST[session.config.train.precision],
    )
