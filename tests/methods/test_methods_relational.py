from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from method_cases import (
    B_TUNING,
    D_S,
    FACTOR_TRANSFER,
    LABELS,
    RKD,
    WIDTHS,
    B,
    C,
    build,
    draw,
    outputs,
    teachers,
    training_rows,
)
from refusals import refused
from torch import Tensor
from torch.nn import functional

from genkt.losses.factors import factor_distance
from genkt.losses.logits import cross_entropy
from genkt.losses.relational import rkd_angle, rkd_distance
from genkt.methods.base import MethodOptions
from genkt.methods.build import build_objective
from genkt.methods.factor_transfer import (
    FactorTransfer,
    apply_layers,
    factor_widths,
    train_paraphraser,
)
from genkt.methods.shapes import TeacherShape, TrainingRows
from genkt.metrics.logme import logme, logme_released
from genkt.types import UNLABELLED, ModelOutput, UserError


def side_by_side() -> Tensor:
    return torch.cat([teacher.features for teacher in teachers()], dim=1)


def task_loss(student: ModelOutput) -> Tensor:
    assert student.logits is not None
    return cross_entropy(student.logits, LABELS)


def test_rkd_total() -> None:
    student, objective = outputs(D_S, 9), build(RKD)
    distance = rkd_distance(student.features, side_by_side())
    angle = rkd_angle(student.features, side_by_side())
    parts = objective.loss(student, teachers(), LABELS)
    assert torch.allclose(parts["total"], task_loss(student) + 2.0 * (distance + 2 * angle))
    assert torch.equal(parts["rkd_distance"], distance)
    assert torch.equal(parts["rkd_angle"], angle)
    assert not list(objective.parameters()) and objective.min_batch == 3


def test_rkd_leaves_a_relation_of_weight_zero_out() -> None:
    student = outputs(D_S, 9)
    for name, function in (("distance", rkd_distance), ("angle", rkd_angle)):
        other = "angle" if name == "distance" else "distance"
        options = dataclasses.replace(RKD, **{f"{other}_weight": 0, f"{name}_weight": 3})
        parts = build(options).loss(student, teachers(), LABELS)
        assert set(parts) == {"total", "cross_entropy", f"rkd_{name}"}
        expected = task_loss(student) + 6.0 * function(student.features, side_by_side())
        assert torch.allclose(parts["total"], expected)


@pytest.mark.parametrize("options", [RKD, FACTOR_TRANSFER], ids=["rkd", "factor_transfer"])
def test_several_teachers_are_their_concatenation(options: MethodOptions) -> None:
    student, rows, one = outputs(D_S, 9), training_rows(), build(options, (sum(WIDTHS),))
    if options is FACTOR_TRANSFER:
        joined = torch.cat([teacher.features for teacher in rows.teachers], dim=1)
        one.prepare(TrainingRows(rows.labels, (ModelOutput(joined),)))
    total = one.loss(student, [ModelOutput(side_by_side())], LABELS)["total"]
    assert torch.equal(total, build(options).loss(student, teachers(), LABELS)["total"])


def test_factor_transfer_total() -> None:
    student, objective = outputs(D_S, 9), build(FACTOR_TRANSFER)
    state = objective.state_dict()
    assert [tuple(state[f"weight{i}"].shape) for i in range(3)] == [(9, 9), (5, 9), (5, 5)]
    shapes = [tuple(parameter.shape) for parameter in objective.parameter_groups()]
    assert shapes == [(6, 6), (6,), (5, 6), (5,), (5, 5), (5,)]
    assert list(objective.parameters()) == objective.parameter_groups()
    assert objective.own_optimizer() is None
    found = torch.cat([teacher.features for teacher in training_rows().teachers], dim=1)
    spread = (found - found.mean(dim=0)).square().mean().sqrt()
    factors = (side_by_side() - found.mean(dim=0)) / spread
    guess = student.features
    for i in range(3):
        factors = factors @ state[f"weight{i}"].T + state[f"bias{i}"]
        guess = guess @ state[f"translator.{2 * i}"].T + state[f"translator.{2 * i + 1}"]
        factors, guess = (factors, guess) if i == 2 else (factors.relu(), guess.relu())
    distance = factor_distance(guess, factors)
    parts = objective.loss(student, teachers(), LABELS)
    assert torch.allclose(parts["factor_distance"], distance, atol=1e-5)
    expected = task_loss(student) + 2.0 * parts["factor_distance"]
    assert torch.allclose(parts["total"], expected)


