"""The teachers of a draw: as they come, linearly probed, or fine-tuned; outputs computed once."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from genkt.data.images import ImageSet
from genkt.data.views import FIXED_VIEW, ViewSpec
from genkt.methods.shapes import TeacherShape
from genkt.models.backbone import Backbone
from genkt.runs.pool import Draw
from genkt.runs.run_folder import OUTPUTS, teacher_folder
from genkt.runs.run_log import StageLog
from genkt.runs.session import Session, TeacherSet, draw_seed, shape_of
from genkt.stages.irf import SETTINGS, train_setting
from genkt.stages.train_stage import train_supervised
from genkt.stores.teacher_outputs import OutputStore
from genkt.training.probe import OutputRows, PartStore, ProbedStore, fit_head
from genkt.training.teacher import OutputName, Precision, cache_outputs
from genkt.types import Cost, ModelOutput

AUTOCAST: dict[str, Precision] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""What a teacher computes in when the student trains in a precision."""


def prepare_teachers(session: Session, draw: Draw, log: StageLog) -> tuple[TeacherSet, Cost]:
    """The teachers of a draw, adapted to its labels where asked for, outputs cached.

    A teacher that is not fine-tuned is the same for every draw: its features are computed once
    for the whole run (and for every later run on the same images), and a linear probe is fitted
    on them without running the teacher again.
    """
    one = _WAYS[session.config.adaptation]
    found = [one(session, draw, index, log) for index in range(len(session.teachers))]
    models = tuple(each.model for each in found)
    num_classes = None if session.config.adaptation == "none" else session.num_classes
    teachers = TeacherSet(
        models=models,
        stores=tuple(each.store for each in found if each.store is not None),
        online=session.config.teacher.outputs == "online",
        shapes=tuple(shape_of(model, num_classes) for model in models),
        test_accuracy=tuple(each.accuracy for each in found),
        adapted=tuple(each.how for each in found),
    )
    return teachers, sum((each.cost for each in found), Cost())


def no_teachers() -> TeacherSet:
    """For methods that read none."""
    return TeacherSet((), (), False, (), (), ())


def frozen_teacher(
    session: Session, draw: Draw, student: Backbone, online: bool
) -> tuple[Backbone, OutputRows | None, TeacherShape]:
    """The student as it is now, as one more teacher of a draw: frozen, its outputs cached."""
    model = copy.deepcopy(student).freeze().to(session.fabric.device)
    shape = replace(shape_of(model), name=f"{student.name} before")
    return model, None if online else _draw_store(session, draw, model), shape


def fixed_outputs(session: Session, draw: Draw, model: Backbone, rows: np.ndarray) -> ModelOutput:
    """A model's outputs on some images of a draw under the fixed view, as it is now."""
    frozen = copy.deepcopy(model).freeze()
    home = session.folder.cell(draw.index, OUTPUTS)
    return _cached(session, frozen, draw.images.select(rows), FIXED_VIEW, home).rows(
        np.arange(len(rows))
    )


@dataclass(frozen=True)
class _Found:
    """One teacher of a draw.

    Args:
        store: its cached outputs; None where it runs online.
        accuracy: on the test images, 0..1; None where it has no head for the task.
        validated: the same on the validation images, where that was asked for.
    """

    model: Backbone
    store: OutputRows | None
    how: str
    accuracy: float | None = None
    cost: Cost = field(default_factory=Cost)
    validated: float | None = None


def _as_it_comes(session: Session, draw: Draw, index: int, log: StageLog) -> _Found:
    model = session.teacher(index)
    online = session.config.teacher.outputs == "online"
    return _Found(model, None if online else _pool_store(session, index, model), "none")


def _probed(session: Session, draw: Draw, index: int, log: StageLog) -> _Found:
    """Fit a head on the labelled images' cached features."""
    base = session.teacher(index)
    online = session.config.teacher.outputs == "online"
    if online:
        images = session.pool.images.select(draw.labelled)
        store: OutputRows = _cached(session, base, images, FIXED_VIEW, session.cache_home)
        rows, num_views = np.arange(len(images)), 1
    else:
        store = _pool_store(session, index, base)
        num_views = session.views.num_views
        rows = (draw.labelled[:, None] * num_views + np.arange(num_views)).reshape(-1)
    labels = np.repeat(draw.labels[draw.labelled], num_views)
    head = fit_head(store.rows(rows, maps=False).features, labels, session.num_classes, num_views)
    accuracy = _probe_accuracy(session, index, base, head, "test")
    validated = None
    if session.config.adaptation == "better":
        validated = _probe_accuracy(session, index, base, head, "validation")
    model = base
    if online:
        model = session.teachers[index](session.num_classes, draw_seed(draw, "teacher head"))
        model.answer_by(head)
        model.freeze().to(session.fabric.device)
    return _Found(
        model, None if online else ProbedStore(store, head), "linear_probe", accuracy,
        validated=validated,
    )  # fmt: skip


