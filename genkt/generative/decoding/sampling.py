"""Completes token sequences with a GPT: fast, with reproducible tokens.

A token is drawn by the Gumbel-max rule: the code with the largest logit + temperature * noise,
noise = -log(-log v), among those that top-k and top-p allow. One uniform number per token gives the
noise of all codes, so a sample depends only on its seed. Temperature 0 is greedy by the same
formula.

In float32, every token equals the one that float64 arithmetic gives. A float32 decision is used
only if no error of the logits within a known bound (the slack) could change it. Otherwise that
row's logits are computed again in float64. So batch size, row order, threads, chunking and device
cannot change a token. With Gumbel-max, such doubtful cases are rare for any vocabulary: two scores
are closer than d with probability below d / temperature. An inverse cumulative distribution has one
boundary per code, and a uniform number may be too close to any of them.

Source of the sampling rule: Maddison et al., "A* Sampling", 2014 (Section 2); of top-p: Holtzman
et al., "The Curious Case of Neural Text Degeneration", 2020.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from genkt.generative.decoding.decoder import Decoder, Decoding, Precision
from genkt.precision import full_precision, threads
from genkt.settings.bounds import Count, NotNegative
from genkt.settings.faults import Fault, SettingsError
from genkt.types import Range, UserError

ONE_THREAD = {"float32": 2e8, "bfloat16": 8e8}
"""Steps with fewer multiplications use one CPU thread; two were up to twice as slow."""

NOISE_NUMBERS = 2**16
"""Noise is expanded for a few positions at once: this many numbers fit in a core's cache."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Args:
        temperature: divides the logits; 0 takes the most probable code.
        top_k: draw among the k most probable codes only (codes tied with the last one are
        included).
        top_p: draw among the most probable codes that together reach this probability at this
            temperature. With ``top_k`` too, a code must pass both, each judged on all codes.
        precision: "float32" (exact by definition) or "bfloat16" (faster, no such promise).

    Raises:
        UserError: a value out of bounds.
    """

    temperature: NotNegative = 1.0
    top_k: Count | None = None
    top_p: Annotated[float | None, Range(0.0, 1.0)] = None
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        if not (self.temperature >= 0 and math.isfinite(self.temperature)):
            raise _fault("temperature", f"expected a number >= 0, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise _fault("top_k", f"expected a whole number >= 1 or none, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise _fault("top_p", f"expected a share above 0, at most 1, or none, got {self.top_p}")


def _fault(name: str, text: str) -> SettingsError:
    return SettingsError([Fault(name, text)])


def uniforms_for(seeds: Sequence[Sequence[int]], length: int) -> Tensor:
    """One uniform number per token from the seed of each (image, sample) alone.

    Args:
        seeds: B lists of S seeds.
        length: T.

    Returns:
        [B, S, T] float64 in [0, 1), on the CPU.
    """
    if not seeds:
        return torch.empty(0, 1, length, dtype=torch.float64)
    rows = [
        torch.rand(length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        for image in seeds
        for seed in image
    ]
    return torch.stack(rows).view(len(seeds), -1, length)


def gumbel_noise(uniforms: Tensor, num_codes: int) -> Tensor:
    """Standard Gumbel noise for every code from one uniform number.

    A counter-based generator: the finalizer of SplitMix64 (Steele, Lea & Flood, 2014) on
    key + code * golden ratio, where the key is the finalizer of the number's 53 bits.

    Args:
        uniforms: [...] float64 in [0, 1).

    Returns:
        [..., num_codes] float64.
    """
    keys = _mix((uniforms * 2.0**53).long())
    codes = torch.arange(num_codes, device=uniforms.device) * -0x61C8864680B583EB
    bits = _mix(keys[..., None] + codes)
    # 52 bits and a half are exact in float64: never 0, never 1.
    numbers = (bits >> 12).bitwise_and_((1 << 52) - 1).double().add_(0.5).mul_(2.0**-52)
    return numbers.log_().neg_().log_().neg_()


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finalizer in place; a mask makes each right shift of int64 a logical one."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15), (31, 1)):
        x ^= (x >> shift).bitwise_and_((1 << (64 - shift)) - 1)
        x *= factor
    return x


def decide(
    logits: Tensor, noise: Tensor | None, sampling: Sampling, slack: Tensor | float
) -> tuple[Tensor, Tensor]:
    """The code of each row, and whether it is certain if logits have errors up to ``slack``.

    The candidates are the codes that *could* be allowed; the best of them is certain if it is
    allowed for all such errors and its lead over every other candidate is larger than the errors.

    Args:
        logits: [R, V] float64.
        noise: [R, V] float64 Gumbel noise; None at temperature 0.
        sampling: temperature, top_k and top_p.
        slack: largest error of a logit, [R, 1] or one number; 0 decides by the logits as given.

    Returns:
        [R] int64 codes and [R] bool.
    """
    scores = logits if noise is None else logits + sampling.temperature * noise
    allowed: Tensor | None = None
    if sampling.top_k is not None or sampling.top_p is not None:
        possible, allowed = _allowed(logits, sampling, slack)
        scores = scores.masked_fill(~possible, -torch.inf)
    best, codes = scores.topk(min(2, scores.shape[1]), dim=1)
    certain = (best[:, :1] - best[:, -1:] > 2 * slack)[:, 0] | (scores.shape[1] == 1)
    if allowed is not None:
        certain &= allowed.gather(1, codes[:, :1])[:, 0]
    return codes[:, 0], certain


def _allowed(logits: Tensor, sampling: Sampling, slack: Tensor | float) -> tuple[Tensor, Tensor]:
    """Codes that top-k and top-p could allow, and those they surely allow; [R, V] bool each.

    Both rules keep the m most probable codes. The m-th largest of V numbers moves by at most the
    slack when each of them does, a share of probability by at most ``drift``. A code could be
    allowed if it is within two slacks of the last one kept at the largest possible m, and surely
    is if it exceeds by two slacks the first one dropped at the smallest possible m.
    """
    num_codes = logits.shape[1]
    rows, most = logits.shape[0], min(sampling.top_k or num_codes, num_codes)
    ordered = logits.topk(
        min(most + 1, num_codes) if sampling.top_p is None else num_codes, dim=1
    ).values
    last = first = torch.full((rows, 1), most, device=logits.device)
    if sampling.top_p is not None:
        temperature = max(sampling.temperature, 1e-300)
        shares = torch.softmax((ordered - ordered[:, :1]) / temperature, dim=1)
        before = shares.cumsum(dim=1) - shares
        errors = slack if isinstance(slack, Tensor) else logits.new_full((), slack)
        drift = (errors / temperature * 2).expm1()
        drift = drift + 1e-12 * (drift > 0)  # what the float64 sums themselves may lose
        last = last.minimum((before < sampling.top_p + drift).sum(dim=1, keepdim=True))
        first = first.minimum((before < sampling.top_p - drift).sum(dim=1, keepdim=True))
        first = first.clamp(min=1)
    least = ordered.gather(1, last - 1)
    ordered = torch.nn.functional.pad(ordered, (0, 1), value=-torch.inf)
    dropped = ordered.gather(1, first)
    return logits >= least - 2 * slack, logits > dropped + 2 * slack


def complete_sequences(
    decoder: Decoder,
    sos: Tensor,
    tokens: Tensor,
    hidden: Tensor,
    uniforms: Tensor,
    num_codes: int,
    sampling: Sampling,
    *,
    graph: bool = False,
) -> Tensor:
    """Draw the hidden tokens of B sequences, S times each, in the order of the sequence.

    Known tokens to the right of hidden ones are used unchanged. The common start of all samples is
    computed once per image. A run of known tokens is processed with the next step as one chunk.
    Nothing is computed after the last hidden position.

    Args:
        decoder: the GPT, in the sampling's precision.
        sos: [B] int64 first input of each sequence (class or scan).
        tokens: [B, T] int64; values at hidden places do not matter.
        hidden: [B, T] bool, any pattern, which may differ from row to row.
        uniforms: [B, S, T] float64 in [0, 1), see ``uniforms_for``.
        num_codes: only codes below it are drawn.
        sampling: how.
        graph: capture one-token steps in CUDA graphs (a CUDA decoder only): pays where the same
            B and S are used many times.

    Returns:
        [B, S, T] int64 on the device of ``tokens``; known tokens as given.

    Raises:
        UserError: shapes, dtypes or values that do not fit each other or the GPT.
    """
    _check(decoder, sos, tokens, hidden, uniforms, num_codes, sampling, graph)
    where, num_samples = decoder.device, uniforms.shape[1]
    positions = hidden.any(dim=0).nonzero()[:, 0].tolist()
    num_rows = len(tokens) * num_samples
    with torch.inference_mode(), full_precision(where), _fewest_threads(decoder, num_rows):
        sequences = torch.cat([sos[:, None], tokens.masked_fill(hidden, 0)], dim=1).to(where)
        sequences = sequences.repeat_interleave(num_samples, dim=0)
        if positions and len(sequences):
            rows = uniforms.flatten(0, 1).to(where)
            draws = _Draws(decoder, sequences, rows, positions, num_codes, sampling)
            length = positions[-1] + 1 - (positions[0] + 1 if num_samples > 1 else 0)
            decoding = decoder.start(len(tokens), num_samples, length, graph)
            masks = hidden.to(where).repeat_interleave(num_samples, dim=0)
            _complete(decoding, draws, masks)
    # A copy made out here is an ordinary tensor that autograd may meet again.
    return sequences[:, 1:].clone().to(tokens.device).view(*uniforms.shape)


def _fewest_threads(decoder: Decoder, rows: int) -> contextlib.AbstractContextManager[object]:
    """One thread where a step is so short that waking a second one takes longer."""
    work = rows * decoder.num_weights
    if decoder.device.type == "cpu" and work < ONE_THREAD[decoder.precision]:
        return threads(1)
    return contextlib.nullcontext()


def _complete(decoding: Decoding, draws: _Draws, hidden: Tensor) -> None:
    """Fill the hidden places of ``draws.sequences`` from the first position to the last."""
    num_samples = decoding.shape[1]
    sequences, positions = draws.sequences, draws.positions
    start = positions[0] + 1
    logits = decoding.prefill(sequences[::num_samples, :start])
    logits = logits.repeat_interleave(num_samples, dim=0)
    for index, position in enumerate(positions):
        draws.fill(logits, position, hidden[:, position])
        if index + 1 < len(positions):
            end = positions[index + 1] + 1
            logits = decoding.step(sequences[:, start:end], start)
            start = end


class _Draws:
    """What decides the tokens of R = B * S rows, position by position."""

    def __init__(
        self, decoder: Decoder, sequences: Tensor, uniforms: Tensor, positions: list[int],
        num_codes: int, sampling: Sampling,
    ) -> None:  # fmt: skip
        self.decoder, self.sequences, self.uniforms = decoder, sequences, uniforms
        self.positions, self.num_codes, self.sampling = positions, num_codes, sampling
        self.places = torch.tensor(positions, device=uniforms.device)
        self.noise: dict[int, Tensor] = {}
        self.slack = decoder.slack() if decoder.precision == "float32" else 0.0

    def _noise(self, position: int) -> Tensor | None:
        if self.sampling.temperature == 0:
            return None
        if position not in self.noise:
            count = max(1, NOISE_NUMBERS // (len(self.sequences) * self.num_codes))
            first = self.positions.index(position)
            uniforms = self.uniforms[:, self.places[first : first + count]]
            noise = gumbel_noise(uniforms.T.contiguous(), self.num_codes)
            self.noise = dict(zip(self.positions[first : first + count], noise, strict=True))
        return self.noise[position]

    def fill(self, logits: Tensor, position: int, hidden: Tensor) -> None:
        """Write the token at ``position`` of each hidden row; logits [R, vocabulary] float32."""
        noise, sampling = self._noise(position), self.sampling
        wide = logits[:, : self.num_codes].double()
        exact = self.decoder.precision == "float32"
        slack = wide.abs().amax(dim=1, keepdim=True) * self.slack if exact else 0.0
        codes, certain = decide(wide, noise, sampling, slack)
        if exact:
            doubtful = (hidden & ~certain).nonzero()[:, 0]
            if len(doubtful):
                wide = self.decoder.exact_logits(self.sequences[doubtful, : position + 1])
                noise = None if noise is None else noise[doubtful]
                codes[doubtful] = decide(wide[:, : self.num_codes], noise, sampling, 0.0)[0]
        column = self.sequences[:, position + 1]
        column.copy_(torch.where(hidden, codes, column))


def _check(
    decoder: Decoder, sos: Tensor, tokens: Tensor, hidden: Tensor, uniforms: Tensor,
    num_codes: int, sampling: Sampling, graph: bool,
) -> None:  # fmt: skip
    if tokens.ndim != 2 or tokens.dtype != torch.int64:
        raise UserError.of("tokens", "[B, T] int64", f"{list(tokens.shape)} {tokens.dtype}")
    batch, length = tokens.shape
    expected = [
        ("sos", sos, (batch,), torch.int64),
        ("hidden", hidden, (batch, length), torch.bool),
        ("uniforms", uniforms, (batch, *uniforms.shape[1:2], length), torch.float64),
    ]
    for name, tensor, shape, dtype in expected:
        if tuple(tensor.shape) != shape or tensor.dtype != dtype:
            text = "[B, S, T]" if name == "uniforms" else list(shape)
            raise UserError.of(
                name,
                f"{text} {dtype} for tokens {list(tokens.shape)}",
                f"{list(tensor.shape)} {tensor.dtype}",
            )
    if uniforms.shape[1] < 1:
        raise UserError.of("uniforms", "at least one sample per image", "[B, 0, T]")
    if decoder.precision != sampling.precision:
        raise UserError(
            f"precision: the sampling asks for {sampling.precision}, the decoder has "
            f"{decoder.precision}; make Decoder(gpt, {sampling.precision!r})"
        )
    if graph and decoder.device.type != "cuda":
        raise UserError(f"graph: expected a decoder on cuda, it is on {decoder.device}")
    if length > decoder.block_size:
        raise UserError.of("tokens", f"at most {decoder.block_size} (the GPT's block size)", length)
    if not 1 <= num_codes <= decoder.vocab_size:
        raise UserError.of(
            "num_codes", f"1 .. {decoder.vocab_size} (the GPT's vocabulary)", num_codes
        )
    _check_values(decoder.vocab_size, sos, tokens, hidden, uniforms)


def _check_values(
    vocab_size: int, sos: Tensor, tokens: Tensor, hidden: Tensor, uniforms: Tensor
) -> None:
    for name, values in (("sos", sos), ("known tokens", tokens[~hidden])):
        wrong = values[(values < 0) | (values >= vocab_size)]
        if len(wrong):
            raise UserError.of(name, f"0 .. {vocab_size - 1} (the GPT's vocabulary)", int(wrong[0]))
    if not bool(((uniforms >= 0) & (uniforms < 1)).all()):
        raise UserError("uniforms: expected numbers in [0, 1)")
