"""Keys and values of one attention layer, written in place, and the attention over them.

Which layout reads them fastest depends on the kernel, by factors of 2 to 4 for one query per row:
matrix products want a row vector times a row-major matrix, the fused kernel wants keys like values.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F

_FLASH = "_scaled_dot_product_flash_attention_for_cpu"
"""What ``scaled_dot_product_attention`` calls; only here it gives the sums of the softmax too."""

Place = Tensor | slice
"""Positions: those of a captured step are a tensor that changes."""


def cache_for(dtype: torch.dtype, device: torch.device) -> type[ProductCache] | type[FusedCache]:
    """The fused kernel is the faster one in bfloat16 on a CPU (up to 2x), the slower in float32."""
    fused = dtype == torch.bfloat16 and device.type == "cpu" and hasattr(torch.ops.aten, _FLASH)
    return FusedCache if fused else ProductCache


class Cache(ABC):
    """Keys and values [B, heads, S, L, width] of B images x S samples, in whatever memory layout.

    With S > 1 those of the prefix exist once per image, its samples attend to them together, and
    each row adds its own later positions. With S = 1 the row's own cache holds the prefix too.

    Args:
        keys: zeros: a step captured for a whole bucket multiplies what is not yet written by 0.
        values: likewise.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys, values
        self.images, self.heads, self.samples, _, self.width = keys.shape
        self.prefix: tuple[Tensor, Tensor] | None = None

    @abstractmethod
    def _attend(self, queries: Tensor, end: int, mask: Tensor | None) -> Tensor:
        """[B, heads, S, c, width] queries -> [B * S * c, heads * width]."""

    def prefill(self, rows: Tensor) -> Tensor:
        """Start with the positions that all samples of an image have in common.

        Args:
            rows: [B * P, 3 * heads * width] queries, keys and values.

        Returns:
            [B * P, heads * width].
        """
        parts = rows.view(self.images, -1, 3, self.heads, self.width).permute(2, 0, 3, 1, 4)
        queries, keys, values = parts.unbind()
        if self.samples == 1:
            self.keys[:, :, 0, : keys.shape[2]] = keys
            self.values[:, :, 0, : keys.shape[2]] = values
        elif self.prefix is None:
            self.prefix = keys.contiguous(), values.contiguous()
        else:  # a captured step reads them where they lie
            self.prefix[0].copy_(keys)
            self.prefix[1].copy_(values)
        out = F.scaled_dot_product_attention(queries, keys, values, is_causal=True, scale=1.0)
        return out.transpose(1, 2).reshape(len(rows), -1)

    def step(self, rows: Tensor, own: Place, end: int, mask: Tensor | None) -> Tensor:
        """Append c positions per row and attend to all of them.

        Args:
            rows: [B * S * c, 3 * heads * width] queries, keys and values.
            own: the c places to write.
            end: own positions to read.
            mask: [c, end] bool, those that a query must not see.

        Returns:
            [B * S * c, heads * width].
        """
        parts = rows.view(self.images, self.samples, -1, 3, self.heads, self.width)
        queries, keys, values = parts.permute(3, 0, 4, 1, 2, 5).unbind()
        self.keys[:, :, :, own] = keys
        self.values[:, :, :, own] = values
        return self._attend(queries, end, mask)


class ProductCache(Cache):
    """Attention by matrix products; keys lie transposed."""

    def __init__(self, shape: tuple[int, int, int, int, int], like: Tensor) -> None:
        *batch, length, width = shape
        super().__init__(
            like.new_zeros(*batch, width, length).transpose(3, 4), like.new_zeros(shape)
        )
        self.flat_keys = self.keys.flatten(0, 2).transpose(1, 2)
        self.flat_values = self.values.flatten(0, 2)

    def _attend(self, queries: Tensor, end: int, mask: Tensor | None) -> Tensor:
        count = queries.shape[3]
        queries = queries.reshape(-1, count, self.width)
        scores = torch.bmm(queries, self.flat_keys[:, :, :end])
        if mask is not None:
            scores = scores.masked_fill(mask, -torch.inf)
        if self.prefix is None:
            out = torch.bmm(torch.softmax(scores, dim=2), self.flat_values[:, :end])
        else:
            keys, values = self.prefix
            by_image = queries.view(self.images * self.heads, -1, self.width)
            before = torch.bmm(by_image, keys.flatten(0, 1).transpose(1, 2))
            scores = torch.cat([before.view(len(queries), count, -1), scores], dim=2)
            weights = torch.softmax(scores, dim=2)
            out = torch.bmm(weights[:, :, -end:], self.flat_values[:, :end]).view_as(by_image)
            weights = weights.view(*by_image.shape[:2], -1)[:, :, :-end]
            out = torch.baddbmm(out, weights, values.flatten(0, 1))
        out = out.view(self.images, self.heads, self.samples, count, self.width)
        return out.permute(0, 2, 3, 1, 4).reshape(-1, self.heads * self.width)


class FusedCache(Cache):
    """Attention by the CPU's fused kernel; the heads of a row lie together."""

    def __init__(self, shape: tuple[int, int, int, int, int], like: Tensor) -> None:
        images, heads, samples, length, width = shape
        size = (images, samples, heads, length, width)
        keys, values = like.new_zeros(size), like.new_zeros(size)
        super().__init__(keys.transpose(1, 2), values.transpose(1, 2))
        self.flat_keys, self.flat_values = keys.flatten(0, 1), values.flatten(0, 1)

    def _attend(self, queries: Tensor, end: int, mask: Tensor | None) -> Tensor:
        added = None
        if mask is not None:
            added = torch.zeros_like(mask, dtype=queries.dtype).masked_fill_(mask, -torch.inf)
        by_row = queries.transpose(1, 2).flatten(0, 1)
        own = self.flat_keys[:, :, :end], self.flat_values[:, :, :end]
        out, total = _flash(by_row, *own, added)
        if self.prefix is not None:
            before, total_before = _flash(queries.flatten(2, 3), *self.prefix, None)
            share = (total_before - total).sigmoid_()[..., None]
            out = out.lerp(before, share.to(out.dtype))
        return out.flatten(1)


def _flash(
    queries: Tensor, keys: Tensor, values: Tensor, added: Tensor | None
) -> tuple[Tensor, Tensor]:
    """[n, heads, c, width] -> [n * c, heads, width] and log of the softmax sums [n * c, heads]."""
    out, total = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        queries, keys, values, attn_mask=added, scale=1.0
    )
    return out.transpose(1, 2).flatten(0, 1), total.transpose(1, 2).flatten(0, 1)
