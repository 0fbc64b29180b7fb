"""Colour profiles written byte by byte, and what they say a colour is, without LittleCMS."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Rows X, Y, Z of the primaries under D50: the profiles of Adobe (1998), and of DCI P3 with D65.
ADOBE = ((0.60974, 0.20528, 0.14919), (0.31111, 0.62567, 0.06322), (0.01947, 0.06087, 0.74457))
DISPLAY_P3 = (
    (0.51512, 0.29198, 0.15710),
    (0.24120, 0.69225, 0.06657),
    (-0.00105, 0.04189, 0.78407),
)
SRGB = ((0.43607, 0.38515, 0.14307), (0.22249, 0.71687, 0.06061), (0.01392, 0.09708, 0.71410))
ADOBE_GAMMA = 563 / 256


def srgb_of_xyz50(xyz: Floats) -> Floats:
    """Levels of [.., 3] XYZ under D50 (Bradford), http://www.brucelindbloom.com."""
    matrix = np.array(
        [
            [3.1338561, -1.6168667, -0.4906146],
            [-0.9787684, 1.9161415, 0.0334540],
            [0.0719453, -0.2289914, 1.4052427],
        ]
    )
    linear = np.clip(xyz @ matrix.T, 0, 1)
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    levels: Floats = 255.0 * curve
    return levels


def srgb_of_lab(lab: Floats) -> Floats:
    """Levels of [.., 3] L* a* b* under D50."""
    fy = (lab[..., 0] + 16) / 116
    f = np.stack([fy + lab[..., 1] / 500, fy, fy - lab[..., 2] / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
    return srgb_of_xyz50(xyz * np.array([0.9642, 1.0, 0.8249]))


def gamma(exponent: float) -> tuple[bytes, Callable[[Floats], Floats]]:
    """A curve of a profile, and the same as a function of 0..1."""
    data = b"curv" + struct.pack(">IIHH", 0, 1, round(exponent * 256), 0)
    return data, lambda values: values**exponent


def srgb_curve() -> tuple[bytes, Callable[[Floats], Floats]]:
    """The curve of sRGB and Display P3, in its five parameters."""
    numbers = [2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045]
    data = b"para" + struct.pack(">IHH", 0, 3, 0)
    data += b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)
    return data, lambda v: np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def matrix_profile(primaries: Sequence[Sequence[float]], curve: bytes) -> bytes:
    """An RGB profile of primaries and one curve."""
    tags = {f"{letter}TRC".encode(): curve for letter in "rgb"}
    columns = zip("rgb", zip(*primaries, strict=True), strict=True)
    tags |= {f"{letter}XYZ".encode(): _xyz(column) for letter, column in columns}
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def grey_profile(curve: bytes) -> bytes:
    """A profile of greys."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": curve})


def ink_profile(corners: NDArray[np.int64]) -> bytes:
    """A CMYK profile with a table of [2, 2, 2, 2, 3] L a b bytes, and straight lines between."""
    line = bytes(range(256))
    table = b"mft1" + struct.pack(">IBBBB", 0, 4, 3, 2, 0)
    table += struct.pack(">9i", *(65536 * int(i % 4 == 0) for i in range(9)))
    table += line * 4 + corners.astype("u1").tobytes() + line * 3
    return _profile(b"scnr", b"CMYK", b"Lab ", {b"A2B0": table, b"A2B1": table})


def _profile(kind: bytes, space: bytes, connection: bytes, tags: Mapping[bytes, bytes]) -> bytes:
    full = {
        b"desc": b"desc" + struct.pack(">II", 0, 2) + b"x\0" + bytes(78),
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": _xyz((0.9642, 1.0, 0.8249)),
        **tags,
    }
    at, index, body = 128 + 4 + 12 * len(full), b"", b""
    for name, data in full.items():
        index += name + struct.pack(">II", at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(
        ">I4sI4s4s4s", at + len(body), b"none", 0x02400000, kind, space, connection
    )
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    header += _xyz((0.9642, 1.0, 0.8249))[8:]
    return header.ljust(128, b"\0") + struct.pack(">I", len(full)) + index + body


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))
