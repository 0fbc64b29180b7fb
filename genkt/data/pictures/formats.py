"""Picture formats that Pillow alone does not read: which package does, or that none does."""

from __future__ import annotations

import importlib
import os
import threading
from dataclasses import dataclass

from PIL import Image

from genkt.types import UserError

RAW_SUFFIXES = frozenset(
    {
        ".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".srw",
    }
)  # fmt: skip
"""Suffixes of camera raw files, which genkt does not develop."""

DEVELOPED_SUFFIXES = frozenset({".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Suffixes of the pictures that cameras and people make from raw files."""

# Suffixes of pictures. Some need a package, and some cannot be read. Such files are reported as
# skipped, not ignored.
IMAGE_SUFFIXES = RAW_SUFFIXES | {
    ".apng", ".avif", ".avifs", ".bmp", ".bw", ".dds", ".dib", ".gif", ".heic", ".heics", ".heif",
    ".heifs", ".hif", ".icns", ".ico", ".im", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe",
    ".jpeg", ".jpf", ".jpg", ".jpx", ".jxl", ".mpo", ".pbm", ".pcx", ".pfm", ".pgm", ".png",
    ".pnm", ".ppm", ".psd", ".qoi", ".rgb", ".rgba", ".sgi", ".tga", ".tif", ".tiff", ".webp",
    ".xbm", ".xpm",
}  # fmt: skip

# Decoders that start another program, or that only hand the file to a handler nobody registered.
_REFUSED_FORMATS = frozenset({"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"})

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_RAW_STARTS = {
    b"FUJIFILMCCD-RAW": "Fujifilm", b"IIRO": "Olympus", b"IIRS": "Olympus", b"IIU\0": "Panasonic"
}  # fmt: skip
_register_lock = threading.Lock()
_tried: dict[str, bool] = {}
_readable: list[list[str]] = [[], []]


class UnreadableImage(UserError):
    """A picture that cannot be decoded; the message is the reason."""


class LostImage(UnreadableImage):
    """A picture that its set lists, but that can no longer be read: gone, changed or damaged.

    Args:
        place: where it was.  reason: why it cannot be read.  hint: what the user can do.
    """

    def __init__(self, place: str, reason: str, hint: str = "") -> None:
        super().__init__(place, reason, hint)  # its arguments, so that it can be pickled
        self.place, self.reason, self.hint = place, reason, hint

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}{self.hint}"


@dataclass(frozen=True)
class Plugin:
    """A package that teaches Pillow a format.

    Args:
        kind: the format's name.  package: to be installed.  module: to be imported.
        register: the function of the module that registers it; "": the import does.
    """

    kind: str
    package: str
    module: str
    register: str = ""

    def registered(self) -> bool:
        """Register it with Pillow once per process; False if the package is not installed."""
        with _register_lock:
            if self.package not in _tried:
                _tried[self.package] = self._register()
            return _tried[self.package]

    def _register(self) -> bool:
        try:
            module = importlib.import_module(self.module)
        except ImportError:
            return False
        if self.register:
            getattr(module, self.register)()
        return True


HEIC = Plugin("HEIC", "pillow-heif", "pillow_heif", "register_heif_opener")
AVIF = Plugin("AVIF", '"pillow>=11.3"', "PIL.AvifImagePlugin")
JPEG_XL = Plugin("JPEG XL", "pillow-jxl-plugin", "pillow_jxl")


def looks_like_image(name: str) -> bool:
    """Whether a file's suffix is that of pictures."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def readable_formats() -> list[str]:
    """The formats that Pillow and its registered plugins may try."""
    Image.preinit()
    Image.init()  # does nothing after its first call
    known, readable = _readable
    if known != Image.ID:  # the first time, and when a plugin was registered
        readable = [name for name in Image.ID if name not in _REFUSED_FORMATS]
        _readable[:] = list(Image.ID), readable
    return readable


def plugin_for(data: bytes) -> Plugin | None:
    """The package that reads an encoded picture, by its first bytes."""
    if data.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")):
        return JPEG_XL
    brands = _brands(data)
    if any(brand in (b"avif", b"avis") for brand in brands):
        return AVIF
    return HEIC if any(brand in _HEIF_BRANDS for brand in brands) else None


def unknown_reason(data: bytes) -> str:
    """Why no reader accepts an encoded picture, as exactly as its first bytes show."""
    if plugin := plugin_for(data):
        if plugin.registered():
            return f"damaged, or a kind of {plugin.kind} that {plugin.package} cannot read"
        return f"{plugin.kind} needs a package: pip install {plugin.package}"
    return "not a picture that Pillow can open"


def raw_maker(data: bytes) -> str:
    """Whose camera raw an encoded picture is, "" for another format."""
    if (data[:4] == b"II*\0" and data[8:10] == b"CR") or b"crx " in _brands(data):
        return "Canon"
    return next((name for start, name in _RAW_STARTS.items() if data.startswith(start)), "")


def raw_reason(maker: str) -> str:
    """Why a camera raw file is left out."""
    what = f"camera raw ({maker})" if maker else "camera raw"
    return f"{what} is not a format that genkt reads: develop it to JPEG or PNG"


def _brands(data: bytes) -> list[bytes]:
    """The major and compatible brands of an ISO media file (HEIF and its kin), else none."""
    if data[4:8] != b"ftyp":
        return []
    end = min(int.from_bytes(data[:4], "big"), 256)
    return [data[at : at + 4] for at in (8, *range(16, end - 3, 4))]
