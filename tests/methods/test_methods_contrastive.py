"""Contrastive distillation: cd within a batch, crd beside its memory."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from method_cases import (
    CD,
    D_S,
    LABELS,
    WIDTHS,
    B,
    C,
    build,
    draw,
    outputs,
    student_with_head,
    teachers,
)
from refusals import refused
from torch import Tensor

from genkt.losses.contrastive import similarity_distillation
from genkt.losses.logits import cross_entropy
from genkt.methods.base import MethodOptions
from genkt.methods.build import build_objective
from genkt.methods.contrastive_distillation import CRD, CDOptions, CRDOptions, Memory, Negatives
from genkt.methods.shapes import TeacherShape, TrainingRows
from genkt.types import ModelOutput, UserError

CRD_OPTIONS = CRDOptions("crd", beta=0.8, num_negatives=6, momentum=0.5, temperature=0.07, dim=5)
ROWS = torch.tensor([0, 1, 2, -1, -1, 0, 1, 2, 0, -1])
"""Labels of ten training images."""


def crd(seed: int = 0, labels: Tensor = ROWS, **changes: Any) -> CRD:
    shapes = [TeacherShape(f"t{index}", width, C) for index, width in enumerate(WIDTHS)]
    objective = build_objective(
        dataclasses.replace(CRD_OPTIONS, **changes), student_width=D_S, num_classes=C,
        teachers=shapes, seed=seed,
    )  # fmt: skip
    assert isinstance(objective, CRD)
    objective.prepare(TrainingRows(labels))
    return objective


def batch(seed: int) -> tuple[ModelOutput, list[ModelOutput], Tensor, Tensor]:
    """Student, teachers, labels and samples of a step, in float64; one image is there twice."""
    samples = torch.randperm(len(ROWS), generator=torch.Generator().manual_seed(seed))[:5]
    samples = torch.cat([samples, samples[1:2]])
    student, *others = (
        ModelOutput(draw(6, width, seed=seed + place).double(), draw(6, C, seed=seed).double())
        for place, width in enumerate((D_S, *WIDTHS))
    )
    return student, others, ROWS[samples], samples


def test_cd_weighs_the_mean_divergence_and_the_task() -> None:
    student = outputs(D_S, 9)
    assert student.logits is not None
    divergences = [similarity_distillation(student.features, t.features) for t in teachers()]
    parts = build(CD).loss(student, teachers(), LABELS)
    assert torch.allclose(parts["similarity_kl"], (divergences[0] + divergences[1]) / 2)
    task = cross_entropy(student.logits, LABELS)
    assert torch.allclose(parts["total"], 0.4 * parts["similarity_kl"] + 0.6 * task)
    assert CD.needs_labels == "method.cd_weight=0.4" and build(CD).min_batch == 2
    assert CDOptions("cd", cd_weight=1).needs_labels == ""


def slow_unit(weight: Tensor, bias: Tensor, row: Tensor) -> list[float]:
    mapped = [
        sum(w * x for w, x in zip(line, row.tolist(), strict=True)) + b
        for line, b in zip(weight.tolist(), bias.tolist(), strict=True)
    ]
    return [value / math.hypot(*mapped) for value in mapped]


class SlowMemory:
    """One teacher's banks and term, from the formulas of the paper and its released code."""

    def __init__(self, memory: Memory) -> None:
        state = {name: value.clone() for name, value in memory.state_dict().items()}
        self.state, self.log_z = state, [math.nan, math.nan]
        self.banks = [state["student_bank"].tolist(), state["teacher_bank"].tolist()]

    def step(self, features: tuple[Tensor, Tensor], samples: Tensor, negatives: Tensor) -> float:
        anchors = [
            [slow_unit(self.state[f"{side}_weight"], self.state[f"{side}_bias"], r) for r in rows]
            for side, rows in zip(("student", "teacher"), features, strict=True)
        ]
        total = self._term(0, anchors[0], self.banks[1], samples, negatives)
        total += self._term(1, anchors[1], self.banks[0], samples, negatives)
        for bank, rows in zip(self.banks, anchors, strict=True):
            old = copy.deepcopy(bank)
            for row, sample in zip(rows, samples.tolist(), strict=True):
                mixed = [(a + b) / 2 for a, b in zip(old[sample], row, strict=True)]
                bank[sample] = [value / math.hypot(*mixed) for value in mixed]
        return total

    def _term(
        self, side: int, anchors: list[list[float]], bank: list[list[float]], samples: Tensor,
        negatives: Tensor,
    ) -> float:  # fmt: skip
        scores = []
        for anchor, sample, others in zip(anchors, samples, negatives, strict=True):
            compared = [bank[int(sample)], *(bank[int(other)] for other in others)]
            inner = [sum(a * b for a, b in zip(anchor, row, strict=True)) for row in compared]
            scores.append([math.exp(value / 0.07) for value in inner])
        number = sum(len(row) for row in scores)
        if math.isnan(self.log_z[side]):
            self.log_z[side] = math.log(len(bank) * sum(map(sum, scores)) / number)
        chances = [[score / math.exp(self.log_z[side]) for score in row] for row in scores]
        noise = negatives.shape[1] / len(bank)
        total = 0.0
        for row in chances:
            total -= math.log(row[0] / (row[0] + noise))
            total -= sum(math.log(noise / (chance + noise)) for chance in row[1:])
        return total / len(chances)


