"""Images a second into the training loop over a bare torchvision DataLoader on the same files.

    python benchmarks/data_loading.py

Same JPEG files, transform, batch size and number of loader processes; no picture is kept in memory,
every file is compared with its content hash. Ratio = bare seconds over genkt's, which is genkt's
throughput over the bare one. Beside it: what a second start costs, what resuming in the middle of
an epoch costs, what a sample costs in memory, and reading cold tars with the reads of a batch asked
for ahead over one after the other.
"""

from __future__ import annotations

import functools
import io
import os
import statistics
import tarfile
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
import torch
from common import paired, report, seconds
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import (
    CenterCrop,
    Compose,
    PILToTensor,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
)

from genkt.data.images import ImageSet
from genkt.data.transform import ImageTransform
from genkt.data.views import FIXED_VIEW, ViewDataset, ViewSpec
from genkt.training.batches import Batches, BatchPlan
from genkt.training.fabric import keep_freed_memory
from genkt.training.walk import Stream
from genkt.transfer_set.open_images import open_images

HALF = (0.5, 0.5, 0.5)
NUM_PHOTOS, BATCH, NUM_SMALL, NUM_ENTRIES = 1000, 50, 20_000, 200_000
TRANSFORM = ImageTransform((224, 224), HALF, HALF, "bilinear", 0.875)
CROPS = ViewSpec(num_views=0, crop_scale=(0.08, 1.0), crop_ratio=(0.75, 4 / 3), hflip=True)
BARE = {
    "eval": Compose([Resize(256), CenterCrop(224), PILToTensor()]),
    "crops": Compose([RandomResizedCrop(224), RandomHorizontalFlip(), PILToTensor()]),
}
VIEWS = {"eval": FIXED_VIEW, "crops": CROPS}


