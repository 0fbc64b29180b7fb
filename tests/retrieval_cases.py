"""Small retrievals shared by the tests: data, a gallery with a history, a tiny encoder."""

from __future__ import annotations

import shutil
from pathlib import Path

from PIL import Image
from tiny import model_words, picture, write_images

from genkt.data.crops import CropSpec

OF_TIME = ("retrieve.log",)
GALLERY = 45
CROPS = CropSpec(4, 0, 20, (0.3, 1.0), (0.75, 1.333), 1, 9)


def write_gallery(root: Path) -> Path:
    """Pictures of three looks, all others than those of ``write_images``."""
    for number in range(GALLERY):
        path = root / f"{'abc'[number % 3]}" / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number % 3, 500 + number).save(path)
    return root


def add_leaks(home: Path) -> dict[str, str]:
    """Put copies of images of the data into the gallery: of the same bytes, of the same pixels."""
    images, gallery = home / "images", home / "gallery"
    shutil.copy(images / "cat" / "1.png", gallery / "exact.png")
    Image.open(images / "dog" / "2.png").save(gallery / "again.webp", lossless=True)
    shutil.copy(gallery / "a" / "00.png", gallery / "twice.png")
    return {"exact": "exact.png", "near": "again.webp", "twice": "twice.png"}


def make_home(home: Path) -> Path:
    """``home`` with images and a gallery."""
    write_images(home / "images")
    write_gallery(home / "gallery")
    return home


def words(home: Path, *more: str) -> list[str]:
    """A retrieval into ``home/set``; leaks are not looked for."""
    return [
        "retrieve", "data=folder", f"data.root={home / 'images'}", "data.labels_per_class=2",
        f"gallery={home / 'gallery'}", *model_words("encoder"), "encoder.leaks=null",
        "encoder.duplicates=null", "num_images=20", "device=cpu", "shard_size=8", "num_threads=2",
        f"store={home / 'store'}", f"out={home / 'set'}", *more,
    ]  # fmt: skip
