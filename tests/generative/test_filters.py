from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from torch import Tensor

from genkt.generative.filters import by_agreement, by_confidence, diversity


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def cosine(a: Tensor, b: Tensor) -> float:
    a, b = a.double(), b.double()
    norms = a.norm() * b.norm()
    return float(a @ b / norms) if norms > 0 else 0.0


def test_confidence_and_agreement() -> None:
    probabilities = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])
    assert by_confidence(probabilities, 0.6).tolist() == [False, True, True]
    assert by_confidence(probabilities, 0.0).all() and not by_confidence(probabilities, 1.0).any()
    assert by_agreement(probabilities, torch.tensor([0, 1, 1])).tolist() == [True, True, False]
    assert by_agreement(probabilities, probabilities.flip(0)).tolist() == [False, True, False]
    assert by_agreement(probabilities[:0], probabilities[:0]).shape == (0,)


def test_diversity_by_hand() -> None:
    features = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [-1.0, 0.0], [5.0, 5.0]])
    tokens = torch.tensor([[[1, 2]], [[1, 2]], [[2, 1]], [[1, 2]], [[0, 0]]])
    report = diversity(features, ["a", "a", "b", "b", "c"], tokens)
    assert (report.num_samples, report.num_sources) == (5, 3)
    assert report.within_source == pytest.approx((1 + 2) / 2)
    assert report.distinct_tokens == 3 / 5
    alone = diversity(features, list("abcde"))
    assert alone.within_source is None and alone.distinct_tokens is None


@settings(max_examples=30, deadline=None)
@given(num_rows=st.integers(1, 12), width=st.integers(1, 8), seed=st.integers(0, 999))
def test_diversity_against_all_pairs(num_rows: int, width: int, seed: int) -> None:
    features = draw(num_rows, width, seed=seed)
    sources = [str(index * 7 % 3) for index in range(num_rows)]
    report = diversity(features, sources)
    per_source = []
    for name in set(sources):
        rows = [row for row, source in zip(features, sources, strict=True) if source == name]
        pairs = [1 - cosine(a, b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j]
        per_source += [sum(pairs) / len(pairs)] if pairs else []
    if per_source:
        assert report.within_source == pytest.approx(sum(per_source) / len(per_source), abs=1e-6)
    unit = torch.nn.functional.normalize(features.double(), dim=1)
    values = torch.linalg.eigvalsh(unit @ unit.T / num_rows).tolist()
    entropy = -sum(value * math.log(value) for value in values if value > 1e-12)
    assert report.effective_number == pytest.approx(math.exp(entropy), rel=1e-5)
    assert 1 - 1e-6 <= report.effective_number <= min(num_rows, width) + 1e-6
    order = torch.randperm(num_rows, generator=torch.Generator().manual_seed(seed)).tolist()
    again = diversity(features[order], [sources[index] for index in order])
    assert dataclasses.astuple(again) == pytest.approx(dataclasses.astuple(report), abs=1e-6)


def test_effective_number_at_its_ends() -> None:
    assert diversity(torch.ones(6, 4), list("aaabbb")).effective_number == pytest.approx(1)
    assert diversity(torch.eye(6), list("aaabbb")).effective_number == pytest.approx(6)
    assert diversity(torch.zeros(3, 2), list("abc")).effective_number == 1


def test_errors() -> None:
    features, labels = draw(4, 3), torch.tensor([0, 1, 2, 0])
    with refused(key="confidence", got=1.5):
        by_confidence(features, 1.5)
    with refused(key="probabilities", got="int64 [4]"):
        by_confidence(labels, 0.5)
    with refused(key="agreement", got=[3]):
        by_agreement(features, labels[:3])
    with refused(key="agreement", got=[4, 2]):
        by_agreement(features, features[:, :2])
    with refused("agreement"):
        by_agreement(features, torch.tensor([0, -1, 1, 1]))
    with refused("0..2"):
        by_agreement(features, torch.tensor([0, 3, 1, 1]))
    with refused(key="features"):
        diversity(features * math.nan, list("abcd"))
    with refused(key="diversity", got=2):
        diversity(features, ["a", "b"])
    with refused(key="diversity", got=3):
        diversity(features, list("abcd"), torch.zeros(3, 2, 2))
    with refused(key="diversity"):
        diversity(features[:0], [])
