"""The shipped generator: its card's figures, its size, and tokens that every machine draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from genkt.generative.generator import Generator, load_generator
from genkt.generative.latent_transformer import SCANS, LatentTransformer
from genkt.io import read_json, resource
from genkt.losses.vq import psnr
from genkt.upstream.generator.generator_card import card_text
from genkt.upstream.generator.generator_figures import (
    NUM_MEASURED,
    built_in_tests,
    example_tokens,
    measure_transformer,
)
from genkt.upstream.generator.generator_sheets import half_masks
from genkt.upstream.upstream_pictures import GlyphUpstream

CHECKPOINTS = Path(resource("checkpoints"))
HOME = CHECKPOINTS / "digits_generator"


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    loaded: dict[str, Any] = read_json(HOME / "figures.json")
    return loaded


@pytest.fixture(scope="module")
def generator() -> Generator:
    return load_generator("genkt:digits_generator")


def test_the_card_states_the_figures(figures: dict[str, Any]) -> None:
    assert (HOME / "README.md").read_text(encoding="utf-8") == card_text(figures)


def test_all_that_ships_is_small() -> None:
    total = sum(path.stat().st_size for path in CHECKPOINTS.rglob("*") if path.is_file())
    assert total < 12e6


def test_any_side_can_be_completed(generator: Generator) -> None:
    assert isinstance(generator.completer, LatentTransformer)
    assert set(generator.completer.config.scans) == set(SCANS)


@pytest.mark.parametrize("place", [0, 1], ids=["digits", "digits_on_photos"])
def test_reconstructions_are_as_good_as_stated(
    generator: Generator, figures: dict[str, Any], place: int
) -> None:
    name, images, _ = built_in_tests(generator.size)[place]
    rebuilt = generator.reconstruct(images)
    measured = psnr(images.float(), rebuilt.float()).item()
    assert measured == pytest.approx(figures[name]["psnr"], abs=0.01)
    assert measured > 18


def test_every_code_is_in_use(figures: dict[str, Any]) -> None:
    assert figures["upstream"]["held_out_codes"] >= 250


def test_the_transformer_predicts_as_well_as_stated(
    generator: Generator, figures: dict[str, Any]
) -> None:
    """Half of 1594 new pictures, as in the card; guessing costs log 256 = 5.5 nats per token."""
    pictures = GlyphUpstream(1, 0, generator.size).sample(2 * NUM_MEASURED, 1)[NUM_MEASURED:]
    assert isinstance(generator.completer, LatentTransformer)
    measured = measure_transformer(generator.completer, generator.vqgan, pictures)
    assert set(measured) == {f"nats_{scan}" for scan in SCANS}
    for name, nats in measured.items():
        assert nats == pytest.approx(figures["upstream"][name], abs=0.01)


@pytest.mark.parametrize("side", ["bottom", "top", "left", "right"])
def test_completions_go_on_from_what_is_visible(generator: Generator, side: str) -> None:
    """Away from the mask and its ring, a completion shows its source as well as a
    reconstruction; behind the mask it shows something else."""
    images = built_in_tests(generator.size)[0][1][:40]
    masks = half_masks(40, generator.size, side)
    completed = generator.complete(images, masks).images[:, 0].float()
    near = half_masks(1, generator.size, side)[0]
    step = {"bottom": (-8, 0), "top": (8, 0), "left": (0, 8), "right": (0, -8)}[side]
    far = ~(near | near.roll(step, (0, 1)))
    source = images.float()
    kept = psnr(source[:, :, far], completed[:, :, far]).item()
    drawn = psnr(source[:, :, near], completed[:, :, near]).item()
    assert kept > 22 and drawn < 14


def test_the_same_seed_draws_the_same_tokens_on_every_machine(
    generator: Generator, figures: dict[str, Any]
) -> None:
    assert example_tokens(generator) == figures["upstream"]["example_tokens"]
    before = torch.get_num_threads()
    torch.set_num_threads(1 if before > 1 else 2)
    try:
        assert example_tokens(generator) == figures["upstream"]["example_tokens"]
    finally:
        torch.set_num_threads(before)