def _probe_accuracy(
    session: Session, index: int, base: Backbone, head: nn.Linear, part: str
) -> float:
    """A fitted head on the images of a part, whose features are computed once for all draws."""
    images = session.pool.splits.parts[part]
    if f"{part}{index}" not in session.shared:
        session.shared[f"{part}{index}"] = _cached(
            session, base, images, FIXED_VIEW, session.cache_home
        )
    rows = np.arange(len(images))
    answers = ProbedStore(session.shared[f"{part}{index}"], head).rows(rows).logits
    assert answers is not None
    right = answers.argmax(dim=1) == torch.from_numpy(images.labels)
    return right.double().mean().item()


def _fine_tuned(session: Session, draw: Draw, index: int, log: StageLog) -> _Found:
    """Train the teacher on the labels; its cache is this draw's and goes with it."""
    return _with_outputs(session, draw, *_trained(session, draw, index, log))


def _trained(session: Session, draw: Draw, index: int, log: StageLog) -> tuple[Backbone, Cost]:
    model = session.teachers[index](session.num_classes, draw_seed(draw, "teacher head"))
    directory = session.folder.cell(draw.index, teacher_folder(index))
    cost = _adapt(session, draw, model, directory, log)
    return model.freeze().to(session.fabric.device), cost


def _with_outputs(session: Session, draw: Draw, model: Backbone, cost: Cost) -> _Found:
    accuracy = session.predictions(model, "test").accuracy
    online = session.config.teacher.outputs == "online"
    store = None if online else _draw_store(session, draw, model)
    how = "irf" if session.config.adaptation == "irf" else "fine_tune"
    return _Found(model, store, how, accuracy, cost)


def _better(session: Session, draw: Draw, index: int, log: StageLog) -> _Found:
    """Linear probe or fine-tuning, whichever answers more validation images; both are paid for."""
    probed = _probed(session, draw, index, log)
    model, cost = _trained(session, draw, index, log)
    assert probed.validated is not None
    if session.predictions(model, "validation").accuracy > probed.validated:
        return _with_outputs(session, draw, model, cost)
    return replace(probed, cost=cost)


_WAYS = {
    "none": _as_it_comes,
    "linear_probe": _probed,
    "fine_tune": _fine_tuned,
    "better": _better,
    "irf": _fine_tuned,
}


def _adapt(session: Session, draw: Draw, teacher: Backbone, directory: Path, log: StageLog) -> Cost:
    """Fine-tune all of the teacher, or its head first on re-represented images (IRF).

    The validation images take no part: they are to judge between teachers (``better``).
    """
    short, name = session.config.adapt, f"adapt-{directory.name}"
    settings = replace(
        session.config.train, steps=short.steps, lr=short.lr, batch_size=short.batch_size,
        labelled_per_batch=short.batch_size, ema=None, eval_every=0,
    )  # fmt: skip
    if session.config.adaptation == "irf":
        costs, _ = train_setting(
            session, draw, teacher, SETTINGS["irf"], settings, directory, log,
            prefix=f"{name}-", validate=False,
        )  # fmt: skip
        return sum(costs.values(), Cost())
    cost, _ = train_supervised(
        session, draw, name, teacher, settings, directory, log, validate=False
    )
    return cost


def _pool_store(session: Session, index: int, model: Backbone) -> OutputStore:
    if f"pool{index}" not in session.shared:
        session.shared[f"pool{index}"] = _cached(
            session, model, session.pool.images, session.views, session.cache_home, trained_on=True
        )
    return session.shared[f"pool{index}"]


def _draw_store(session: Session, draw: Draw, model: Backbone) -> PartStore:
    """Outputs on the images of one draw, which no other draw reads; they go with the cell."""
    home, pool = session.folder.cell(draw.index, OUTPUTS), session.pool.images
    rows = np.union1d(draw.labelled, draw.transfer)
    store = _cached(session, model, pool.select(rows), session.views, home, trained_on=True)
    return PartStore(store, rows, len(pool), max(1, session.views.num_views))


def _cached(
    session: Session, teacher: Backbone, images: ImageSet, views: ViewSpec, home: Path,
    *, trained_on: bool = False,
) -> OutputStore:  # fmt: skip
    """Outputs of a teacher; feature maps where an objective reads them."""
    outputs: list[OutputName] = ["features", "logits"]
    if trained_on and "feature_map" in session.config.needs:
        outputs.append("feature_map")
    of_all = home == session.cache_home
    with session.alone("teacher outputs") if of_all else nullcontext(0.0) as waited:
        session.waited += waited
        return cache_outputs(
            teacher,
            images,
            views,
            home,
            outputs=outputs,
            dtype=session.config.cache_dtype,
            device=session.fabric.device,
            num_workers=session.workers,
            precision=AUTOCAST[session.config.train.precision],
        )
