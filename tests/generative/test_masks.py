from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from torch import Tensor

from genkt.generative.masks import (
    GREY,
    KINDS,
    MaskKind,
    MaskSettings,
    check_masks,
    dilate,
    draw_mask,
    fill_hidden,
    hidden_tokens,
    to_pixels,
)
from genkt.settings.faults import Fault
from genkt.settings.schema import parse

SIDES = st.integers(2, 9)


def noise(batch: int, height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (batch, 3, height, width), generator=generator, dtype=torch.uint8)


def random_masks(batch: int, height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(batch, height, width, generator=torch.Generator().manual_seed(seed)) < 0.4


@settings(max_examples=120, deadline=None)
@given(kind=st.sampled_from(KINDS), height=SIDES, width=SIDES, seed=st.integers(0, 2**62))
def test_a_mask_is_of_its_kind_within_its_shares(
    kind: MaskKind, height: int, width: int, seed: int
) -> None:
    wanted = MaskSettings((kind,), 0.25, 0.75)
    mask = draw_mask(wanted, (height, width), seed)
    assert mask.dtype == torch.bool and mask.shape == (height, width)
    assert 0.25 - 1e-6 <= mask.double().mean().item() <= 0.75 + 1e-6
    assert torch.equal(mask, draw_mask(wanted, (height, width), seed))
    rows, columns = mask.any(dim=1), mask.any(dim=0)
    if kind in ("bottom", "top"):
        assert mask.all(dim=1).equal(rows) and mask[-1 if kind == "bottom" else 0].all()
    elif kind in ("left", "right"):
        assert mask.all(dim=0).equal(columns) and mask[:, -1 if kind == "right" else 0].all()
    if kind != "scatter":
        assert mask.equal(rows[:, None] & columns[None, :]), "one solid part"
        for line in (rows, columns):
            places = line.nonzero().flatten()
            assert len(places) == places[-1] - places[0] + 1


def test_the_default_is_a_bottom_band_of_a_quarter_to_three_quarters() -> None:
    heights = [int(draw_mask(MaskSettings(), (8, 8), seed).sum()) // 8 for seed in range(400)]
    counts = np.bincount(heights, minlength=9)
    assert set(heights) == {2, 3, 4, 5, 6} and counts.max() < 1.7 * counts[2:7].min()
    assert all(not draw_mask(MaskSettings(), (8, 8), seed)[0].any() for seed in range(20))


def test_kinds_are_drawn_alike_and_entries_weigh() -> None:
    several = MaskSettings(("bottom", "bottom", "left"), 0.5, 0.5)
    bottoms = sum(bool(draw_mask(several, (4, 4), seed)[-1].all()) for seed in range(300))
    assert 170 < bottoms < 230


def test_extreme_shares_keep_something_hidden_and_visible() -> None:
    for kind in KINDS:
        for seed in range(30):
            mask = draw_mask(MaskSettings((kind,), 0.0, 1.0), (2, 2), seed)
            assert mask.any() and not mask.all()
    # 0.3 of 10 rows are 3 rows, whatever the last bit of 0.3.
    assert draw_mask(MaskSettings(("top",), 0.3, 0.3), (10, 1), 0).sum() == 3


def test_masks_from_settings_files() -> None:
    faults: list[Fault] = []
    values: dict[str, Any] = {"kinds": ["top", "rectangle"], "min_share": 0.1, "max_share": 1}
    assert parse(MaskSettings, values, "masks", faults) == MaskSettings(
        ("top", "rectangle"), 0.1, 1.0
    )
    assert not faults
    parse(MaskSettings, values | {"max_share": 0.05}, "masks", faults)
    parse(MaskSettings, values | {"kinds": ["botom"]}, "masks", faults)
    assert (faults[0].key, faults[0].also) == ("masks.min_share", ("masks.max_share",))
    assert faults[1].key == "masks.kinds[0]" and "expected one of bottom" in faults[1].text


@settings(max_examples=40, deadline=None)
@given(height=SIDES, width=SIDES, f=st.integers(1, 5), seed=st.integers(0, 999))
def test_tokens_and_pixels_are_inverse(height: int, width: int, f: int, seed: int) -> None:
    hidden = random_masks(3, height, width, seed)
    pixels = to_pixels(hidden, f)
    assert pixels.shape == (3, height * f, width * f)
    assert hidden_tokens(pixels, (height, width)).equal(hidden)
    sparse = random_masks(2, height * f, width * f, seed) & random_masks(2, height * f, width * f)
    tokens = hidden_tokens(sparse, (height, width))
    assert (to_pixels(tokens, f) | ~sparse).all(), "no hidden pixel lies in a visible token"
    for b, y, x in (~to_pixels(~tokens, f)).nonzero().tolist()[:5]:
        cell = sparse[b, y // f * f : (y // f + 1) * f, x // f * f : (x // f + 1) * f]
        assert cell.any(), "no token is hidden without a hidden pixel"


@settings(max_examples=40, deadline=None)
@given(height=SIDES, width=SIDES, rings=st.integers(0, 4), seed=st.integers(0, 999))
def test_dilation_by_hand(height: int, width: int, rings: int, seed: int) -> None:
    hidden = random_masks(2, height, width, seed) & random_masks(2, height, width, seed + 1)
    expected = torch.zeros_like(hidden)
    for b, y, x in hidden.nonzero().tolist():
        near = (max(0, y - rings), max(0, x - rings))
        expected[b, near[0] : y + rings + 1, near[1] : x + rings + 1] = True
    result = dilate(hidden, rings)
    assert result.dtype == torch.bool and result.equal(expected)


@settings(max_examples=30, deadline=None)
@given(height=SIDES, width=SIDES, seed=st.integers(0, 999))
def test_edge_takes_the_nearest_visible_pixel(height: int, width: int, seed: int) -> None:
    images, masks = noise(2, height, width, seed), random_masks(2, height, width, seed)
    masks[:, 0, 0] = False
    filled = fill_hidden(images, masks, "edge")
    for b, y, x in masks.nonzero().tolist():
        visible = (~masks[b]).nonzero()
        distances = (visible - torch.tensor([y, x])).square().sum(dim=1)
        nearest = visible[distances == distances.min()].tolist()
        assert any(filled[b, :, y, x].equal(images[b, :, v, u]) for v, u in nearest)
    assert filled.masked_select(~masks[:, None]).equal(images.masked_select(~masks[:, None]))
    # What was hidden is never read.
    other = torch.where(masks[:, None], 255 - images, images)
    assert fill_hidden(other, masks, "edge").equal(filled)
    assert fill_hidden(other, masks, "grey").equal(fill_hidden(images, masks, "grey"))


def test_a_band_repeats_its_edge() -> None:
    images = noise(2, 6, 4)
    masks = torch.zeros(2, 6, 4, dtype=torch.bool)
    masks[0, 2:], masks[1, :, :3] = True, True
    filled = fill_hidden(images, masks, "edge")
    assert filled[0, :, 2:].equal(images[0, :, 1:2].expand(-1, 4, -1))
    assert filled[1, :, :, :3].equal(images[1, :, :, 3:].expand(-1, -1, 3))
    grey = fill_hidden(images, masks, "grey")
    assert (grey[0, :, 2:] == GREY).all() and grey[0, :, :2].equal(images[0, :, :2])


def test_nothing_or_everything_hidden() -> None:
    images = noise(2, 3, 3)
    masks = torch.zeros(2, 3, 3, dtype=torch.bool)
    masks[1] = True
    for how in ("edge", "grey"):
        filled = fill_hidden(images, masks, how)  # type: ignore[arg-type]
        assert filled[0].equal(images[0]) and (filled[1] == GREY).all()
    assert fill_hidden(images[:0], masks[:0], "edge").shape == (0, 3, 3, 3)


def test_masks_are_checked() -> None:
    images, masks = noise(3, 4, 4), torch.zeros(3, 4, 4, dtype=torch.bool)
    masks[:, 0] = True
    check_masks(masks, images)
    nothing, everything = masks.clone(), masks.clone()
    nothing[[0, 2]] = False
    everything[1] = True
    with refused(0, 2):
        check_masks(nothing, images)
    with refused("masks 1"):
        check_masks(everything, images)
    check_masks(everything, images, allow_full=True)
    with refused(key="masks", got="uint8"):
        check_masks(masks.byte(), images)
    with refused(key="masks", got="[3, 4, 3] for [3, 3, 4, 4]"):
        check_masks(masks[:, :, :3], images)
    with refused(key="masks", got="[2, 4, 4] for [3, 3, 4, 4]"):
        fill_hidden(images, masks[:2], "edge")
    with refused(key="masks", got="[4, 4] for [3, 4, 4]"):
        check_masks(masks[0], images[0])
    many = torch.zeros(9, 4, 4, dtype=torch.bool)
    with refused(0, 1, 2, 3):
        check_masks(many, noise(9, 4, 4))


def test_errors() -> None:
    with refused(key="kinds"):
        MaskSettings(())
    with refused("bottom", key="kinds"):
        MaskSettings("bottom")  # type: ignore[arg-type]
    with refused("botom", key="kinds"):
        MaskSettings(("botom",))  # type: ignore[arg-type]
    for low, high in ((0.5, 0.4), (-0.1, 0.5), (0.5, 1.1), (float("nan"), 0.5)):
        with refused("max_share", key="min_share"):
            MaskSettings(min_share=low, max_share=high)
    with refused("0.3", "0.4", 4):
        draw_mask(MaskSettings(("scatter", "left"), 0.3, 0.4), (4, 4), 0)
    with refused("bottom", 0.25, 0.75):
        draw_mask(MaskSettings(), (1, 8), 0)
    with refused(key="masks", got="4 x 4 pixels"):
        hidden_tokens(torch.zeros(1, 4, 4, dtype=torch.bool), (3, 2))
    with refused(key="dilation", got=-1):
        dilate(torch.zeros(1, 4, 4, dtype=torch.bool), -1)
    with refused("gray", key="fill"):
        fill_hidden(noise(1, 2, 2), torch.ones(1, 2, 2, dtype=torch.bool), "gray")  # type: ignore[arg-type]
