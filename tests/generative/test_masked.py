from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from refusals import refused
from torch import Tensor

from genkt.files import SEALS
from genkt.generative.decoding.sampling import Sampling, gumbel_noise, uniforms_for
from genkt.generative.generator import Generator
from genkt.generative.mask_steps import MaskSchedule
from genkt.generative.masked import SLACK, Conditioning, MaskedTransformer
from genkt.generative.vqgan import VQGAN, build_vqmodel
from genkt.types import DamagedError

CODES, SIDE = 24, 6


def network(seed: int = 0, **changes: int) -> Any:
    """A tiny random network with opinions: its logits span several units."""
    from diffusers import UVit2DModel

    sizes = {
        "hidden_size": 16, "cond_embed_dim": 8, "encoder_hidden_size": 12, "in_channels": 16,
        "block_out_channels": 16, "num_res_blocks": 1, "block_num_heads": 2,
        "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
        "micro_cond_encode_dim": 4, "micro_cond_embed_dim": 20,
        "vocab_size": CODES + 1, "codebook_size": CODES, "sample_size": SIDE,
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: Any = UVit2DModel(**sizes | changes)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(2.5)
    return model


def transformer(num_steps: int = 5, order_noise: float = 4.5) -> MaskedTransformer:
    return MaskedTransformer(network(), MaskSchedule(num_steps, order_noise))


def requests(count: int) -> tuple[Tensor, Tensor, list[list[int]]]:
    """Random grids and masks (the first hides one token only), two samples each."""
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randint(0, CODES, (count, SIDE, SIDE), generator=generator)
    shares = torch.rand(count, 1, 1, generator=generator)
    hidden = torch.rand(count, SIDE, SIDE, generator=generator) < shares
    hidden[:, 2, 3] = True
    hidden[0] = False
    hidden[0, 2, 3] = True
    return tokens, hidden, [[10 * row, 10 * row + 1] for row in range(count)]


def slow(
    network: MaskedTransformer, tokens: Tensor, hidden: Tensor, seed: int, temperature: float
) -> Tensor:
    """One completion in float64, token by token in plain Python."""
    schedule, total = network.schedule, SIDE * SIDE
    uniforms = uniforms_for([[seed]], 2 * schedule.num_steps * total)[0, 0]
    uniforms = uniforms.view(schedule.num_steps, 2, total)
    grid = tokens.flatten().tolist()
    unknown = hidden.flatten().nonzero()[:, 0].tolist()
    num_hidden = len(unknown)
    for step in range(schedule.num_steps):
        if not unknown:
            break
        seen = [CODES if place in unknown else grid[place] for place in range(total)]
        logits = network._logits(torch.tensor([seen]), torch.float64)[0]
        confidence = {}
        for place in unknown:
            noise = gumbel_noise(uniforms[step, 0, place], CODES)
            grid[place] = int((logits[place] + temperature * noise).argmax())
            confidence[place] = logits[place].log_softmax(0)[grid[place]].item()
            order = gumbel_noise(uniforms[step, 1, place], 1).item() if temperature else 0.0
            confidence[place] += (
                schedule.order_noise * (1 - (step + 1) / schedule.num_steps) * order
            )
        share = math.cos(math.pi / 2 * (step + 1) / schedule.num_steps)
        left = min(int(num_hidden * share + 1e-9), len(unknown) - 1)
        unknown = sorted(unknown, key=lambda place: confidence[place])[:left]
    return torch.tensor(grid).view(SIDE, SIDE)


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_equals_the_slow_one(temperature: float) -> None:
    completer = transformer()
    tokens, hidden, seeds = requests(4)
    done = completer.complete(tokens, hidden, seeds, Sampling(temperature))
    for row in range(4):
        for sample in range(2):
            expected = slow(completer, tokens[row], hidden[row], seeds[row][sample], temperature)
            assert torch.equal(done[row, sample], expected)


def test_only_hidden_tokens_change() -> None:
    completer = transformer()
    tokens, hidden, seeds = requests(5)
    given = tokens.clone()
    done = completer.complete(tokens, hidden, seeds, Sampling())
    assert done.shape == (5, 2, SIDE, SIDE) and done.dtype == torch.int64
    visible = ~hidden[:, None].expand_as(done)
    assert torch.equal(done[visible], tokens[:, None].expand_as(done)[visible])
    assert done.min() >= 0 and done.max() < CODES
    assert torch.equal(tokens, given)
    assert not torch.equal(done[:, 0], done[:, 1])
    # What stands under hidden tokens is not read, be it a code or not.
    again = completer.complete(tokens.masked_fill(hidden, -7), hidden, seeds, Sampling())
    assert torch.equal(again, done)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.5, top_k=5, top_p=0.9), Sampling(0.0)])
