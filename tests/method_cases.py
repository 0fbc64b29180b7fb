"""Small objectives and outputs that the tests of the methods share."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from genkt.methods.aft import AFTOptions
from genkt.methods.b_tuning import BTuningOptions
from genkt.methods.base import MethodOptions, Objective
from genkt.methods.build import (
    build_objective,
)
from genkt.methods.contrastive_distillation import CDOptions
from genkt.methods.factor_transfer import FactorTransferOptions
from genkt.methods.kd import FeatureKDOptions, L2FeatureOptions, LogitKDOptions
from genkt.methods.kl_dp import KLDPOptions
from genkt.methods.mcl import MCLOptions
from genkt.methods.rkd import RKDOptions
from genkt.methods.shapes import TeacherShape, TrainingRows
from genkt.methods.soft_labels import SoftTargetOptions, TopKOptions
from genkt.methods.task_agnostic import ContrastiveOptions, CosinePatchOptions
from genkt.types import UNLABELLED, ModelOutput

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
KL_DP = KLDPOptions("kl_dp", selection="unsupervised", temperature=2.0, top_k=None)
TOP_K_KD = TopKOptions("top_k_kd", temperature=2.0, top_k=2)
SOFT_TARGET = SoftTargetOptions("soft_target", temperature=2.0)
MCL = MCLOptions("mcl", temperature=2.0, kl_weight=0.7, decay=0.9999, every=2)
RKD = RKDOptions("rkd", beta=2.0, beta_grid=(1.0,), distance_weight=1.0, angle_weight=2.0)
FACTOR_TRANSFER = FactorTransferOptions(
    "factor_transfer", beta=2.0, beta_grid=(1.0,), paraphraser_steps=60, paraphraser_patience=3,
    paraphraser_batch_size=8, paraphraser_lr=0.01,
)  # fmt: skip
B_TUNING = BTuningOptions(
    "b_tuning", beta=2.0, beta_grid=(1.0,), temperature=0.1, solver="corrected"
)
CD = CDOptions("cd", cd_weight=0.4)
CONTRASTIVE = {
    project: ContrastiveOptions("contrastive", project=project, dim=7, temperature=0.2)
    for project in ("student", "both")
}
COSINE_PATCH = CosinePatchOptions("cosine_patch")
WITHOUT_TASK = ("l2_feature", "contrastive student", "contrastive both")
"""Objectives that train no classifier."""
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
    return ModelOutput(
        draw(rows, width, seed=seed),
        draw(rows, C, seed=seed + 100),
        draw(rows, width, 2, 3, seed=seed + 200),
    )


def teachers() -> list[ModelOutput]:
    return [outputs(width, seed) for seed, width in enumerate(WIDTHS)]


def build(options: MethodOptions, widths: tuple[int, ...] = WIDTHS, seed: int = 0) -> Objective:
    shapes = [TeacherShape(f"t{index}", width, C, width) for index, width in enumerate(widths)]
    objective = build_objective(
        options, student_width=D_S, num_classes=C, teachers=shapes, student_map_width=D_S, seed=seed
    )
    if objective.prepares:
        objective.prepare(training_rows(widths))
    return objective


def training_rows(widths: tuple[int, ...] = WIDTHS, rows: int = 20) -> TrainingRows:
    """Rows to prepare on, half of them labelled, whose features are about their classes."""
    classes = torch.arange(rows) % C
    labels = torch.where(torch.arange(rows) % 2 == 1, classes, UNLABELLED)

    def features(width: int, seed: int) -> ModelOutput:
        return ModelOutput(
            draw(rows, width, seed=seed) + 2 * draw(C, width, seed=seed + 1)[classes]
        )

    found = [features(width, 200 + width) for width in widths]
    return TrainingRows(labels, tuple(found), features(D_S, 300))


def aft(**changes: Any) -> Objective:
    return build(dataclasses.replace(AFT_OPTIONS, **changes))


def student_with_head() -> tuple[nn.Module, ModelOutput]:
    torch.manual_seed(0)
    body = nn.ModuleDict({"body": nn.Linear(4, D_S), "head": nn.Linear(D_S, C)})
    features = body["body"](draw(B, 4, seed=50))
    feature_map = features[:, :, None, None] * draw(3, 2, seed=51)
    return body, ModelOutput(features, body["head"](features), feature_map)


def every_objective() -> list[tuple[str, Objective]]:
    found = [(name, aft(**changes)) for name, changes in VARIANTS.items()]
    found += [("feature_kd", build(FEATURE_KD)), ("logit_kd", build(XE_KL))]
    found += [("l2_feature", build(L2_FEATURE))]
    found += [(o.name, build(o)) for o in (KL_DP, TOP_K_KD, SOFT_TARGET, MCL)]
    found += [(o.name, build(o)) for o in (RKD, FACTOR_TRANSFER, B_TUNING)]
    found += [("cd", build(CD))]
    found += [(f"contrastive {how}", build(options)) for how, options in CONTRASTIVE.items()]
    return [*found, ("stl", build(MethodOptions("stl")))]
