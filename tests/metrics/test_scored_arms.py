"""Students' scores by draw and seed become the arrays of an interval."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from genkt.metrics.intervals import mean_interval, paired_interval, ratio_interval
from genkt.metrics.scored_arms import DrawDesign, of_arm, of_pair, of_ratio

Arm = dict[tuple[int, int], NDArray[np.float64]]


def arm(draws: int, seeds: int, *, images: int = 60, seed: int = 0) -> Arm:
    rng = np.random.default_rng(seed)
    found = {}
    for draw in range(draws):
        for each in range(seeds):
            found[draw, each] = (rng.random(images) < 0.7 + 0.02 * draw).astype(float)
    return found


def stack(students: Arm, draws: list[int], seeds: list[int]) -> NDArray[np.float64]:
    return np.array([[students[draw, seed] for seed in seeds] for draw in draws])


def test_one_student_a_draw_is_an_array_of_draws_and_images() -> None:
    a, b = arm(4, 1), arm(4, 1, seed=1)
    mine, theirs = stack(a, [0, 1, 2, 3], [0])[:, 0], stack(b, [0, 1, 2, 3], [0])[:, 0]
    overlapping = DrawDesign(pool_share=0.5)  # corrected only where seeds tell the labels' part
    assert repr(of_arm(a, overlapping)) == repr(mean_interval(mine))  # its p is NaN
    assert repr(of_pair(a, b, overlapping)) == repr(paired_interval(mine, theirs))
    assert repr(of_ratio(a, b, overlapping)) == repr(ratio_interval(mine, theirs))


def test_several_seeds_get_the_correction_for_draws_that_overlap() -> None:
    a, b = arm(4, 3), arm(4, 3, seed=1)
    arrays = [stack(each, [0, 1, 2, 3], [0, 1, 2]) for each in (a, b)]
    found = of_pair(a, b, DrawDesign(pool_share=0.5))
    assert repr(found) == repr(paired_interval(*arrays, pool_share=0.5))


def test_where_all_labels_are_used_every_student_differs_by_its_seed_alone() -> None:
    a, b = arm(2, 3), arm(2, 3, seed=1)
    arrays = [stack(each, [0, 1], [0, 1, 2]).reshape(6, -1) for each in (a, b)]
    found = of_pair(a, b, DrawDesign(labels_vary=False, pool_share=1.0))
    assert repr(found) == repr(paired_interval(*arrays, labels_vary=False))
    assert found.design.varied == ("seeds", "images")


def test_pairs_are_over_the_students_that_both_have() -> None:
    a, b = arm(4, 2), arm(4, 2, seed=1)
    for missing in ((1, 0), (1, 1), (3, 1)):
        del b[missing]
    arrays = [stack(each, [0, 2, 3], [0])[:, 0] for each in (a, b)]
    assert repr(of_pair(a, b, DrawDesign())) == repr(paired_interval(*arrays))


@pytest.mark.parametrize(
    ("students", "groups"),
    [({}, None), (arm(3, 1, images=1), None), (arm(3, 1, images=4), ["x"] * 4)],
    ids=["no students", "one image", "one group"],
)
def test_too_little_for_an_interval(students: Arm, groups: list[str] | None) -> None:
    assert of_arm(students, DrawDesign(groups=groups)) is None


def test_groups_are_what_varies() -> None:
    groups = [f"patient {n // 3}" for n in range(60)]
    found = of_arm(arm(3, 1), DrawDesign(groups=groups))
    assert found is not None
    assert (found.design.images, found.design.grouped) == (20, True)
