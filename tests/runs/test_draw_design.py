"""What varies between the students of a run, as its data and settings say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from genkt.cli.app import read_config
from genkt.config.transfer_settings import TransferConfig
from genkt.data.images import from_arrays
from genkt.data.splits import Splits
from genkt.metrics.scored_arms import DrawDesign
from genkt.runs.draw_design import draw_design
from genkt.runs.pool import build_pool

COUNTS = (10, 5, 4)
"""Training images of three classes."""


def splits() -> Splits:
    labels = np.repeat(np.arange(3), COUNTS)
    pixels = np.arange(len(labels) * 48, dtype=np.uint32).astype(np.uint8).reshape(-1, 4, 4, 3)
    train = from_arrays(pixels, labels, ("a", "b", "c"), "train")
    test = from_arrays(255 - pixels[::4], labels[::4], ("a", "b", "c"), "test")
    return Splits(train=train, test=test)


def design_of(*words: str) -> DrawDesign:
    own = ["transfer_set=labelled", "draws=2", *words]
    config = read_config(TransferConfig, "transfer", own)
    pool = build_pool(config, splits())
    found = [draw_design(config.data, pool.splits, draw) for draw in pool.draws]
    assert found[0] == found[1]
    return found[0]


def test_the_share_of_the_pool_is_the_mean_over_the_classes() -> None:
    assert design_of("data.labels_per_class=2").pool_share == pytest.approx(
        (2 / 10 + 2 / 5 + 2 / 4) / 3
    )
    assert design_of("data.labels_per_class=4").pool_share == pytest.approx((0.4 + 0.8 + 1) / 3)
    assert design_of("data.labels_per_class=4").labels_vary


@pytest.mark.parametrize("words", [[], ["data.label_fraction=1.0"]])
def test_all_labels_are_the_same_in_every_draw(words: list[str]) -> None:
    found = design_of("data.labels_per_class=null", *words)
    assert found == DrawDesign(labels_vary=False, pool_share=0.0)


def test_a_list_names_the_same_labels_for_every_draw(tmp_path: Path) -> None:
    names = splits().train.ids
    (tmp_path / "list.txt").write_text("\n".join([names[0], names[10], names[15]]))
    words = ["data.labels_per_class=null", f"data.label_list={tmp_path / 'list.txt'}"]
    assert design_of(*words) == DrawDesign(labels_vary=False)
