"""Completing the second half of token grids: genkt's sampler against the package's own loop.

    python benchmarks/latent_sampling.py [--pairs 3] [--stride 8] [--threads 1]
    python benchmarks/latent_sampling.py --device cuda

A = ``taming.modules.transformer.mingpt.sample``, B = ``complete_sequences`` on the same weights,
in turn; the ratio is tokens/s of B over A. float32 is greedy with the float64 check included;
"16 images" are all different, "1 image" has 16 samples that share their prefix.

The package's loop costs minutes, so A runs every ``stride``-th of its steps (the middle one of
each group, at its full length) and counts them ``stride`` times; ``--stride 1`` runs them all.
Greedy tokens are compared with the package's argmax over the completed sequences in one pass:
where all of them agree, its loop gives the same tokens by induction.

All on one core by default. What bounds B:

Large (8 x 512): memory. The prefill adds as much arithmetic as all the steps together, so with 16
images 96 times (tokens recomputed over tokens computed) is all there is at equal efficiency; but a
step of 16 tokens reads 100 MB of weights and as much of caches for 0.84 GFLOP. Where one core sums
a long array at 15 GB/s and multiplies large matrices at 167 GFLOP/s, a float32 step of 16 images
takes 29 ms: 17.5 in the products with weights, 9 of them when one layer's weights are used again
and again, and 8.5 in those with caches, at 12 GB/s. MKL's and oneDNN's packed weights, panels of
32 to 256 columns, and the transposed product take the same 17 to 19 ms on this machine; with huge
pages (THP_MEM_ALLOC_ENABLE=1) they take 12 to 15 alone, and the whole no less. In bfloat16 (50 MB)
the products take 5 ms of 9.5 and attention 3.2; one call over the shared prefix and the own
positions of all rows, masked, takes 1.2 to 2.5 times as long as two calls from 16 positions on.

Small (4 x 128): the goal of 25 is missed. At equal efficiency the ratio could be 24 with 16 images
and 45 with one, 0.3 ms a step; a step takes 0.9 to 1.2 ms. It is about 150 PyTorch calls, and
sampling the process finds only 15 % of the time in the products with weights and another 15 % in
the kernels of attention, copies, GELU and softmax; the rest is what surrounds a call: dispatch,
views, allocation, a quarter of it all Python. A call costs twice what it costs when repeated alone,
in part for cold data: weights and caches (3.5 to 5 MB a step) do not stay in a second-level cache
of 2 MB, from outside of which a product with 0.25 MB of weights takes 18 us instead of 13. Views
made beforehand for every position gained 0 to 5 % in float32. ``torch.compile`` (frozen weights,
30 s to compile) of a step over all positions, masked, takes 0.84 ms. bfloat16 halves the bytes, but
a oneDNN call takes 17 us where float32 takes 5 to 14: for a network of this size choose float32.
More rows at once help: the cost of a call is shared.

``--device cuda`` has no baseline: it prints the time of a step beside the floor that reading the
weights and the caches once sets, see ``floor_seconds``.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from common import paired, report, seconds
from taming.modules.transformer.mingpt import GPT, sample
from torch import Tensor

from genkt.generative.decoding.decoder import Decoder
from genkt.generative.decoding.sampling import Sampling, complete_sequences, uniforms_for

ROWS = 16
SIZES = {"large": (8, 8, 512, 256, 1024), "small": (4, 4, 128, 64, 256)}
"""Layers, heads, width, tokens T, codes."""
CUDA_SHAPES = {"0.3B": (24, 16, 1024, 256, 16384), "1.4B": (48, 24, 1536, 256, 16384)}
CUDA_BATCHES = (64, 256, 1024)
BANDWIDTH = {"H200": 4.8e12, "H100": 3.35e12, "A100": 2.0e12}
"""Bytes/s of the memory, by the vendor."""


class Case:
    """A network with random weights and sequences whose second half is hidden."""

    def __init__(self, size: tuple[int, int, int, int, int], device: str = "cpu") -> None:
        layers, heads, width, self.length, self.num_codes = size
        torch.manual_seed(0)
        with torch.device(device):
            self.gpt = GPT(self.num_codes + 1, self.length + 1, layers, heads, width).eval()
        torch.nn.init.normal_(self.gpt.pos_emb, std=0.02)
        torch.nn.init.zeros_(self.gpt.head.weight[self.num_codes :])  # the start is never drawn
        self.device = device

    def inputs(self, num_images: int, num_samples: int) -> tuple[Tensor, ...]:
        """sos, tokens, hidden and uniforms for ``complete_sequences``."""
        generator = torch.Generator().manual_seed(1)
        tokens = torch.randint(self.num_codes, (num_images, self.length), generator=generator)
        hidden = torch.zeros(num_images, self.length, dtype=torch.bool)
        hidden[:, self.length // 2 :] = True
        sos = torch.full((num_images,), self.num_codes)
        seeds = [[i * num_samples + j for j in range(num_samples)] for i in range(num_images)]
        values = (sos, tokens, hidden, uniforms_for(seeds, self.length))
        return tuple(value.to(self.device) for value in values)

    def upstream(self, stride: int, *, draw: bool) -> None:
        """Every ``stride``-th step of the package's loop on ``ROWS`` rows of any tokens."""
        tokens = torch.zeros(ROWS, self.length + 1, dtype=torch.int64)
        for known in range(self.length // 2 + stride // 2, self.length, stride):
            sample(self.gpt, tokens[:, : known + 1], 1, temperature=1.0, sample=draw)

    @torch.no_grad()
    def agreement(self, sos: Tensor, completed: Tensor) -> float:
        """Share of the second half that is the package's argmax given what stands before it."""
        sequences = torch.cat([sos[:, None], completed.flatten(0, 1)], dim=1)
        best = self.gpt(sequences[:, :-1])[0].argmax(dim=2)
        half = self.length // 2
        return (best[:, half:] == sequences[:, half + 1 :]).float().mean().item()


class CountingDecoder(Decoder):
    """Counts the rows that were decided in float64."""

    rechecked = 0

    def exact_logits(self, tokens: Tensor) -> Tensor:
        self.rechecked += len(tokens)
        return super().exact_logits(tokens)


def compare(
    case: Case, num_images: int, sampling: Sampling, pairs: int, stride: int
) -> dict[str, Any]:
    """Package / genkt seconds, and how often float64 decided."""
    inputs = case.inputs(num_images, ROWS // num_images)
    decoder = CountingDecoder(case.gpt, sampling.precision)
    outputs: list[Tensor] = []

    def ours() -> None:
        outputs[:] = [complete_sequences(decoder, *inputs, case.num_codes, sampling)]

    ours()
    ours()
    decoder.rechecked = 0
    draw = sampling.temperature > 0
    result = paired(lambda: case.upstream(stride, draw=draw), ours, pairs=pairs, warmup=0)
    for name in ("a_seconds", "ratio", "ratio_min", "ratio_max"):
        result[name] *= stride
    drawn = ROWS * (case.length - case.length // 2)
    result["tokens_per_second"] = drawn / result["b_seconds"]
    result["float64_rows_a_run"] = decoder.rechecked / pairs
    if not draw:
        result["equal_tokens"] = case.agreement(inputs[0], outputs[0])
    return result


def recheck_share(case: Case, runs: int) -> dict[str, float]:
    """Drawing at temperature 1: rows decided in float64, and their share of the time."""
    decoder = CountingDecoder(case.gpt)
    sos, tokens, hidden, _ = case.inputs(ROWS, 1)
    decoder.slack()  # measured once, in float64 too
    decoder.exact_logits(torch.cat([sos[:1, None], tokens[:1, 1:]], dim=1))
    alone = seconds(lambda: decoder.exact_logits(torch.cat([sos[:1, None], tokens[:1, 1:]], 1)))
    decoder.rechecked, spent = 0, 0.0
    for run in range(runs):
        uniforms = uniforms_for([[run * ROWS + row] for row in range(ROWS)], case.length)
        spent += seconds(
            lambda uniforms=uniforms: complete_sequences(  # type: ignore[misc]
                decoder, sos, tokens, hidden, uniforms, case.num_codes, Sampling()
            )
        )
    decided = runs * ROWS * (case.length - case.length // 2)
    return {
        "float64_rows_per_token": decoder.rechecked / decided,
        "share_of_time_at_most": decoder.rechecked * alone / spent,
    }


def floor_seconds(case: Case, rows: int, images: int, bandwidth: float) -> float:
    """What one step costs if memory did nothing but read every byte once.

    Weights: 2 bytes each. Caches: keys and values (2) of every layer, 2 bytes x width a position;
    the prefix (T/2 positions and the start) once an image, on average T/4 own positions a row.
    """
    config = case.gpt.config
    weights = sum(p.numel() for block in case.gpt.blocks for p in block.parameters())
    weights += case.gpt.head.weight.numel()
    positions = images * (case.length // 2 + 1) + rows * case.length / 4
    cache = 2 * config.n_layer * config.n_embd * positions
    return 2 * (weights + cache) / bandwidth


def on_cuda() -> dict[str, Any]:
    """Seconds a step with CUDA graphs, and the floor's share of them, 16 samples an image."""
    name = torch.cuda.get_device_name()
    bandwidth = next((rate for key, rate in BANDWIDTH.items() if key in name), None)
    if bandwidth is None:
        raise SystemExit(f"no memory bandwidth known for {name}; add it to BANDWIDTH")
    results: dict[str, Any] = {"gpu": name, "bandwidth": bandwidth}
    for shape, size in CUDA_SHAPES.items():
        case = Case(size, "cuda")
        decoder = Decoder(case.gpt, "bfloat16")
        for rows in CUDA_BATCHES:
            inputs = case.inputs(rows // ROWS, ROWS)
            work = (decoder, *inputs, case.num_codes, Sampling(precision="bfloat16"))
            for _ in range(2):
                complete_sequences(*work, graph=True)  # type: ignore[misc]
            spent = seconds(lambda work=work: complete_sequences(*work, graph=True))  # type: ignore
            step = spent / (case.length // 2)
            floor = floor_seconds(case, rows, rows // ROWS, bandwidth)
            results[f"{shape}, {rows} rows"] = {
                "step_seconds": step, "floor_seconds": floor, "share_of_floor": floor / step,
                "completions_per_second": rows / spent,
            }  # fmt: skip
        del case, decoder
    return results


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--stride", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.device == "cuda":
        report("latent_sampling", on_cuda(), {"share_of_floor": "as near 1 as the kernels allow"})
        return
    large, small = Case(SIZES["large"]), Case(SIZES["small"])
    greedy, half = Sampling(temperature=0.0), Sampling(precision="bfloat16")
    pairs, stride = options.pairs, options.stride
    results = {
        "small, float32, 16 images": compare(small, ROWS, greedy, 5 * pairs, 1),
        "small, float32, 1 image": compare(small, 1, Sampling(), 5 * pairs, 1),
        "small, bfloat16, 16 images": compare(small, ROWS, half, 5 * pairs, 1),
        "small, bfloat16, 1 image": compare(small, 1, half, 5 * pairs, 1),
        "large, float32, 16 images": compare(large, ROWS, greedy, pairs, stride),
        "large, float32, 1 image": compare(large, 1, Sampling(), pairs, stride),
        "large, bfloat16, 1 image": compare(large, 1, half, pairs, stride),
        "large, bfloat16, 4 images": compare(large, 4, half, pairs, stride),
        "large, float64 check": recheck_share(large, 8),
    }
    goals = {
        "small ratio": ">= 25",
        "large, float32, 16 images": "ratio >= 60, equal_tokens 1",
        "large, bfloat16, 1 image": "ratio >= 150",
        "large, float64 check": "share_of_time_at_most <= 0.05",
    }
    report("latent_sampling", results, goals)


if __name__ == "__main__":
    main()
