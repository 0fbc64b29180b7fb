from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from torch import Tensor

from genkt.losses import relational
from genkt.losses.relational import rkd_angle, rkd_distance, unit_vectors

Loss = Callable[[Tensor, Tensor], Tensor]
BOTH = pytest.mark.parametrize("loss", [rkd_distance, rkd_angle])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def smooth_l1(a: float, b: float) -> float:
    return 0.5 * (a - b) ** 2 if abs(a - b) < 1 else abs(a - b) - 0.5


def slow_relative_distances(features: Tensor) -> dict[tuple[int, int], float]:
    points = features.tolist()
    pairs = {(i, j): math.dist(p, q) for i, p in enumerate(points) for j, q in enumerate(points)}
    positive = [distance for distance in pairs.values() if distance > 0]
    mean = sum(positive) / len(positive) if positive else 1.0
    return {pair: distance / mean for pair, distance in pairs.items()}


def slow_distance(student: Tensor, teacher: Tensor) -> float:
    ours, theirs = slow_relative_distances(student), slow_relative_distances(teacher)
    return sum(smooth_l1(ours[pair], theirs[pair]) for pair in ours) / len(ours)


def slow_cosine(points: list[list[float]], i: int, j: int, k: int) -> float:
    to_j = [a - b for a, b in zip(points[j], points[i], strict=True)]
    to_k = [a - b for a, b in zip(points[k], points[i], strict=True)]
    lengths = math.hypot(*to_j) * math.hypot(*to_k)
    inner = sum(a * b for a, b in zip(to_j, to_k, strict=True))
    return inner / lengths if lengths > 0 else 0.0


def slow_angle(student: Tensor, teacher: Tensor) -> float:
    ours, theirs, rows = student.tolist(), teacher.tolist(), range(len(student))
    total = 0.0
    for i in rows:
        for j in rows:
            for k in rows:
                total += smooth_l1(slow_cosine(ours, i, j, k), slow_cosine(theirs, i, j, k))
    return total / len(student) ** 3


SLOW = {rkd_distance: slow_distance, rkd_angle: slow_angle}


def gradient(loss: Loss, student: Tensor, teacher: Tensor) -> Tensor:
    leaf = student.clone().requires_grad_()
    loss(leaf, teacher).backward()
    assert leaf.grad is not None
    return leaf.grad


@BOTH
@pytest.mark.parametrize(("rows", "scale"), [(3, 1.0), (6, 0.01), (7, 50.0)])
def test_equals_the_slow_one(loss: Loss, rows: int, scale: float) -> None:
    student, teacher = scale * draw(rows, 3) + 5, draw(rows, 6, seed=1)
    teacher[0] *= 20  # some relative distances differ by more than the threshold
    value = loss(student, teacher).item()
    assert value == pytest.approx(SLOW[loss](student, teacher), abs=1e-9)
    assert value > 1e-3


@BOTH
def test_equal_rows_equal_the_slow_one(loss: Loss) -> None:
    student, teacher = draw(6, 3), draw(6, 4, seed=1)
    student[1], teacher[3], teacher[4] = student[0], teacher[2], teacher[2]
    value = loss(student, teacher).item()
    assert value == pytest.approx(SLOW[loss](student, teacher), abs=1e-9)
    same = torch.ones(6, 4, dtype=torch.float64)
    value = loss(student, same).item()
    assert value == pytest.approx(SLOW[loss](student, same), abs=1e-9)