def test_the_batch_changes_nothing(sampling: Sampling) -> None:
    completer = transformer(num_steps=8)
    tokens, hidden, seeds = requests(7)
    every = completer.complete(tokens, hidden, seeds, sampling)
    for row in range(7):
        part = slice(row, row + 1)
        alone = completer.complete(tokens[part], hidden[part], seeds[part], sampling)
        assert torch.equal(alone[0], every[row])
        later = completer.complete(tokens[part], hidden[part], [seeds[row][1:]], sampling)
        assert torch.equal(later[0, 0], every[row, 1])
    order = [4, 2, 6, 0]
    some = completer.complete(tokens[order], hidden[order], [seeds[i] for i in order], sampling)
    assert torch.equal(some, every[order])


def test_passes_of_many_rows_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, hidden, seeds = requests(7)
    every = transformer().complete(tokens, hidden, seeds, Sampling())
    monkeypatch.setattr("genkt.generative.masked.ROWS", 3)
    monkeypatch.setattr("genkt.generative.mask_steps._SCORES", 5 * CODES)
    assert torch.equal(transformer().complete(tokens, hidden, seeds, Sampling()), every)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.3, top_k=4), Sampling(0.0)])
def test_errors_within_the_slack_change_nothing(
    sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The promise itself, with a slack so wide that it decides often."""
    monkeypatch.setattr("genkt.generative.masked.SLACK", 0.02)
    completer = transformer()
    tokens, hidden, seeds = requests(6)
    plain, exact = completer._logits, [0]
    results = []
    for trial in range(3):
        generator = torch.Generator().manual_seed(trial)

        def disturbed(rows: Tensor, dtype: torch.dtype, draws: Any = generator) -> Tensor:
            logits = plain(rows, dtype)
            if dtype == torch.float64:
                exact[0] += 1
                assert len(rows) == 1
                return logits
            error = torch.rand(logits.shape, generator=draws) * 2 - 1
            return logits + 0.019 * logits.abs().amax(dim=(1, 2), keepdim=True) * error

        monkeypatch.setattr(completer, "_logits", disturbed)
        results.append(completer.complete(tokens, hidden, seeds, sampling))
    assert exact[0] > 10
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_float32_is_within_the_slack_and_seldom_in_doubt() -> None:
    completer = transformer(num_steps=8)
    rows = torch.randint(0, CODES + 1, (64, SIDE * SIDE), generator=torch.Generator())
    narrow, exact = (completer._logits(rows, t) for t in (torch.float32, torch.float64))
    largest = exact.abs().amax(dim=(1, 2))
    assert ((narrow - exact).abs().amax(dim=(1, 2)) < SLACK / 4 * largest).all()
    calls: list[torch.dtype] = []
    plain = completer._logits
    completer._logits = lambda rows, dtype: (  # type: ignore[method-assign]
        calls.extend([dtype] * len(rows)) or plain(rows, dtype)
    )
    completer.complete(*requests(32), Sampling())
    assert calls.count(torch.float64) < 0.1 * calls.count(torch.float32)


def test_a_single_step_draws_from_the_distribution() -> None:
    completer = transformer(num_steps=1)
    tokens, hidden, _ = requests(1)
    many = completer.complete(tokens, hidden, [list(range(3000))], Sampling())[0, :, 2, 3]
    seen = tokens.masked_fill(hidden, CODES).flatten(1)
    expected = completer._logits(seen, torch.float64)[0, 2 * SIDE + 3].softmax(0)
    found = many.bincount(minlength=CODES).double() / len(many)
    assert (found - expected).abs().max() < 0.03
    few = completer.complete(tokens, hidden, [list(range(300))], Sampling(top_k=2))[0, :, 2, 3]
    assert set(few.tolist()) == set(expected.topk(2).indices.tolist())


@pytest.mark.parametrize("num_hidden", [1, 2, 7, 256])
@pytest.mark.parametrize("num_steps", [1, 3, 12])
def test_schedule(num_hidden: int, num_steps: int) -> None:
    counts = MaskSchedule(num_steps).num_unknown(num_hidden)
    assert counts[0] == num_hidden and counts[-1] == 0
    assert all(a > b for a, b in itertools.pairwise(counts))
    assert len(counts) <= min(num_steps, num_hidden) + 1
    if num_hidden >= 256:
        assert len(counts) == num_steps + 1
    assert MaskSchedule(num_steps).num_unknown(0) == [0]


def test_steps_are_what_it_costs() -> None:
    completer = transformer(num_steps=4)
    calls: list[int] = []
    plain = completer._logits
    completer._logits = lambda rows, dtype: (  # type: ignore[method-assign]
        calls.append(len(rows)) or plain(rows, dtype)
    )
    tokens, hidden, seeds = requests(3)
    hidden[1:] = True
    hidden[2] = False
    completer.complete(tokens, hidden, seeds, Sampling(precision="bfloat16"))
    # Row 0 has one hidden token, row 1 all of them, row 2 none; two samples each.
    assert calls == [4, 2, 2, 2]


def test_nothing_hidden_and_nothing_given() -> None:
    completer = transformer()
    tokens, hidden, seeds = requests(2)
    done = completer.complete(tokens, hidden & False, seeds, Sampling())
    assert torch.equal(done, tokens[:, None].expand(-1, 2, -1, -1))
    none = completer.complete(tokens[:0], hidden[:0], [], Sampling())
    assert none.shape == (0, 1, SIDE, SIDE)


def test_greedy_samples_agree_and_the_order_noise_counts() -> None:
    tokens, hidden, seeds = requests(4)
    hidden[:] = True
    greedy = transformer().complete(tokens, hidden, seeds, Sampling(0.0))
    assert torch.equal(greedy[:, 0], greedy[:, 1])
    first = transformer(order_noise=0.0).complete(tokens, hidden, seeds, Sampling())
    second = transformer(order_noise=4.5).complete(tokens, hidden, seeds, Sampling())
    assert not torch.equal(first, second)


def test_behind_a_vqgan() -> None:
    """The generator takes it in the place of a latent transformer."""
    vqgan = VQGAN(build_vqmodel(num_codes=CODES, code_dim=4, channels=(8, 8), size=2 * SIDE))
    generator = Generator(vqgan, transformer())
    images = torch.randint(0, 256, (2, 3, 12, 12), generator=torch.Generator()).byte()
    mask = torch.zeros(12, 12, dtype=torch.bool)
    mask[3:6, 4:8] = True  # neither end of any scan
    done = generator.complete(images, mask, num_samples=3, dilation=0)
    assert done.images.shape == (2, 3, 3, 12, 12) and done.tokens is not None
    assert done.hidden is not None and done.hidden.sum().item() == 2 * 4
    assert generator.fingerprint() != Generator(vqgan, transformer(num_steps=6)).fingerprint()


def test_save_and_load(tmp_path: Path) -> None:
    conditioning = Conditioning(torch.randn(3, 12), torch.randn(8), torch.tensor([64.0] * 5))
    completer = MaskedTransformer(network(), MaskSchedule(3, 1.5), conditioning)
    loaded = MaskedTransformer.load(completer.save(tmp_path / "masked"))
    assert loaded.fingerprint() == completer.fingerprint() and loaded.schedule.num_steps == 3
    request = requests(3)
    done = completer.complete(*request, Sampling())
    assert torch.equal(loaded.complete(*request, Sampling()), done)
    assert (loaded.num_codes, loaded.grid) == (CODES, (SIDE, SIDE))
    bare = network()
    bare.save_pretrained(tmp_path / "bare")
    plain = MaskedTransformer.load(tmp_path / "bare")
    assert plain.schedule == MaskSchedule() and not plain.conditioning.text.any()
    assert len({plain.fingerprint(), transformer().fingerprint(), loaded.fingerprint()}) == 3
    assert not torch.equal(plain.complete(*request, Sampling()), done)


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    with refused("config.json"):
        MaskedTransformer.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "VQModel"}))
    with refused("UVit2DModel", "VQModel"):
        MaskedTransformer.load(tmp_path)
    transformer().save(tmp_path)
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(b"nothing")
    with refused("diffusion_pytorch_model.safetensors", kind=DamagedError):
        MaskedTransformer.load(tmp_path)
    (tmp_path / SEALS).unlink()
    with refused("diffusion_pytorch_model.safetensors") as error:
        MaskedTransformer.load(tmp_path)
    assert "\n" not in str(error.value)


def test_errors() -> None:
    completer = transformer()
    tokens, hidden, seeds = requests(2)
    with refused(key="tokens", got=(2, 5, 6)):
        completer.complete(tokens[:, 1:], hidden, seeds, Sampling())
    with refused(key="hidden", got=(1, 6, 6)):
        completer.complete(tokens, hidden[:1], seeds, Sampling())
    with refused(key="tokens", got=CODES):
        completer.complete(tokens * 0 + CODES, hidden, seeds, Sampling())
    for wrong in (seeds[:1], [[1], [2, 3]]):
        with refused("seeds", 2):
            completer.complete(tokens, hidden, wrong, Sampling())
    with refused("conditions"):
        completer.complete(tokens, hidden, seeds, Sampling(), torch.tensor([0, 1]))
    with refused(key="masked transformer", got=25):
        MaskedTransformer(network(codebook_size=25))
    zeros = torch.zeros
    with refused(key="conditioning", got=[9]):
        MaskedTransformer(network(), None, Conditioning(zeros(1, 12), zeros(9), zeros(5)))
    with refused(key="num_steps", got=0):
        MaskSchedule(num_steps=0)
    with refused(key="order_noise", got=-1):
        MaskSchedule(order_noise=-1)
