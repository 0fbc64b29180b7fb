"""Data partitioning: who answers for a row, ties, and the divergence by hand in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from test_losses_logits import random_logits, slow_softmax
from torch import Tensor

from genkt.losses.partition import (
    label_probability,
    largest_probability,
    merged_rows,
    partitioned_distillation,
    partitioned_top_k_distillation,
    winners,
)

LABELS = [0, 1, -1, 0, 1, 1, -1, 0, 0]


def several(num_models: int, rows: int, num_classes: int, seed: int = 0) -> list[Tensor]:
    return [random_logits(rows, num_classes, seed=seed + 1 + n) for n in range(num_models)]


def slow_winner(models: Sequence[Tensor], row: int, label: int) -> int:
    """A later model must be strictly surer, of the label or (-1) of anything, at T = 1."""
    best, winner = -1.0, 0
    for index, model in enumerate(models):
        probabilities = slow_softmax(model[row].tolist(), 1.0)
        score = max(probabilities) if label < 0 else probabilities[label]
        if score > best:
            best, winner = score, index
    return winner


def slow_kl_dp(
    student: Tensor, models: Sequence[Tensor], labels: list[int], temperature: float, top_k: int
) -> float:
    """Eq. 5, row by row, over the target's ``top_k`` classes."""
    total = 0.0
    for row, values in enumerate(student.tolist()):
        target = models[slow_winner(models, row, labels[row])][row].tolist()
        classes = sorted(range(len(target)), key=lambda c: -target[c])[:top_k]
        p = slow_softmax([target[c] for c in classes], temperature)
        q = slow_softmax([values[c] for c in classes], temperature)
        total += sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True))
    return temperature**2 * total / len(student)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 4.0])
@pytest.mark.parametrize("num_models", [1, 2, 4])
@pytest.mark.parametrize("num_classes", [2, 7])
def test_it_is_the_papers(temperature: float, num_models: int, num_classes: int) -> None:
    student, models = random_logits(9, num_classes), several(num_models, 9, num_classes)
    unsupervised = winners([largest_probability(model) for model in models])
    supervised = winners([label_probability(model, torch.tensor(LABELS)) for model in models])
    for winner, labels in ((unsupervised, [-1] * 9), (supervised, LABELS)):
        assert winner.tolist() == [slow_winner(models, row, labels[row]) for row in range(9)]
        found = partitioned_distillation(student, models, winner, temperature=temperature)
        expected = slow_kl_dp(student, models, labels, temperature, num_classes)
        assert found.item() == pytest.approx(expected, abs=1e-9)
        for top_k in {2, num_classes}:
            restricted = partitioned_top_k_distillation(
                student, models, winner, temperature=temperature, top_k=top_k
            )
            expected = slow_kl_dp(student, models, labels, temperature, top_k)
            assert restricted.item() == pytest.approx(expected, abs=1e-9)


def test_the_two_selections_differ() -> None:
    """A teacher that is sure of a wrong class wins unsupervised and loses supervised."""
    frozen, teacher = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    label = torch.tensor([0])
    unsupervised = winners([largest_probability(frozen), largest_probability(teacher)])
    supervised = winners([label_probability(frozen, label), label_probability(teacher, label)])
    assert (unsupervised.tolist(), supervised.tolist()) == ([1], [0])


def test_exact_ties_are_the_first_models() -> None:
    tie = torch.tensor([0.5, 0.25, 0.75])
    just_above = torch.nextafter(tie, torch.ones(3))
    assert winners([tie, tie, tie]).tolist() == [0, 0, 0]
    assert winners([tie, just_above]).tolist() == [1, 1, 1]
    assert winners([just_above, tie]).tolist() == [0, 0, 0]
    assert winners([tie, just_above, just_above]).tolist() == [1, 1, 1]
    assert winners([tie, tie, just_above]).tolist() == [2, 2, 2]


def test_equal_logits_tie_in_either_selection() -> None:
    logits = random_logits(9, 4)
    assert winners([largest_probability(logits)] * 3).tolist() == [0] * 9
    score = label_probability(logits, torch.tensor(LABELS))
    assert winners([score, score.clone()]).tolist() == [0] * 9


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 7), st.integers(0, 10**6), st.integers(1, 3))
def test_the_winner_is_the_first_of_the_highest(
    num_models: int, rows: int, seed: int, levels: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, levels + 1, (num_models, rows), generator=generator).double() / levels
    found = winners(list(scores))
    for row in range(rows):
        values = scores[:, row].tolist()
        assert found[row].item() == values.index(max(values))
        # a teacher's score is strictly above the frozen student's
        assert (found[row] > 0).item() == any(value > values[0] for value in values)
    models = several(num_models, rows, 3, seed)
    for row, logits in enumerate(merged_rows(models, found)):
        assert torch.equal(logits, models[int(found[row])][row])


