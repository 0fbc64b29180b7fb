"""The downstream half of the embedded world: real handwritten digits, plain and on photographs.

scikit-learn's ``load_digits``: 1797 scans of 8x8 pixels, scaled to 32x32. The split is fixed:
the last 797 are the test set; of the first 1000, ten of each class are the validation set and
the other 900 are the labelled pool that label draws are made from.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image

from genkt.data.builtin.photos import DOWNSTREAM_PHOTOS, photo_crops
from genkt.data.images import from_arrays
from genkt.data.splits import Splits

SIZE = 32
"""Side of the pictures of both tasks."""

NUM_POOL = 1000
"""The first so many digits are for training and validation, the rest for the test."""

NUM_VALIDATION_PER_CLASS = 10
"""Digits of each class that are split off the pool for validation."""

CLASSES = tuple("0123456789")

_VALIDATION_SEED = 20261121
_GROUND_SEED = 7


def digits() -> Splits:
    """The default task: handwritten digits, white on black, 900 / 100 / 797 pictures of 32x32.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
    Learning Repository, CC BY 4.0; the copy that scikit-learn ships.

    Example:
        >>> splits = digits()
        >>> {name: len(images) for name, images in splits.parts.items()}
        {'train': 900, 'validation': 100, 'test': 797}
        >>> splits.train.load(0).size
        (32, 32)
    """
    pictures, labels = _load()
    return _split(pictures, labels, "digits")


def digits_on_photos() -> Splits:
    """The harder task: the same digits and split, each picture is ``|photo crop - digit|``.

    The photographs are ``photos.DOWNSTREAM_PHOTOS``, which are never used upstream.
    """
    pictures, labels = _load()
    ground = photo_crops(DOWNSTREAM_PHOTOS, len(pictures), seed=_GROUND_SEED, size=SIZE)
    mixed = np.abs(ground.astype(np.int16) - pictures[..., None].astype(np.int16))
    return _split(mixed.astype(np.uint8), labels, "digits_on_photos")


@lru_cache(maxsize=1)
def _load() -> tuple[np.ndarray, np.ndarray]:
    """All 1797 digits as uint8 [N, SIZE, SIZE] and their classes [N]."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    scaled = [
        np.asarray(Image.fromarray(scan).resize((SIZE, SIZE), Image.Resampling.BICUBIC))
        for scan in grey
    ]
    return np.stack(scaled), bunch.target.astype(np.int64)


def validation_indices(labels: np.ndarray) -> np.ndarray:
    """The fixed validation part of the pool: as many of each class, ascending indices."""
    rng = np.random.default_rng(_VALIDATION_SEED)
    chosen = [
        rng.permutation(np.flatnonzero(labels[:NUM_POOL] == label))[:NUM_VALIDATION_PER_CLASS]
        for label in range(len(CLASSES))
    ]
    return np.sort(np.concatenate(chosen))


def _split(pictures: np.ndarray, labels: np.ndarray, prefix: str) -> Splits:
    everything = from_arrays(pictures, labels, CLASSES, prefix)
    validation = validation_indices(labels)
    train = np.setdiff1d(np.arange(NUM_POOL), validation)
    return Splits(
        train=everything.select(train),
        validation=everything.select(validation),
        test=everything.select(np.arange(NUM_POOL, len(labels))),
    )
