"""Corrects BMP bytes that Pillow would read wrongly."""

from __future__ import annotations

import struct

from genkt.data.pictures.formats import UnreadableImage

_FILE_HEADER, _INFO_HEADER, _ALPHA_HEADER = 14, 40, 56
_BITFIELDS = (3, 6)
_PADDED_COLOURS = 256


def is_bmp(data: bytes) -> bool:
    """Whether an encoded picture is a Windows bitmap."""
    return data.startswith(b"BM")


def mended_bmp(data: bytes) -> bytes:
    """The same picture, written so that Pillow reads it rightly.

    If the palette is black and white, Pillow reads 4 or 8 bits per pixel as 1. If the palette
    counts up from black, it reads 4 as 8. A longer palette prevents both.

    Raises:
        UnreadableImage: 16 bits per pixel with transparency, which Pillow ignores.
    """
    if len(data) < _FILE_HEADER + _INFO_HEADER:
        return data
    offset, header = struct.unpack_from("<II", data, 10)
    bits, compression = struct.unpack_from("<HI", data, 28)
    (used,) = struct.unpack_from("<I", data, 46)
    if bits == 16 and compression in _BITFIELDS and header >= _ALPHA_HEADER:
        if any(data[66:70]):
            raise UnreadableImage("BMP of 16 bits with transparency is not read by Pillow")
        return data
    if bits not in (4, 8) or header < _INFO_HEADER:
        return data
    start = _FILE_HEADER + header
    colours = used or 1 << bits
    if colours > 1 << bits:  # a palette that no pixel can use, perhaps a damaged number
        return data
    palette = data[start : start + 4 * colours]
    levels = [0, 255] if colours == 2 else list(range(colours))
    if (bits == 8 and colours != 2) or not _is_grey(palette, levels):
        return data
    if offset == start:  # written by programs that forget the palette
        offset += 4 * colours
    head = data[:10] + struct.pack("<I", offset) + data[14:46]
    return head + struct.pack("<I", _PADDED_COLOURS) + data[50:] + bytes(4 * _PADDED_COLOURS)


def _is_grey(palette: bytes, levels: list[int]) -> bool:
    entries = [palette[at : at + 3] for at in range(0, len(palette), 4)]
    return entries == [bytes([level] * 3) for level in levels]
