"""Packages as tests make them: the layout of real ones, with drawn pictures and small weights."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from genkt.data.packages.data_sets import DATA_PACKAGES
from genkt.data.packages.package import Package, digest_of

PER_FOLDER = {"animals/birds": 19, "food/fruit": 16, "food/nuts": 3, "town": 17}
"""Stamps that can be used in each folder: three classes, and three stamps without a class."""

_IMAGES, _LABELS = (2, 3), (2, 1)  # kinds of files as MNIST has them


def draw_stamp(path: Path, seed: int, side: int = 40, mode: str = "RGBA") -> None:
    """A coloured disc with nothing around it, of its own size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    image = Image.new(mode, (side, side))
    colour = tuple(int(value) for value in rng.integers(60, 256, 3))
    radius = int(rng.integers(side // 3, side // 2))
    box = (side // 2 - radius, side // 2 - radius, side // 2 + radius, side // 2 + radius)
    ImageDraw.Draw(image).ellipse(box, fill=(*colour, 255)[: len(image.getbands())])
    image.save(path)
    path.with_suffix(".txt").write_text(f"Stamp {path.stem}.\nde.utf8=Stempel.\n", encoding="utf-8")


def write_stamps(home: Path) -> Package:
    """The stamps unpacked in ``home``, some of which cannot be used; and what finds them."""
    root = home / DATA_PACKAGES["stamps"].inside
    for number, (folder, count) in enumerate(PER_FOLDER.items()):
        for place in range(count):
            draw_stamp(root / folder / f"s{place}.png", 1000 * number + place)
    birds = root / "animals" / "birds"
    draw_stamp(birds / "cartoon" / "drawn.png", 1)
    draw_stamp(birds / "flat.png", 2, mode="RGB")
    draw_stamp(birds / "tiny.png", 3, side=12)
    draw_stamp(birds / "s0_mirror.png", 4)
    (birds / "s0_mirror.txt").unlink()
    draw_stamp(birds / "t_copy.png", 0)  # the picture of s0
    return pinned(replace(DATA_PACKAGES["stamps"], contents=("animals", "food", "town")), root)


def write_fashion(home: Path, per_class: int = 30) -> Package:
    """Fashion-MNIST unpacked in ``home``, with 210 times ten and 30 times ten pictures."""
    package = DATA_PACKAGES["fashion_mnist"]
    root = home / package.inside
    root.mkdir(parents=True)
    for name, count, seed in (("train", 7 * per_class, 0), ("t10k", per_class, 1)):
        labels = np.repeat(np.arange(10, dtype=np.uint8), count)
        rng = np.random.default_rng(seed)
        images = rng.integers(0, 256, (len(labels), 28, 28), dtype=np.uint8)
        _write_idx(root / f"{name}-labels-idx1-ubyte.gz", labels)
        _write_idx(root / f"{name}-images-idx3-ubyte.gz", images)
    return pinned(package, root)


def _write_idx(path: Path, array: np.ndarray) -> None:
    head = bytes([0, 0, 8, array.ndim])
    head += b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(gzip.compress(head + array.tobytes(), compresslevel=1))


def pinned(package: Package, root: Path) -> Package:
    """The package whose files are those of a folder."""
    return replace(package, sha256=digest_of(root, package.files_in(root)))


@contextmanager
def brought(home: Path, **packages: Package) -> Iterator[None]:
    """A block in which these are the packages of data sets, unpacked in ``home``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENKT_PACKAGES", str(home))
        for name, package in packages.items():
            patch.setitem(DATA_PACKAGES, name, package)
        yield
