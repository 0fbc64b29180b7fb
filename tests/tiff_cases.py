"""TIFF files written byte by byte, so that what they show is known without any decoder."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
STRIP_OFFSETS, ORIENTATION, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES = 273, 274, 277, 278, 279
SUBFILE_TYPE, PLANAR, PREDICTOR, COLOUR_MAP, TILE_WIDTH, TILE_LENGTH = 254, 284, 317, 320, 322, 323
TILE_OFFSETS, TILE_BYTES, EXTRA_SAMPLES, SAMPLE_FORMAT, SUBSAMPLING = 324, 325, 338, 339, 530
OLD_SUBFILE, SUB_IFDS, PROFILE, DNG = 255, 330, 34675, 50706
LONG_TAGS = frozenset(
    {SUBFILE_TYPE, STRIP_OFFSETS, STRIP_BYTES, TILE_OFFSETS, TILE_BYTES, SUB_IFDS}
)

Page = tuple[Mapping[int, int | bytes | Sequence[int]], Sequence[bytes]]
"""The tags of a page but those that say where its data is, and its strips or tiles."""


def tiff_of(*pages: Page, order: str = "<", big: bool = False) -> bytes:
    """A TIFF of pages.

    Args:
        order: "<" little endian, ">" big endian.  big: a BigTIFF.
    """
    mark, offset, count = (
        (b"II" if order == "<" else b"MM"),
        "Q" if big else "I",
        "Q" if big else "H",
    )
    word = struct.calcsize(offset)
    out = bytearray(mark + struct.pack(order + "H", 43 if big else 42))
    out += struct.pack(order + "HH", 8, 0) if big else b""
    link = len(out)
    out += bytes(word)
    for given, chunks in pages:
        tags, places = dict(given), []
        for chunk in chunks:
            out += bytes(len(out) % 2)
            places.append(len(out))
            out += chunk
        tiled = TILE_WIDTH in tags
        tags[TILE_OFFSETS if tiled else STRIP_OFFSETS] = places
        tags[TILE_BYTES if tiled else STRIP_BYTES] = [len(chunk) for chunk in chunks]
        entries = []
        for tag, value in sorted(tags.items()):
            values = [value] if isinstance(value, int) else list(value)
            kind, letter = (4, "I") if tag in LONG_TAGS else (3, "H")
            if isinstance(value, bytes):
                kind, letter = 7, "B"
            data = struct.pack(f"{order}{len(values)}{letter}", *values)
            if len(data) > word:
                out += bytes(len(out) % 2)
                data, place = struct.pack(order + offset, len(out)), data
                out += place
            entries.append(
                struct.pack(order + "HH" + offset, tag, kind, len(values)) + data.ljust(word, b"\0")
            )
        out += bytes(len(out) % 2)
        out[link : link + word] = struct.pack(order + offset, len(out))
        out += struct.pack(order + count, len(entries)) + b"".join(entries)
        link = len(out)
        out += bytes(word)
    return bytes(out)


def page_of(values: Sequence[Any], bits: int, photometric: int, data: bytes, **more: Any) -> Page:
    """A page of [H, W] samples of fewer than 4 bytes in one strip; ``more``: tags by name."""
    height, width = len(values), len(values[0])
    tags = {WIDTH: width, HEIGHT: height, BITS: bits, SAMPLES: 1, COMPRESSION: 1}
    tags |= {PHOTOMETRIC: photometric, ROWS_PER_STRIP: height}
    return tags | {globals()[name]: value for name, value in more.items()}, [data]


def lzw(data: bytes) -> bytes:
    """TIFF's LZW without a table: nine bits a byte, cleared before a code would need ten."""
    codes = []
    for place, byte in enumerate(data):
        codes += [256, byte] if place % 200 == 0 else [byte]
    text = "".join(f"{code:09b}" for code in [*codes, 257])
    text = text.ljust(-(-len(text) // 8) * 8, "0")
    return int(text, 2).to_bytes(len(text) // 8, "big")


def packbits(data: bytes) -> bytes:
    """PackBits of literal runs only."""
    runs = [data[at : at + 128] for at in range(0, len(data), 128)]
    return b"".join(bytes([len(run) - 1]) + run for run in runs)


def bits_of(values: Sequence[int], bits: int) -> bytes:
    """One row of samples of fewer than 8 or of 12 bits, padded to whole bytes."""
    text = "".join(f"{value:0{bits}b}" for value in values)
    text = text.ljust(-(-len(text) // 8) * 8, "0")
    return int(text, 2).to_bytes(len(text) // 8, "big")


def reversed_bits(data: bytes) -> bytes:
    """Every byte with its lowest bit first (FillOrder 2)."""
    return bytes(int(f"{byte:08b}"[::-1], 2) for byte in data)
