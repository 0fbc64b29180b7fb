"""Glyph bank, warps, pens and grounds of the upstream world."""

from __future__ import annotations

import string

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

from genkt.data.builtin import glyphs
from genkt.data.builtin.glyphs import CLASSES, GlyphBank, GlyphStyle

STILL = GlyphStyle(
    elastic=0, rotate_degrees=0, shear=0, aspect=0, fill=(1, 1), translate=0, restroked=0,
    pen=(2, 2), weight=(0, 0), coarse=0, blur=0, noise=0, inverted=0,
)  # fmt: skip
"""No randomness but the pen's softness and pressure."""


def changed(**values: object) -> GlyphStyle:
    return GlyphStyle(**{**STILL.__dict__, **values})


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def bank() -> GlyphBank:
    return glyphs.draw_bank(("DejaVuSans",), num_written=1)


def test_classes_are_the_balanced_merge() -> None:
    assert len(CLASSES) == len(set(CLASSES)) == 47
    assert CLASSES[:10] == tuple(string.digits)
    for lower in string.ascii_lowercase:
        merged = glyphs.class_of(lower) == glyphs.class_of(lower.upper())
        assert merged == (lower in glyphs.MERGED)


def test_held_out_fonts_are_never_trained_on_and_exist() -> None:
    assert not set(glyphs.TRAIN_FONTS) & set(glyphs.HELD_OUT_FONTS)
    for name in glyphs.TRAIN_FONTS + glyphs.HELD_OUT_FONTS:
        assert glyphs.font_path(name).is_file()


def test_unknown_font_names_the_closest() -> None:
    with refused("DejaVuSanz", "DejaVuSans"):
        glyphs.draw_bank(("DejaVuSanz",))


def test_distance_fields_of_a_bar() -> None:
    ink = np.zeros((64, 64), dtype=bool)
    ink[:, 24:40] = True  # in canvas pixels: x from 12 to 20, skeleton near 16
    outline, skeleton = glyphs.distance_fields(ink)
    assert outline.shape == (32, 32)
    middle = outline[16]
    assert middle[15] == pytest.approx(-4, abs=0.5) and middle[22] == pytest.approx(2.5, abs=0.5)
    assert (np.sign(middle[[11, 12, 19, 20]]) == [1, -1, -1, 1]).all()
    assert skeleton[16, 16] < 1 and skeleton[16, 20] == pytest.approx(4.5, abs=0.75)
    assert (skeleton >= 0).all()


def test_bank_is_sorted_complete_and_reproducible(bank: GlyphBank) -> None:
    again = glyphs.draw_bank(("DejaVuSans",), num_written=1)
    assert torch.equal(bank.fields, again.fields) and torch.equal(bank.labels, again.labels)
    assert (bank.labels.diff() >= 0).all() and bank.labels.unique().numel() == 47
    assert bank.fields.shape == (len(bank), 2, glyphs.CANVAS, glyphs.CANVAS)
    assert len(glyphs.draw_bank(("DejaVuSans",), num_written=0)) == 62 < len(bank)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 46), min_size=1, max_size=40), st.integers(0, 2**31))
def test_drawn_glyphs_have_the_asked_label(wanted: list[int], seed: int) -> None:
    labels = torch.arange(47).repeat_interleave(torch.arange(47) % 3 + 1)
    tiny = GlyphBank(torch.zeros(len(labels), 2, 1, 1), labels)
    assert tiny.labels[tiny.draw(torch.tensor(wanted), seeded(seed))].tolist() == wanted


def test_every_glyph_of_a_class_is_drawn() -> None:
    bank = GlyphBank(torch.zeros(5, 2, 1, 1), torch.tensor([0, 0, 0, 1, 1]))
    counts = torch.bincount(bank.draw(torch.zeros(3000, dtype=torch.long), seeded()), minlength=5)
    assert counts[3:].sum() == 0 and (counts[:3] > 900).all()


