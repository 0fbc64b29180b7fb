"""A file that is told to be whole decodes; a cut one is never told to be."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from genkt.data.pictures.decode import decode
from genkt.data.pictures.ends import is_whole
from genkt.data.pictures.formats import UnreadableImage

PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 31, 3), np.uint8))


def saved(kind: str, mode: str = "RGB", **options: object) -> bytes:
    stream = io.BytesIO()
    PHOTO.convert(mode).save(stream, kind, **options)
    return stream.getvalue()


WHOLE = {
    "jpeg": saved("JPEG"),
    "grey jpeg": saved("JPEG", "L"),
    "progressive jpeg": saved("JPEG", progressive=True, subsampling=0),
    "jpeg with exif": saved("JPEG", exif=Image.Exif()),
    "png": saved("PNG"),
    "palette png": saved("PNG", "P", transparency=3),
    "transparent png": saved("PNG", "RGBA"),
    "deep png": saved("PNG", "I;16"),
    "webp": saved("WEBP"),
    "lossless webp": saved("WEBP", lossless=True),
    "transparent webp": saved("WEBP", "RGBA"),
}
DECODED = {
    "cmyk jpeg": saved("JPEG", "CMYK"),
    "bmp": saved("BMP"),
    "gif": saved("GIF", "P"),
    "tiff": saved("TIFF"),
    "padded jpeg": WHOLE["jpeg"] + b"\0",
    "moving webp": saved("WEBP", save_all=True, append_images=[PHOTO.rotate(9)]),
}


@pytest.mark.parametrize("name", WHOLE)
def test_usual_pictures_are_whole(name: str) -> None:
    assert is_whole(WHOLE[name]) and decode(WHOLE[name]).size == PHOTO.size


@pytest.mark.parametrize("name", DECODED)
def test_others_have_to_be_decoded(name: str) -> None:
    assert not is_whole(DECODED[name])


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_a_cut_picture_is_never_whole(name: str, data: st.DataObject) -> None:
    whole = WHOLE[name]
    assert not is_whole(whole[: data.draw(st.integers(0, len(whole) - 1))])


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([name for name in WHOLE if name.endswith("png")]), st.data())
def test_damage_in_a_png_is_always_noticed(name: str, data: st.DataObject) -> None:
    damaged = bytearray(WHOLE[name])
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    assert not is_whole(bytes(damaged))


def test_pictures_that_decoding_refuses_are_not_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = bytearray(WHOLE["deep png"])
    at = deep.index(b"IDAT") - 4
    chunk = b"tRNS" + struct.pack(">H", 7)
    chunk = struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk))
    assert not is_whole(bytes(deep[:at] + chunk + deep[at:]))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert not any(map(is_whole, WHOLE.values()))
    with pytest.raises(UnreadableImage, match="Bomb"):
        decode(WHOLE["png"])
