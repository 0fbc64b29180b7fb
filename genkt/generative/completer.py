"""Two small interfaces that complete pictures or token grids, and their data types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import torch
from torch import Tensor

from genkt.generative.decoding.sampling import Sampling
from genkt.types import Range

Seeds = Sequence[Sequence[int]]
"""One seed per picture and sample: ``seeds[b][s]``; every picture has the same number."""


@dataclass(frozen=True)
class CompletionOptions:
    """How masked pictures are completed.

    Args:
        sampling: how tokens are drawn.
        encode: the ``masked`` picture, so that nothing hidden reaches the visible tokens, or
            the ``full`` one (the encoder has a large receptive field, so visible tokens then
            contain hidden content).
        fill: what the encoder sees in the hidden part: its ``edge`` continued, or ``grey``.
        dilation: rings of visible tokens around the hidden ones that are drawn anew too.
        keep_visible: put the source's own pixels back where nothing was hidden.
    """

    sampling: Sampling
    encode: Literal["masked", "full"] = "masked"
    fill: Literal["edge", "grey"] = "edge"
    dilation: Annotated[int, Range(0, 1000)] = 1
    keep_visible: bool = False


@dataclass(frozen=True)
class Completion:
    """Completed pictures.

    Args:
        images: [B, S, 3, H, W] uint8.
        tokens: [B, S, h, w] int64, or None where the completer has none.
        hidden: [B, h, w] bool, the tokens that were drawn, or None.
    """

    images: Tensor
    tokens: Tensor | None = None
    hidden: Tensor | None = None


def join_completions(parts: Sequence[Completion]) -> Completion:
    """Completions of one picture after the other, all of one completer, as one."""
    first = parts[0]
    tokens = [part.tokens for part in parts if part.tokens is not None]
    hidden = [part.hidden for part in parts if part.hidden is not None]
    return Completion(
        torch.cat([part.images for part in parts]),
        torch.cat(tokens) if first.tokens is not None else None,
        torch.cat(hidden) if first.hidden is not None else None,
    )


class TokenCompleter(Protocol):
    """Draws the hidden tokens of a grid."""

    @property
    def num_codes(self) -> int:
        """Tokens are 0 to num_codes - 1."""

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) it works on."""

    def complete(
        self, tokens: Tensor, hidden: Tensor, seeds: Seeds, sampling: Sampling,
        conditions: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Token grids whose visible tokens are the given ones.

        Args:
            tokens: [B, h, w] int64; values at hidden places are not read.
            hidden: [B, h, w] bool.
            seeds: of the S samples of each grid; the only randomness.
            sampling: temperature and the like.
            conditions: [B] int64 (classes), or None.

        Returns:
            [B, S, h, w] int64.
        """


class ImageCompleter(Protocol):
    """Draws the hidden part of pictures."""

    @property
    def size(self) -> int:
        """Side in pixels of the square pictures it works on."""

    def complete_images(
        self, images: Tensor, masks: Tensor, seeds: Seeds, options: CompletionOptions
    ) -> Completion:
        """Pictures like the given ones where they are visible.

        Args:
            images: [B, 3, size, size] uint8.  masks: [B, size, size] bool, True is hidden.
            seeds: of the S samples of each picture; the only randomness.
        """

    def fingerprint(self) -> str:
        """Hash of everything that decides its pictures."""