@BOTH
def test_a_basis_of_the_rows_changes_neither_value_nor_gradient(
    loss: Loss, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, teacher = draw(6, 40) + 3, draw(6, 50, seed=1)
    student[4], teacher[2] = student[1], teacher[0]  # equal rows keep a gradient each
    assert relational._coordinates(student).shape == (6, 6)
    value, reduced = loss(student, teacher), gradient(loss, student, teacher)
    assert value.item() == pytest.approx(SLOW[loss](student, teacher), abs=1e-9)
    monkeypatch.setattr(relational, "_coordinates", lambda features: features)
    assert torch.allclose(loss(student, teacher), value, rtol=1e-12)
    assert torch.allclose(gradient(loss, student, teacher), reduced, rtol=1e-9, atol=1e-14)
    assert not torch.allclose(reduced[4], reduced[1])


def test_close_rows_of_wide_float32_features_keep_their_distance() -> None:
    rows = (draw(8, 300) + 100).float()
    rows[1] = rows[0]
    rows[1, :5] += 1e-3
    points = relational._coordinates(rows)
    found = (points[0] - points[1]).norm().item()
    assert found == pytest.approx((rows[0].double() - rows[1].double()).norm().item(), rel=1e-9)


@settings(max_examples=50, deadline=None)
@given(rows=st.integers(1, 12), width=st.integers(1, 20), seed=st.integers(0, 999))
def test_the_first_equal_row_is_found_as_by_unique(rows: int, width: int, seed: int) -> None:
    features = draw(rows, width, seed=seed)
    copies = torch.randint(rows, (2 * rows,), generator=torch.Generator().manual_seed(seed))
    features = features[copies]
    features[::3, 0] = torch.tensor(0.0)
    features[::2] *= -1  # -0.0 equals 0.0
    groups = torch.unique(features, dim=0, return_inverse=True)[1]
    expected = (groups[:, None] == groups).int().argmax(dim=1)
    assert torch.equal(relational._first_equal(features), expected)


def test_rows_with_equal_keys_are_compared_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relational, "_mixed", torch.zeros_like)
    rows = torch.tensor([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]], dtype=torch.float64)
    assert relational._first_equal(rows).tolist() == [0, 1, 0]


def test_a_triangle_by_hand() -> None:
    right = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    line = torch.tensor([[0.0], [1.0], [2.0]], dtype=torch.float64)
    # Distances over their mean: 3/4, 4/4, 5/4 of the triangle, 3/4, 6/4, 3/4 of the line.
    expected = 2 * (0.0 + 0.5 * 0.5**2 + 0.5 * 0.5**2) / 9
    assert rkd_distance(right, line).item() == pytest.approx(expected, abs=1e-12)
    # Cosines at the three corners: 0, 3/5, 4/5 of the triangle, 1, -1, 1 of the line.
    expected = 2 * (0.5 * 1**2 + (1.6 - 0.5) + 0.5 * 0.2**2) / 27
    assert rkd_angle(right, line).item() == pytest.approx(expected, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(3, 6),
    width=st.integers(1, 5),
    seed=st.integers(0, 999),
    factor=st.floats(0.01, 100),
)
def test_invariances(rows: int, width: int, seed: int, factor: float) -> None:
    features, teacher = draw(rows, width, seed=seed), draw(rows, 4, seed=seed + 1)
    rotation = torch.linalg.qr(draw(width, width, seed=seed + 2))[0]
    similar = factor * features @ rotation + draw(width, seed=seed + 3)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    for loss in (rkd_distance, rkd_angle):
        assert loss(features, features).item() == 0
        assert loss(features, similar).item() < 1e-18
        value = loss(features, teacher).item()
        assert value == pytest.approx(loss(similar, teacher).item(), abs=1e-9)
        assert value == pytest.approx(loss(teacher, features).item(), abs=1e-12)
        assert value == pytest.approx(loss(features[order], teacher[order]).item(), abs=1e-12)


@BOTH
def test_other_relations_cost_something(loss: Loss) -> None:
    features = draw(4, 3)
    moved = features.clone()
    moved[0] += 1
    assert loss(features, moved).item() > 1e-4


@BOTH
def test_gradients(loss: Loss) -> None:
    teacher = draw(5, 4, seed=1)
    assert torch.autograd.gradcheck(
        lambda student: loss(student, teacher),
        draw(5, 3).requires_grad_(),
    )