def test_crd_equals_a_slow_one_over_several_steps() -> None:
    objective = crd().double()
    memories = [memory for memory in objective.memories if isinstance(memory, Memory)]
    slow = [SlowMemory(memory) for memory in memories]
    draws = Negatives(ROWS, seed=0)
    for step in range(4):
        student, others, labels, samples = batch(10 * step)
        assert student.logits is not None
        parts = objective(student, others, labels, samples)
        negatives = draws.draw(samples, 6)
        terms = [
            one.step((student.features, teacher.features), samples, negatives)
            for one, teacher in zip(slow, others, strict=True)
        ]
        term = parts["contrastive_nce"].item()
        assert term == pytest.approx(sum(terms) / 2, rel=1e-9)
        task = cross_entropy(student.logits, labels).item()
        assert parts["total"].item() == pytest.approx(task + 0.8 * term, rel=1e-12)
        for memory, one in zip(memories, slow, strict=True):
            assert memory.log_normalizers.tolist() == pytest.approx(one.log_z, abs=1e-9)
            for bank, expected in zip(("student_bank", "teacher_bank"), one.banks, strict=True):
                found = memory.get_buffer(bank)
                torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_banks_start_at_unit_length_on_average_and_from_the_seed() -> None:
    many = torch.full((4000,), -1)
    first, again, other = (crd(seed, many, dim=16).memories[0] for seed in (0, 0, 1))
    assert isinstance(first, Memory)
    assert first.student_bank.square().sum(dim=1).mean().item() == pytest.approx(1, abs=0.02)
    assert not torch.equal(first.student_bank, first.teacher_bank)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]) or value.isnan().all()
        assert value.isnan().all() or not torch.equal(value, other.state_dict()[name])


@given(labels=st.lists(st.integers(-1, 3), min_size=2, max_size=12), seed=st.integers(0, 99))
def test_negatives_are_not_known_to_be_alike(labels: list[int], seed: int) -> None:
    known = torch.tensor(labels)
    if len(set(labels)) == 1 and labels[0] >= 0:
        with refused("method crd"):
            Negatives(known, seed)
        return
    negatives = Negatives(known, seed)
    samples = torch.arange(len(labels))
    drawn = negatives.draw(samples, 400)
    for sample, label in enumerate(labels):
        allowed = {
            other for other, its in enumerate(labels)
            if other != sample and (its != label or label == -1)
        }  # fmt: skip
        found = drawn[sample]
        assert set(found.tolist()) <= allowed
        counts = found.bincount(minlength=len(labels)).double()[sorted(allowed)]
        expected = 400 / len(allowed)
        # six standard deviations of a binomial count
        assert (counts - expected).abs().max() <= 6 * (expected * (1 - 1 / len(allowed))) ** 0.5


def test_draws_follow_the_counter_alone() -> None:
    first, again, other = Negatives(ROWS, 0), Negatives(ROWS, 0), Negatives(ROWS, 1)
    samples = torch.tensor([3, 0, 3])
    state = torch.get_rng_state()
    drawn = [first.draw(samples, 50) for _ in range(3)]
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0][0], drawn[0][2])
    assert torch.equal(again.draw(samples, 50), drawn[0])
    assert not torch.equal(other.draw(samples, 50), drawn[0])
    again.load_state_dict(first.state_dict())
    assert torch.equal(again.draw(samples, 50), first.draw(samples, 50))


@pytest.mark.parametrize("labels", [torch.tensor([-1]), torch.tensor([2, 2, 2])])
def test_images_without_negatives_are_refused(labels: Tensor) -> None:
    with refused("method crd"):
        crd(labels=labels)