@settings(max_examples=30, deadline=None)
@given(
    num_models=st.integers(1, 4),
    num_classes=st.integers(2, 30),
    temperature=st.floats(0.2, 10),
    seed=st.integers(0, 10**6),
)
def test_properties(num_models: int, num_classes: int, temperature: float, seed: int) -> None:
    student, models = random_logits(5, num_classes, seed=seed), several(num_models, 5, num_classes)
    winner = winners([largest_probability(model) for model in models])
    value = partitioned_distillation(student, models, winner, temperature=temperature)
    assert value >= -1e-12
    merged = merged_rows(models, winner)
    top_k = 2 + seed % (num_classes - 1)
    for other, zero in ((merged, True), (student, False)):
        plain = partitioned_distillation(other, models, winner, temperature=temperature)
        restricted = partitioned_top_k_distillation(
            other, models, winner, temperature=temperature, top_k=top_k
        )
        whole = partitioned_top_k_distillation(
            other, models, winner, temperature=temperature, top_k=num_classes
        )
        torch.testing.assert_close(whole, plain, rtol=1e-9, atol=1e-9)
        assert not zero or (abs(plain) < 1e-12 and abs(restricted) < 1e-12)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    permuted = partitioned_distillation(
        student[order], [model[order] for model in models], winner[order], temperature=temperature
    )
    torch.testing.assert_close(permuted, value, rtol=1e-9, atol=1e-9)


def test_a_row_without_a_label_is_scored_by_its_largest_probability() -> None:
    logits = torch.tensor([[2.0, 0.0], [2.0, 0.0]]).double()
    found = label_probability(logits, torch.tensor([1, -1]))
    sure, unsure = slow_softmax([2.0, 0.0], 1.0)
    assert found.tolist() == pytest.approx([unsure, sure], abs=1e-12)


def test_gradients() -> None:
    student, models = random_logits(4, 3).requires_grad_(), several(2, 4, 3)
    winner = winners([largest_probability(model) for model in models])
    assert 0 < winner.sum() < 4
    assert torch.autograd.gradcheck(
        lambda z: partitioned_distillation(z, models, winner, temperature=1.5), student
    )
    assert torch.autograd.gradcheck(
        lambda z: partitioned_top_k_distillation(z, models, winner, temperature=1.5, top_k=2),
        student,
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bit_logits_are_widened(dtype: torch.dtype) -> None:
    student, labels = random_logits(9, 6).to(dtype), torch.tensor(LABELS)
    models = [model.to(dtype) for model in several(2, 9, 6)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = [largest_probability(model) for model in models]
        own = label_probability(models[0], labels)
        value = partitioned_distillation(student, models, winners(scores), temperature=2.0)
    assert scores[0].dtype == own.dtype == value.dtype == torch.float32
    assert torch.equal(scores[1], largest_probability(models[1].float()))
    assert torch.equal(own, label_probability(models[0].float(), labels))


@pytest.mark.parametrize("place", ["student", "frozen", "teacher"])
def test_nan_is_never_hidden(place: str) -> None:
    good = random_logits(2, 3)
    bad = good.clone()
    bad[0, 0] = math.nan
    student = bad if place == "student" else good
    models = [bad if place == "frozen" else good, bad if place == "teacher" else good]
    for scores in (
        [largest_probability(model) for model in models],
        [label_probability(model, torch.tensor([1, 0])) for model in models],
    ):
        value = partitioned_distillation(student, models, winners(scores), temperature=1.0)
        assert value.isnan()


def test_errors() -> None:
    logits, winner = torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
    with refused(key="logits", got=1):
        largest_probability(torch.zeros(2, 1))
    with refused(key="labels", got="[2] float32"):
        label_probability(logits, torch.zeros(2))
    with refused(key="labels", got=1):
        label_probability(logits, winner[:1])
    with refused(key="scores"):
        winners([])
    with refused(key="scores of model 1", got=3):
        winners([torch.zeros(2), torch.zeros(3)])
    with refused(key="logits"):
        merged_rows([], winner)
    with refused(key="logits of model 1", got=[2, 4]):
        merged_rows([logits, torch.zeros(2, 4)], winner)
    with refused(key="winners", got=1):
        merged_rows([logits], winner[:1])
    with refused(key="temperature", got=0.0):
        partitioned_distillation(logits, [logits], winner, temperature=0.0)
    with refused(key="top_k", got=4):
        partitioned_top_k_distillation(logits, [logits], winner, temperature=1.0, top_k=4)
