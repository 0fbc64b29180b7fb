"""Recognises files wrongly given as weights by their first bytes, whatever their name."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

from genkt.models.safe_pickle import LEGACY

_HEAD = 4096

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "a gzip file; unpack it first (gunzip, or tar -xzf)"),
    (b"BZh", "a bzip2 file; unpack it first (bunzip2)"),
    (b"\xfd7zXZ\x00", "an xz file; unpack it first (unxz)"),
    (b"\x28\xb5\x2f\xfd", "a zstd file; unpack it first (unzstd)"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first"),
    (b"Rar!", "a RAR archive; unpack it first"),
    (b"\x89PNG\r\n\x1a\n", "an image (PNG)"),
    (b"\xff\xd8\xff", "an image (JPEG)"),
    (b"GIF8", "an image (GIF)"),
    (b"II*\x00", "an image (TIFF)"),
    (b"MM\x00*", "an image (TIFF)"),
    (b"%PDF", "a PDF"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras or TensorFlow); convert it to torch first"),
    (b"GGUF", "a GGUF file (llama.cpp); give the weights in torch's or safetensors' format"),
    (b"\x93NUMPY", "one NumPy array; give named weights (.safetensors, .pth or .npz)"),
    (b"\x80", "a plain pickle, not one of torch.save; save the weights with torch.save"),
)
_NOT_DOWNLOADED = (
    "a web page, perhaps a login or an error page in place of the download; download the file again"
)
_POINTER = (
    "a git-LFS pointer of {size} bytes, not the file itself; fetch it (git lfs pull, or download "
    "it from the repository's page)"
)


def wrong_kind(path: Path) -> str | None:
    """The kind of a file that has no readable weights, and what to do; None: it may have some.

    Only a first look: a file that passes may still be damaged.
    """
    size = path.stat().st_size
    with open(path, "rb") as stream:
        head = stream.read(_HEAD)
    if not head:
        return "an empty file (0 bytes); its download or copy failed"
    if head[:4] == b"PK\x03\x04":
        return _kind_of_zip(path, size)
    if head[: len(LEGACY)] == LEGACY or is_safetensors(head):
        return None
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "an image (WebP)"
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return "an image (BMP)"
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head[257:262] == b"ustar":
        return "a tar archive; unpack it first (tar -xf)"
    return _kind_of_text(path, head, size) or _kind_of_binary(path, head)


def is_safetensors(head: bytes) -> bool:
    """Whether a file that begins so is in the safetensors format: a length, then JSON."""
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32


def cut_off(path: Path) -> str | None:
    """A message if a safetensors file is cut off, else None."""
    size = path.stat().st_size
    with open(path, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        text = stream.read(length) if length < size else b""
    if len(text) < length:
        return _cut(size, f"its header alone has {length + 8} bytes")
    try:
        entries = json.loads(text)
        ends = [e["data_offsets"][1] for name, e in entries.items() if name != "__metadata__"]
        expected = 8 + length + max(ends, default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None
    return _cut(size, f"its header promises {expected}") if size < expected else None


def _cut(size: int, why: str) -> str:
    return f"it is cut off at {size} bytes ({why}); download or copy it again"


def _kind_of_zip(path: Path, size: int) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, NotImplementedError, EOFError):
        return _cut(size, "a zip archive without its end")
    inner = {name.partition("/")[2] for name in names}
    if any(name.startswith("code/") for name in inner) and "data.pkl" in inner:
        return (
            "a TorchScript archive (torch.jit.save), which is code; where you trust it, load it "
            "with torch.jit.load, save its state_dict() with torch.save and give that"
        )
    if any(name.endswith("archive_format") for name in names):
        return "a program of torch.export (.pt2); save its state_dict with torch.save and give that"
    if "data.pkl" in inner or is_npz(names):
        return None
    shown = ", ".join(ascii(name)[1:-1] for name in names[:3]) or "nothing"
    return f"a zip archive of other files ({shown}); unpack it and give the weights inside"


def is_npz(names: list[str]) -> bool:
    """Whether a zip archive with these records is what ``numpy.savez`` writes."""
    return bool(names) and all(name.endswith(".npy") for name in names)


def _kind_of_text(path: Path, head: bytes, size: int) -> str | None:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return _POINTER.format(size=size)
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--", b"<error")):
        return _NOT_DOWNLOADED
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # otherwise the cut only split a character
            return None
        text = head[: error.start].decode("utf-8")
    if not all(c.isprintable() or c.isspace() for c in text):
        return None
    if start.startswith((b"{", b"[")):
        return f"a JSON file ({path.name}); give the file of the weights beside it"
    first = next(iter(text.strip().splitlines()), "")[:40]
    return f'a text file (it begins with "{first}"); give the file of the weights'


def _kind_of_binary(path: Path, head: bytes) -> str | None:
    suffix = path.suffix.lower()
    if suffix == ".onnx" or re.match(rb"\x08[\x01-\x1f][\x12\x1a\x3a]", head):
        return (
            "an ONNX graph, whose tensors have lost the model's names; give the torch or "
            "safetensors file that it was exported from"
        )
    if suffix == ".msgpack" or re.match(rb"([\x81-\x8f]|\xde..)[\xa1-\xbf\xd9]", head, re.DOTALL):
        return "a Flax checkpoint (msgpack); convert it to torch or safetensors first"
    if suffix in (".pb", ".index") or ".data-0000" in path.name or suffix == ".tflite":
        return "a TensorFlow checkpoint or graph; convert it to torch or safetensors first"
    return None
