from __future__ import annotations

import dataclasses

import pytest
import torch
from method_cases import (
    AFT_OPTIONS,
    D_S,
    FEATURE_KD,
    L2_FEATURE,
    LABELS,
    WIDTHS,
    WITHOUT_TASK,
    XE_KL,
    B,
    C,
    aft,
    build,
    draw,
    every_objective,
    outputs,
    student_with_head,
    teachers,
)

from genkt.losses.features import feature_regression, reverse_feature_regression
from genkt.losses.kernels import kernel_distance, linear_kernel, rbf_kernel
from genkt.losses.logits import cross_entropy, kl_distillation
from genkt.methods.aft import BilevelAFT, NoKernelAFT
from genkt.methods.base import MethodOptions, Objective
from genkt.methods.kd import FeatureKD, L2Feature
from genkt.types import ModelOutput


def test_stl_is_cross_entropy_and_reads_no_teacher() -> None:
    student = outputs(D_S, 9)
    assert student.logits is not None
    parts = build(MethodOptions("stl")).loss(student, [], LABELS)
    assert torch.equal(parts["total"], cross_entropy(student.logits, LABELS))


def test_feature_kd_total() -> None:
    student, objective = outputs(D_S, 9), build(FEATURE_KD)
    assert isinstance(objective, FeatureKD) and student.logits is not None
    psi = torch.cat([teacher.features for teacher in teachers()], dim=1)
    regression = feature_regression(
        student.features, psi, weight=objective.weight, bias=objective.bias
    )
    parts = objective.loss(student, teachers(), LABELS)
    assert torch.equal(parts["total"], cross_entropy(student.logits, LABELS) + 2.0 * regression)
    assert torch.equal(parts["feature_regression"], regression)
    assert objective.parameter_groups() == [objective.weight, objective.bias]
    assert objective.own_optimizer() is None


def test_l2_feature_is_the_regression_alone() -> None:
    student, objective = outputs(D_S, 9), build(L2_FEATURE)
    assert isinstance(objective, L2Feature)
    psi = torch.cat([teacher.features for teacher in teachers()], dim=1)
    mapped = student.features @ objective.weight.T + objective.bias
    parts = objective.loss(student, teachers(), LABELS)
    assert torch.allclose(parts["total"], (mapped - psi).square().mean())
    assert set(parts) == {"total", "feature_regression"}
    assert torch.equal(parts["total"], parts["feature_regression"])
    assert objective.parameter_groups() == [objective.weight, objective.bias]
    assert objective.own_optimizer() is None
    # Neither labels nor predictions matter, not even whether there are any.
    for other in (
        student,
        ModelOutput(student.features, draw(B, C)),
        ModelOutput(student.features),
    ):
        total = objective.loss(other, teachers(), torch.full((B,), -1))["total"]
        assert torch.equal(total, parts["total"])


def test_l2_feature_finds_a_linear_teacher() -> None:
    student = ModelOutput(draw(32, D_S))
    teacher = [ModelOutput(student.features @ draw(D_S, 5, seed=1) + 2)]
    objective = build(L2_FEATURE, (5,))
    optimizer = torch.optim.LBFGS(objective.parameter_groups(), max_iter=50)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        total = objective.loss(student, teacher, torch.full((32,), -1))["total"]
        total.backward()
        return total

    optimizer.step(closure)
    assert closure().item() < 1e-6


def test_l2_feature_leaves_the_classifier_alone() -> None:
    body, student = student_with_head()
    build(L2_FEATURE).loss(student, teachers(), LABELS)["total"].backward()
    for parameter in body["head"].parameters():  # type: ignore[index]
        # Zero, not missing: several processes wait for every weight's gradient.
        assert parameter.grad is not None and not parameter.grad.any()


