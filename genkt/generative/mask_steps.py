"""The steps of masked parallel decoding: how many tokens stay unknown, and which.

Source: Chang et al. 2022, "MaskGIT: Masked Generative Image Transformer", Section 3.2. A step
draws a code for every token that is still unknown and keeps those with the largest

    log p(code) + order_noise (1 - step / num_steps) gumbel,

so many that a share cos(pi/2 step / num_steps) of the hidden tokens stays unknown. Differs from
the paper: the draw of a code has temperature, top-k and top-p like every sampling here, while
p(code) is of the logits themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from genkt.generative.decoding.sampling import Sampling, decide, gumbel_noise
from genkt.types import Range, UserError

_SCORES = 2**24
"""Scores (tokens x codes) that are compared at once."""


@dataclass(frozen=True)
class MaskSchedule:
    """How unknown tokens become known.

    Args:
        num_steps: passes through the network.
        order_noise: of the first choice of what is kept; falls linearly to 0. Without it the
            surest codes come first, and pictures become smooth. None at temperature 0.
    """

    num_steps: Annotated[int, Range(1)] = 12
    order_noise: Annotated[float, Range(0)] = 4.5

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise UserError.of("num_steps", "at least 1", self.num_steps)
        if not (self.order_noise >= 0 and math.isfinite(self.order_noise)):
            raise UserError.of("order_noise", "a number >= 0", self.order_noise)

    def num_unknown(self, num_hidden: int) -> list[int]:
        """Unknown tokens before each step that has any, and 0 at the end.

        >>> MaskSchedule(num_steps=4).num_unknown(10)
        [10, 9, 7, 3, 0]
        >>> MaskSchedule(num_steps=4).num_unknown(2)
        [2, 1, 0]
        """
        counts = [num_hidden]
        for step in range(1, self.num_steps + 1):
            share = math.cos(math.pi / 2 * step / self.num_steps) if step < self.num_steps else 0.0
            if counts[-1]:
                counts.append(min(math.floor(num_hidden * share), counts[-1] - 1))
        return counts


@dataclass(frozen=True)
class MaskStep:
    """One step of R rows.

    Args:
        rows, unknown: [R, T].  uniforms: [R, 2, T] for codes and for the order.
        num_left: [R] tokens that stay unknown.  order_noise: of the choice of these.
    """

    rows: Tensor
    unknown: Tensor
    uniforms: Tensor
    num_left: Tensor
    order_noise: float

    def only(self, row: int) -> MaskStep:
        """The step of one of its rows."""
        part = slice(row, row + 1)
        return MaskStep(
            self.rows[part], self.unknown[part], self.uniforms[part], self.num_left[part],
            self.order_noise,
        )  # fmt: skip

    def outcome(
        self, logits: Tensor, sampling: Sampling, slack: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What the logits decide, and whether it is certain.

        Args:
            logits: [R, T, V].  slack: [R] largest error of one.

        Returns:
            [R, T] codes (0 where nothing is unknown), [R, T] what stays unknown, [R] certain.
        """
        slack = slack.to(logits.device, torch.float64)
        row, place = self.unknown.nonzero(as_tuple=True)
        size = max(1, _SCORES // logits.shape[2])
        found = []
        for start in range(0, len(row), size):
            r, p = row[start : start + size], place[start : start + size]
            some = logits[r, p].double()
            found.append(_draw(some, self.uniforms[r, 0, p], sampling, slack[r, None]))
        drawn, log_share, sure = (torch.cat(parts) for parts in zip(*found, strict=True))
        codes = torch.zeros_like(self.rows)
        codes[row, place] = drawn
        certain = codes.new_zeros(len(codes)).index_add_(0, row, (~sure).long()) == 0
        confidence = torch.full(codes.shape, torch.inf, dtype=torch.float64, device=codes.device)
        confidence[row, place] = log_share
        if self.order_noise and sampling.temperature:
            order = gumbel_noise(self.uniforms[row, 1, place], 1)[:, 0]
            confidence[row, place] += self.order_noise * order
        ordered, places = confidence.sort(dim=1)
        ranks = places.argsort(dim=1)
        edge = self.num_left[:, None]
        first_kept, last_left = (ordered.gather(1, at) for at in (edge, (edge - 1).clamp(min=0)))
        # A logit and the log of the sum of exponentials may be off by the slack each, twice.
        clear = (first_kept - last_left)[:, 0] > 4 * slack
        return codes, ranks < edge, certain & (clear | (self.num_left == 0))


def _draw(
    logits: Tensor, uniforms: Tensor, sampling: Sampling, slack: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Codes of some tokens, log of their probability, and whether the codes are certain."""
    noise = gumbel_noise(uniforms, logits.shape[1]) if sampling.temperature else None
    codes, certain = decide(logits, noise, sampling, slack)
    return codes, logits.log_softmax(dim=1).gather(1, codes[:, None])[:, 0], certain
