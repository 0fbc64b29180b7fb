"""The task-agnostic objectives: contrastive on image features, cosine on patch features."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from method_cases import (
    CONTRASTIVE,
    COSINE_PATCH,
    D_S,
    LABELS,
    WIDTHS,
    B,
    build,
    draw,
    outputs,
    student_with_head,
    teachers,
)
from refusals import refused
from torch import Tensor
from training_cases import METHODS, TRANSFORM, Case, weights

from genkt.losses.contrastive import info_nce, patch_cosine_distance
from genkt.methods.base import MethodOptions, Objective
from genkt.methods.build import build_objective
from genkt.methods.shapes import TeacherShape
from genkt.methods.task_agnostic import BothContrastive, CosinePatch, StudentContrastive
from genkt.models.backbone import Backbone
from genkt.training.distiller import reduced, teacher_outputs
from genkt.training.teacher import cache_outputs
from genkt.types import Batch, ModelOutput, UserError


@pytest.mark.parametrize("project", CONTRASTIVE)
def test_contrastive_total(project: str) -> None:
    student, objective = outputs(D_S, 9), build(CONTRASTIVE[project])
    assert isinstance(objective, StudentContrastive)
    assert isinstance(objective, BothContrastive) == (project == "both")
    values = dict(objective.named_parameters())

    def mapped(features: Tensor, name: str) -> Tensor:
        return features @ values[f"{name}.weight"].T + values[f"{name}.bias"]

    terms = []
    for index, teacher in enumerate(teachers()):
        theirs, ours = teacher.features, mapped(student.features, f"student_projections.{index}")
        assert ours.shape == (B, WIDTHS[index] if project == "student" else 7)
        if project == "both":
            theirs = mapped(theirs, f"teacher_projections.{index}")
        terms.append(info_nce(ours, theirs, temperature=0.2))
    parts = objective.loss(student, teachers(), LABELS)
    assert set(parts) == {"total", "info_nce"} and objective.min_batch == 2
    assert torch.allclose(parts["total"], (terms[0] + terms[1]) / 2)
    assert objective.parameter_groups() == list(objective.parameters())
    assert torch.equal(objective.loss(student, teachers(), -LABELS)["total"], parts["total"])


def test_cosine_patch_total() -> None:
    student, objective = outputs(D_S, 9), build(COSINE_PATCH)
    assert isinstance(objective, CosinePatch) and student.feature_map is not None
    others = [
        ModelOutput(draw(B, w), feature_map=draw(B, w, *size, seed=w))
        for w, size in zip(WIDTHS, ((2, 3), (5, 4)), strict=True)
    ]
    terms = []
    for projection, teacher in zip(objective.projections, others, strict=True):
        weight, bias = projection.weight, projection.bias
        assert isinstance(weight, Tensor) and isinstance(bias, Tensor)
        projected = torch.conv2d(student.feature_map, weight[:, :, None, None], bias)
        assert teacher.feature_map is not None
        terms.append(patch_cosine_distance(projected, teacher.feature_map))
    parts = objective.loss(student, others, LABELS)
    assert torch.allclose(parts["total"], (terms[0] + terms[1]) / 2, atol=1e-6)
    assert set(parts) == {"total", "patch_cosine_distance"}
    with refused("cosine_patch"):
        objective.loss(ModelOutput(student.features), others, LABELS)


def test_cosine_patch_trains_body_and_projections_and_no_classifier() -> None:
    objective, (body, student) = build(COSINE_PATCH), student_with_head()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts = objective.loss(student, teachers(), LABELS)
    assert parts["total"].dtype == torch.float32
    parts["total"].backward()
    for name, parameter in body.named_parameters():
        assert parameter.grad is not None and parameter.grad.any() == name.startswith("body")
    assert all(p.grad is not None and p.grad.any() for p in objective.parameters())


def test_projections_come_from_the_seed_alone() -> None:
    for options in (*CONTRASTIVE.values(), COSINE_PATCH):
        state = torch.get_rng_state()
        found = [build(options, seed=seed) for seed in (0, 0, 1)]
        assert torch.equal(torch.get_rng_state(), state)
        values = [torch.cat([p.flatten() for p in one.parameters()]) for one in found]
        assert torch.equal(values[0], values[1]) and not torch.equal(values[0], values[2])


class Tokens(Case):
    """A vision transformer learns the map of a convolutional teacher."""

    def objective(self, student: Backbone, teachers: Any, options: MethodOptions) -> Objective:
        shapes = [TeacherShape(t.name, t.width, t.num_classes, t.map_width) for t in teachers]
        return build_objective(
            options, student_width=student.width, num_classes=3, teachers=shapes,
            student_map_width=student.map_width, seed=1,
        )  # fmt: skip


def tiny_vit() -> Backbone:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = timm.create_model(
            "vit_tiny_patch16_224", img_size=16, patch_size=8, depth=1, embed_dim=12, num_heads=2,
            num_classes=3,
        )  # fmt: skip
    return Backbone(model, TRANSFORM, "tiny vit")


def tiny_cnn() -> Backbone:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        args = {"layers": [1, 1, 1, 1], "channels": [4, 4, 8, 8], "output_stride": 8}
        model = timm.create_model("resnet18", num_classes=3, **args)
    return Backbone(model, TRANSFORM, "tiny cnn")


def test_maps_reach_the_objective_online_and_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, "cosine_patch", COSINE_PATCH)
    monkeypatch.setattr(
        "training_cases.cache_outputs",
        partial(cache_outputs, outputs=("features", "feature_map")),
    )
    trained = []
    for online in (True, False):
        case = Tokens(
            tmp_path / str(online), "cosine_patch", student=tiny_vit, teacher=tiny_cnn,
            online=online,
        )  # fmt: skip
        stage, curve = case.with_settings(steps=20, lr=0.02, accumulate=2).run()
        values = [record["patch_cosine_distance"] for record in curve]
        assert values[-1] < 0.6 * values[0]
        trained.append(weights(stage))
    for name, value in trained[0].items():
        torch.testing.assert_close(trained[1][name], value, rtol=1e-2, atol=1e-3)


def test_maps_that_an_objective_does_not_read_are_left_out() -> None:
    cached = outputs(4, 0)
    empty = torch.zeros(B, dtype=torch.int64)
    rows = Batch(empty, empty, (), empty, teachers=(cached,), teacher_images=())
    assert teacher_outputs(rows, [], {"feature_map"})[0].feature_map is cached.feature_map
    (without,) = teacher_outputs(rows, [], {"features"})
    assert without.feature_map is None and without.features is cached.features
    model = tiny_vit()
    output = model(draw(2, 3, 16, 16))
    assert reduced(output, {"features", "logits"}, model).feature_map is None
    spatial = reduced(output, {"feature_map"}, model).feature_map
    assert spatial is not None and spatial.shape == (2, 12, 2, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"project": "teacher"}, "project"),
        ({"dim": 0}, "dim"),
        ({"temperature": 0}, "temperature"),
    ],
)
def test_wrong_options(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        build(dataclasses.replace(CONTRASTIVE["both"], **changes))
    assert f"method.{message}" in str(caught.value)