def test_logit_kd_total() -> None:
    student = outputs(D_S, 9)
    assert student.logits is not None
    kl = kl_distillation(
        student.logits, [t.logits for t in teachers() if t.logits is not None], temperature=2.0
    )
    parts = build(XE_KL).loss(student, teachers(), LABELS)
    expected = 0.7 * kl + 0.3 * cross_entropy(student.logits, LABELS)
    assert torch.allclose(parts["total"], expected) and torch.equal(parts["kl"], kl)
    pure = build(dataclasses.replace(XE_KL, kl_weight=1.0)).loss(student, teachers(), LABELS)
    assert torch.equal(pure["total"], kl)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_aft_total(kernel: str) -> None:
    student, objective = outputs(D_S, 9), aft(kernel=kernel)
    assert student.logits is not None
    function = {"linear": linear_kernel, "rbf": rbf_kernel}[kernel]
    with torch.no_grad():
        objective.get_parameter("mu.s").copy_(draw(sum(WIDTHS), seed=7))
    psi = torch.cat([teacher.features for teacher in teachers()], dim=1)
    weighted = psi * torch.sigmoid(draw(sum(WIDTHS), seed=7))
    distance = kernel_distance(function(student.features), function(weighted))
    parts = objective.loss(student, teachers(), LABELS)
    assert torch.allclose(
        parts["total"], cross_entropy(student.logits, LABELS) + 3.0 * distance, atol=1e-6
    )


def test_identity_and_dense_mu() -> None:
    student = outputs(D_S, 9)
    psi = torch.cat([teacher.features for teacher in teachers()], dim=1)
    phi = linear_kernel(student.features)
    identity = aft(mu="identity").loss(student, teachers(), LABELS)["kernel_distance"]
    assert torch.equal(identity, kernel_distance(phi, linear_kernel(psi)))
    objective = aft(mu="dense")
    matrix = objective.get_parameter("mu.matrix")
    dense = objective.loss(student, teachers(), LABELS)["kernel_distance"]
    assert torch.allclose(dense, kernel_distance(phi, linear_kernel(psi @ matrix.T)), atol=1e-6)
    wide = build(dataclasses.replace(AFT_OPTIONS, mu="dense"), (400,))
    assert wide.get_parameter("mu.matrix").std().item() == pytest.approx(400**-0.5, rel=0.02)


def test_no_kernel_regresses_the_student() -> None:
    student, objective = outputs(D_S, 9), aft(no_kernel=True)
    assert isinstance(objective, NoKernelAFT)
    psi = torch.cat([teacher.features for teacher in teachers()], dim=1)
    expected = reverse_feature_regression(
        student.features, psi, weight=objective.weight, bias=objective.bias
    )
    parts = objective.loss(student, teachers(), LABELS)
    assert torch.equal(parts["feature_regression"], expected)
    optimizer = objective.own_optimizer()
    assert optimizer is not None and objective.parameter_groups() == []
    assert optimizer.param_groups[0]["params"] == [objective.weight, objective.bias]


def test_aft_starts_at_zero_with_its_own_adam() -> None:
    objective = aft()
    s = objective.get_parameter("mu.s")
    optimizer = objective.own_optimizer()
    assert torch.equal(s, torch.zeros(sum(WIDTHS))) and objective.min_batch == 3
    assert isinstance(optimizer, torch.optim.Adam)
    group = optimizer.param_groups[0]
    assert group["params"] == [s] and group["lr"] == 0.01 and group["weight_decay"] == 0
    assert aft(mu="identity").own_optimizer() is None


def test_artifacts_are_one_entry_a_teacher() -> None:
    objective = aft()
    with torch.no_grad():
        objective.get_parameter("mu.s").copy_(torch.arange(9.0))
    saved = objective.artifacts()
    assert list(saved) == ["weights.0", "weights.1"]
    assert torch.equal(saved["weights.0"], torch.arange(5.0).sigmoid())
    assert torch.equal(saved["weights.1"], torch.arange(5.0, 9.0).sigmoid())
    assert not any(value.requires_grad for value in saved.values())
    assert aft(mu="identity").artifacts() == {}
    dense = aft(mu="dense").artifacts()
    assert {name: tuple(value.shape) for name, value in dense.items()} == {
        "mu.0": (9, 5),
        "mu.1": (9, 4),
    }
    assert set(aft(no_kernel=True).artifacts()) == {"mu.0", "mu.1", "offset"}