@pytest.mark.parametrize("width", [1, 2, 5, 8])
def test_factors_are_half_as_wide(width: int) -> None:
    assert factor_widths(width) == (width, width, -(-width // 2), -(-width // 2))


def test_the_paraphraser_reads_the_training_rows_alone_and_no_labels() -> None:
    rows = training_rows()
    first = build(FACTOR_TRANSFER).state_dict()
    for hidden in (rows.labels, torch.full_like(rows.labels, UNLABELLED)):
        objective = build(FACTOR_TRANSFER)
        objective.prepare(TrainingRows(hidden, rows.teachers))
        assert all(torch.equal(first[k], v) for k, v in objective.state_dict().items())
    assert FactorTransfer.prepares == {"teachers"}


def test_the_paraphraser_comes_from_the_seed_alone() -> None:
    state = torch.get_rng_state()
    first, other = build(FACTOR_TRANSFER).state_dict(), build(FACTOR_TRANSFER, seed=1).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    for name in ("weight0", "weight2", "bias2", "translator.0"):
        assert not torch.equal(first[name], other[name])
    torch.manual_seed(5)
    again = build(FACTOR_TRANSFER).state_dict()
    assert all(torch.equal(first[name], value) for name, value in again.items())


def test_the_paraphraser_stands_still_while_the_student_learns() -> None:
    objective = build(FACTOR_TRANSFER)
    before = {name: value.clone() for name, value in objective.named_buffers()}
    optimizer = torch.optim.Adam(objective.parameter_groups(), lr=0.01)
    distances = []
    for _ in range(100):
        optimizer.zero_grad()
        parts = objective.loss(outputs(D_S, 9), teachers(), LABELS)
        parts["total"].backward()
        optimizer.step()
        distances.append(parts["factor_distance"].item())
    assert distances[-1] < distances[0] / 3
    assert all(torch.equal(before[name], value) for name, value in objective.named_buffers())


def compressible(rows: int = 300) -> Tensor:
    """Features [N, 12] that lie on a plane of 4 dimensions, of unit variance."""
    features = draw(rows, 4) @ draw(4, 12, seed=1)
    return (features - features.mean(dim=0)) / features.std()


def test_the_paraphraser_keeps_what_can_be_kept() -> None:
    options = dataclasses.replace(
        FACTOR_TRANSFER, paraphraser_steps=1500, paraphraser_batch_size=64, paraphraser_patience=20
    )
    encoder, explained = train_paraphraser(compressible(), options, 0)
    assert explained > 0.98
    factors = apply_layers(compressible(), encoder)
    assert factors.shape == (300, 6)
    # A linear decoder reads the features back from the factors, on rows that fitted it not.
    padded = torch.cat([factors, torch.ones(300, 1)], dim=1)
    decoder = torch.linalg.lstsq(padded[:200], compressible()[:200]).solution
    error = functional.mse_loss(padded[200:] @ decoder, compressible()[200:])
    assert error < 0.05


def test_the_paraphraser_stops_early_and_returns_the_best() -> None:
    few = compressible(12)
    options = dataclasses.replace(FACTOR_TRANSFER, paraphraser_lr=0.03, paraphraser_patience=2)
    # With endless patience only the number of steps ends it: what it has found by each look.
    endless = dataclasses.replace(options, paraphraser_patience=10**6)
    found = [
        train_paraphraser(few, dataclasses.replace(endless, paraphraser_steps=steps), 0)
        for steps in range(20, 241, 20)
    ]
    explained = [value for _, value in found]
    assert explained == sorted(explained)
    idle = [k for k in range(2, len(found)) if explained[k] == explained[k - 2]]
    assert idle, "no two looks without gain: the case shows nothing"
    first = idle[0]
    assert all(
        torch.equal(ours, theirs)
        for layer, other in zip(found[first][0], found[first - 2][0], strict=True)
        for ours, theirs in zip(layer, other, strict=True)
    )
    long = dataclasses.replace(options, paraphraser_steps=10**6)
    assert train_paraphraser(few, long, 0)[1] == explained[first]


def test_held_out_rows_do_not_teach() -> None:
    """Rows that are held out may hold anything: the first steps are the same."""
    options = dataclasses.replace(FACTOR_TRANSFER, paraphraser_steps=5)
    features = compressible(30)
    base, _ = train_paraphraser(features, options, 0)
    changed = []
    for row in range(30):
        other = features.clone()
        other[row] += 1
        encoder, _ = train_paraphraser(other, options, 0)
        changed.append(not torch.equal(encoder[0][0], base[0][0]))
    assert changed.count(False) == 3


def test_factor_transfer_refuses_what_it_cannot_learn_from() -> None:
    objective, rows = build(FACTOR_TRANSFER), training_rows()
    one = tuple(ModelOutput(teacher.features[:1]) for teacher in rows.teachers)
    with refused("factor_transfer", 2):
        objective.prepare(TrainingRows(rows.labels[:1], one))
    broken = tuple(ModelOutput(teacher.features / 0) for teacher in rows.teachers)
    with refused(key="method factor_transfer"):
        objective.prepare(TrainingRows(rows.labels, broken))
    wild = dataclasses.replace(FACTOR_TRANSFER, paraphraser_lr=1e30)
    with refused("method.paraphraser_lr"):
        build(wild)


@pytest.mark.parametrize("value", [0.0, 0.3, -5e4])
def test_constant_teachers_leave_factor_transfer_finite(value: float) -> None:
    objective = build(FACTOR_TRANSFER)
    same = tuple(ModelOutput(torch.full((20, width), value)) for width in WIDTHS)
    objective.prepare(TrainingRows(training_rows().labels, same))
    assert all(torch.isfinite(values).all() for values in objective.state_dict().values())
    batch = [ModelOutput(output.features[:B]) for output in same]
    assert torch.isfinite(objective.loss(outputs(D_S, 9), batch, LABELS)["total"])


def test_b_tuning_total() -> None:
    student, objective, rows = outputs(D_S, 9), build(B_TUNING), training_rows()
    known = rows.labels >= 0
    labels = rows.labels[known]
    found = [logme(teacher.features[known], labels, C) for teacher in rows.teachers]
    shares = torch.tensor([one.evidence / 0.1 for one in found]).softmax(dim=0)
    assert rows.student is not None and 0.001 < shares[0] < 0.999
    own = logme(rows.student.features[known], labels, C).posterior_mean
    total = 0.0
    for row in range(B):
        for column in range(C):
            target = sum(
                float(share * (teacher.features[row].double() @ one.posterior_mean[:, column]))
                for share, teacher, one in zip(shares, teachers(), found, strict=True)
            )
            predicted = float(student.features[row].double() @ own[:, column])
            total += (predicted - target) ** 2 / (B * C)
    parts = objective.loss(student, teachers(), LABELS)
    assert parts["prior_regression"].item() == pytest.approx(total, rel=1e-5)
    assert torch.allclose(parts["total"], task_loss(student) + 2.0 * parts["prior_regression"])
    saved = objective.artifacts()
    assert set(saved) == {"evidence-0", "evidence-1", "share-0", "share-1"}
    for index, (share, one) in enumerate(zip(shares, found, strict=True)):
        assert saved[f"share-{index}"].item() == pytest.approx(share.item(), rel=1e-5)
        assert saved[f"evidence-{index}"].item() == pytest.approx(one.evidence, rel=1e-6)
    assert not list(objective.parameters())


def test_b_tuning_solvers_and_temperature_weigh_teachers_differently() -> None:
    rows, wide = training_rows((5, 40)), (5, 40)
    known = rows.labels >= 0
    for solver, function in (("corrected", logme), ("released", logme_released)):
        evidences = [
            function(teacher.features[known], rows.labels[known], C).evidence
            for teacher in rows.teachers
        ]
        for temperature in (0.1, 2.0):
            options = dataclasses.replace(B_TUNING, solver=solver, temperature=temperature)
            saved = build(options, wide).artifacts()
            assert [saved[f"evidence-{i}"].item() for i in (0, 1)] == pytest.approx(evidences)
            expected = (torch.tensor(evidences) / temperature).softmax(dim=0).tolist()
            assert [saved[f"share-{i}"].item() for i in (0, 1)] == pytest.approx(expected, abs=1e-6)
    corrected, released = (
        build(dataclasses.replace(B_TUNING, solver=solver), wide)
        for solver in ("corrected", "released")
    )
    student, batch = outputs(D_S, 9), [outputs(width, width) for width in wide]
    left, right = (o.loss(student, batch, LABELS)["total"] for o in (corrected, released))
    assert not torch.allclose(left, right)


def test_b_tuning_learns_from_labelled_rows_alone() -> None:
    rows, objective = training_rows(), build(B_TUNING)
    known = rows.labels >= 0
    assert rows.student is not None
    before = {name: value.clone() for name, value in objective.named_buffers()}
    objective.prepare(
        TrainingRows(
            rows.labels[known],
            tuple(ModelOutput(teacher.features[known]) for teacher in rows.teachers),
            ModelOutput(rows.student.features[known]),
        )
    )
    assert all(torch.equal(before[name], value) for name, value in objective.named_buffers())


def test_b_tuning_refuses_what_it_cannot_learn_from() -> None:
    rows, objective = training_rows(), build(B_TUNING)
    hidden = torch.full_like(rows.labels, UNLABELLED)
    with refused("b_tuning", 20):
        objective.prepare(dataclasses.replace(rows, labels=hidden))
    broken = (rows.teachers[0], ModelOutput(rows.teachers[1].features / 0))
    with refused("t1", "LogME"):
        objective.prepare(dataclasses.replace(rows, teachers=broken))


def test_b_tuning_with_a_perfect_student_has_nothing_to_regress() -> None:
    rows, objective = training_rows((D_S,)), build(B_TUNING, (D_S,))
    objective.prepare(dataclasses.replace(rows, student=rows.teachers[0]))
    student = outputs(D_S, 9)
    parts = objective.loss(student, [ModelOutput(student.features)], LABELS)
    assert parts["prior_regression"].item() < 1e-10
    assert objective.artifacts()["share-0"].item() == 1.0


@pytest.mark.parametrize("options", [FACTOR_TRANSFER, B_TUNING], ids=lambda o: o.name)
def test_a_loss_before_prepare_is_nan_and_a_restored_one_is_not(options: MethodOptions) -> None:
    shapes = [TeacherShape(f"t{index}", width, C) for index, width in enumerate(WIDTHS)]
    empty = build_objective(options, student_width=D_S, num_classes=C, teachers=shapes)
    assert empty.loss(outputs(D_S, 9), teachers(), LABELS)["total"].isnan()
    prepared = build(options)
    empty.load_state_dict(prepared.state_dict())
    left, right = (o.loss(outputs(D_S, 9), teachers(), LABELS)["total"] for o in (empty, prepared))
    assert torch.equal(left, right) and torch.isfinite(left)


@pytest.mark.parametrize(
    ("options", "changes", "message"),
    [
        (RKD, {"beta": "serch"}, "beta"),
        (RKD, {"distance_weight": -1}, "distance_weight"),
        (RKD, {"angle_weight": "two"}, "angle_weight"),
        (RKD, {"angle_weight": 0, "distance_weight": 0}, "angle_weight: one must be above 0"),
        (FACTOR_TRANSFER, {"beta_grid": ()}, "beta_grid"),
        (FACTOR_TRANSFER, {"paraphraser_steps": 0}, "paraphraser_steps"),
        (FACTOR_TRANSFER, {"paraphraser_patience": 1.5}, "paraphraser_patience"),
        (FACTOR_TRANSFER, {"paraphraser_batch_size": 0}, "paraphraser_batch_size"),
        (FACTOR_TRANSFER, {"paraphraser_lr": 0}, "paraphraser_lr"),
        (B_TUNING, {"temperature": 0}, "temperature"),
        (
            B_TUNING,
            {"solver": "release"},
            "solver",
        ),
        (B_TUNING, {"beta": 0}, "beta"),
    ],
)
def test_wrong_options(options: MethodOptions, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        build(dataclasses.replace(options, **changes))
    assert message in str(caught.value) and "method." in str(caught.value)
