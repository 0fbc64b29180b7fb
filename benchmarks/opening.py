"""Opening a folder of small pictures over a plain loop that reads and hashes the same files.

    python benchmarks/opening.py [--files 5000]

Half JPEG, half PNG, 64 pixels, in ten class folders; one index a pair, which the first opening
writes and the second reads. Ratios of processor time, which other programs disturb less. Opening
also lists the folders, draws a test part, and keeps what it learnt. ``run`` is what a run opens:
five labelled pictures a class, which are decoded, and all the files unlabelled. ``decoded`` decodes
each picture and notes its look.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import cpu_seconds, report
from PIL import Image

from genkt.data.images import content_hash
from genkt.readers.folders import read_folder, read_unlabelled

PAIRS = 5


LABELLED = 50


def write_pictures(root: Path, count: int, seed: int = 0) -> list[str]:
    """The files: enlarged noise, which compresses about as photographs of this size do."""
    generator = np.random.default_rng(seed)
    files = []
    for number in range(count):
        small = Image.fromarray(generator.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        folder = root / f"class{number % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{number:06d}.{'png' if number % 2 else 'jpg'}"
        small.resize((64, 64), Image.Resampling.BICUBIC).save(path)
        files.append(str(path))
    return files


def plain(files: list[str]) -> None:
    """What cannot be avoided: each file is read and hashed once."""
    for file in files:
        with open(file, "rb") as stream:
            content_hash(stream.read())


def measured(files: list[str], first: Callable[[], Any], cache: Path) -> dict[str, float]:
    """Median ratios of a first and of a second opening."""
    ratios: dict[str, list[float]] = {"first": [], "second": []}
    for _ in range(PAIRS):
        shutil.rmtree(cache, ignore_errors=True)
        loop = cpu_seconds(partial(plain, files))
        ratios["first"].append(cpu_seconds(first) / loop)
        ratios["second"].append(cpu_seconds(first) / loop)
    return {name: statistics.median(each) for name, each in ratios.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=5000)
    count = parser.parse_args().files
    with tempfile.TemporaryDirectory() as folder:
        root, cache = Path(folder, "pictures"), Path(folder, "cache")
        labelled = Path(folder, "labelled")
        os.environ["GENKT_CACHE"] = str(cache)
        files = write_pictures(root, count)
        both = [*files, *write_pictures(labelled, LABELLED, seed=1)]
        plain(files)
        results: dict[str, Any] = {"files": count}
        results["plain_microseconds_a_file"] = cpu_seconds(partial(plain, files)) / count * 1e6
        reader = partial(read_folder, progress=False)
        for name, read, paths in (
            ("unlabelled", partial(read_unlabelled, root, progress=False), files),
            ("run", partial(reader, labelled, unlabelled=[root], in_full="labelled"), both),
            ("classes", partial(reader, root), files),
            ("decoded", partial(reader, root, in_full=True), files),
        ):
            results[name] = measured(paths, read, cache)
    goals = {"unlabelled.first, run.first, classes.first": "<= 2", "*.second": "< 2"}
    report("opening", results, goals)


if __name__ == "__main__":
    main()