def test_samples_follow_the_seed_alone(bank: GlyphBank) -> None:
    first, labels = glyphs.sample_glyphs(bank, 20, generator=seeded(1))
    torch.rand(3)  # the global stream must not matter
    second, _ = glyphs.sample_glyphs(bank, 20, generator=seeded(1))
    other, _ = glyphs.sample_glyphs(bank, 20, generator=seeded(2))
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert first.shape == (20, 3, 32, 32) and labels.shape == (20,)
    assert first.min() >= 0 and first.max() <= 1


def test_a_still_glyph_is_the_fonts_drawing_in_a_full_frame(bank: GlyphBank) -> None:
    indices = torch.arange(len(bank))
    inks = [glyphs.render_ink(bank, indices, STILL, seeded(i))[:, 0] for i in range(8)]
    ink = torch.stack(inks).mean(0)  # the pen's uneven pressure averages out
    longer = torch.maximum((ink > 0.5).any(2).sum(1), (ink > 0.5).any(1).sum(1))
    assert (longer >= 26).all() and longer.double().mean() > 30.5, "the ink fills the frame"
    inside = (bank.fields[:, 0] < 0).double().mean((1, 2))  # share of the canvas
    expected = inside * (glyphs.CANVAS / glyphs.BOX) ** 2
    covered = ink.double().mean((1, 2))
    assert torch.corrcoef(torch.stack([covered, expected]))[0, 1] > 0.95


def test_a_wider_pen_leaves_more_ink(bank: GlyphBank) -> None:
    indices = torch.arange(30)
    thin = glyphs.render_ink(bank, indices, changed(restroked=1, pen=(1.5, 1.5)), seeded())
    wide = glyphs.render_ink(bank, indices, changed(restroked=1, pen=(5, 5)), seeded())
    assert (wide.mean((1, 2, 3)) > thin.mean((1, 2, 3))).all()


@pytest.mark.parametrize("name", ["elastic", "rotate_degrees", "shear", "aspect"])
def test_each_warp_changes_the_glyph(bank: GlyphBank, name: str) -> None:
    default = getattr(GlyphStyle(), name)
    indices = torch.arange(20)
    still = glyphs.render_ink(bank, indices, STILL, seeded())
    moved = glyphs.render_ink(bank, indices, changed(**{name: default}), seeded())
    assert ((moved - still).abs().mean((1, 2, 3)) > 0.003).float().mean() > 0.8


def test_coarse_scans_lose_detail_and_keep_the_rest(bank: GlyphBank) -> None:
    ink = glyphs.render_ink(bank, torch.arange(20), STILL, seeded())
    sharp = glyphs.scan(ink, STILL, seeded())
    coarse = glyphs.scan(ink, changed(coarse=1), seeded())
    edges = [x.diff(dim=3).abs().amax((1, 2, 3)) for x in (sharp, coarse)]
    assert (edges[1] < edges[0]).all()


def test_grounds(bank: GlyphBank) -> None:
    ink = glyphs.render_ink(bank, torch.arange(8), STILL, seeded())
    plain = glyphs.colour(ink, STILL, seeded())
    assert torch.equal(plain, ink.expand(-1, 3, -1, -1))
    bright = glyphs.colour(ink, changed(inverted=1), seeded())
    assert torch.allclose(bright, 1 - plain)
    black = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    assert torch.allclose(glyphs.colour(ink, STILL, seeded(), black), plain)
    light = torch.full((2, 3, 32, 32), 255, dtype=torch.uint8)
    assert glyphs.colour(torch.ones_like(ink), STILL, seeded(), light).max() <= 0.2001


def test_share_on_photos(bank: GlyphBank) -> None:
    light = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    pictures, _ = glyphs.sample_glyphs(
        bank, 10, generator=seeded(), style=STILL, photos=light, on_photos=0.4
    )
    corners = pictures[:, :, :1, :1].mean((1, 2, 3))  # a full-frame glyph may touch a corner
    assert (corners[:4] > 0.3).sum() >= 3 and (corners[4:] < 0.3).sum() >= 4
    with refused(key="on_photos=0.5"):
        glyphs.sample_glyphs(bank, 2, generator=seeded(), on_photos=0.5)
