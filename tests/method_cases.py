"""Small objectives and outputs that the tests of the methods share."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from genkt.methods.aft import AFTOptions
from genkt.methods.base import MethodOptions, Objective, TeacherShape
from genkt.methods.build import (
    build_objective,
)
from genkt.methods.kd import FeatureKDOptions, L2FeatureOptions, LogitKDOptions
from genkt.types import ModelOutput

B, D_S, C = 8, 6, 3
WIDTHS = (5, 4)
LABELS = torch.tensor([0, 1, -1, 2, -1, -1, 0, -1])
AFT_OPTIONS = AFTOptions(
    name="aft",
    beta=3.0,
    beta_grid=(3.0, 10.0),
    mu_lr=0.01,
    kernel="linear",
    mu="diagonal",
    no_kernel=False,
    bilevel=False,
    kernel_rows="all",
)
FEATURE_KD = FeatureKDOptions(name="feature_kd", beta=2.0, beta_grid=(1.0,))
L2_FEATURE = L2FeatureOptions(name="l2_feature")
XE_KL = LogitKDOptions(name="logit_kd", temperature=2.0, kl_weight=0.7)
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rbf": {"kernel": "rbf"},
    "identity": {"mu": "identity"},
    "dense": {"mu": "dense"},
    "dense rbf": {"mu": "dense", "kernel": "rbf"},
    "no_kernel": {"no_kernel": True},
    "bilevel": {"bilevel": True},
    "labelled": {"kernel_rows": "labelled"},
}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def outputs(width: int, seed: int, rows: int = B) -> ModelOutput:
    return ModelOutput(draw(rows, width, seed=seed), draw(rows, C, seed=seed + 100))


def teachers() -> list[ModelOutput]:
    return [outputs(width, seed) for seed, width in enumerate(WIDTHS)]


def build(options: MethodOptions, widths: tuple[int, ...] = WIDTHS, seed: int = 0) -> Objective:
    shapes = [TeacherShape(f"t{index}", width, C) for index, width in enumerate(widths)]
    return build_objective(options, student_width=D_S, num_classes=C, teachers=shapes, seed=seed)


def aft(**changes: Any) -> Objective:
    return build(dataclasses.replace(AFT_OPTIONS, **changes))


def student_with_head() -> tuple[nn.Module, ModelOutput]:
    torch.manual_seed(0)
    body = nn.ModuleDict({"body": nn.Linear(4, D_S), "head": nn.Linear(D_S, C)})
    features = body["body"](draw(B, 4, seed=50))
    return body, ModelOutput(features, body["head"](features))


def every_objective() -> list[tuple[str, Objective]]:
    found = [(name, aft(**changes)) for name, changes in VARIANTS.items()]
    found += [("feature_kd", build(FEATURE_KD)), ("logit_kd", build(XE_KL))]
    found += [("l2_feature", build(L2_FEATURE))]
    return [*found, ("stl", build(MethodOptions("stl")))]
