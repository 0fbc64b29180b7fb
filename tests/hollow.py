"""A picture that is damaged inside."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from genkt.data.pictures.ends import is_whole


def hollow(path: Path) -> Path:
    """A JPEG with right header and end, and a Huffman table that no decoder takes."""
    Image.effect_noise((40, 30), 90).save(path)
    data = bytearray(path.read_bytes())
    at = data.index(b"\xff\xc4") + 6
    data[at : at + 12] = b"\xff" * 12
    path.write_bytes(data)
    assert is_whole(bytes(data))
    return path