@pytest.mark.parametrize(("name", "objective"), every_objective())
def test_no_labelled_row_still_trains_every_parameter(name: str, objective: Objective) -> None:
    body, student = student_with_head()
    labels = torch.full((B,), -1)
    if name == "labelled":
        labels[:3] = 1
    parts = objective.loss(student, teachers(), labels)
    parts["total"].backward()
    if name not in ("labelled", *WITHOUT_TASK):
        assert parts["cross_entropy"].item() == 0
    for parameter in [*body.parameters(), *objective.parameters()]:
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all()


@pytest.mark.parametrize(("name", "objective"), every_objective())
def test_unlabelled_rows_do_not_change_the_task_loss(name: str, objective: Objective) -> None:
    student, others = outputs(D_S, 9), teachers()
    before = objective.loss(student, others, LABELS)
    hidden = (LABELS < 0)[:, None]
    assert student.logits is not None
    moved = ModelOutput(
        torch.where(hidden, draw(B, D_S, seed=77), student.features),
        torch.where(hidden, draw(B, C, seed=78), student.logits),
    )
    after = objective.loss(moved, others, LABELS)
    assert ("cross_entropy" in before) == (name not in WITHOUT_TASK)
    if name not in WITHOUT_TASK:
        assert torch.equal(before["cross_entropy"], after["cross_entropy"])
    for part in set(before) - {"total", "cross_entropy", "taught"}:
        same = torch.equal(before[part], after[part])
        assert same == (name == "labelled"), "transfer terms read all rows, except kernel_rows"


def test_labelled_rows_alone_give_the_papers_distance() -> None:
    student, mask = outputs(D_S, 9), LABELS >= 0
    only = [ModelOutput(teacher.features[mask]) for teacher in teachers()]
    assert student.logits is not None
    paper = aft().loss(
        ModelOutput(student.features[mask], student.logits[mask]), only, LABELS[mask]
    )
    ours = aft(kernel_rows="labelled").loss(student, teachers(), LABELS)
    assert torch.equal(paper["total"], ours["total"])


@pytest.mark.parametrize(
    "options", [AFT_OPTIONS, FEATURE_KD, L2_FEATURE], ids=["aft", "feature_kd", "l2_feature"]
)
def test_several_teachers_are_their_concatenation(options: MethodOptions) -> None:
    student = outputs(D_S, 9)
    together = [ModelOutput(torch.cat([teacher.features for teacher in teachers()], dim=1))]
    two = build(options).loss(student, teachers(), LABELS)["total"]
    one = build(options, (sum(WIDTHS),)).loss(student, together, LABELS)["total"]
    assert torch.equal(two, one)


@pytest.mark.parametrize(("name", "objective"), every_objective())
def test_teachers_are_constant_and_student_and_own_parameters_learn(
    name: str, objective: Objective
) -> None:
    body, student = student_with_head()
    sources = [draw(B, width, seed=width).requires_grad_() for width in WIDTHS]
    scores = [draw(B, C, seed=width).requires_grad_() for width in WIDTHS]
    others = [ModelOutput(f * 2, z * 2) for f, z in zip(sources, scores, strict=True)]
    parts = objective.loss(student, others, LABELS)
    assert not any(part.requires_grad for key, part in parts.items() if key != "total")
    assert all(part.ndim == 0 for part in parts.values())
    parts["total"].backward()
    assert all(tensor.grad is None for tensor in [*sources, *scores])
    for part, parameter in body.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.any() == (name not in WITHOUT_TASK or part.startswith("body"))
    learned = [p.grad is not None and p.grad.abs().sum() > 0 for p in objective.parameters()]
    assert all(value == (name != "bilevel") for value in learned)


