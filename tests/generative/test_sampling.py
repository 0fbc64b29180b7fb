from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from refusals import refused
from taming.modules.transformer.mingpt import GPT, sample
from torch import Tensor

from genkt.generative.decoding.decoder import ERROR_FACTOR, Decoder
from genkt.generative.decoding.sampling import (
    Sampling,
    complete_sequences,
    decide,
    gumbel_noise,
    uniforms_for,
)

CODES, LENGTH = 24, 12
RULES = [
    Sampling(), Sampling(temperature=0.0), Sampling(temperature=0.7, top_k=5),
    Sampling(top_p=0.8), Sampling(temperature=2.0, top_k=9, top_p=0.5),
]  # fmt: skip


def tiny_gpt(seed: int = 0, block_size: int = LENGTH + 5, width: int = 32) -> GPT:
    """A random network whose logits differ enough to matter; two more inputs than codes."""
    gpt = GPT(CODES + 2, block_size, n_layer=3, n_head=4, n_embd=width).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in gpt.parameters():
            parameter.add_(0.15 * torch.randn(parameter.shape, generator=generator))
    return gpt


def case(batch: int, samples: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """sos, tokens, a different hidden pattern in every row, uniforms."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(CODES, (batch, LENGTH), generator=generator)
    hidden = torch.rand(batch, LENGTH, generator=generator) < torch.rand(
        batch, 1, generator=generator
    )
    sos = CODES + torch.randint(2, (batch,), generator=generator)
    uniforms = uniforms_for([[100 * i + j for j in range(samples)] for i in range(batch)], LENGTH)
    return sos, tokens, hidden, uniforms


@torch.no_grad()
def slowly(
    gpt: GPT, sos: Tensor, tokens: Tensor, hidden: Tensor, uniforms: Tensor, rule: Sampling
) -> Tensor:
    """One row, one token and one whole float64 pass at a time."""
    gpt = tiny_copy(gpt)
    batch, samples = uniforms.shape[:2]
    out = tokens[:, None].repeat(1, samples, 1)
    for row in range(batch):
        for index in range(samples):
            for position in hidden[row].nonzero()[:, 0].tolist():
                before = torch.cat([sos[row, None], out[row, index, :position]])
                logits = gpt(before[None])[0][0, -1, :CODES]
                noise = gumbel_noise(uniforms[row, index, position], CODES)
                out[row, index, position] = slow_choice(logits, noise, rule)
    return out


def tiny_copy(gpt: GPT) -> GPT:
    other = GPT(
        gpt.config.vocab_size, gpt.block_size, gpt.config.n_layer, gpt.config.n_head,
        gpt.config.n_embd,
    ).double().eval()  # fmt: skip
    other.load_state_dict(gpt.state_dict())
    return other


def slow_choice(logits: Tensor, noise: Tensor, rule: Sampling) -> int:
    """The definition, code by code in Python."""
    values = logits.tolist()
    order = sorted(range(len(values)), key=lambda code: -values[code])
    kept = order if rule.top_k is None else order[: rule.top_k]
    if rule.top_p is not None and rule.temperature > 0:
        shares = torch.softmax(logits / rule.temperature, dim=0).tolist()
        mass, within = 0.0, []
        for code in order:
            if mass >= rule.top_p:
                break
            within.append(code)
            mass += shares[code]
        kept = [code for code in kept if code in within]
    return max(kept, key=lambda code: values[code] + rule.temperature * noise[code].item())


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("samples", [1, 3])
def test_any_pattern_is_completed_as_defined(rule: Sampling, samples: int) -> None:
    gpt, inputs = tiny_gpt(), case(6, samples)
    inputs[2][0], inputs[2][1, 0], inputs[2][2] = False, True, True  # none, the first, all
    found = complete_sequences(Decoder(gpt), *inputs, CODES, rule)
    torch.testing.assert_close(found, slowly(gpt, *inputs, rule))
    known = ~inputs[2][:, None].expand_as(found)
    assert (found[known] == inputs[1][:, None].expand_as(found)[known]).all()
    assert found.max() < CODES


@pytest.mark.parametrize("samples", [1, 4])
@pytest.mark.parametrize("first", [0, 1, 5, LENGTH - 1])
def test_greedy_equals_the_package(samples: int, first: int) -> None:
    gpt = tiny_gpt(1)
    # The package may draw the start tokens, which are no codes: make them improbable.
    with torch.no_grad():
        gpt.head.weight[CODES:] = 0
        gpt.ln_f.bias.copy_(gpt.head.weight[:CODES].mean(dim=0) * 3)
    sos, tokens, hidden, uniforms = case(5, samples)
    hidden[:] = torch.arange(LENGTH) >= first
    ours = complete_sequences(
        Decoder(gpt), sos, tokens, hidden, uniforms, CODES, Sampling(temperature=0.0)
    )
    theirs = sample(gpt, torch.cat([sos[:, None], tokens[:, :first]], dim=1), LENGTH - first)
    kept = (theirs[:, 1:] < CODES).all(dim=1)
    assert kept.any()
    for index in range(samples):
        assert torch.equal(ours[kept, index], theirs[kept, 1:])


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_row_is_the_same_whatever_runs_beside_it(rule: Sampling) -> None:
    gpt = tiny_gpt()
    sos, tokens, hidden, uniforms = case(33, 2)
    decoder = Decoder(gpt)
    together = complete_sequences(decoder, sos, tokens, hidden, uniforms, CODES, rule)
    order = torch.randperm(33, generator=torch.Generator().manual_seed(2))
    mixed = complete_sequences(
        decoder, sos[order], tokens[order], hidden[order], uniforms[order], CODES, rule
    )
    assert torch.equal(mixed, together[order])
    for row in range(0, 33, 8):
        for index in range(2):
            one = slice(row, row + 1)
            alone = complete_sequences(
                decoder, sos[one], tokens[one], hidden[one],
                uniforms[one, index : index + 1], CODES, rule,
            )  # fmt: skip
            assert torch.equal(alone[0, 0], together[row, index])


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def test_threads_and_the_callers_precision_change_nothing() -> None:
    gpt, inputs = tiny_gpt(width=256), case(9, 2)  # wide enough for packed weights
    with threads(1):
        one = complete_sequences(Decoder(gpt), *inputs, CODES, Sampling())
    with threads(2), torch.autocast("cpu", torch.bfloat16):
        torch.set_float32_matmul_precision("medium")
        try:
            two = complete_sequences(Decoder(gpt), *inputs, CODES, Sampling())
            assert torch.get_float32_matmul_precision() == "medium"
        finally:
            torch.set_float32_matmul_precision("highest")
    assert torch.equal(one, two)
    assert not two.is_inference()


def test_doubtful_rows_are_decided_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    gpt, inputs = tiny_gpt(), case(6, 2)
    expected = complete_sequences(Decoder(gpt), *inputs, CODES, Sampling())
    exact, plain = Decoder.exact_logits, Decoder.forward
    rows: list[int] = []

    def counted(self: Decoder, tokens: Tensor) -> Tensor:
        rows.append(len(tokens))
        return exact(self, tokens)

    def wrong(self: Decoder, *inputs: object) -> Tensor:
        logits = plain(self, *inputs)  # type: ignore[arg-type]
        return logits + 0.01 * torch.randn_like(logits)

    monkeypatch.setattr(Decoder, "exact_logits", counted)
    complete_sequences(decoder := Decoder(gpt), *inputs, CODES, Sampling())
    decided = 2 * int(inputs[2].sum())
    assert sum(rows) - 4 * len(rows) < 0.05 * decided  # the slack itself is measured on 4 rows
    monkeypatch.setattr(Decoder, "forward", wrong)
    rows.clear()
    monkeypatch.setattr(Decoder, "slack", lambda self: 0.1)
    assert torch.equal(complete_sequences(decoder, *inputs, CODES, Sampling()), expected)
    assert 0 < sum(rows) < decided


@pytest.mark.parametrize("width", [32, 256])
def test_errors_stay_far_inside_the_slack(width: int) -> None:
    decoder = Decoder(tiny_gpt(3, width=width))
    tokens = torch.randint(CODES, (64, LENGTH), generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        slack = decoder.slack()
        fast = decoder.start(64, 1, LENGTH, graph=False).prefill(tokens)
        exact = decoder.exact_logits(tokens)
    error = (fast - exact).abs().amax(dim=1) / exact.abs().amax(dim=1)
    assert error.max() < 3 * slack / ERROR_FACTOR
    assert slack < 1e-4


@pytest.mark.parametrize("rule", [*RULES, Sampling(top_k=1), Sampling(0.0, top_p=0.3)], ids=str)
def test_what_is_certain_no_error_within_the_slack_changes(rule: Sampling) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2000, CODES, generator=generator, dtype=torch.float64)
    noise = gumbel_noise(torch.rand(2000, generator=generator, dtype=torch.float64), CODES)
    drawn = noise if rule.temperature else None
    slack = 0.01
    codes, certain = decide(logits, drawn, rule, slack)
    assert 0.5 < certain.double().mean() < 1
    changed = torch.zeros(2000, dtype=torch.bool)
    for index in range(50):
        error = torch.rand(logits.shape, generator=generator, dtype=torch.float64) * 2 - 1
        error = error.sign() if index % 2 else error
        changed |= decide(logits + slack * error, drawn, rule, 0.0)[0] != codes
    assert changed.any() and not (changed & certain).any()
    exact = [slow_choice(*row, rule) for row in zip(logits[:200], noise, strict=False)]
    assert decide(logits, drawn, rule, 0.0)[0][:200].tolist() == exact


def test_draws_follow_the_distribution() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]], dtype=torch.float64).expand(200_000, 4)
    uniforms = uniforms_for([[7]], 200_000)[0, 0]
    for temperature in (0.5, 1.0):
        noise = gumbel_noise(uniforms, 4)
        codes, _ = decide(logits, noise, Sampling(temperature), 0.0)
        shares = codes.bincount(minlength=4) / len(codes)
        expected = torch.softmax(logits[0] / temperature, dim=0).float()
        torch.testing.assert_close(shares, expected, atol=4e-3, rtol=0)


def test_noise_is_gumbel_and_independent() -> None:
    noise = gumbel_noise(uniforms_for([[3]], 20_000)[0, 0], 8)
    assert noise.isfinite().all()
    assert abs(noise.mean() - 0.5772) < 0.015 and abs(noise.var() - torch.pi**2 / 6) < 0.04
    correlation = torch.corrcoef(noise.T) - torch.eye(8)
    assert correlation.abs().max() < 0.03
    assert abs(torch.corrcoef(torch.stack([noise[:-1, 0], noise[1:, 0]]))[0, 1]) < 0.03
    assert gumbel_noise(torch.zeros(1, dtype=torch.float64), 5).isfinite().all()


def test_uniforms_belong_to_their_seed() -> None:
    both = uniforms_for([[1, 2], [3, 4]], 6)
    assert both.shape == (2, 2, 6) and both.dtype == torch.float64
    assert torch.equal(both[1, 0], uniforms_for([[3]], 6)[0, 0])


@pytest.mark.parametrize("samples", [1, 4])
def test_bfloat16_draws_codes_and_is_near(samples: int) -> None:
    gpt, inputs = tiny_gpt(width=256), case(8, samples)
    rule = Sampling(temperature=0.0, precision="bfloat16")
    half = complete_sequences(Decoder(gpt, "bfloat16"), *inputs, CODES, rule)
    full = complete_sequences(Decoder(gpt), *inputs, CODES, Sampling(temperature=0.0))
    hidden = inputs[2][:, None].expand_as(half)
    assert half.max() < CODES and (half == full)[hidden].double().mean() > 0.5


def test_nothing_hidden_and_no_rows() -> None:
    decoder, (sos, tokens, hidden, uniforms) = Decoder(tiny_gpt()), case(3, 2)
    out = complete_sequences(
        decoder, sos, tokens, torch.zeros_like(hidden), uniforms, CODES, Sampling()
    )
    assert torch.equal(out, tokens[:, None].expand(3, 2, LENGTH))
    none = complete_sequences(
        decoder, sos[:0], tokens[:0], hidden[:0], uniforms[:0], CODES, Sampling()
    )
    assert none.shape == (0, 2, LENGTH)
    one = complete_sequences(decoder, sos, tokens, hidden, uniforms, 1, Sampling())
    assert (one[hidden[:, None].expand_as(one)] == 0).all()


def test_a_decoder_notices_training() -> None:
    gpt, inputs = tiny_gpt(), case(2, 1)
    decoder = Decoder(gpt)
    with torch.no_grad():
        gpt.head.weight.add_(1)
    assert not decoder.current
    with refused("decoder", "GPT"):
        complete_sequences(decoder, *inputs, CODES, Sampling())


@pytest.mark.parametrize(
    ("change", "about"),
    [
        ({"sos": torch.zeros(3, dtype=torch.long)}, "sos"),
        ({"sos": torch.full((2,), CODES + 2)}, "sos"),
        ({"tokens": torch.zeros(2, LENGTH)}, "tokens"),
        ({"tokens": torch.full((2, LENGTH), -1)}, "known tokens"),
        ({"hidden": torch.zeros(2, LENGTH)}, "hidden"),
        ({"uniforms": torch.rand(2, LENGTH, dtype=torch.float64)}, "uniforms"),
        ({"uniforms": torch.ones(2, 1, LENGTH, dtype=torch.float64)}, "uniforms"),
        ({"uniforms": torch.ones(2, 0, LENGTH, dtype=torch.float64)}, "uniforms"),
        ({"num_codes": CODES + 3}, "num_codes"),
        ({"sampling": Sampling(precision="bfloat16")}, "precision"),
        ({"graph": True}, "graph"),
    ],
)
def test_mistakes_are_named(change: dict[str, object], about: str) -> None:
    sos, tokens, hidden, uniforms = case(2, 1)
    hidden[:, 0] = False
    arguments: dict[str, object] = {
        "sos": sos, "tokens": tokens, "hidden": hidden, "uniforms": uniforms, "num_codes": CODES,
        "sampling": Sampling(),
    }  # fmt: skip
    with refused(about):
        complete_sequences(Decoder(tiny_gpt()), **(arguments | change))  # type: ignore[arg-type]


def test_other_mistakes_are_named() -> None:
    with refused(key="tokens", got=12):
        complete_sequences(Decoder(tiny_gpt(block_size=8)), *case(2, 1), CODES, Sampling())
    for wrong, message in (
        ({"temperature": -1.0}, "temperature"), ({"temperature": float("nan")}, "temperature"),
        ({"top_k": 0}, "top_k"), ({"top_p": 0.0}, "top_p"), ({"top_p": 1.5}, "top_p"),
    ):  # fmt: skip
        with refused(message):
            Sampling(**wrong)  # type: ignore[arg-type]
    with refused(key="precision", got="'float23'"):
        Decoder(tiny_gpt(), "float23")  # type: ignore[arg-type]
    with refused("mingpt.GPT", key="decoder"):
        Decoder(torch.nn.Linear(2, 2))
    with refused(key="decoder", got="n_unmasked 4"):
        Decoder(GPT(8, 8, n_layer=1, n_head=1, n_embd=8, n_unmasked=4))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("samples", [1, 4])
def test_the_gpu_and_its_graphs_draw_what_the_cpu_draws(samples: int) -> None:
    gpt, inputs = tiny_gpt(width=64), case(9, samples)
    expected = complete_sequences(Decoder(gpt), *inputs, CODES, Sampling())
    decoder = Decoder(gpt.cuda())
    for graph in (False, True, True):  # the second time replays
        found = complete_sequences(decoder, *inputs, CODES, Sampling(), graph=graph)
        assert torch.equal(found, expected)
