"""Contrastive losses against slow ones written from their formulas, and their properties."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from torch import Tensor

from genkt.losses.contrastive import (
    estimate_log_normalizer,
    info_nce,
    memory_nce,
    patch_cosine_distance,
    similarity_distillation,
)

Vector = list[float]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_cosine(a: Vector, b: Vector) -> float:
    lengths = math.hypot(*a) * math.hypot(*b)
    return sum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else 0.0


def slow_softmax(scores: Vector) -> Vector:
    total = sum(math.exp(score) for score in scores)
    return [math.exp(score) / total for score in scores]


def slow_cd(student: Tensor, teacher: Tensor) -> float:
    ours, theirs, total = student.tolist(), teacher.tolist(), 0.0
    for i in range(len(ours)):
        q = slow_softmax([slow_cosine(ours[i], row) for row in ours])
        p = slow_softmax([slow_cosine(theirs[i], row) for row in theirs])
        total += sum(b * math.log(b / a) for a, b in zip(q, p, strict=True))
    return total / len(ours)


def slow_info_nce(student: Tensor, teacher: Tensor, temperature: float) -> float:
    ours, theirs, total = student.tolist(), teacher.tolist(), 0.0
    for one, others in ((ours, theirs), (theirs, ours)):
        for i, anchor in enumerate(one):
            scores = [slow_cosine(anchor, row) / temperature for row in others]
            total -= math.log(slow_softmax(scores)[i])
    return total / (2 * len(ours))


def slow_memory_nce(
    similarities: Tensor, temperature: float, normalizer: float, num_samples: int
) -> float:
    total = 0.0
    for row in similarities.tolist():
        noise = (len(row) - 1) / num_samples
        chances = [math.exp(cosine / temperature) / normalizer for cosine in row]
        answers = [chance / (chance + noise) for chance in chances]
        total -= math.log(answers[0]) + sum(math.log(1 - answer) for answer in answers[1:])
    return total / len(similarities)


def slow_resized(feature_map: list[list[float]], height: int, width: int) -> list[list[float]]:
    """Bilinear between the centres of one channel's places, the border held."""
    rows, columns = len(feature_map), len(feature_map[0])

    def around(index: int, size: int, old: int) -> tuple[int, int, float]:
        place = min(max((index + 0.5) * old / size - 0.5, 0.0), old - 1.0)
        low = int(place)
        return low, min(low + 1, old - 1), place - low

    found = []
    for i in range(height):
        top, bottom, down = around(i, height, rows)
        line = []
        for j in range(width):
            left, right, across = around(j, width, columns)
            upper = feature_map[top][left] * (1 - across) + feature_map[top][right] * across
            lower = feature_map[bottom][left] * (1 - across) + feature_map[bottom][right] * across
            line.append(upper * (1 - down) + lower * down)
        found.append(line)
    return found


def slow_patches(student: Tensor, teacher: Tensor) -> float:
    num_rows, channels, height, width = student.shape
    total = 0.0
    for row in range(num_rows):
        resized = [slow_resized(channel, height, width) for channel in teacher[row].tolist()]
        for i in range(height):
            for j in range(width):
                other = [resized[channel][i][j] for channel in range(channels)]
                total += 1 - slow_cosine(student[row, :, i, j].tolist(), other)
    return total / (num_rows * height * width)


@pytest.mark.parametrize(("rows", "widths"), [(2, (3, 3)), (5, (1, 4)), (7, (6, 2))])
def test_cd_equals_the_slow_one(rows: int, widths: tuple[int, int]) -> None:
    student, teacher = draw(rows, widths[0]), draw(rows, widths[1], seed=1)
    value = similarity_distillation(student, teacher).item()
    assert value == pytest.approx(slow_cd(student, teacher), abs=1e-9) and value > 1e-3
    student[1] = 0
    teacher[0] = teacher[1]
    value = similarity_distillation(student, teacher).item()
    assert value == pytest.approx(slow_cd(student, teacher), abs=1e-9)


@pytest.mark.parametrize(("rows", "width", "temperature"), [(2, 1, 1.0), (5, 4, 0.07), (6, 3, 5.0)])
def test_info_nce_equals_the_slow_one(rows: int, width: int, temperature: float) -> None:
    student, teacher = draw(rows, width), draw(rows, width, seed=1)
    for _ in range(2):
        value = info_nce(student, teacher, temperature=temperature).item()
        assert value == pytest.approx(slow_info_nce(student, teacher, temperature), abs=1e-9)
        student[1], teacher[0] = 0.0, teacher[1]


