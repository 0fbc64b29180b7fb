"""The latent transformer: reading directions, start tokens, files, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from torch import Tensor

from genkt.files import SEALS
from genkt.generative.decoding.sampling import Sampling
from genkt.generative.latent_transformer import (
    SCANS,
    LatentTransformer,
    TransformerConfig,
    choose_scans,
    code_histograms,
    scan_order,
)
from genkt.types import DamagedError, UserError

GRID = (4, 4)


def tiny(num_codes: int = 16, **settings: object) -> LatentTransformer:
    config = TransformerConfig.of(
        num_codes,
        GRID,
        num_layers=2,
        num_heads=2,
        width=16,
        **settings,  # type: ignore[arg-type]
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformer = LatentTransformer.build(config)
        torch.nn.init.normal_(transformer.gpt.pos_emb, std=0.5)
        torch.nn.init.normal_(transformer.gpt.head.weight, std=0.5)
        torch.nn.init.normal_(transformer.gpt.tok_emb.weight, std=0.5)
        for name, weight in transformer.gpt.named_parameters():
            if name.endswith(("key.weight", "query.weight", "value.weight", "proj.weight")):
                torch.nn.init.normal_(weight, std=0.5)
    return transformer.eval()


def grids(num: int, num_codes: int = 16, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, num_codes, (num, *GRID), generator=generator)


def half(side: str) -> Tensor:
    hidden = torch.zeros(1, *GRID, dtype=torch.bool)
    place = {
        "down": (slice(None), slice(2, None)), "up": (slice(None), slice(2)),
        "right": (slice(None), slice(None), slice(2, None)),
        "left": (slice(None), slice(None), slice(2)),
    }[side]  # fmt: skip
    hidden[place] = True
    return hidden


@given(st.sampled_from(SCANS), st.integers(1, 5), st.integers(1, 5))
def test_a_scan_reads_every_token_once(scan: str, height: int, width: int) -> None:
    order = scan_order(scan, (height, width))
    assert sorted(order.tolist()) == list(range(height * width))


@pytest.mark.parametrize("side", SCANS)
def test_what_is_hidden_at_a_side_is_read_last(side: str) -> None:
    transformer = tiny()
    chosen = choose_scans(half(side).flatten(1), transformer.orders)
    assert transformer.config.scans[int(chosen)] == side
    read = half(side).flatten()[transformer.orders[int(chosen)]]
    assert read.tolist() == [False] * 8 + [True] * 8


@settings(max_examples=25, deadline=None)
@given(st.lists(st.booleans(), min_size=16, max_size=16), st.integers(0, 2**31))
def test_visible_tokens_stay_and_codes_are_codes(mask: list[bool], seed: int) -> None:
    transformer, tokens = tiny(), grids(1)
    hidden = torch.tensor(mask).view(1, *GRID)
    completed = transformer.complete(tokens, hidden, [[seed, seed + 1]], Sampling())
    assert completed.shape == (1, 2, *GRID)
    assert torch.equal(completed[:, 0][~hidden], tokens[~hidden])
    assert 0 <= int(completed.min()) <= int(completed.max()) < transformer.num_codes


def test_a_completion_does_not_depend_on_its_company() -> None:
    transformer, tokens = tiny(), grids(6)
    hidden = torch.cat([half("down"), half("left"), half("up")] * 2)
    seeds = [[10 * i + k for k in range(3)] for i in range(6)]
    whole = transformer.complete(tokens, hidden, seeds, Sampling())
    for i in range(6):
        alone = transformer.complete(tokens[i : i + 1], hidden[i : i + 1], [seeds[i]], Sampling())
        assert torch.equal(alone[0], whole[i])
        one = transformer.complete(tokens[i : i + 1], hidden[i : i + 1], [seeds[i][2:]], Sampling())
        assert torch.equal(one[0, 0], whole[i, 2])


def test_greedy_completion_follows_the_network() -> None:
    """Token by token against the plain forward pass, in the scan towards the hidden side."""
    transformer, tokens, hidden = tiny(), grids(1), half("left")
    order = scan_order("left", GRID)
    sequence = tokens.flatten()[order]
    start = transformer.start_tokens(torch.tensor([SCANS.index("left")]), None)
    for position in range(8, 16):
        inputs = torch.cat([start, sequence[:position]])[None]
        with torch.no_grad():
            logits = transformer.gpt(inputs)[0][0, -1, :16]
        sequence[position] = logits.argmax()
    expected = torch.empty_like(sequence)
    expected[order] = sequence
    completed = transformer.complete(tokens, hidden, [[0]], Sampling(temperature=0.0))
    assert torch.equal(completed[0, 0].flatten(), expected)


def test_start_tokens_are_all_different_and_behind_the_codes() -> None:
    transformer = tiny(condition="class", num_conditions=3)
    found = {
        int(transformer.start_tokens(torch.tensor([s]), torch.tensor([c])))
        for s in range(4)
        for c in range(3)
    }
    assert found == set(range(16, 28)) and transformer.config.vocab_size == 28


def test_a_class_changes_what_is_drawn() -> None:
    transformer, tokens = tiny(condition="class", num_conditions=2), grids(8)
    hidden, seeds = half("down").expand(8, -1, -1), [[i] for i in range(8)]
    drawn = [
        transformer.complete(tokens, hidden, seeds, Sampling(), torch.full((8,), c)) for c in (0, 1)
    ]
    assert not torch.equal(*drawn)
    with refused(key="conditions"):
        transformer.complete(tokens, hidden, seeds, Sampling())
    with refused(key="conditions", got=[2]):
        transformer.complete(tokens, hidden, seeds, Sampling(), torch.full((8,), 2))
    with refused("conditions"):
        transformer.conditions_of(tokens, torch.full((8,), -1))


def test_the_kind_of_a_picture_is_its_nearest_centre(tmp_path: Path) -> None:
    transformer = tiny(condition="image", num_conditions=2)
    dark, bright = torch.zeros(1, *GRID, dtype=torch.long), torch.full((1, *GRID), 9)
    transformer.centres.copy_(code_histograms(torch.cat([dark, bright]), 16))
    assert transformer.conditions_of(torch.cat([bright, dark]), None).tolist() == [1, 0]
    again = LatentTransformer.load(transformer.save(tmp_path / "t"))
    assert torch.equal(again.centres, transformer.centres)


def test_files_come_back(tmp_path: Path) -> None:
    transformer, tokens, hidden = tiny(), grids(3), half("up").expand(3, -1, -1)
    again = LatentTransformer.load(transformer.save(tmp_path / "t"))
    assert again.config == transformer.config
    assert again.fingerprint() == transformer.fingerprint()
    seeds = [[1], [2], [3]]
    assert torch.equal(
        again.complete(tokens, hidden, seeds, Sampling()),
        transformer.complete(tokens, hidden, seeds, Sampling()),
    )
    half_size = transformer.save(tmp_path / "half", half=True) / "model.safetensors"
    assert LatentTransformer.load(tmp_path / "half").gpt.pos_emb.dtype == torch.float32
    assert half_size.stat().st_size < (tmp_path / "t" / "model.safetensors").stat().st_size


def test_missing_damaged_and_foreign_files_are_named(tmp_path: Path) -> None:
    with refused("config.json"):
        LatentTransformer.load(tmp_path)
    folder = tiny().save(tmp_path / "t")
    other = tiny(num_codes=8).save(tmp_path / "other")
    (folder / "config.json").write_bytes((other / "config.json").read_bytes())
    with refused("config.json", kind=DamagedError):
        LatentTransformer.load(folder)
    (folder / SEALS).unlink()
    with refused("tok_emb.weight"):
        LatentTransformer.load(folder)
    (other / "model.safetensors").write_bytes(b"nothing")
    with refused("other"):
        LatentTransformer.load(other)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"scans": ("dwn",)}, 'got "dwn". Did you mean down'),
        ({"vocab_size": 15}, "vocab_size: expected at least"),
        ({"block_size": 15}, "block_size: expected at least 16"),
        ({"num_conditions": 3}, "num_conditions above 0 unless none"),
        ({"condition": "label", "num_conditions": 3}, "expected none | class | image"),
    ],
)
def test_impossible_shapes_are_refused(settings: dict[str, object], said: str) -> None:
    shape = {"num_codes": 16, "grid": GRID, "num_layers": 1, "num_heads": 1, "width": 8}
    shape |= {"vocab_size": 20, "block_size": 16, "sos_offset": 16}
    with pytest.raises(UserError) as error:
        TransformerConfig(**{**shape, **settings})  # type: ignore[arg-type]
    assert said in str(error.value)


def test_grids_of_another_size_are_refused() -> None:
    with refused(key="tokens", got=(1, 3, 4)):
        tiny().complete(torch.zeros(1, 3, 4, dtype=torch.long), half("up"), [[0]], Sampling())
    with refused(key="hidden", got=(1, 4, 4)):
        tiny().complete(grids(2), half("up"), [[0], [1]], Sampling())
