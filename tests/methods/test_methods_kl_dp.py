"""Objectives of general knowledge transfer: kl_dp, top_k_kd, soft_target and mcl."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from method_cases import (
    D_S,
    KL_DP,
    LABELS,
    MCL,
    SOFT_TARGET,
    TOP_K_KD,
    B,
    C,
    build,
    draw,
    outputs,
)
from refusals import refused
from torch import Tensor

from genkt.losses.logits import (
    cross_entropy,
    kl_distillation,
    soft_target_cross_entropy,
    top_k_distillation,
)
from genkt.methods.base import MethodOptions, WeightRule
from genkt.methods.build import METHODS, build_objective, parse_options
from genkt.methods.kd import LogitKDOptions
from genkt.methods.kl_dp import KLDP, KLDPOptions, TopKKLDP
from genkt.methods.soft_labels import TopKKD
from genkt.types import ModelOutput, UserError

SUPERVISED = dataclasses.replace(KL_DP, selection="supervised")


def models(*logits: Tensor) -> list[ModelOutput]:
    return [ModelOutput(torch.zeros(len(z), 4), z) for z in logits]


def parts_of(
    options: MethodOptions, student: Tensor, others: list[Tensor], labels: Tensor = LABELS
) -> dict[str, Tensor]:
    objective = build(options, (4,) * len(others))
    return objective.loss(ModelOutput(draw(len(student), D_S), student), models(*others), labels)


def test_the_first_teacher_is_the_student_as_it_was() -> None:
    objective = build(KL_DP)
    assert isinstance(objective, KLDP) and objective.needs_frozen
    assert METHODS["kl_dp"].objective.needs_frozen and METHODS["kl_dp"].needs == {"logits"}
    student, sure, unsure = draw(B, C), 5 * draw(B, C, seed=1), 0.1 * draw(B, C, seed=2)
    kept = parts_of(KL_DP, student, [sure, unsure])
    taught = parts_of(KL_DP, student, [unsure, sure])
    for parts, share in ((kept, 0.0), (taught, 1.0)):
        assert torch.equal(parts["total"], kl_distillation(student, sure, temperature=2.0))
        assert torch.equal(parts["kl"], parts["total"].detach())
        assert parts["taught"].item() == share


def test_each_row_has_its_own_winner() -> None:
    frozen = torch.tensor([[4.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    first = torch.tensor([[0, 1.0, 0], [3, 0, 0], [0, 2, 0]])
    second = torch.tensor([[0, 0, 1.0], [0, 0, 2], [5, 0, 0]])
    student, unknown = draw(3, 3), torch.full((3,), -1)
    parts = parts_of(KL_DP, student, [frozen, first, second], unknown)
    merged = torch.stack([frozen[0], first[1], second[2]])
    assert torch.equal(parts["total"], kl_distillation(student, merged, temperature=2.0))
    assert parts["taught"].item() == pytest.approx(2 / 3)


def test_no_label_changes_what_is_trained_unless_supervised() -> None:
    student, others = draw(B, C), [draw(B, C, seed=1), draw(B, C, seed=2)]
    unknown = torch.full((B,), -1)
    parts = parts_of(KL_DP, student, others)
    blind = parts_of(KL_DP, student, others, unknown)
    assert torch.equal(parts["total"], blind["total"])
    assert torch.equal(parts["cross_entropy"], cross_entropy(student, LABELS))
    # a teacher that is sure and wrong
    frozen, teacher = torch.tensor([[1.0, 0, 0]]), torch.tensor([[0.0, 5, 0]])
    for label, taught in ((0, 0.0), (1, 1.0), (-1, 1.0)):
        row = parts_of(SUPERVISED, draw(1, 3), [frozen, teacher], torch.tensor([label]))
        assert row["taught"].item() == taught
    assert torch.equal(parts_of(SUPERVISED, student, others, unknown)["total"], blind["total"])


@pytest.mark.parametrize("options", [KL_DP, SUPERVISED])
def test_ties_are_the_frozen_students(options: KLDPOptions) -> None:
    student, frozen = draw(B, C), draw(B, C, seed=1)
    parts = parts_of(options, student, [frozen, frozen.clone(), frozen.clone()])
    assert parts["taught"].item() == 0
    # of two equal teachers the first: their other classes differ, their scores do not
    weak = torch.zeros(1, 3)
    one, two = torch.tensor([[3.0, 1, 0]]), torch.tensor([[3.0, 0, 1]])
    found = parts_of(options, student[:1], [weak, one, two], torch.tensor([0]))
    assert torch.equal(found["total"], kl_distillation(student[:1], one, temperature=2.0))


@pytest.mark.parametrize("temperature", [0.25, 1.0, 4.0])
@pytest.mark.parametrize("selection", ["unsupervised", "supervised"])
def test_selection_is_at_temperature_one(temperature: float, selection: str) -> None:
    """At T = 1 the first is surer (0.787 to 0.768 of class 0), at T = 4 the second would be."""
    frozen, teacher = torch.tensor([[2.0, 0, 0]]), torch.tensor([[3.0, 1.8, -9]])
    at_four = [torch.softmax(z / 4, 1)[0, 0] for z in (frozen, teacher)]
    assert at_four[1] > at_four[0]
    options = dataclasses.replace(KL_DP, temperature=temperature, selection=selection)
    student = draw(1, 3)
    parts = parts_of(options, student, [frozen, teacher], torch.tensor([0]))
    assert parts["taught"].item() == 0
    expected = kl_distillation(student, frozen, temperature=temperature)
    assert torch.equal(parts["total"], expected)


def test_top_k_of_kl_dp_reads_the_winners_classes_alone() -> None:
    options = dataclasses.replace(KL_DP, top_k=2)
    assert isinstance(build(options), TopKKLDP)
    student = draw(B, C)
    sure, unsure = 5 * draw(B, C, seed=1), 0.1 * draw(B, C, seed=2)
    parts = parts_of(options, student, [unsure, sure])
    expected = top_k_distillation(student, [sure], temperature=2.0, top_k=2)
    assert torch.equal(parts["total"], expected) and parts["taught"].item() == 1
    whole = parts_of(dataclasses.replace(KL_DP, top_k=C), student, [unsure, sure])
    plain = parts_of(KL_DP, student, [unsure, sure])
    torch.testing.assert_close(whole["total"], plain["total"])


@pytest.mark.parametrize("num_teachers", [1, 3])
def test_top_k_and_soft_target_take_the_mean_of_teachers(num_teachers: int) -> None:
    student = draw(B, C)
    teachers = [draw(B, C, seed=1 + n) for n in range(num_teachers)]
    top = parts_of(TOP_K_KD, student, teachers)
    expected = top_k_distillation(student, teachers, temperature=2.0, top_k=2)
    assert torch.equal(top["total"], expected) and torch.equal(top["kl"], expected)
    soft = parts_of(SOFT_TARGET, student, teachers)
    expected = soft_target_cross_entropy(student, teachers, temperature=2.0)
    assert torch.equal(soft["total"], expected) and torch.equal(soft["soft_target"], expected)
    for parts in (top, soft):
        assert torch.equal(parts["cross_entropy"], cross_entropy(student, LABELS))


@pytest.mark.parametrize(("num_classes", "expected"), [(2, 2), (10, 10), (1000, 10)])
def test_top_k_follows_the_number_of_classes(num_classes: int, expected: int) -> None:
    options = dataclasses.replace(TOP_K_KD, top_k="auto")
    teacher = [dataclasses.replace(shape, num_classes=num_classes) for shape in _shapes(1)]
    objective = build_objective(
        options, student_width=D_S, num_classes=num_classes, teachers=teacher
    )
    assert isinstance(objective, TopKKD) and objective.top_k == expected


def _shapes(count: int) -> tuple[Any, ...]:
    return build(SOFT_TARGET, (4,) * count).shapes.teachers


def test_mcl_is_xe_kl_with_slow_weights() -> None:
    assert MCL.weight_rule == WeightRule(decay=0.9999, every=2)
    assert LogitKDOptions("logit_kd", 1.0, 1.0).weight_rule is None
    student, teacher = draw(B, C), draw(B, C, seed=1)
    parts = parts_of(MCL, student, [teacher])
    kl = kl_distillation(student, [teacher], temperature=2.0)
    assert torch.allclose(parts["total"], 0.7 * kl + 0.3 * cross_entropy(student, LABELS))
    assert MCL.needs_labels == "method.kl_weight=0.7"


def test_which_methods_read_labels() -> None:
    assert SUPERVISED.needs_labels == "method.selection=supervised"
    assert KL_DP.needs_labels == TOP_K_KD.needs_labels == SOFT_TARGET.needs_labels == ""


@pytest.mark.parametrize(
    ("options", "changes", "message"),
    [
        (KL_DP, {"selection": "superwised"}, "selection: expected one of supervised, "),
        (KL_DP, {"temperature": 0.0}, "temperature"),
        (KL_DP, {"top_k": 1}, "top_k"),
        (KL_DP, {"top_k": "auto"}, "top_k"),
        (KL_DP, {"top_k": 4}, "top_k: expected at most 3"),
        (TOP_K_KD, {"top_k": 4}, "top_k: expected at most 3"),
        (TOP_K_KD, {"top_k": 2.5}, "top_k"),
        (TOP_K_KD, {"top_k": True}, "top_k"),
        (TOP_K_KD, {"temperature": -1}, "temperature"),
        (SOFT_TARGET, {"temperature": float("nan")}, "temperature"),
        (MCL, {"decay": 1.0}, "decay"),
        (MCL, {"decay": -0.1}, "decay"),
        (MCL, {"every": 0}, "every"),
        (MCL, {"every": 2.0}, "every"),
        (MCL, {"kl_weight": 0}, "kl_weight"),
    ],
)
def test_wrong_options(options: MethodOptions, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        build(dataclasses.replace(options, **changes))
    assert f"method.{message}" in str(caught.value)


def test_every_fault_is_reported_at_once() -> None:
    values = {"name": "mcl", "temperature": 0, "kl_weight": 2, "decay": 2, "every": 0}
    with pytest.raises(UserError) as caught:
        parse_options(values)
    for key in ("temperature", "kl_weight", "decay", "every"):
        assert f"method.{key}: " in str(caught.value)


def test_kl_dp_needs_a_teacher_beside_the_frozen_student() -> None:
    with refused("kl_dp"):
        build(KL_DP, (4,))
    with refused("kl_dp"):
        build(KL_DP, ())
    objective = build(KL_DP, (4, 4))
    student = outputs(D_S, 9)
    with refused(key="teachers", got=1):
        objective.loss(student, models(draw(B, C)), LABELS)
    without = [*models(draw(B, C)), ModelOutput(draw(B, 4))]
    with refused("kl_dp"):
        objective.loss(student, without, LABELS)