@pytest.mark.parametrize(("negatives", "temperature", "samples"), [(1, 1.0, 2), (6, 0.07, 40)])
def test_memory_nce_equals_the_slow_one(negatives: int, temperature: float, samples: int) -> None:
    cosines = draw(4, negatives + 1).tanh()
    for normalizer in (1.0, 0.02, 5e4):
        value = memory_nce(
            cosines, temperature=temperature, num_samples=samples,
            log_normalizer=torch.tensor(normalizer, dtype=torch.float64).log(),
        ).item()  # fmt: skip
        expected = slow_memory_nce(cosines, temperature, normalizer, samples)
        assert value == pytest.approx(expected, rel=1e-9, abs=1e-9)
    mean = sum(math.exp(c / temperature) for c in cosines.flatten().tolist()) / cosines.numel()
    found = estimate_log_normalizer(cosines, temperature=temperature, num_samples=samples)
    assert found.item() == pytest.approx(math.log(samples * mean), abs=1e-9)


@pytest.mark.parametrize(
    ("size", "other"), [((2, 3), (2, 3)), ((2, 2), (5, 4)), ((4, 5), (2, 3)), ((3, 1), (1, 7))]
)
def test_patches_equal_the_slow_ones(size: tuple[int, int], other: tuple[int, int]) -> None:
    student, teacher = draw(2, 3, *size), draw(2, 3, *other, seed=1)
    student[0, :, 0, 0] = 0
    value = patch_cosine_distance(student, teacher).item()
    assert value == pytest.approx(slow_patches(student, teacher), abs=1e-9) and value > 1e-2


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(2, 7), width=st.integers(1, 5), seed=st.integers(0, 999),
    factor=st.floats(0.01, 100),
)  # fmt: skip
def test_cd_is_a_divergence_of_angles(rows: int, width: int, seed: int, factor: float) -> None:
    features, teacher = draw(rows, width, seed=seed), draw(rows, 4, seed=seed + 1)
    rotation = torch.linalg.qr(draw(width, width, seed=seed + 2))[0]
    scales = factor * draw(rows, 1, seed=seed + 3).exp()
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    assert similarity_distillation(features, features).item() == 0
    assert abs(similarity_distillation(scales * features @ rotation, features).item()) < 1e-14
    value = similarity_distillation(features, teacher).item()
    assert value > 0
    moved = similarity_distillation(scales * features @ rotation, teacher).item()
    assert moved == pytest.approx(value, abs=1e-12)
    shuffled = similarity_distillation(features[order], teacher[order]).item()
    assert shuffled == pytest.approx(value, abs=1e-12)


def test_cd_has_the_teacher_first() -> None:
    student, teacher = torch.eye(3, dtype=torch.float64), draw(3, 2)
    forward = similarity_distillation(student, teacher).item()
    assert abs(forward - similarity_distillation(teacher, student).item()) > 1e-3


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(2, 7), width=st.integers(2, 5), seed=st.integers(0, 999))
def test_info_nce_is_symmetric_and_blind_to_scale(rows: int, width: int, seed: int) -> None:
    student, teacher = draw(rows, width, seed=seed), draw(rows, width, seed=seed + 1)
    value = info_nce(student, teacher, temperature=0.2).item()
    assert value == pytest.approx(info_nce(teacher, student, temperature=0.2).item(), abs=1e-12)
    scales = draw(rows, 1, seed=seed + 2).exp()
    rotation = torch.linalg.qr(draw(width, width, seed=seed + 3))[0]
    moved = info_nce(scales * student @ rotation, teacher @ rotation, temperature=0.2).item()
    assert moved == pytest.approx(value, abs=1e-9) and value > 0
    same = info_nce(student, 3 * student, temperature=0.2).item()
    assert same < info_nce(student, student.roll(1, 0), temperature=0.2).item()


def test_info_nce_where_nothing_or_everything_differs() -> None:
    rows = torch.eye(5, dtype=torch.float64)
    equal = info_nce(rows, torch.ones(5, 5, dtype=torch.float64), temperature=0.1)
    assert equal.item() == pytest.approx(math.log(5), abs=1e-12)
    perfect = info_nce(rows, rows, temperature=0.1).item()
    assert perfect == pytest.approx(math.log(1 + 4 * math.exp(-10)), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 4), negatives=st.integers(1, 5), seed=st.integers(0, 999))
def test_memory_nce_wants_the_positive_near_and_the_others_far(
    rows: int, negatives: int, seed: int
) -> None:
    def loss(cosines: Tensor) -> float:
        zero = torch.zeros((), dtype=torch.float64)
        return memory_nce(cosines, temperature=0.5, log_normalizer=zero, num_samples=9).item()

    cosines = draw(rows, negatives + 1, seed=seed).tanh()
    shift = torch.zeros_like(cosines)
    shift[:, 0] = 0.01
    assert loss(cosines + shift) < loss(cosines) < loss(cosines - shift)
    shift = 0.01 - shift
    assert loss(cosines - shift) < loss(cosines) < loss(cosines + shift)
    swapped = torch.cat([cosines[:, :1], cosines[:, 1:].flip(1)], dim=1)
    assert loss(swapped) == pytest.approx(loss(cosines), abs=1e-12)


