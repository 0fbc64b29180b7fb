"""The search of a gallery in shard tasks, and the order in which its rows are taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genkt.config.retrieval_settings import RetrievalSettings
from genkt.execution.run_tasks import run_tasks
from genkt.execution.tasks import ExecutorSettings, Progress
from genkt.files import discard, read_or_forget
from genkt.io import atomic_path, fingerprint, reading
from genkt.retrieval.embed import worth_it
from genkt.retrieval.gallery import StoredGallery
from genkt.retrieval.search.nearest import Ranked, merge, nearest
from genkt.retrieval.search.ordering import Ordering, best_matches, query_balanced, random_order
from genkt.retrieval.search.scoring import Features
from genkt.retrieval.search.selection import guess_k, select
from genkt.types import DamagedError

_SHARDS_A_TASK = 16


@dataclass(frozen=True)
class SearchTask:
    """Find the best rows of one range of a gallery.

    Args:
        gallery: where its rows are.
        queries: a file with one array per encoder.
        out: the file of the result.
        k: rows wanted per query.
        weights: of the encoders.
        start, stop: the range.
    """

    gallery: StoredGallery
    queries: str
    out: str
    k: int
    weights: tuple[float, ...]
    start: int
    stop: int

    @property
    def name(self) -> str:
        """See ``ShardTask``."""
        return f"search {Path(self.out).name}"

    @property
    def size(self) -> int:
        """See ``ShardTask``."""
        return self.stop - self.start

    def is_done(self) -> bool:
        """See ``ShardTask``."""
        return Path(self.out).exists()

    def run(self, progress: Progress) -> None:
        """See ``ShardTask``."""
        if self.is_done():
            return
        with reading(self.queries, "queries"), np.load(self.queries) as arrays:
            queries = [arrays[f"arr_{place}"] for place in range(len(arrays.files))]
        found = nearest(
            self.gallery, queries, self.k, weights=self.weights, start=self.start, stop=self.stop
        )
        num_bytes = found.rows.nbytes + found.scores.nbytes
        with atomic_path(self.out, num_bytes) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, rows=found.rows, scores=found.scores)

    def result(self) -> Ranked:
        """What ``run`` found.

        Raises:
            DamagedError: its file is not what was written.
        """
        with reading(self.out, "the result of a search"), np.load(self.out) as arrays:
            rows, scores = arrays["rows"], arrays["scores"]
            if rows.shape != scores.shape or rows.dtype.kind != "i" or scores.dtype.kind != "f":
                raise ValueError("other arrays")
            return Ranked(rows, scores)

    def forget_damage(self) -> None:
        """A damaged result of an earlier start is made again, with a warning."""
        if self.is_done():
            read_or_forget(Path(self.out), self.result, "this part is searched again")


@dataclass(frozen=True)
class Search:
    """One retrieval's search.

    Args:
        gallery: what is searched.
        queries: one [Q, D_e] array per encoder; none for ``random``.
        query_ids: Q ids.
        settings: strategy, weights and seed.
        work: folder of results.
        executor: who searches.
        shard_size: images of a shard; a task searches several.
    """

    gallery: StoredGallery
    queries: tuple[NDArray[np.float16], ...]
    query_ids: Sequence[str]
    settings: RetrievalSettings
    work: Path
    executor: ExecutorSettings
    shard_size: int

    def order(self, num_rows: int) -> Ordering:
        """At least so many rows, the first to be taken first; fewer where there are no more."""
        gallery, settings = self.gallery, self.settings
        if settings.strategy == "random":
            return random_order(gallery, num_rows, settings.seed)
        weights, queries, read = self._used()
        k = guess_k(read, queries, min(num_rows, gallery.num_rows), weights=weights)

        def arrange(ranked: Ranked) -> Ordering:
            if settings.strategy == "best_matches":
                return best_matches(gallery, ranked)
            return query_balanced(gallery, ranked, self.query_ids, settings.seed)

        return select(gallery.num_rows, num_rows, k, self._scan, arrange)

    def _used(self) -> tuple[tuple[float, ...], Features, StoredGallery]:
        """Weights, queries and gallery without encoders that have no part in the mean."""
        mean_of = self.settings.encoder.mean_of
        used = tuple(place for place, weight in enumerate(mean_of) if weight > 0)
        weights = tuple(mean_of[place] for place in used)
        gallery = replace(self.gallery, only=used)
        return weights, tuple(self.queries[place] for place in used), gallery

    def _scan(self, k: int) -> Ranked:
        weights, queries, gallery = self._used()
        about = fingerprint(
            gallery.fingerprint, *(array.tobytes() for array in queries), list(weights), str(k)
        )
        path = self.work / f"queries-{about}.npz"
        if not _holds(path, queries):
            discard(path)
            num_bytes = sum(array.nbytes for array in queries)
            with atomic_path(path, num_bytes) as temporary, open(temporary, "wb") as stream:
                np.savez(stream, *queries)
        step = _SHARDS_A_TASK * self.shard_size * gallery.rows_per_image
        tasks = [
            SearchTask(
                gallery, str(path), str(self.work / f"search-{about}-{start:012d}.npz"), k, weights,
                start, min(start + step, gallery.num_rows),
            )
            for start in range(0, gallery.num_rows, step)
        ]  # fmt: skip
        for task in tasks:
            task.forget_damage()
        run_tasks(tasks, worth_it(tasks, self.executor), description="search")
        return merge(self.gallery, [task.result() for task in tasks], k)


def _holds(path: Path, queries: Features) -> bool:
    """Whether a file holds these queries; one that was damaged does not."""
    if not path.exists():
        return False
    try:
        with reading(path, "queries"), np.load(path) as arrays:
            stored = [arrays[name] for name in arrays.files]
    except DamagedError:
        return False
    return len(stored) == len(queries) and all(map(np.array_equal, stored, queries))
