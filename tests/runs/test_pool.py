"""Which images a run holds, and which rows of them each draw reads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from genkt.config.read_config import read_config
from genkt.config.transfer_settings import TransferConfig
from genkt.data.builtin.digits import digits
from genkt.data.images import from_arrays
from genkt.data.splits import Splits
from genkt.runs.pool import Draw, Pool, build_pool, stored_views
from genkt.runs.represented import Represented, beside
from genkt.transfer_set.composition import TransferSet
from genkt.types import UNLABELLED

SPLITS = digits()


def _choosing(words: tuple[str, ...]) -> list[str]:
    """The words, on the data's own unlabelled images unless they choose another set."""
    chosen = any(word.startswith("transfer_set=") for word in words)
    return [*words] if chosen else ["transfer_set=unlabelled", *words]


def config_of(*words: str) -> TransferConfig:
    return read_config(TransferConfig, "transfer", ["device=cpu", *_choosing(words)])


def pool_of(*words: str, splits: Splits = SPLITS) -> Pool:
    return build_pool(config_of(*words), splits)


def pictures(num: int, start: int, prefix: str):  # type: ignore[no-untyped-def]
    pixels = np.arange(start, start + num, dtype=np.uint8)[:, None, None]
    return from_arrays(pixels.repeat(4, 1).repeat(4, 2), [-1] * num, (), prefix)


def test_with_the_whole_pool_as_transfer_set_every_image_is_there() -> None:
    pool = pool_of("draws=3")
    assert pool.images.ids == SPLITS.train.ids
    for draw in pool.draws:
        assert len(draw.labelled) == 20 and len(draw.transfer) == 880
        assert draw.images is pool.images


@pytest.mark.parametrize(
    ("words", "most"),
    [
        (["transfer_set=labelled"], 60),
        (["transfer_set=digg"], 60),
        (["transfer_set.max_images=10"], 90),
    ],
)
def test_the_pool_holds_no_image_that_no_draw_reads(words: list[str], most: int) -> None:
    pool = pool_of("draws=3", *words)
    assert 40 < len(pool.images) <= most
    used = np.unique(np.concatenate([r for d in pool.draws for r in (d.labelled, d.transfer)]))
    assert used.tolist() == list(range(len(pool.images)))


def test_later_draws_are_those_of_a_longer_run() -> None:
    def shown(draw: Draw) -> tuple[int, list[str]]:
        return draw.seed, [draw.images.ids[row] for row in draw.labelled]

    whole, later = pool_of("draws=3"), pool_of("draws=2", "first_draw=1")
    assert [shown(draw) for draw in later.draws] == [shown(draw) for draw in whole.draws[1:]]
    assert [draw.index for draw in later.draws] == [0, 1]


def test_a_smaller_pool_holds_the_same_draws() -> None:
    def shown(draw: Draw) -> dict[str, int]:
        return {draw.images.ids[row]: int(draw.labels[row]) for row in draw.labelled}

    whole, small = pool_of("draws=3"), pool_of("draws=3", "transfer_set=labelled")
    known = dict(zip(SPLITS.train.ids, SPLITS.train.labels.tolist(), strict=True))
    for one, other in zip(whole.draws, small.draws, strict=True):
        assert shown(one) == shown(other)
        assert shown(one).items() <= known.items()
        assert (other.labels >= 0).sum() == 20  # what other draws label is hidden from this one


def test_each_draw_gets_its_own_set_behind_the_pool() -> None:
    pool = pool_of("draws=2", "transfer_set=digg")
    sets = [pictures(3, 0, "a"), pictures(5, 50, "b")]
    grown = pool.with_sets([TransferSet.of(own) for own in sets])
    start = len(pool.images)
    assert len(grown.images) == start + 8
    for draw, own, before in zip(grown.draws, sets, pool.draws, strict=True):
        assert tuple(grown.images.ids[row] for row in draw.transfer) == own.ids
        assert (draw.labels[draw.transfer] == UNLABELLED).all()
        assert draw.labelled.tolist() == before.labelled.tolist()
        assert len(draw.labels) == len(grown.images)
    assert np.array_equal(np.asarray(grown.images.load(start + 3)), np.asarray(sets[1].load(0)))


def test_labels_of_a_set_are_left_behind() -> None:
    pool = pool_of("draws=1", "transfer_set=digg")
    labelled = from_arrays(np.zeros((2, 4, 4), np.uint8), [0, 1], ("x", "y"), "other")
    grown = pool.with_sets([TransferSet.of(labelled)])
    assert (grown.draws[0].labels[grown.draws[0].transfer] == UNLABELLED).all()


def test_originals_and_reconstructions_carry_the_labels_of_the_draw() -> None:
    pool = pool_of("draws=2", "transfer_set=labelled")
    rows = np.unique(np.concatenate([draw.labelled for draw in pool.draws]))
    made = pictures(len(rows), 0, "made")
    images = beside(pool.images.select(rows), made)
    represented = Represented(images, rows, None, 0.0)
    for draw in pool.draws:
        wanted = draw.labels[draw.labelled]
        plain = represented.draw(draw, "originals")
        twins = represented.draw(draw, "reconstructions")
        both = represented.draw(draw, "both")
        assert [images.ids[r] for r in plain.labelled] == [
            draw.images.ids[r] for r in draw.labelled
        ]
        assert all(images.ids[r].startswith("made/") for r in twins.labelled)
        for one in (plain, twins):
            assert one.labels[one.labelled].tolist() == wanted.tolist()
            assert not len(one.transfer)
        assert both.labelled.tolist() == [*plain.labelled, *twins.labelled]
        assert (twins.labelled - plain.labelled == len(rows)).all()
        assert (both.labels >= 0).sum() == 2 * len(draw.labelled)


def test_synthesized_images_have_a_number_of_views_of_their_own() -> None:
    assert stored_views(config_of()).num_views == 8
    assert stored_views(config_of("transfer_set=digg")).num_views == 4
    assert (
        stored_views(config_of("transfer_set=digg", "transfer_set.num_views=null")).num_views == 8
    )


def test_images_from_elsewhere_that_no_draw_reads_are_not_kept() -> None:
    splits = replace(SPLITS, unlabelled=pictures(40, 0, "more"))
    pool = pool_of("draws=1", "transfer_set.max_images=30", splits=splits)
    assert len(pool.images) == 50
