"""taming's GPT laid out for decoding: packed weights, static caches, shared prefixes.

``taming.modules.transformer.mingpt.GPT`` recomputes the whole sequence for every token. A
``Decoder`` holds the same weights (query, key and value fused, the score scale inside the query)
and a ``Decoding`` runs them over a growing sequence: the prefix once per image, then one chunk of
new tokens at a time against keys and values that were written in place.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genkt.generative.decoding.caches import Cache, Place, cache_for
from genkt.generative.decoding.packed import Linear, Norm
from genkt.io import did_you_mean
from genkt.types import UserError

Precision = Literal["float32", "bfloat16"]
BUCKET = 64
"""A captured CUDA step reads the cache up to the next multiple of this many positions."""

ERROR_FACTOR = 8.0
"""How many times the largest error found on a network its logits are trusted to stay within."""

Attention = Callable[[int, Tensor], Tensor]
"""(layer, [B * S * c, 3 * D] queries, keys and values) -> [B * S * c, D]."""


@dataclass(frozen=True)
class _Layer:
    attention_norm: Norm
    queries_keys_values: Linear
    projection: Linear
    mlp_norm: Norm
    widen: Linear
    narrow: Linear


class Decoder:
    """The weights of a GPT, snapshotted and laid out for ``complete_sequences``.

    Dropout plays no part. After the GPT is trained further, make a new decoder (``start`` refuses).

    Args:
        gpt: taming's ``mingpt.GPT``, on the device where it shall run.
        precision: "float32", or "bfloat16" weights, activations and caches with float32
            softmax sums and logits.

    Raises:
        UserError: not such a GPT, one with positions that see their future (``n_unmasked``), or
            an unknown precision.
    """

    def __init__(self, gpt: nn.Module, precision: Precision = "float32") -> None:
        if precision not in get_args(Precision):
            raise UserError.of(
                "precision",
                "float32 or bfloat16",
                repr(precision),
                f".{did_you_mean(str(precision), get_args(Precision))}",
            )
        if not isinstance(getattr(gpt, "tok_emb", None), nn.Embedding) or not hasattr(gpt, "head"):
            raise UserError.of("decoder", "taming's mingpt.GPT", f"a {type(gpt).__name__}")
        model: Any = gpt
        if getattr(model.config, "n_unmasked", 0):
            raise UserError.of(
                "decoder",
                "a GPT whose positions see only their past (n_unmasked 0)",
                f"n_unmasked {model.config.n_unmasked}",
            )
        self.precision: Precision = precision
        self.dtype = getattr(torch, precision)
        self.num_heads: int = model.config.n_head
        self.block_size: int = model.block_size
        self.vocab_size, self.width = model.tok_emb.weight.shape
        with torch.no_grad():
            self.tokens = model.tok_emb.weight.detach().to(self.dtype, copy=True)
            self.positions = model.pos_emb.detach()[0].to(self.dtype, copy=True)
            self.layers = [self._lay_out(block) for block in model.blocks]
            self.final_norm = Norm(model.ln_f, self.dtype)
            self.head = Linear(self._weight(model.head), self.tokens.new_zeros(self.vocab_size))
        self._gpt: Any = gpt
        self._exact: Any = None
        self._version = self._weights_version()
        self._slack: float | None = None
        self._decoding: Decoding | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        device: torch.device = self.tokens.device
        return device

    @property
    def num_weights(self) -> int:
        """Weights that one token meets: those of the layers and the head."""
        return int(self.width * (12 * self.width * len(self.layers) + self.vocab_size))

    @property
    def current(self) -> bool:
        """Whether the GPT still has the weights that were laid out here."""
        return self._weights_version() == self._version

    def _weights_version(self) -> int:
        return sum(parameter._version for parameter in self._gpt.parameters())

    def _weight(self, linear: nn.Linear) -> Tensor:
        return linear.weight.detach().to(self.dtype, copy=True)

    def _linear(self, linear: nn.Linear) -> Linear:
        return Linear(self._weight(linear), linear.bias.detach().to(self.dtype, copy=True))

    def _lay_out(self, block: Any) -> _Layer:
        attention = block.attn
        scale = (self.width // self.num_heads) ** -0.5
        parts = [attention.query, attention.key, attention.value]
        weight = torch.cat([part.weight.detach() for part in parts])
        bias = torch.cat([part.bias.detach() for part in parts])
        weight[: self.width] *= scale
        bias[: self.width] *= scale
        return _Layer(
            Norm(block.ln1, self.dtype), Linear(weight.to(self.dtype), bias.to(self.dtype)),
            self._linear(attention.proj), Norm(block.ln2, self.dtype),
            self._linear(block.mlp[0]), self._linear(block.mlp[2]),
        )  # fmt: skip

    def forward(self, tokens: Tensor, positions: Place, attention: Attention) -> Tensor:
        """The network over new tokens.

        Args:
            tokens: [n, c] int64.  positions: where they stand, c of them.
            attention: what attends to the sequence so far.

        Returns:
            [n, vocabulary] float32 logits after the last of the c tokens.
        """
        rows = (F.embedding(tokens, self.tokens) + self.positions[positions]).flatten(0, 1)
        for index, layer in enumerate(self.layers):
            attended = attention(index, layer.queries_keys_values(layer.attention_norm(rows)))
            if index + 1 == len(self.layers):  # no layer reads the other positions any more
                rows, attended = (
                    part.view(*tokens.shape, -1)[:, -1].contiguous() for part in (rows, attended)
                )
            rows = layer.projection.add_to(rows, attended)
            rows = layer.narrow.add_to(rows, layer.widen(layer.mlp_norm(rows), gelu=True))
        return self.head(self.final_norm(rows)).float()

    def exact_logits(self, tokens: Tensor) -> Tensor:
        """The same network in float64 over whole sequences, from a copy made at first need.

        Args:
            tokens: [n, t] int64.

        Returns:
            [n, vocabulary] float64 logits after the last token.
        """
        if self._exact is None:
            self._exact = copy.deepcopy(self._gpt).to(self.device, torch.float64).eval()
        gpt = self._exact
        rows = gpt.blocks(gpt.tok_emb(tokens) + gpt.pos_emb[:, : tokens.shape[1]])
        logits: Tensor = gpt.head(gpt.ln_f(rows[:, -1]))
        return logits

    def slack(self) -> float:
        """How far a logit may lie from the float64 one, as a share of the row's largest |logit|.

        ``ERROR_FACTOR`` times the largest error on random sequences, measured once. The errors
        are the network's own: 1e-6 to 2e-6 for random networks of 4 x 128 to 24 x 512 with
        weights of deviation 0.02 to 0.05, 1e-5 where weights of 0.1 make attention so sharp that
        it multiplies them.
        """
        if self._slack is None:
            count = min(self.block_size, 24)
            generator = torch.Generator().manual_seed(0)
            tokens = torch.randint(self.vocab_size, (4, count), generator=generator)
            tokens = tokens.to(self.device)
            half = (count + 1) // 2
            decoding = self.start(4, 1, count, graph=False)
            found = [decoding.prefill(tokens[:, :half])]
            found += [decoding.step(tokens[:, at : at + 1], at) for at in range(half, count)]
            worst = 2.0**-22
            for at, logits in enumerate(found, start=half):
                exact = self.exact_logits(tokens[:, :at])
                error = (logits - exact).abs().amax(dim=1) / exact.abs().amax(dim=1)
                worst = max(worst, error.max().item())
            self._slack = ERROR_FACTOR * worst
        return self._slack

    def start(self, num_images: int, num_samples: int, length: int, graph: bool) -> Decoding:
        """A sequence state; the last one again where its caches fit (new memory costs time).

        Args:
            num_images: B.  num_samples: S.
            length: positions to hold (beside the prefix where S > 1).
            graph: see ``Decoding``.

        Raises:
            UserError: the GPT was trained since the decoder was made.
        """
        if not self.current:
            raise UserError(
                "decoder: the GPT's weights have changed since the decoder took them; make a new "
                "Decoder(gpt)"
            )
        wanted = (num_images, num_samples, graph)
        last = self._decoding
        if last is None or last.shape != wanted or last.length < length:
            self._decoding = None  # its caches must be free before the next ones are asked for
            self._decoding = last = Decoding(self, num_images, num_samples, length, graph)
        return last


class Decoding:
    """A growing sequence of B images x S samples: a cache per layer, and the steps over them.

    Args:
        decoder: the weights.
        num_images: B.  num_samples: S, that share their prefix in memory.
        length: positions to hold beside a shared prefix.
        graph: capture the step of one token in CUDA graphs, one per ``BUCKET`` of positions.
    """

    def __init__(
        self, decoder: Decoder, num_images: int, num_samples: int, length: int, graph: bool
    ) -> None:
        self.decoder, self.length = decoder, -(-length // BUCKET) * BUCKET
        self.shape = (num_images, num_samples, graph)
        heads, device = decoder.num_heads, decoder.device
        size = (num_images, heads, num_samples, self.length, decoder.width // heads)
        kind = cache_for(decoder.dtype, device)
        self.caches: list[Cache] = [kind(size, decoder.tokens) for _ in decoder.layers]
        self.prefix_length = 0
        self.indices = torch.arange(decoder.block_size + BUCKET, device=device)
        self.graphs: dict[int, _Graph] = {}

    def prefill(self, tokens: Tensor) -> Tensor:
        """Start a sequence with [B, P] tokens; [B, vocabulary] logits after them."""
        count = tokens.shape[1]
        shared = self.shape[1] > 1
        if shared and count != self.prefix_length:
            self.graphs.clear()  # they read the prefix where it lay
            for cache in self.caches:
                cache.prefix = None
        self.prefix_length = count if shared else 0

        def attention(index: int, rows: Tensor) -> Tensor:
            return self.caches[index].prefill(rows)

        return self.decoder.forward(tokens, slice(count), attention)

    def step(self, tokens: Tensor, start: int) -> Tensor:
        """Append [B * S, c] tokens at position ``start``; logits [B * S, vocabulary]."""
        count = tokens.shape[1]
        end = start + count - self.prefix_length
        if self.shape[2] and count == 1:
            end = -(-end // BUCKET) * BUCKET
            positions = self.indices[start : start + 1]
            if end not in self.graphs:
                self.graphs[end] = _Graph(self, tokens, positions, end)
            return self.graphs[end](tokens, positions)
        mask = None
        if count > 1:
            mask = self.indices[:end] > self.indices[end - count : end, None]
        return self.advance(tokens, slice(start, start + count), slice(end - count, end), end, mask)

    def advance(
        self, tokens: Tensor, positions: Place, own: Place, end: int, mask: Tensor | None
    ) -> Tensor:
        """``step`` that reads the first ``end`` own positions, less [c, end] masked ones."""

        def attention(index: int, rows: Tensor) -> Tensor:
            return self.caches[index].step(rows, own, end, mask)

        return self.decoder.forward(tokens, positions, attention)


class _Graph:
    """One captured step of one token for a bucket of positions; inputs are static buffers."""

    def __init__(self, decoding: Decoding, tokens: Tensor, positions: Tensor, end: int) -> None:
        self.tokens, self.positions = tokens.clone(), positions.clone()

        def advance() -> Tensor:
            own = self.positions - decoding.prefix_length
            mask = decoding.indices[:end] > own[:, None]
            return decoding.advance(self.tokens, self.positions, own, end, mask)

        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            advance()  # writes what the captured step writes again
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.logits = advance()

    def __call__(self, tokens: Tensor, positions: Tensor) -> Tensor:
        self.tokens.copy_(tokens)
        self.positions.copy_(positions)
        self.graph.replay()
        return self.logits