def test_bilevel_updates_mu_in_inner_steps_only() -> None:
    objective = aft(bilevel=True)
    assert isinstance(objective, BilevelAFT) and objective.num_inner_steps == 5
    assert aft().num_inner_steps == 0
    body, student = student_with_head()
    optimizer = objective.own_optimizer()
    assert optimizer is not None
    distances = []
    for _ in range(objective.num_inner_steps):
        optimizer.zero_grad()
        distance = objective.inner_loss(student, teachers(), LABELS)
        distance.backward()
        distances.append(distance.item())
        optimizer.step()
    assert all(parameter.grad is None for parameter in body.parameters())
    assert distances == sorted(distances, reverse=True) and distances[0] > distances[-1]
    optimizer.zero_grad()
    parts = objective.loss(student, teachers(), LABELS)
    assert parts["kernel_distance"].item() < distances[-1]
    parts["total"].backward()
    s = objective.get_parameter("mu.s")
    assert s.grad is not None and torch.equal(s.grad, torch.zeros_like(s))
    plain = aft()
    plain.load_state_dict(objective.state_dict())
    assert torch.equal(plain.loss(student, teachers(), LABELS)["total"], parts["total"])


def test_mu_learns_to_ignore_noise_features() -> None:
    rows = 64
    useful, noise = draw(rows, 8, seed=1), draw(rows, 8, seed=2)
    psi = [ModelOutput(useful), ModelOutput(noise)]
    student = ModelOutput(useful @ torch.linalg.qr(draw(8, 8, seed=3))[0], draw(rows, C))
    objective = build(AFT_OPTIONS, (8, 8))
    optimizer = objective.own_optimizer()
    assert optimizer is not None
    for _ in range(300):
        optimizer.zero_grad()
        objective.loss(student, psi, torch.full((rows,), -1))["total"].backward()
        optimizer.step()
    weights = objective.artifacts()
    assert weights["weights.0"].min() > 3 * weights["weights.1"].max()


@pytest.mark.parametrize(("name", "objective"), every_objective())
def test_autocast_leaves_the_losses_in_float32(name: str, objective: Objective) -> None:
    student = ModelOutput(draw(B, D_S, seed=9).bfloat16(), draw(B, C, seed=8).bfloat16())
    assert student.logits is not None
    wide = ModelOutput(student.features.float(), student.logits.float())
    cached = [ModelOutput(t.features.half(), draw(B, C).half()) for t in teachers()]
    widened = [
        ModelOutput(t.features.half().float(), draw(B, C).half().float()) for t in teachers()
    ]
    expected = objective.loss(wide, widened, LABELS)["total"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = objective.loss(student, cached, LABELS)["total"]
    assert total.dtype == torch.float32 and torch.equal(total, expected)


def test_identical_images_give_finite_gradients() -> None:
    for name, objective in every_objective():
        features = torch.ones(B, D_S, requires_grad=True)
        same = [ModelOutput(torch.full((B, w), 0.3), torch.zeros(B, C)) for w in WIDTHS]
        student = ModelOutput(features, features @ torch.ones(D_S, C))
        total = objective.loss(student, same, LABELS)["total"]
        total.backward()
        assert torch.isfinite(total) and features.grad is not None, name
        for grad in [features.grad, *(p.grad for p in objective.parameters())]:
            assert grad is not None and torch.isfinite(grad).all(), name


def test_own_parameters_come_from_the_seed_alone() -> None:
    dense = dataclasses.replace(AFT_OPTIONS, mu="dense")
    for options in (
        FEATURE_KD,
        L2_FEATURE,
        dense,
        dataclasses.replace(AFT_OPTIONS, no_kernel=True),
    ):
        state = torch.get_rng_state()
        first, again, other = build(options), build(options), build(options, seed=1)
        assert torch.equal(torch.get_rng_state(), state)
        values = [torch.cat([p.flatten() for p in o.parameters()]) for o in (first, again, other)]
        assert torch.equal(values[0], values[1]) and not torch.equal(values[0], values[2])
