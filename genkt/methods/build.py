"""From a method's short name and options to its objective."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from genkt.io import did_you_mean
from genkt.methods.aft import AFT, AFTOptions
from genkt.methods.b_tuning import BTuning, BTuningOptions
from genkt.methods.base import SEARCH, BetaOptions, MethodOptions, Objective
from genkt.methods.contrastive_distillation import CD, CRD, CDOptions, CRDOptions
from genkt.methods.factor_transfer import FactorTransfer, FactorTransferOptions
from genkt.methods.kd import (
    FeatureKD,
    FeatureKDOptions,
    L2Feature,
    L2FeatureOptions,
    LogitKD,
    LogitKDOptions,
)
from genkt.methods.kl_dp import KLDP, KLDPOptions
from genkt.methods.mcl import MCLOptions
from genkt.methods.rkd import RKD, RKDOptions
from genkt.methods.shapes import Shapes, TeacherShape
from genkt.methods.soft_labels import SoftTarget, SoftTargetOptions, TopKKD, TopKOptions
from genkt.methods.supervised import Supervised, SupervisedOptions
from genkt.methods.task_agnostic import (
    ContrastiveOptions,
    CosinePatch,
    CosinePatchOptions,
    StudentContrastive,
)
from genkt.settings.faults import Fault, refuse
from genkt.settings.schema import OneOf, parse
from genkt.types import UserError


@dataclass(frozen=True)
class Method:
    """A method's options class and its objective's.

    Args:
        options, objective: the classes; what the objective reads is an attribute of its class,
            which takes (options, shapes, seed).
    """

    options: type[MethodOptions]
    objective: type[Objective]

    @property
    def needs(self) -> frozenset[str]:
        """The outputs of teachers that it reads."""
        return self.objective.needs


METHODS: dict[str, Method] = {
    "stl": Method(SupervisedOptions, Supervised),
    "feature_kd": Method(FeatureKDOptions, FeatureKD),
    "l2_feature": Method(L2FeatureOptions, L2Feature),
    "logit_kd": Method(LogitKDOptions, LogitKD),
    "top_k_kd": Method(TopKOptions, TopKKD),
    "soft_target": Method(SoftTargetOptions, SoftTarget),
    "mcl": Method(MCLOptions, LogitKD),
    "kl_dp": Method(KLDPOptions, KLDP),
    "aft": Method(AFTOptions, AFT),
    "rkd": Method(RKDOptions, RKD),
    "factor_transfer": Method(FactorTransferOptions, FactorTransfer),
    "b_tuning": Method(BTuningOptions, BTuning),
    "cd": Method(CDOptions, CD),
    "crd": Method(CRDOptions, CRD),
    "contrastive": Method(ContrastiveOptions, StudentContrastive),
    "cosine_patch": Method(CosinePatchOptions, CosinePatch),
}


MethodChoice = Annotated[
    MethodOptions, OneOf(lambda: {name: method.options for name, method in METHODS.items()})
]
"""The options of any method, for the dataclasses of settings."""


def parse_options(values: Mapping[str, Any]) -> MethodOptions:
    """The options dataclass of the method that ``values["name"]`` names, e.g. from its YAML file.

    Raises:
        SettingsError: every fault at once: unknown method, unknown or missing options, wrong
            values.

    Example:
        >>> parse_options({"name": "logit_kd", "temperature": 2.0, "kl_weight": 1.0})
        LogitKDOptions(name='logit_kd', temperature=2.0, kl_weight=1.0)
    """
    faults: list[Fault] = []
    options = parse(MethodChoice, dict(values), "method", faults)
    refuse(faults)
    assert isinstance(options, MethodOptions)
    return options


def build_objective(
    options: MethodOptions,
    *,
    student_width: int,
    num_classes: int,
    teachers: Sequence[TeacherShape] = (),
    student_map_width: int | None = None,
    seed: int = 0,
) -> Objective:
    """The objective that the options describe.

    Args:
        options: of the method; a searched beta has been replaced by a number.
        student_width: D_s of the student's features.
        num_classes: C of the task.
        teachers: one entry per teacher, in the order of their outputs.
        student_map_width: D of the student's feature maps; None where it gives none.
        seed: of the objective's own parameters.

    Raises:
        UserError: every fault of options, classes and teachers, in one line.

    Example:
        >>> import torch
        >>> from genkt.types import ModelOutput
        >>> options = LogitKDOptions("logit_kd", temperature=1.0, kl_weight=1.0)
        >>> teacher = TeacherShape("teacher", width=8, num_classes=3)
        >>> objective = build_objective(
        ...     options, student_width=4, num_classes=3, teachers=[teacher])
        >>> student = ModelOutput(torch.zeros(2, 4), torch.zeros(2, 3))
        >>> teachers = [ModelOutput(torch.zeros(2, 8), torch.zeros(2, 3))]
        >>> objective.loss(student, teachers, torch.tensor([0, -1]))["total"].item()
        0.0
    """
    shapes = Shapes(student_width, num_classes, tuple(teachers), student_map_width)
    objective = _method(options.name).objective
    return objective(options, shapes, seed)


def beta_candidates(options: MethodOptions) -> tuple[float, ...]:
    """The values a search over beta tries; empty where there is nothing to search."""
    if isinstance(options, BetaOptions) and options.beta == SEARCH:
        return tuple(options.beta_grid)
    return ()


def with_beta(options: MethodOptions, beta: float) -> MethodOptions:
    """The same options with a number for beta."""
    assert isinstance(options, BetaOptions)
    return dataclasses.replace(options, beta=beta)


def _method(name: object) -> Method:
    if not isinstance(name, str) or name not in METHODS:
        hint = did_you_mean(str(name), METHODS)
        raise UserError(f'method "{name}": expected {" | ".join(METHODS)}.{hint}')
    return METHODS[name]
