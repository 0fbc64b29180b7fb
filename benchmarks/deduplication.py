"""Near copies among 50k x 768 rows beside the plain product of all pairs.

    python benchmarks/deduplication.py [--rows ROWS] [--pairs PAIRS]

CPU seconds of one process, in turn; memory is what a process takes at most beyond
that which it has when the features are there (Linux).

- ``product``: the upper triangle of the float32 product in the same blocks, looked at by nobody.
- ``scattered``: 2 % of the rows are near copies of others.
- ``crowd``: besides, one picture 10k times, which makes 5 * 10^7 pairs of near copies.
- ``two_encoders``: the first as two encoders of 768 see it; the product is that of both.
- ``leader``: the crowd, greedily.

What bounds it: six tenths of the time are the bfloat16 products, a sixth the search for the few
that reach the threshold. Of two encoders only the first is multiplied out. The crowd adds three
seconds, most of them for the exact similarity of its two least alike pictures, 5 * 10^7 pairs in
float64.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from common import cpu_seconds, forget_peak_memory, peak_memory_mb, report
from numpy.typing import NDArray

from genkt.retrieval.search.duplicates import BLOCK, WIDE_BLOCK, near_duplicates

WIDTH, THRESHOLD = 768, 0.99
CASES = ("scattered", "crowd", "two_encoders", "leader")
Features = tuple[NDArray[np.float16], ...]


def draw(num_rows: int, case: str) -> Features:
    """Rows about 2000 directions, some of them again with a little noise."""
    return tuple(_encoder(num_rows, case, seed) for seed in range(1 + (case == "two_encoders")))


def _encoder(num_rows: int, case: str, seed: int) -> NDArray[np.float16]:
    generator = torch.Generator().manual_seed(seed)
    copied = torch.randperm(num_rows, generator=torch.Generator().manual_seed(9))
    rows = torch.randn(num_rows, WIDTH, generator=generator)
    rows += 0.7 * torch.randn(2000, WIDTH, generator=generator)[copied % 2000]
    count = num_rows // 50
    noise = 0.08 * torch.randn(count, WIDTH, generator=generator)
    rows[copied[:count]] = rows[copied[-count:]] + noise
    if case in ("crowd", "leader"):
        rows[copied[count : count + num_rows // 5]] = rows[copied[count]].clone()
    return torch.nn.functional.normalize(rows, dim=1).half().numpy()


def ours(features: Features, case: str) -> Any:
    """What is measured."""
    return near_duplicates(features, THRESHOLD, mode="leader" if case == "leader" else "components")


def product(features: Features) -> None:
    """All pairs, in float32."""
    rows = [torch.from_numpy(part).float() for part in features]
    for part in rows:
        for start in range(0, len(part), BLOCK):
            for other in range(start, len(part), WIDE_BLOCK):
                part[start : start + BLOCK] @ part[other : other + WIDE_BLOCK].T


def compare(num_rows: int, case: str, pairs: int) -> dict[str, Any]:
    """Both in turn."""
    features = draw(num_rows, case)
    found = ours(features, case)
    times = [
        (cpu_seconds(lambda: ours(features, case)), cpu_seconds(lambda: product(features)))
        for _ in range(pairs)
    ]
    ratios = [a / b for a, b in times]
    return {
        "kept": int(found.keep.sum()), "largest_cluster": max(c.size for c in found.clusters),
        "cpu_seconds": statistics.median(a for a, _ in times),
        "product_cpu_seconds": statistics.median(b for _, b in times),
        "ratio": statistics.median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios),
        "pairs": pairs,
        "peak_mb": peak_mb(num_rows, case, "ours"),
        "product_peak_mb": peak_mb(num_rows, case, "product"),
        "features_mb": sum(part.nbytes for part in features) / 2**20,
    }  # fmt: skip


def peak_mb(num_rows: int, case: str, what: str) -> float:
    """Memory of a process of its own."""
    command = [sys.executable, __file__, "--rows", str(num_rows), "--alone", case, what]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout))


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--alone", nargs=2, help="run one case alone, print its peak memory")
    args = parser.parse_args()
    if args.alone:
        case, what = args.alone
        features = draw(args.rows, case)
        forget_peak_memory()
        work: Callable[[], Any] = {
            "ours": lambda: ours(features, case), "product": lambda: product(features),
        }[what]  # fmt: skip
        before = peak_memory_mb()
        work()
        print(peak_memory_mb() - before)
        return
    results = {case: compare(args.rows, case, args.pairs) for case in CASES}
    goals = {"ratio": "about 1 or less", "peak_mb": "of the order of features_mb, crowd or not"}
    report("deduplication", {"rows": args.rows, "width": WIDTH, **results}, goals)


if __name__ == "__main__":
    main()