def test_the_students_mean_passes_a_gradient() -> None:
    student, teacher = draw(5, 3), draw(5, 4, seed=1)
    # A common factor changes nothing, so the gradient has no part along the centred features.
    along = (gradient(rkd_distance, student, teacher) * (student - student.mean(dim=0))).sum()
    assert along.abs().item() < 1e-12


@BOTH
def test_equal_rows_have_finite_gradients(loss: Loss) -> None:
    teacher = draw(6, 4, seed=1).float()
    pairs = draw(3, 3).float().repeat(2, 1)
    assert torch.isfinite(gradient(loss, pairs, teacher)).all()
    assert not gradient(loss, torch.full((6, 3), 0.3), teacher).any()
    assert torch.isfinite(gradient(loss, pairs, torch.ones(6, 4))).all()


def test_the_diagonal_and_equal_rows_are_at_distance_exactly_zero() -> None:
    # Far from the origin, where inner products would leave rounding errors.
    rows = (draw(30, 200) + 1000).float()
    rows[7] = rows[3]
    distances = relational._relative_distances(rows)
    zeros = (distances == 0).nonzero().tolist()
    assert zeros == sorted([[i, i] for i in range(30)] + [[3, 7], [7, 3]])
    close = rows.clone()
    close[7, 0] += 1e-3
    assert relational._relative_distances(close)[3, 7] > 0


@BOTH
def test_rounds_change_neither_value_nor_gradient(
    loss: Loss, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, teacher = draw(7, 3), draw(7, 5, seed=1)
    value, whole = loss(student, teacher), gradient(loss, student, teacher)
    for most in (1, 100):  # one row at a time; two rows at a time, and one that is left
        monkeypatch.setattr(relational, "MOST_NUMBERS", most)
        assert torch.allclose(loss(student, teacher), value, rtol=1e-12)
        assert torch.allclose(gradient(loss, student, teacher), whole, rtol=1e-9, atol=1e-15)


def test_rounds_are_not_kept_for_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, width = 16, 16
    student, teacher = draw(rows, width).requires_grad_(), draw(rows, width, seed=1)

    def largest_kept() -> int:
        kept = [0]
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: kept.append(tensor.numel()) or tensor, lambda tensor: tensor
        ):
            rkd_angle(student, teacher)
        return max(kept)

    assert largest_kept() >= rows * rows * width
    monkeypatch.setattr(relational, "MOST_NUMBERS", rows * width)
    assert largest_kept() <= rows * width


@BOTH
def test_autocast_does_not_narrow(loss: Loss) -> None:
    student, teacher = draw(5, 3).bfloat16(), draw(5, 4, seed=1).half()
    expected = loss(student.float(), teacher.float())
    leaf = student.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(leaf, teacher)
    assert value.dtype == torch.float32 and torch.equal(value, expected)
    value.backward()
    assert leaf.grad is not None and leaf.grad.any()


@BOTH
def test_nan_is_never_hidden(loss: Loss) -> None:
    broken = draw(4, 3)
    broken[2, 1] = torch.nan
    assert loss(broken, draw(4, 3)).isnan()
    assert loss(draw(4, 3), broken).isnan()


def test_unit_vectors() -> None:
    vectors = draw(2, 3, 4).requires_grad_()
    assert torch.allclose(unit_vectors(vectors).norm(dim=-1), torch.ones(2, 3).double())
    zeros = torch.zeros(2, 4, requires_grad=True)
    assert not unit_vectors(zeros).any()
    unit_vectors(zeros).sum().backward()
    assert zeros.grad is not None and not zeros.grad.any()


@BOTH
def test_errors(loss: Loss) -> None:
    for student, teacher, message in (
        (draw(2, 3), draw(2, 3), "student features"),
        (draw(4, 3), draw(5, 3), "teacher features"),
        (draw(4, 3), draw(4), "teacher features"),
        (torch.ones(4, 3, dtype=torch.int64), draw(4, 3), "student features"),
    ):
        with refused(message):
            loss(student, teacher)
