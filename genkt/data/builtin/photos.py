"""Photographs that ship inside scikit-image and scikit-learn, cut into small grounds.

There are two disjoint lists. One is used upstream only, the other downstream only.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from genkt.types import UserError

UPSTREAM_PHOTOS: tuple[str, ...] = (
    "skimage/data/rocket.jpg",
    "skimage/data/motorcycle_left.png",
    "skimage/data/motorcycle_right.png",
    "skimage/data/hubble_deep_field.jpg",
    "skimage/data/ihc.png",
    "skimage/data/camera.png",
    "skimage/data/brick.png",
    "skimage/data/gravel.png",
    "skimage/data/grass.png",
    "sklearn/datasets/images/china.jpg",
    "sklearn/datasets/images/flower.jpg",
)
"""Grounds of upstream glyphs (teacher and generator training)."""

DOWNSTREAM_PHOTOS: tuple[str, ...] = (
    "skimage/data/astronaut.png",
    "skimage/data/chelsea.png",
    "skimage/data/coffee.png",
)
"""Grounds of the downstream task ``digits_on_photos``: lossless files only, so that every
machine decodes the same pixels."""


def open_photo(name: str) -> Image.Image:
    """One bundled photograph as RGB, by ``package/path``; nothing is downloaded.

    Raises:
        UserError: the package, or the picture in it, is not installed.
    """
    package, _, path = name.partition("/")
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise UserError(f"photograph {name}: the package {package} is not installed")
    file = Path(spec.origin).parent / path
    if not file.is_file():
        raise UserError(f"photograph {name}: this version of {package} does not ship it")
    with Image.open(file) as image:
        return image.convert("RGB")


def photo_crops(names: tuple[str, ...], num: int, *, seed: int, size: int = 32) -> np.ndarray:
    """Random square crops, the pictures in turn, scaled to one size.

    Args:
        num: N crops.  size: side in pixels; a crop covers between that and a third of its
            photograph's shorter side.

    Returns:
        uint8 [N, size, size, 3], the same for the same arguments.

    Raises:
        UserError: a photograph that is not installed.
    """
    photos = [open_photo(name) for name in names]
    rng = np.random.default_rng(seed)
    crops = np.empty((num, size, size, 3), dtype=np.uint8)
    for index in range(num):
        photo = photos[index % len(photos)]
        side = int(rng.integers(size, min(photo.size) // 3 + 1))
        left = int(rng.integers(0, photo.width - side + 1))
        top = int(rng.integers(0, photo.height - side + 1))
        box = (left, top, left + side, top + side)
        scaled = photo.resize((size, size), Image.Resampling.BILINEAR, box=box)
        crops[index] = np.asarray(scaled)
    return crops