def test_negatives_are_at_most_one_less_than_the_images() -> None:
    student, others, labels, samples = batch(0)
    all_but_one, more = crd(num_negatives=9).double(), crd(num_negatives=10**6).double()
    expected = all_but_one(student, others, labels, samples)["total"]
    assert torch.equal(more(student, others, labels, samples)["total"], expected)


def test_crd_goes_on_from_its_state_with_the_same_bits() -> None:
    objective, resumed = crd().double(), crd().double()
    for step in range(3):
        objective(*batch(step))
    resumed.load_state_dict(objective.state_dict())
    for step in range(3, 5):
        parts = [one(*batch(step))["total"] for one in (objective, resumed)]
        assert torch.equal(parts[0], parts[1])
    for name, value in objective.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_crd_teaches_the_student_and_its_projections_but_no_teacher() -> None:
    objective, (body, student) = crd(), student_with_head()
    sources = [draw(B, width, seed=width).requires_grad_() for width in WIDTHS]
    for labels in (LABELS, torch.full((B,), -1)):
        parts = objective(student, [ModelOutput(s * 2) for s in sources], labels, torch.arange(B))
        assert not any(part.requires_grad for name, part in parts.items() if name != "total")
        parts["total"].backward(retain_graph=True)
    assert parts["cross_entropy"].item() == 0
    assert objective.parameter_groups() == list(objective.parameters())
    assert all(source.grad is None for source in sources)
    for parameter in [*body.parameters(), *objective.parameters()]:
        assert parameter.grad is not None and parameter.grad.any()
    assert not any(value.requires_grad for value in objective.buffers())


def test_crd_brings_the_students_rows_to_their_teachers() -> None:
    objective = crd(num_negatives=5)
    psi = [draw(len(ROWS), width, seed=width) for width in WIDTHS]
    phi = draw(len(ROWS), D_S, seed=3).requires_grad_()
    optimizer = torch.optim.Adam([phi, *objective.parameter_groups()], lr=0.05)
    values = []
    for _ in range(150):
        optimizer.zero_grad()
        student = ModelOutput(phi, torch.zeros(len(ROWS), C))
        parts = objective(student, [ModelOutput(p) for p in psi], ROWS, torch.arange(len(ROWS)))
        parts["total"].backward()
        optimizer.step()
        values.append(parts["contrastive_nce"].item())
    assert sum(values[-10:]) < 0.2 * sum(values[:10])
    memory = objective.memories[0]
    assert isinstance(memory, Memory)
    cosines = memory.student_bank @ memory.teacher_bank.T
    assert cosines.diagonal().mean() > cosines.mean() + 0.3


def test_crd_computes_in_float32_under_autocast_and_is_never_compiled() -> None:
    graphs: list[object] = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    student, others, labels, samples = batch(0)
    assert student.logits is not None
    narrow = ModelOutput(student.features.bfloat16(), student.logits.bfloat16())
    cached = [ModelOutput(teacher.features.half()) for teacher in others]
    wide = ModelOutput(narrow.features.float(), narrow.logits.float())  # type: ignore[union-attr]
    widened = [ModelOutput(teacher.features.float()) for teacher in cached]
    expected = crd()(wide, widened, labels, samples)["total"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = crd()(narrow, cached, labels, samples)["total"]
    assert total.dtype == torch.float32 and torch.equal(total, expected)
    compiled = torch.compile(crd(), backend=backend)
    assert torch.equal(compiled(wide, widened, labels, samples)["total"], expected)
    assert not graphs


@pytest.mark.parametrize(
    ("options", "changes", "message"),
    [
        (CD, {"cd_weight": 0}, "cd_weight"),
        (CD, {"cd_weight": "half"}, "cd_weight"),
        (CRD_OPTIONS, {"beta": 0}, "beta"),
        (CRD_OPTIONS, {"num_negatives": 0}, "num_negatives"),
        (CRD_OPTIONS, {"num_negatives": 1.5}, "num_negatives"),
        (CRD_OPTIONS, {"momentum": 1}, "momentum"),
        (CRD_OPTIONS, {"temperature": -1}, "temperature"),
        (CRD_OPTIONS, {"dim": True}, "dim"),
    ],
)
def test_wrong_options(options: MethodOptions, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        build(dataclasses.replace(options, **changes))
    assert f"method.{message}" in str(caught.value)
