"""Formats that need a package: named with it, read once it is there."""

from __future__ import annotations

import importlib.util
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image, ImageFile, features
from refusals import refused

from genkt.data.images import Skipped, left_out_text
from genkt.data.pictures import formats
from genkt.data.pictures.decode import decode
from genkt.data.pictures.formats import UnreadableImage
from genkt.readers.folders import read_unlabelled
from genkt.readers.single_files import read_files
from genkt.types import UserError

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)
AVIF = b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf" + bytes(40)
JPEG_XL = b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40)


@pytest.fixture
def no_plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As where no plugin is installed, or was registered."""
    Image.init()  # what it changes must not be undone
    monkeypatch.setattr(formats, "_tried", {})
    for name in ("pillow_heif", "pillow_jxl", "PIL.AvifImagePlugin"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("AVIF", "HEIF", "JXL"):
        monkeypatch.delitem(Image.OPEN, name, raising=False)
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name in Image.OPEN])
    yield


@pytest.mark.usefixtures("no_plugins")
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (HEIC, "HEIC needs a package: pip install pillow-heif"),
        (AVIF, 'AVIF needs a package: pip install "pillow>=11.3"'),
        (JPEG_XL, "JPEG XL needs a package: pip install pillow-jxl-plugin"),
        (b"\xff\x0a" + bytes(20), "JPEG XL needs a package: pip install pillow-jxl-plugin"),
        (b"FUJIFILMCCD-RAW 0201", "camera raw (Fujifilm) is not a format"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(20), "camera raw (Canon) is not a format"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "camera raw (Canon) is not a format"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp41isom", "not a picture that Pillow can open"),
    ],
)
def test_the_reason_names_the_package(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableImage) as caught:
        decode(data)
    assert str(caught.value).startswith(reason)


class _Toy(ImageFile.ImageFile):
    format = "HEIF"

    def _open(self) -> None:
        self._mode, self._size, self.tile = "L", (1, 1), []

    def load(self) -> Any:
        self._im = Image.new("L", (1, 1), 77).im
        return Image.Image.load(self)


@pytest.mark.usefixtures("no_plugins")
def test_an_installed_package_is_registered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    module = ModuleType("pillow_heif")

    def register() -> None:
        calls.append(1)
        monkeypatch.setitem(Image.OPEN, "HEIF", (_Toy, lambda start: start[4:8] == b"ftyp"))
        Image.ID.append("HEIF")

    module.register_heif_opener = register  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pillow_heif", module)
    assert [decode(HEIC).getpixel((0, 0)) for _ in range(3)] == [(77, 77, 77)] * 3
    assert calls == [1]


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_avif_is_read_and_damage_told() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 100, 50)).save(stream, "AVIF", quality=95)
    got = decode(stream.getvalue()).getpixel((8, 8))
    assert max(abs(a - b) for a, b in zip(got, (200, 100, 50), strict=True)) <= 4
    with pytest.raises(UnreadableImage, match=r"damaged|AVIF|decode"):
        decode(stream.getvalue()[:80])


@pytest.mark.skipif(importlib.util.find_spec("pillow_heif") is None, reason="no pillow-heif")
def test_heic_is_read() -> None:
    import pillow_heif

    stream = io.BytesIO()
    image = Image.new("RGB", (64, 64), (200, 100, 50))
    pillow_heif.from_pillow(image).save(stream, quality=95)
    got = decode(stream.getvalue()).getpixel((8, 8))
    assert max(abs(a - b) for a, b in zip(got, (200, 100, 50), strict=True)) <= 6


def test_left_out_files_are_grouped_by_reason() -> None:
    heic = [Skipped(f"{n}.heic", "HEIC needs a package") for n in range(500)]
    broken = [Skipped("a.jpg", "truncated (7 bytes)"), Skipped("b.jpg", "truncated (12 bytes)")]
    text = left_out_text([broken[0], *heic, broken[1], Skipped("x", "empty file")])
    assert text == (
        "503 files were left out: 0.heic and 499 more (HEIC needs a package), "
        "a.jpg and 1 more (truncated (7 bytes)), x (empty file)"
    )
    assert left_out_text(broken[:1]) == "1 file was left out: a.jpg (truncated (7 bytes))"
    others = [Skipped("p", reason) for reason in ("a", "b", "c", "d", "e")]
    assert left_out_text(others).endswith("p (c) and 2 more")


@pytest.mark.usefixtures("no_plugins")
def test_a_folder_of_heic_says_what_reads_it(tmp_path: Path) -> None:
    for number in range(9):
        (tmp_path / f"{number}.HEIC").write_bytes(HEIC)
    Image.new("RGB", (2, 2)).save(tmp_path / "z.png")
    (tmp_path / "a.jpg").write_bytes(b"broken")
    with pytest.raises(UserError) as caught:
        read_unlabelled(tmp_path)
    assert "10 of 11 image files cannot be used" in str(caught.value)
    assert f"{tmp_path / '0.HEIC'} and 8 more (HEIC needs a package" in str(caught.value)
    (tmp_path / "z.png").unlink()
    with refused(8, "HEIC"):
        read_files([tmp_path])


def test_what_people_have_is_not_overlooked(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "z.png")
    names = [f"a{suffix}" for suffix in (".jxl", ".NEF", ".cr2", ".cr3", ".arw", ".dng", ".hif")]
    for name in names:
        (tmp_path / name).write_bytes(b"unknown")
    skipped = {Path(entry.path).name for entry in read_unlabelled(tmp_path, max_skipped=9).skipped}
    assert skipped == set(names)