def write_photos(root: Path) -> None:
    """JPEG files of 500 x 375 pixels, cut from photographs."""
    generator = np.random.default_rng(0)
    photos = [getattr(skimage.data, name)() for name in ("astronaut", "chelsea", "coffee")]
    for number in range(NUM_PHOTOS):
        photo = Image.fromarray(photos[number % len(photos)])
        left, top = (int(generator.integers(0, side // 3)) for side in photo.size)
        box = (left, top, left + photo.width * 2 // 3, top + photo.height * 2 // 3)
        folder = root / f"class{number % 4}"
        folder.mkdir(parents=True, exist_ok=True)
        photo.crop(box).resize((500, 375)).save(folder / f"{number:05d}.jpg", quality=90)


def write_tars(home: Path, files: list[tuple[str, bytes]], per_tar: int) -> str:
    """The files in tars; the location of all of them."""
    home.mkdir()
    for start in range(0, len(files), per_tar):
        with tarfile.open(home / f"{start // per_tar:04d}.tar", "w") as tar:
            for name, data in files[start : start + per_tar]:
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return str(home / "*.tar")


def batches_of(images: ImageSet, views: ViewSpec, num_workers: int) -> Batches:
    plan = BatchPlan(np.arange(0), np.arange(len(images)), BATCH, 0, 0)
    dataset = ViewDataset(images, views, [TRANSFORM], memory_bytes=0)
    return Batches(dataset, images.labels, plan, num_workers=num_workers)


def cpu_seconds() -> float:
    """Of this process and of loader processes that have ended."""
    return sum(os.times()[:4])


def loading(photos: Path, sources: dict[str, ImageSet], pairs: int) -> dict[str, Any]:
    """Ratios of whole epochs: wall time, and processor time, which other programs disturb less."""
    spent: dict[str, list[float]] = {}

    def bare_epoch(kind: str, num_workers: int) -> None:
        before, data = cpu_seconds(), ImageFolder(str(photos), BARE[kind])
        for _ in DataLoader(data, BATCH, shuffle=True, num_workers=num_workers):
            pass
        spent["bare"].append(cpu_seconds() - before)

    def epoch(images: ImageSet, kind: str, num_workers: int) -> None:
        before = cpu_seconds()
        for _ in batches_of(images, VIEWS[kind], num_workers).iterate(0, NUM_PHOTOS // BATCH):
            pass
        spent["genkt"].append(cpu_seconds() - before)

    results = {}
    for kind in VIEWS:
        for num_workers in (0, 1):
            for name, images in sources.items():
                spent.update(bare=[], genkt=[])
                result = paired(
                    functools.partial(bare_epoch, kind, num_workers),
                    functools.partial(epoch, images, kind, num_workers),
                    pairs=pairs,
                )
                ratios = [a / b for a, b in zip(spent["bare"], spent["genkt"], strict=True)]
                result["processor_time_ratio"] = statistics.median(ratios)
                result["images_per_second"] = NUM_PHOTOS / result["b_seconds"]
                results[f"{name}_{kind}_{num_workers}_workers"] = result
    return results


def starts(home: Path) -> dict[str, Any]:
    """Seconds of opening a folder of small files for the first and for the second time."""
    for number in range(NUM_SMALL):
        pixels = np.full((32, 32, 3), number % 256, np.uint8)
        path = home / f"{number % 100:02d}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, compress_level=1)
    first, again = seconds(lambda: open_images(home)), seconds(lambda: open_images(home))
    return {"files": NUM_SMALL, "first_seconds": first, "again_seconds": again,
            "ratio": first / again}  # fmt: skip


def resuming(home: Path) -> dict[str, Any]:
    """A large set of tiny pictures in tars: memory a sample, and the first batch in mid-epoch."""
    stream = io.BytesIO()
    Image.new("L", (8, 8), 7).save(stream, "png")
    entries = [(f"{number:06d}.png", stream.getvalue()) for number in range(NUM_ENTRIES)]
    location = write_tars(home, entries, NUM_ENTRIES // 20)
    results: dict[str, Any] = {"entries": NUM_ENTRIES}
    results["first_start_seconds"] = seconds(lambda: open_images(location))
    results["second_start_seconds"] = seconds(lambda: open_images(location))
    for pattern in ("*[05].tar", "*.tar"):
        tracemalloc.start()
        images = open_images(str(home / pattern))
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        results[f"bytes_per_sample_of_{len(images)}"] = used / len(images)

    def first_batch(step: int) -> None:
        next(batches_of(images, FIXED_VIEW, 0).iterate(step, step + 2))

    middle = len(images) // BATCH * 7 // 2
    first = paired(lambda: first_batch(middle), lambda: first_batch(0), pairs=9)
    return results | {"resume_seconds": first["a_seconds"], "resume_over_start": first}


def cold_reads(location: str) -> dict[str, Any]:
    """An epoch's bytes from tars that are not in the page cache, for batches of one permutation.

    Times one after the other over asked for ahead (``ImageSet.read_ahead``); no decoding.
    """
    images = open_images(location)
    opener: Any = images.open_item
    order = Stream(np.arange(len(images)), 0, images.blocks).take(0, len(images))[:, 0]
    tars = [os.open(file, os.O_RDONLY) for file in opener.files]

    def read(ahead: bool) -> None:
        for tar in tars:
            os.posix_fadvise(tar, 0, 0, os.POSIX_FADV_DONTNEED)
        for rows in np.split(order, range(BATCH, len(order), BATCH)):
            if ahead:
                images.read_ahead(rows.tolist())
            for row in rows.tolist():
                tar = tars[int(np.searchsorted(opener.starts, row, side="right")) - 1]
                os.pread(tar, int(opener.sizes[row]), int(opener.offsets[row]))

    os.sync()
    return paired(lambda: read(False), lambda: read(True), pairs=9)


def main() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()  # as training does on a CPU; here it serves both loaders
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        os.environ["GENKT_CACHE"] = str(home / "cache")
        write_photos(home / "photos")
        files = [
            (path.name, path.read_bytes()) for path in sorted((home / "photos").rglob("*.jpg"))
        ]
        location = write_tars(home / "tars", files, NUM_PHOTOS // 5)
        copies = [(f"{copy}_{name}", data) for copy in range(8) for name, data in files]
        cold = write_tars(home / "cold", copies, NUM_PHOTOS)
        sources = {"folder": open_images(home / "photos"), "tars": open_images(location)}
        results = {
            "loading": loading(home / "photos", sources, pairs=7),
            "second_start": starts(home / "small"),
            "resume": resuming(home / "tiny"),
            "cold_reads": cold_reads(cold),
        }
    goals = {"loading.*.ratio": ">= 1.0", "resume.resume_seconds": "< 1"}
    report("data_loading", results, goals)


if __name__ == "__main__":
    main()
