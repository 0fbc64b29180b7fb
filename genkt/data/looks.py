"""What pictures look like, in 64 bits: near duplicates differ in few of them.

Source: C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010: the
signs of the low frequencies of the cosine transform, against their median. A picture that was
saved again, resized, brightened or given another format keeps nearly all of them; a cropped or
mirrored one does not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Looks = NDArray[np.uint64]

NUM_PARTS = 7
"""Into which a look is cut; neighbours differ in fewer bits."""

_SIDE, _LOW, _CHUNK = 32, 8, 9
_MARK = 1 << 63
"""Set in every look: 0 is none."""
_COSINES = np.cos(np.pi * np.outer(np.arange(_LOW), 2 * np.arange(_SIDE) + 1) / (2 * _SIDE))
_PLACES = 2 ** np.arange(_LOW * _LOW - 1, dtype=np.uint64)
_ONES = np.array([number.bit_count() for number in range(2**16)])
_FLAT = 1e-3
"""Pictures with less contrast than this (0..255) show nothing that could be compared."""
_THUMB = 16
_CROWD = 256
"""Of more pictures with the same part of a look only the first ones are compared."""


def look_of(picture: Image.Image) -> int:
    """The look of a picture, never 0.

    >>> pixels = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    >>> picture = Image.fromarray(pixels).resize((96, 96))
    >>> bits_apart(look_of(picture), look_of(picture.resize((40, 60)))) <= 2
    True
    """
    pixels = _grey(picture, _SIDE)
    low = (_COSINES @ pixels @ _COSINES.T).reshape(-1)[1:]
    if np.ptp(pixels) < _FLAT:
        return _MARK
    return _MARK | int(_PLACES[low > np.median(low)].sum())


def bits_apart(one: int, other: int) -> int:
    """How many of the 63 bits differ."""
    return (one ^ other).bit_count()


def likeness(one: Image.Image, other: Image.Image) -> float:
    """Correlation of two pictures as small grey ones, at most 1; 0 where one of them is flat."""
    a, b = (_grey(each, _THUMB).reshape(-1) for each in (one, other))
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size else 0.0


def _grey(picture: Image.Image, side: int) -> NDArray[np.float64]:
    small = picture.convert("L").resize((side, side), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64)


def nearest_looks(
    looks: Looks, others: Looks, most: int = NUM_PARTS - 1
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows that have another look within ``most`` bits, and for each the row of the nearest.

    Looks that differ in fewer bits than they have parts are equal in one part, so only those with
    an equal part are compared: not each look with all others. Flat pictures have no neighbours.

    Args:
        looks: [N].  others: [M].
    """
    assert most < NUM_PARTS
    own, inverse = np.unique(looks, return_inverse=True)
    kinds, first = np.unique(others, return_index=True)
    best, partner = np.full(len(own), most + 1), np.full(len(own), -1)
    for part in range(NUM_PARTS):
        _compare(own, kinds, part, best, partner)
    rows = np.flatnonzero((partner[inverse] >= 0) & (looks != _MARK))
    return rows, first[partner[inverse[rows]]]


def _compare(
    own: Looks, kinds: Looks, part: int, best: NDArray[np.int64], partner: NDArray[np.int64]
) -> None:
    """Improve the nearest ones by looks that are equal in one part."""
    shift, mask = np.uint64(part * _CHUNK), np.uint64(2**_CHUNK - 1)
    keys, ours = kinds >> shift & mask, own >> shift & mask
    order = np.argsort(keys, kind="stable")
    start = np.searchsorted(keys[order], ours, side="left")
    stop = np.minimum(np.searchsorted(keys[order], ours, side="right"), start + _CROWD)
    for step in range(int((stop - start).max(initial=0))):
        rows = np.flatnonzero(start + step < stop)
        others = order[start[rows] + step]
        bits = _bits(own[rows] ^ kinds[others])
        better = bits < best[rows]
        best[rows[better]], partner[rows[better]] = bits[better], others[better]


def _bits(values: Looks) -> NDArray[np.int64]:
    return np.asarray(_ONES[values.reshape(-1, 1).view(np.uint16)].sum(axis=1), dtype=np.int64)
