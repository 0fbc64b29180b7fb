from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genkt.generative.decoding.caches import FusedCache, ProductCache, cache_for

HEADS, WIDTH, PREFIX = 2, 4, 3


def attention(rows: Tensor) -> Tensor:
    """[n, t, 3 * heads * width] of whole sequences -> [n, t, heads * width], causal."""
    queries, keys, values = rows.unflatten(2, (3, HEADS, WIDTH)).permute(2, 0, 3, 1, 4)
    scores = queries @ keys.transpose(2, 3)
    future = torch.ones(scores.shape[2:], dtype=torch.bool).triu(1)
    weights = torch.softmax(scores.masked_fill(future, -torch.inf), dim=3)
    return (weights @ values).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("kind", [ProductCache, FusedCache])
@pytest.mark.parametrize("samples", [1, 3])
def test_steps_and_chunks_equal_attention_over_the_whole_sequence(
    kind: type[ProductCache] | type[FusedCache], samples: int
) -> None:
    images, count = 2, samples * 2
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(images, PREFIX, 3 * HEADS * WIDTH, generator=generator)
    cache = kind((images, HEADS, samples, 8, WIDTH), start)
    for sign in (1, -1):  # the second sequence takes the memory of the first
        start *= sign
        later = torch.randn(count, 4, 3 * HEADS * WIDTH, generator=generator)
        whole = torch.cat([start.repeat_interleave(samples, dim=0), later], dim=1)
        expected = attention(whole)
        first = cache.prefill(start.flatten(0, 1)).unflatten(0, (images, PREFIX))
        torch.testing.assert_close(first, expected[::samples, :PREFIX])
        before = 0 if samples > 1 else PREFIX
        for at, end in ((0, 1), (1, 3), (3, 4)):  # one, a chunk of two, one
            places = torch.arange(before + at, before + end)
            mask = torch.arange(before + end) > places[:, None] if end - at > 1 else None
            own = slice(before + at, before + end)
            found = cache.step(later[:, at:end].flatten(0, 1), own, before + end, mask)
            found = found.unflatten(0, (count, end - at))
            torch.testing.assert_close(found, expected[:, PREFIX + at : PREFIX + end])


def test_the_fused_kernel_is_for_bfloat16_on_a_cpu() -> None:
    assert cache_for(torch.float32, torch.device("cpu")) is ProductCache
    assert cache_for(torch.bfloat16, torch.device("cpu")) is FusedCache
    assert cache_for(torch.bfloat16, torch.device("cuda")) is ProductCache
