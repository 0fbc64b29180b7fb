"""PNG, BMP and GIF files written byte by byte, so that what they show is known beforehand."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tiff_cases import bits_of

RED, LIME, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255,) * 3, (0, 0, 0)
_ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)]
_ADAM7_LAST = (0, 1, 1, 2)


def png_of(
    samples: NDArray[np.int64],
    bits: int,
    colour: int,
    *chunks: tuple[bytes, bytes],
    interlaced: bool = False,
) -> bytes:
    """A PNG of [H, W, channels] samples.

    Args:
        bits: of a sample.  colour: the colour type, 0 grey to 6 RGBA.
        chunks: name and data of what stands before the pixels (PLTE, tRNS, gAMA, iCCP).
    """
    height, width, _ = samples.shape
    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [*_ADAM7, _ADAM7_LAST]
    rows = b""
    for x, y, step_x, step_y in passes:
        part = samples[y::step_y, x::step_x]
        if part.size:
            rows += b"".join(b"\0" + _row(row, bits) for row in part)
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, int(interlaced))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )


def _row(row: NDArray[np.int64], bits: int) -> bytes:
    if bits == 16:
        return row.astype(">u2").tobytes()
    return bits_of(row.ravel().tolist(), bits)


def bmp_of(
    rows: Sequence[bytes],
    width: int,
    bits: int,
    *,
    palette: Sequence[tuple[int, int, int]] = (),
    compression: int = 0,
    masks: Sequence[int] = (),
    header: int = 40,
    top_down: bool = False,
    height: int | None = None,
) -> bytes:
    """A Windows bitmap of rows from the top, or of one run-length coded stream."""
    height = len(rows) if height is None else height
    body = b"".join(
        row.ljust(-(-len(row) // 4) * 4, b"\0") for row in (rows if top_down else rows[::-1])
    )
    info = struct.pack(
        "<IiiHHIIiiII", header, width, -height if top_down else height, 1, bits, compression,
        len(body), 0, 0, len(palette), 0,
    )  # fmt: skip
    packed = struct.pack(f"<{len(masks)}I", *masks)
    info += packed.ljust(header - 40, b"\0")
    info += b"".join(bytes([blue, green, red, 0]) for red, green, blue in palette)
    offset = 14 + len(info)
    return b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset) + info + body


def run_length_bmp(stream: bytes, bits: int, palette: Sequence[tuple[int, int, int]]) -> bytes:
    """One row of 4 pixels, run-length coded."""
    return bmp_of([stream], 4, bits, palette=palette, compression=1 if bits == 8 else 2, height=1)


Colours = Sequence[tuple[int, int, int]]


def gif_of(
    width: int,
    height: int,
    frames: Sequence[tuple[Sequence[int], Colours, int | None]],
    palette: Colours = (),
) -> bytes:
    """A GIF of frames: indices below 4, a local palette (or none), the transparent index."""
    out = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x81 if palette else 0, 0, 0)
    out += _table(palette)
    for indices, local, transparent in frames:
        flags = 0 if transparent is None else 1
        out += b"\x21\xf9\x04" + struct.pack("<BHBB", flags, 10, transparent or 0, 0)
        out += b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0x81 if local else 0)
        codes = [code for index in indices for code in (4, index)]  # cleared before each
        text = "".join(f"{code:03b}"[::1] for code in reversed([*codes, 5]))
        data = int(text, 2).to_bytes(-(-len(text) // 8), "little")
        out += _table(local) + b"\x02" + bytes([len(data)]) + data + b"\0"
    return out + b"\x3b"


def _table(palette: Colours) -> bytes:
    return b"".join(bytes(colour) for colour in palette).ljust(12 if palette else 0, b"\0")
