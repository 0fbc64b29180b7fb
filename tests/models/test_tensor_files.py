"""What a file of weights is, told by its content: read, or named with what to do."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from refusals import refused
from safetensors.torch import save, save_file

from genkt.models.tensor_files import read_content, read_tensors
from genkt.types import UserError

WEIGHTS = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.tensor([1.5, -2.0])}


def torch_bytes(content: object, *, legacy: bool = False) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


def picture(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4)).save(stream, kind)
    return stream.getvalue()


def zipped(**files: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    return stream.getvalue()


def script() -> bytes:
    stream = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), stream)  # type: ignore[no-untyped-call]
    return stream.getvalue()


def arrays(**named: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **named)  # type: ignore[arg-type]
    return stream.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 45\n"
WRONG: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "an empty file"),
    "login page": (b"\n <!DOCTYPE html><html><body>Sign in</body></html>", "a web page"),
    "error page": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code>', "a web page"),
    "pointer": (POINTER, "a git-LFS pointer of 65 bytes"),
    "cut torch file": (torch_bytes(WEIGHTS)[:-100], "a zip archive without its end"),
    "cut safetensors": (save(WEIGHTS)[:-5], r"cut off at \d+ bytes .its header promises"),
    "cut header": (save(WEIGHTS)[:30], "cut off at 30 bytes .its header alone"),
    "text": (b"see README\n", 'a text file .it begins with "see README"'),
    "settings": (b'{"hidden_size": 3}', "a JSON file"),
    "unicode": ("Gewicht: zwölf".encode(), "a text file"),
    "png": (picture("PNG"), "an image .PNG"),
    "jpeg": (picture("JPEG"), "an image .JPEG"),
    "webp": (picture("WEBP"), "an image .WebP"),
    "gzip": (gzip.compress(torch_bytes(WEIGHTS)), "a gzip file; unpack it"),
    "tar": (b"x" * 257 + b"ustar\x00", "a tar archive; unpack it"),
    "zip": (zipped(readme=b"x", inner__model=b"y"), "a zip archive of other files .readme, inner/"),
    "script": (script(), "a TorchScript archive"),
    "onnx": (b"\x08\x0a\x12\x07pytorch\x1a\x051.0.0:\x00\xff", "an ONNX graph"),
    "hdf5": (b"\x89HDF\r\n\x1a\n\x00", "an HDF5 file"),
    "flax": (b"\x81\xa6params\x81\xa5Dense\xc7\x00\xff", "a Flax checkpoint"),
    "jax": (arrays(**{"Transformer/encoder_norm/scale": np.ones(2)}), "JAX's weights"),
    "one array": (b"\x93NUMPY\x01\x00", "one NumPy array"),
    "pickle": (b"\x80\x02}q\x00.", "a plain pickle"),
    "noise": (bytes(range(200, 256)), "expected a .safetensors file or one that torch.save"),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore::DeprecationWarning")
@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_wrong_file_is_named_for_what_it_is(case: str, suffix: str, tmp_path: Path) -> None:
    content, expected = WRONG[case]
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=expected) as refused:
        read_content(path)
    assert str(refused.value).startswith(f"{path}: not a") and "\n" not in str(refused.value)


@given(st.binary(max_size=300))
@example(b"PK\x03\x04")
@example(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.")
@example((3).to_bytes(8, "little") + b"{}}")
@example((2).to_bytes(8, "little") + b"{}")
def test_any_bytes_give_tensors_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.pth"
    path.write_bytes(content)
    try:
        read_tensors(path)
    except UserError as error:
        assert str(error).startswith(str(path)) and len(str(error).splitlines()) == 1


def test_the_content_counts_and_not_the_suffix(tmp_path: Path) -> None:
    for name, content in {
        "a.pth": save(WEIGHTS), "a.safetensors": torch_bytes(WEIGHTS), "a": save(WEIGHTS),
        "old.safetensors": torch_bytes(WEIGHTS, legacy=True),
        "a.npz": arrays(**{k: v.numpy() for k, v in WEIGHTS.items()}),
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
        found = read_tensors(tmp_path / name)
        assert found.keys() == WEIGHTS.keys()
        assert all(torch.equal(found[key], WEIGHTS[key]) for key in WEIGHTS)


def test_the_dicts_that_timm_takes_are_seen_through(tmp_path: Path) -> None:
    for name in ("state_dict_ema", "model_ema", "state_dict", "model"):
        other = {"model": {"b": torch.zeros(1)}} if name != "model" else {}
        (tmp_path / "x.pth").write_bytes(torch_bytes({**other, name: WEIGHTS, "epoch": 3}))
        assert read_tensors(tmp_path / "x.pth").keys() == WEIGHTS.keys()


def test_folders_as_hugging_face_lays_them_out(tmp_path: Path) -> None:
    with refused("model.safetensors", "pytorch_model.bin"):
        read_content(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(torch_bytes(WEIGHTS))
    assert read_tensors(tmp_path).keys() == WEIGHTS.keys()
    (first, one), (second, other) = WEIGHTS.items()
    save_file({first: one}, tmp_path / "model-1.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    listed = {first: "model-1.safetensors", second: "model-2.safetensors"}
    index.write_text(json.dumps({"weight_map": listed}))
    with refused(1, 2, "model-2"):
        read_tensors(tmp_path)
    save_file({"c": other}, tmp_path / "model-2.safetensors")
    with refused(1, "a.bias"):
        read_tensors(tmp_path)
    save_file({second: other}, tmp_path / "model-2.safetensors")
    assert read_tensors(tmp_path).keys() == read_tensors(index).keys() == WEIGHTS.keys()
    index.write_text(json.dumps({"weight_map": {first: "../model-1.safetensors"}}))
    with refused("/model-1.safetensors"):
        read_tensors(tmp_path)
