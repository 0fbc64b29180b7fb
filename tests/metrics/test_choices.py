"""One candidate of several: the best one, unless luck would explain its lead over the default."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

from genkt.metrics.choices import chosen


def right(count: int, total: int = 20) -> list[int]:
    return [1] * count + [0] * (total - count)


@pytest.mark.parametrize(
    ("lead", "winner"),
    [(0, 0), (1, 0), (2, 1)],  # 1 of 20: mean .05, error .05; 2 of 20: mean .10, error .0688
)
def test_a_lead_of_one_standard_error_is_a_tie(lead: int, winner: int) -> None:
    assert chosen([right(10), right(10 + lead)]) == winner


def test_losses_count_against_wins() -> None:
    """Five images gained and three lost: 2 of 20 better, but the error is .14."""
    default = [1] * 3 + [0] * 17
    other = [0] * 3 + [1] * 5 + [0] * 12
    assert chosen([default, other]) == 0


def test_the_default_need_not_be_the_first() -> None:
    scores = [right(9), right(10), right(11)]
    assert [chosen(scores, default) for default in range(3)] == [2, 1, 2]
    assert chosen([right(12), right(5), right(12)], 1) == 0  # equal ones by their order


def test_an_equal_lead_everywhere_is_no_tie() -> None:
    assert chosen([[0] * 4, [1] * 4]) == 1
    assert chosen([[0.0], [1.0]]) == 0  # one image says nothing


def test_draws_count_as_draws() -> None:
    """Two images better in one of three draws: images alone would take it."""
    default = np.zeros((3, 20))
    other = default.copy()
    other[0, :6] = 1
    assert chosen([default.reshape(-1), other.reshape(-1)]) == 1
    assert chosen([default, other]) == 0


def test_scores_of_other_images_are_refused() -> None:
    with refused("same images"):
        chosen([[1, 0], [1, 0, 0]])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 1), min_size=8, max_size=8), min_size=2, max_size=4))
def test_the_choice_is_never_worse_than_the_default_and_blind_to_order(
    scores: list[list[int]],
) -> None:
    winner = chosen(scores)
    assert np.mean(scores[winner]) >= np.mean(scores[0])
    order = np.random.default_rng(0).permutation(8)
    assert chosen([np.array(each)[order] for each in scores]) == winner
