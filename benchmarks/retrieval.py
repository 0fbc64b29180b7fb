"""Query-balanced selection of N = 50k from 1M x 384 float16 beside faiss's exact search alone.

    python benchmarks/retrieval.py [--rows ROWS] [--num-images N] [--pairs PAIRS]

The gallery is a memory-mapped file in a temporary folder: a mixture of 2000 directions, so that
queries share neighbours. CPU seconds of one process, the two ways in turn, the same threads.

- ``job``: everything that a selection does: pilot, scan, exact scores, ordering.
- ``faiss``: ``faiss.knn`` in float32 over chunks, merged by ``ResultHeap``, with the K that the
  job used; nothing else is counted, neither reading nor the conversion to float32.
- ``ratio``: job over faiss.  ``float32_*``: the job as it runs where no matrix units are.
- ``peak_mb``: peak resident memory of a process that runs the job on a quarter of the gallery, and
  on all of it.

What bounds it: at 1000 queries a third of the time are the bfloat16 products (0.7 s; in float32
they would be 4.5 s), a third the comparison of 10^9 scores with the bars and the exact scores of
those that reach them, a third the copying, scaling and rounding of the rows. At 100 queries the
last is most of it. faiss is bound by the float32 product, and with a large K, as 100 queries need
it, by its heaps.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import cpu_seconds, peak_memory_mb, report
from numpy.typing import NDArray

from genkt.retrieval.search.nearest import Ranked, candidates, nearest
from genkt.retrieval.search.ordering import Ordering, query_balanced
from genkt.retrieval.search.selection import guess_k, select

WIDTH, CENTRES = 384, 2000
CHUNK = 65536
"""Rows that faiss gets at once, where it is fastest."""


@dataclass(frozen=True)
class MappedGallery:
    """The first rows of a file; each read maps it anew, so that pages do not count as ours."""

    path: Path
    num_rows: int

    def features(self, start: int, stop: int) -> tuple[NDArray[np.float16], ...]:
        """As ``Gallery.features``."""
        return (np.load(self.path, mmap_mode="r")[start:stop],)

    def ids(self, rows: NDArray[np.int64]) -> list[str]:
        """As ``Gallery.ids``."""
        return [f"{row:09d}" for row in rows]


def draw(num_rows: int, seed: int) -> NDArray[np.float16]:
    """Unit rows about random centres."""
    fixed, own = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    centres = torch.randn(CENTRES, WIDTH, generator=fixed)
    rows = torch.randn(num_rows, WIDTH, generator=own)
    rows += 0.7 * centres[torch.randint(CENTRES, (num_rows,), generator=own)]
    return torch.nn.functional.normalize(rows, dim=1).half().numpy()


def write_gallery(path: Path, num_rows: int) -> None:
    """Write the rows in parts."""
    array = np.lib.format.open_memmap(path, "w+", np.float16, (num_rows, WIDTH))
    for start in range(0, num_rows, CHUNK):
        array[start : start + CHUNK] = draw(min(CHUNK, num_rows - start), start + 1)


def job(
    gallery: MappedGallery, queries: NDArray[np.float16], num_images: int
) -> tuple[Ordering, int]:
    """The selection, and how deep it searched."""
    depths = []

    def scan(k: int) -> Ranked:
        depths.append(k)
        return nearest(gallery, (queries,), k)

    def order(ranked: Ranked) -> Ordering:
        return query_balanced(gallery, ranked, [f"q{i}" for i in range(len(queries))], seed=0)

    k = guess_k(gallery, (queries,), num_images)
    found = select(gallery.num_rows, num_images, k, scan, order)
    return found.take(num_images), depths[-1]


def faiss_alone(gallery: MappedGallery, queries: NDArray[np.float32], k: int) -> float:
    """CPU seconds inside faiss."""
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    heap = faiss.ResultHeap(len(queries), k, keep_max=True)
    spent = 0.0
    for start in range(0, gallery.num_rows, CHUNK):
        stop = min(start + CHUNK, gallery.num_rows)
        chunk = gallery.features(start, stop)[0].astype(np.float32)
        began = time.process_time()
        scores, rows = faiss.knn(queries, chunk, k, metric=faiss.METRIC_INNER_PRODUCT)
        heap.add_result(scores, rows + start)
        spent += time.process_time() - began
    began = time.process_time()
    heap.finalize()
    return spent + time.process_time() - began


@contextlib.contextmanager
def without_matrix_units() -> Iterator[None]:
    """Quick scores in float32."""
    before = candidates.quick_dtype
    candidates.quick_dtype = lambda: torch.float32
    yield
    candidates.quick_dtype = before


def compare(gallery: MappedGallery, num_queries: int, num_images: int, pairs: int) -> Any:
    """Job and faiss in turn."""
    queries = draw(num_queries, 10**9)
    found, k = job(gallery, queries, num_images)
    times = []
    for _ in range(pairs):
        ours = cpu_seconds(lambda: job(gallery, queries, num_images))
        times.append((ours, faiss_alone(gallery, queries.astype(np.float32), k)))
    ratios = [a / b for a, b in times]
    with without_matrix_units():
        plain = cpu_seconds(lambda: job(gallery, queries, num_images))
    return {
        "k_star": int(found.ranks[-1]), "k_searched": k,
        "job_cpu_seconds": statistics.median(a for a, _ in times),
        "faiss_cpu_seconds": statistics.median(b for _, b in times),
        "pilot_cpu_seconds": cpu_seconds(lambda: guess_k(gallery, (queries,), num_images)),
        "scan_cpu_seconds": cpu_seconds(lambda: nearest(gallery, (queries,), k)),
        "ratio": statistics.median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios),
        "pairs": pairs,
        "float32_job_cpu_seconds": plain,
        "float32_ratio": plain / statistics.median(b for _, b in times),
    }  # fmt: skip


def peak_mb(path: Path, num_rows: int, num_images: int) -> float:
    """Peak resident memory of a process of its own."""
    command = [sys.executable, __file__, "--job", str(path), "--rows", str(num_rows)]
    done = subprocess.run(
        [*command, "--num-images", str(num_images)], check=True, capture_output=True, text=True
    )
    return float(json.loads(done.stdout))


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--num-images", type=int, default=50_000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--job", type=Path, help="run the job alone, print its peak memory")
    args = parser.parse_args()
    if args.job:
        job(MappedGallery(args.job, args.rows), draw(1000, 10**9), args.num_images)
        print(peak_memory_mb())
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gallery.npy"
        write_gallery(path, args.rows)
        gallery = MappedGallery(path, args.rows)
        results: dict[str, Any] = {
            f"{count}_queries": compare(gallery, count, args.num_images, args.pairs)
            for count in (1000, 100)
        }
        sizes = (args.rows // 4, args.rows)
        results["peak_mb"] = {str(rows): peak_mb(path, rows, args.num_images) for rows in sizes}
    report(
        "retrieval",
        {"rows": args.rows, "num_images": args.num_images, "width": WIDTH, **results},
        {"ratio": "<= 1.1 at 1000 queries, < 1 at 100", "peak_mb": "<= 2048, flat"},
    )


if __name__ == "__main__":
    main()