def test_memory_nce_stays_finite_far_from_even() -> None:
    """From logarithms: a probability that underflows keeps its logarithm."""
    cosines = torch.tensor([[-1.0, 1.0], [1.0, -1.0]], requires_grad=True)
    loss = memory_nce(cosines, temperature=1e-3, log_normalizer=torch.tensor(0.0), num_samples=2)
    loss.backward()
    assert loss.item() == pytest.approx(1000, rel=1e-6)
    assert cosines.grad is not None and torch.isfinite(cosines.grad).all()


@settings(max_examples=25, deadline=None)
@given(
    channels=st.integers(1, 4), size=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    seed=st.integers(0, 999),
)  # fmt: skip
def test_patches_at_equality_and_at_the_opposite(
    channels: int, size: tuple[int, int], seed: int
) -> None:
    teacher = draw(2, channels, *size, seed=seed)
    scales = draw(2, 1, *size, seed=seed + 1).exp()
    assert patch_cosine_distance(scales * teacher, teacher).item() == pytest.approx(0, abs=1e-12)
    assert patch_cosine_distance(-scales * teacher, teacher).item() == pytest.approx(2, abs=1e-12)
    flat = draw(2, channels, 1, 1, seed=seed)
    everywhere = flat.expand(-1, -1, *size)
    assert patch_cosine_distance(everywhere, flat).item() == pytest.approx(0, abs=1e-12)
    assert patch_cosine_distance(flat, everywhere).item() == pytest.approx(0, abs=1e-12)


CALLS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cd": similarity_distillation,
    "info_nce": lambda s, t: info_nce(s, t, temperature=0.5),
    "patches": lambda s, t: patch_cosine_distance(s[:, :, None, None], t[:, :, None, None]),
    "memory": lambda s, t: memory_nce(s, temperature=0.5, log_normalizer=t[0, 0], num_samples=7),
}


@pytest.mark.parametrize("name", CALLS)
def test_gradients(name: str) -> None:
    student, teacher = draw(4, 3).requires_grad_(), draw(4, 3, seed=1)
    assert torch.autograd.gradcheck(lambda s: CALLS[name](s, teacher), (student,))
    if name == "patches":
        maps = draw(2, 3, 2, 3).requires_grad_()
        other = draw(2, 3, 3, 4, seed=1)
        assert torch.autograd.gradcheck(lambda s: patch_cosine_distance(s, other), (maps,))


@pytest.mark.parametrize("name", CALLS)
def test_zero_rows_and_equal_rows_give_finite_gradients(name: str) -> None:
    student = torch.ones(4, 3, dtype=torch.float64)
    student[2] = 0
    student.requires_grad_()
    CALLS[name](student, torch.zeros(4, 3, dtype=torch.float64)).backward()
    assert student.grad is not None and torch.isfinite(student.grad).all()


@pytest.mark.parametrize("name", CALLS)
def test_autocast_does_not_narrow_and_16_bits_are_widened(name: str) -> None:
    student, teacher = draw(4, 3).float(), draw(4, 3, seed=1).float()
    expected = CALLS[name](student.bfloat16().float(), teacher.half().float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = CALLS[name](student.bfloat16(), teacher.half())
    assert found.dtype == torch.float32 and torch.equal(found, expected)


@pytest.mark.parametrize("name", CALLS)
def test_nan_comes_out(name: str) -> None:
    student = draw(4, 3)
    student[1, 2] = torch.nan
    assert CALLS[name](student, draw(4, 3, seed=1)).isnan()


def test_shapes_and_numbers_are_checked() -> None:
    rows, maps = draw(4, 3), draw(2, 3, 2, 2)
    for loss in (similarity_distillation, CALLS["info_nce"]):
        with refused(key="student features", got=1):
            loss(rows[:1], rows[:1])
        with refused(key="teacher features", got=3):
            loss(rows, rows[:3])
        with refused(key="student features"):
            loss(rows.long(), rows)
        with refused(key="teacher features", got="shape [4]"):
            loss(rows, rows[:, 0])
    with refused(key="teacher features", got=[4, 5]):
        info_nce(rows, draw(4, 5), temperature=1.0)
    zero = torch.zeros(())
    for temperature in (0.0, -1.0, math.nan, math.inf):
        with refused(key="temperature"):
            info_nce(rows, rows, temperature=temperature)
        with refused(key="temperature"):
            memory_nce(rows, temperature=temperature, log_normalizer=zero, num_samples=2)
    with refused(key="similarities", got=1):
        memory_nce(rows[:, :1], temperature=1.0, log_normalizer=zero, num_samples=2)
    with refused(key="num_samples", got=0):
        estimate_log_normalizer(rows, temperature=1.0, num_samples=0)
    with refused(key="student map", got="shape [4, 3]"):
        patch_cosine_distance(rows, maps)
    with refused(key="teacher map"):
        patch_cosine_distance(maps, maps.long())
    with refused(key="teacher map", got="shape [2, 3, 2, 0]"):
        patch_cosine_distance(maps, maps[..., :0])
    with refused(key="teacher map", got=1):
        patch_cosine_distance(maps, maps[:1])
    with refused(key="student map", got=3):
        patch_cosine_distance(maps, maps[:, :2])
