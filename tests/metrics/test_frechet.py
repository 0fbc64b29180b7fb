"""The Frechet distance against its form with a matrix square root."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from refusals import refused
from scipy.linalg import sqrtm

from genkt.metrics.frechet import FeatureMoments, equal_sizes, frechet_distance

Rows = NDArray[np.float64]


def draw(num_rows: int, width: int, seed: int = 0) -> Rows:
    """Correlated features of uneven scales, away from zero."""
    generator = np.random.default_rng(seed)
    mix = generator.normal(size=(width, width)) * np.linspace(0.2, 2, width)
    return generator.normal(size=(num_rows, width)) @ mix + generator.normal(size=width)


def with_matrix_root(a: Rows, b: Rows) -> float:
    covariances = [np.atleast_2d(np.cov(rows, rowvar=False)) for rows in (a, b)]
    root = np.trace(sqrtm(covariances[0] @ covariances[1])).real
    step = a.mean(axis=0) - b.mean(axis=0)
    return float(step @ step + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * root)


def streamed(rows: Rows, *cuts: int) -> FeatureMoments:
    moments = FeatureMoments(rows.shape[1])
    for part in np.split(rows, cuts):
        moments.update(part)
    return moments


@pytest.mark.parametrize(
    ("n", "m", "d"), [(50, 40, 6), (7, 7, 6), (60, 5, 8), (12, 10, 24), (2, 2, 3), (9, 30, 1)]
)
def test_equals_the_matrix_root_form(n: int, m: int, d: int) -> None:
    a, b = draw(n, d), draw(m, d, seed=1)
    expected = with_matrix_root(a, b)
    # The matrix root of a singular product is itself only good to a few 1e-8.
    tolerance = 1e-8 if min(n, m) > d else 1e-5
    assert frechet_distance(a, b) == pytest.approx(expected, rel=tolerance, abs=tolerance)
    assert streamed(a, 1).distance(streamed(b)) == pytest.approx(frechet_distance(a, b), rel=1e-8)


def test_fewer_rows_than_columns_against_the_definition() -> None:
    # Every eigenvalue of S1 S2 from the small side: those of (A B^T)(A B^T)^T.
    a, b = draw(10, 40), draw(8, 40, seed=1)
    centred_a, centred_b = a - a.mean(axis=0), b - b.mean(axis=0)
    product = centred_a @ centred_b.T / np.sqrt(9 * 7)
    roots = np.sqrt(np.linalg.eigvalsh(product.T @ product).clip(min=0)).sum()
    step = a.mean(axis=0) - b.mean(axis=0)
    traces = a.var(axis=0, ddof=1).sum() + b.var(axis=0, ddof=1).sum()
    expected = step @ step + traces - 2 * roots
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(2, 20), m=st.integers(2, 20), d=st.integers(1, 12), seed=st.integers(0, 999))
def test_properties(n: int, m: int, d: int, seed: int) -> None:
    a, b = draw(n, d, seed), draw(m, d, seed + 1)
    value = frechet_distance(a, b)
    assert value >= 0 and value == pytest.approx(frechet_distance(b, a), rel=1e-9, abs=1e-9)
    scale = np.square(a).sum()
    assert frechet_distance(a, a) <= 1e-12 * scale
    order = np.random.default_rng(seed).permutation(n)
    assert frechet_distance(a, a[order]) <= 1e-12 * scale
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]
    assert frechet_distance(a @ rotation + 3, b @ rotation + 3) == pytest.approx(
        value, rel=1e-8, abs=1e-9
    )
    shift = np.random.default_rng(seed + 2).normal(size=d)
    assert frechet_distance(a, a + shift) == pytest.approx(shift @ shift, rel=1e-8, abs=1e-9)
    assert frechet_distance(2 * a, 2 * b) == pytest.approx(4 * value, rel=1e-8, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(
    num_rows=st.integers(2, 30), cuts=st.lists(st.integers(0, 30), max_size=4), seed=st.integers(0)
)
def test_moments_do_not_depend_on_the_parts(num_rows: int, cuts: list[int], seed: int) -> None:
    rows = draw(num_rows, 4, seed % 1000) + 1e4  # where naive sums of squares lose digits
    parts = streamed(rows, *sorted(min(cut, num_rows) for cut in cuts))
    assert parts.num_samples == num_rows
    assert np.allclose(parts.mean, rows.mean(axis=0), rtol=1e-12)
    assert np.allclose(parts.covariance, np.cov(rows, rowvar=False), rtol=1e-6, atol=1e-7)
    middle = num_rows // 2
    merged, rest = streamed(rows[:middle]), streamed(rows[middle:])
    merged.merge(rest)
    merged.merge(FeatureMoments(4))
    assert merged.num_samples == num_rows
    assert np.allclose(merged.covariance, parts.covariance, rtol=1e-6, atol=1e-7)
    assert merged.distance(parts) < 1e-6


def test_tensors_of_any_float_type() -> None:
    a, b = torch.randn(8, 3), torch.randn(9, 3)
    expected = frechet_distance(a.numpy(), b.numpy())
    assert frechet_distance(a, b.requires_grad_()) == expected
    assert frechet_distance(a.bfloat16(), b.half()) == pytest.approx(expected, rel=0.1)


def test_equal_sizes_are_seeded_and_keep_pairs() -> None:
    long, pair, short = draw(30, 2), draw(30, 2, seed=1), draw(11, 2, seed=2)
    cut = equal_sizes([long, pair, short], seed=3)
    assert [len(rows) for rows in cut] == [11, 11, 11] and np.array_equal(cut[2], short)
    rows = [int(np.flatnonzero((long == row).all(axis=1))[0]) for row in cut[0]]
    assert rows == sorted(set(rows)) and np.array_equal(cut[1], pair[rows])
    again, other = equal_sizes([long, short], seed=3), equal_sizes([long, short], seed=4)
    assert np.array_equal(again[0], cut[0]) and not np.array_equal(other[0], cut[0])


def test_errors() -> None:
    a = draw(4, 3)
    with refused(key="FD score, b", got=1):
        frechet_distance(a, a[:1])
    with refused(key="FD score", got="3 and 2 columns"):
        frechet_distance(a, a[:, :2])
    with refused(key="FD score, a", got="shape [4]"):
        frechet_distance(a[:, 0], a)
    with refused(key="FD score, b"):
        frechet_distance(a, np.where(a > 0, a, np.nan))
    moments = FeatureMoments(3)
    moments.update(a[:1])
    with refused(key="FD score, features", got=1):
        moments.distance(moments)
    for wrong in (lambda: moments.update(a[:, :2]), lambda: moments.merge(FeatureMoments(2))):
        with refused(key="FD score", got="3 and 2 columns"):
            wrong()
    with refused(key="FD score", got="3 and 2 columns"):
        moments.distance(FeatureMoments(2))
    with refused(key="FD score"):
        equal_sizes([], 0)
    with refused(key="FD score, set 1", got=0):
        equal_sizes([a, a[:0]], 0)
    with refused(key="FD score", got="3 and 1 columns"):
        equal_sizes([a, a[:, :1]], 0)
