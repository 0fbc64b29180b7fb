"""Whether an encoded picture is whole, by its header and its end, without decoding it."""

from __future__ import annotations

import struct
import zlib

from PIL import Image

_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xaeB`\x82"
_PNG_BITS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""The allowed bits of a sample by colour type."""
_HUFFMAN_FRAMES = (0xC0, 0xC1, 0xC2)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def is_whole(data: bytes) -> bool:
    """Whether a file is a usual JPEG, PNG or WebP with a sound header, right to its end.

    False says nothing: such files, and those of formats without a sure end, must be decoded to
    know. Of a PNG every checksum is compared. A JPEG or WebP may still be damaged inside.
    """
    try:
        if data.startswith(b"\xff\xd8\xff"):
            return data.endswith(b"\xff\xd9") and _jpeg_header(data)
        if data.startswith(_PNG_START):
            return data.endswith(_PNG_END) and _png_chunks(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp_chunks(data) and _webp_header(data)
    except (struct.error, IndexError):
        pass
    return False


def _fits(width: int, height: int) -> bool:
    """Whether Pillow would open a picture of this size without a word."""
    return 0 < width * height <= (Image.MAX_IMAGE_PIXELS or width * height)


def _jpeg_header(data: bytes) -> bool:
    """Walk the segments before the pixels: they hold a frame of 8-bit grey or colour."""
    at, framed = 2, False
    while data[at] == 0xFF:
        kind = data[at + 1]
        (length,) = struct.unpack_from(">H", data, at + 2)
        if kind in _FRAMES:
            bits, height, width, parts = struct.unpack_from(">BHHB", data, at + 4)
            framed = kind in _HUFFMAN_FRAMES and bits == 8 and parts in (1, 3)
            if not (framed and _fits(width, height)):
                return False
        if kind == 0xDA:
            return framed
        at += 2 + length
    return False


def _png_chunks(data: bytes) -> bool:
    """Walk all chunks and compare their checksums; the header must be one that Pillow reads."""
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    if bits not in _PNG_BITS.get(colour, ()) or not _fits(width, height):
        return False
    at, pixels, sure = 8, False, memoryview(data)
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, end = data[at + 4 : at + 8], at + 8 + length
        if zlib.crc32(sure[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            return False
        if (at == 8) != (kind == b"IHDR") or (kind == b"tRNS" and bits == 16):
            return False
        pixels = pixels or kind == b"IDAT"
        at = end + 4
    return pixels


def _webp_chunks(data: bytes) -> bool:
    """Whether the file has the length that it names, and its chunks fill it."""
    at, end = 12, int.from_bytes(data[4:8], "little") + 8
    while at < end:
        at += 8 + -(-int.from_bytes(data[at + 4 : at + 8], "little") // 2) * 2
    return at == end == len(data)


def _webp_header(data: bytes) -> bool:
    """A still picture: lossy, lossless, or with an extended header that says its size."""
    kind, at = data[12:16], 20
    if kind == b"VP8X":
        width = int.from_bytes(data[at + 4 : at + 7], "little") + 1
        height = int.from_bytes(data[at + 7 : at + 10], "little") + 1
        return not data[at] & 2 and _fits(width, height)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, at + 6)
        return data[at + 3 : at + 6] == b"\x9d\x01\x2a" and _fits(width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L":
        (size,) = struct.unpack_from("<I", data, at + 1)
        return data[at] == 0x2F and _fits((size & 0x3FFF) + 1, (size >> 14 & 0x3FFF) + 1)
    return False
