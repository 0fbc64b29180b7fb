"""Reading strangers' checkpoints: tensors come out, nothing runs, refusals name what they saw."""

from __future__ import annotations

import argparse
import collections
import contextlib
import datetime
import io
import subprocess
import sys
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from refusals import refused
from safetensors.torch import save_file
from torch import Tensor

from genkt.models.tensor_files import read_tensors
from genkt.types import UserError

WEIGHTS = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.tensor([1.5, -2.0])}
COMPANIONS = ("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint", "omegaconf.nodes.Any")


def forge(monkeypatch: pytest.MonkeyPatch, path: str, **members: object) -> type:
    """A class that pickles under this name, from modules that exist only while pickling."""
    module, _, name = path.rpartition(".")
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        inner = ".".join(parts[:end])
        monkeypatch.setitem(sys.modules, inner, types.ModuleType(inner))
    forged = type(name, (), {"__module__": module, **members})
    setattr(sys.modules[module], name, forged)
    return forged


def save_like_lightning(path: Path, state: dict[str, Tensor], *, legacy: bool = False) -> Path:
    """A training checkpoint as Lightning 1 wrote them: a class as a key, objects with state."""
    with pytest.MonkeyPatch.context() as patch:
        callback = forge(patch, COMPANIONS[0])
        node = forge(patch, COMPANIONS[1])()
        node.__dict__.update(value=3, parent=None)
        content = {
            "epoch": 3,
            "pytorch-lightning_version": "1.0.8",
            "callbacks": {callback: {"best_model_score": torch.tensor(0.5), "dirpath": "/x"}},
            "optimizer_states": [{"state": {0: {"step": 1}}, "param_groups": [{"lr": 1e-4}]}],
            "hyper_parameters": {"node": node, "again": [node]},
            "state_dict": state,
        }
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def call_pickle(module: str, name: str, argument: str) -> bytes:
    """Pickle bytes, protocol 2, that call ``module.name(argument)`` when unpickled as usual."""
    text = argument.encode()
    return (
        b"\x80\x02c" + f"{module}\n{name}\n".encode()
        + b"X" + len(text).to_bytes(4, "little") + text + b"\x85R."
    )  # fmt: skip


def write_archive(path: Path, records: dict[str, bytes], compression: int = 0) -> Path:
    """A zip as torch.save lays it out, with any content."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    return path


def write_call(path: Path, module: str, name: str, argument: str) -> Path:
    pickled = call_pickle(module, name, argument)
    return write_archive(path, {"archive/data.pkl": pickled, "archive/version": b"3\n"})


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A file that hostile pickles would write."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "pickled code was executed"


def test_lightning_and_plain_files_give_their_tensors(tmp_path: Path) -> None:
    lightning = save_like_lightning(tmp_path / "x.ckpt", WEIGHTS)
    assert_same(read_tensors(lightning), WEIGHTS)
    legacy = save_like_lightning(tmp_path / "old.ckpt", WEIGHTS, legacy=True)
    assert not zipfile.is_zipfile(legacy)
    assert_same(read_tensors(legacy), WEIGHTS)
    torch.save(WEIGHTS, tmp_path / "plain.pth")
    assert_same(read_tensors(tmp_path / "plain.pth"), WEIGHTS)
    save_file(WEIGHTS, tmp_path / "x.safetensors")
    assert_same(read_tensors(tmp_path / "x.safetensors"), WEIGHTS)


_IMPORTS = """
import sys
sys.path.insert(0, {decoys!r})
from genkt.models.tensor_files import read_tensors
print(sorted(read_tensors({path!r})))
print([name for name in ("pytorch_lightning", "lightning", "omegaconf") if name in sys.modules])
"""


@pytest.mark.parametrize("legacy", [False, True])
def test_reading_imports_no_lightning_and_no_omegaconf(
    legacy: bool, tmp_path: Path, canary: Path
) -> None:
    path = save_like_lightning(tmp_path / "x.ckpt", WEIGHTS, legacy=legacy)
    for name in ("pytorch_lightning", "lightning", "omegaconf"):
        (tmp_path / "decoys" / name).mkdir(parents=True)
        code = f"open({str(canary)!r}, 'w').close()"
        (tmp_path / "decoys" / name / "__init__.py").write_text(code)
    code = _IMPORTS.format(decoys=str(tmp_path / "decoys"), path=str(path))
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == ["['a.bias', 'a.weight']", "[]"]


HOSTILE = [
    ("os", "system", "touch {}"),
    ("posix", "system", "touch {}"),
    ("nt", "system", "touch {}"),
    ("subprocess", "getoutput", "touch {}"),
    ("builtins", "eval", "open('{}', 'w')"),
    ("builtins", "exec", "open('{}', 'w')"),
    ("__builtin__", "eval", "open('{}', 'w')"),
    ("builtins", "getattr", "{}"),
    ("torch.serialization", "load", "{}"),
    ("torch.hub", "load", "{}"),
    ("torch._utils", "_import_dotted_name", "{}"),
    ("torch_evil", "FloatStorage", "{}"),
    ("pytorch_lightning_evil", "x", "{}"),
    ("pytorch_lightning", "", "{}"),
    ("lightning_evil.pytorch", "x", "{}"),
    ("lightning_fabric.utilities", "x", "{}"),
    ("omegaconfig", "x", "{}"),
    ("evil.pytorch_lightning.callbacks", "x", "{}"),
    ("Pytorch_lightning.callbacks", "x", "{}"),
    ("numpy.core.multiarray", "_reconstruct", "{}"),
    ("numpy._core.multiarray", "_reconstruct", "{}"),
    ("numpy.core.multiarray", "scalars", "{}"),
    ("numpy.core.multiarray.scalar", "x", "{}"),
    ("numpy", "load", "{}"),
    ("numpy", "ndarray", "{}"),
    ("numpy.lib.npyio", "load", "{}"),
    ("numpy.testing._private.utils", "runstring", "open('{}', 'w')"),
    ("pathlib", "Path.touch", "{}"),
    ("pathlib", "Path.write_text", "{}"),
    ("pathlib", "os.mkdir", "{}"),
    ("argparse", "ArgumentParser", "{}"),
    ("argparse", "FileType", "{}"),
    ("argparse", "_HelpAction", "{}"),
    ("datetime", "sys", "{}"),
    ("datetime.datetime", "strptime", "{}"),
    ("collections", "namedtuple", "{}"),
    ("collections", "_sys.exit", "{}"),
    ("functools", "partial", "{}"),
    ("operator", "attrgetter", "{}"),
    ("copyreg", "_reconstructor", "{}"),
    ("builtins", "open", "{}"),
    ("builtins", "type", "{}"),
    ("builtins", "__import__", "{}"),
    ("torch", "load", "{}"),
    ("torch.jit", "load", "{}"),
    ("torch.serialization", "add_safe_globals", "{}"),
    ("torch.utils.cpp_extension", "load", "{}"),
    ("torch._utils", "_rebuild_everything", "{}"),
    ("lightning_fabric.utilities.data", "AttributeDict.x", "{}"),
]


@pytest.mark.parametrize(("module", "name", "argument"), HOSTILE, ids=str)
def test_other_names_are_refused_by_name(
    module: str, name: str, argument: str, tmp_path: Path, canary: Path
) -> None:
    path = write_call(tmp_path / "x.ckpt", module, name, argument.format(canary))
    if (module, name) == ("pytorch_lightning", ""):
        with pytest.raises(UserError):
            read_tensors(path)  # "pytorch_lightning.": a blank, no tensors
        return
    shown = f"{module}.{name}".replace("__builtin__", "builtins")
    with refused("x.ckpt") as caught:
        read_tensors(path)
    assert shown in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("pytorch_lightning.os", "system"),
        ("omegaconf", "os.system"),
        ("lightning.x", "eval"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy.dtypes", "os.system"),
        ("pathlib", "PosixPath"),
        ("argparse", "Namespace"),
        ("collections", "defaultdict"),
        ("collections", "deque"),
        ("datetime", "datetime"),
        ("builtins", "str"),
    ],
)
def test_allowed_names_reach_nothing_real(
    module: str, name: str, tmp_path: Path, canary: Path
) -> None:
    path = write_call(tmp_path / "x.ckpt", module, name, f"touch {canary}")
    with refused("x.ckpt"):
        read_tensors(path)


def test_names_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    path = write_call(tmp_path / "x.ckpt", "evil\x1b[2J\r", "x" * 1000, "y")
    with pytest.raises(UserError) as caught:
        read_tensors(path)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 600


class Calls:
    """Pickles as a call of os.system."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, ...]:
        import os

        return os.system, (self.command,)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("protocol", [2, 4])
def test_payloads_among_the_weights(
    legacy: bool, protocol: int, tmp_path: Path, canary: Path
) -> None:
    content = {"state_dict": WEIGHTS, "callbacks": Calls(f"touch {canary}")}
    torch.save(
        content, tmp_path / "x.ckpt",
        pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy,
    )  # fmt: skip
    with pytest.raises(UserError, match=r"refused because it names|not a ") as caught:
        read_tensors(tmp_path / "x.ckpt")
    assert protocol == 4 or "posix.system" in str(caught.value)


def test_what_this_process_trusts_elsewhere_does_not_count(tmp_path: Path, canary: Path) -> None:
    path = write_call(tmp_path / "x.ckpt", "builtins", "eval", f"open('{canary}', 'w')")
    before = torch.serialization.get_safe_globals()
    try:
        torch.serialization.add_safe_globals([eval])
        with refused("builtins.eval"):
            read_tensors(path)
        assert eval in torch.serialization.get_safe_globals()
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def saved(content: object) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def test_zip_tricks(tmp_path: Path, canary: Path) -> None:
    evil = call_pickle("os", "system", f"touch {canary}")
    with zipfile.ZipFile(io.BytesIO(saved(WEIGHTS))) as good:
        records = {info.filename: good.read(info) for info in good.infolist()}
    pickle = next(name for name in records if name.endswith("/data.pkl"))
    head = pickle.removesuffix("data.pkl")

    second = write_archive(tmp_path / "second.ckpt", {**records, "evil/data.pkl": evil})
    with contextlib.suppress(UserError):
        assert_same(read_tensors(second), WEIGHTS)
    first = write_archive(tmp_path / "first.ckpt", {"evil/data.pkl": evil, **records})
    with pytest.raises(UserError):
        read_tensors(first)

    twice = write_archive(tmp_path / "twice.ckpt", records)
    with zipfile.ZipFile(twice, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(pickle, evil)
    with refused("twice.ckpt"):
        read_tensors(twice)

    packed = write_archive(tmp_path / "packed.ckpt", records, zipfile.ZIP_DEFLATED)
    with refused("compressed"):
        read_tensors(packed)
    nested = {**records, pickle: saved({"x": Calls(f"touch {canary}")})}
    with pytest.raises(UserError):
        read_tensors(write_archive(tmp_path / "nested.ckpt", nested))
    script = {**records, f"{head}constants.pkl": evil}
    with pytest.raises(UserError):
        read_tensors(write_archive(tmp_path / "script.ckpt", script))
    (tmp_path / "prefixed.ckpt").write_bytes(b"#!/bin/sh\n" + saved(WEIGHTS))
    with pytest.raises(UserError):
        read_tensors(tmp_path / "prefixed.ckpt")
    short = {name: b"" if "/data/" in name else value for name, value in records.items()}
    path = write_archive(tmp_path / "short.ckpt", short)
    with refused("a.weight"):
        read_tensors(path)
    lost = {name: value for name, value in records.items() if "/data/" not in name}
    with pytest.raises(UserError):
        read_tensors(write_archive(tmp_path / "lost.ckpt", lost))


@pytest.mark.parametrize("legacy", [False, True])
def test_truncated_files(legacy: bool, tmp_path: Path) -> None:
    whole = save_like_lightning(tmp_path / "x.ckpt", WEIGHTS, legacy=legacy).read_bytes()
    cut = tmp_path / "cut.ckpt"
    for share in (0, 0.01, 0.1, 0.5, 0.9, 0.99):
        cut.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(UserError) as caught:
            read_tensors(cut)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "not a checkpoint"),
        (b"<html>not found</html>", "a web page"),
        (b"\x80\x02}q\x00.", "a plain pickle"),
        (b"PK\x03\x04 and no more", "not a readable checkpoint"),
        (saved([1, 2]), "got a list"),
        (saved({}), "got none"),
        (saved({"state_dict": {}}), "got none"),
        (saved({"a": 1}), "got a int at a"),
        (saved({1: torch.zeros(1)}), "got a Tensor at 1"),
        (saved({"a": torch.eye(2).to_sparse()}), "expected dense tensors"),
    ],
)
def test_what_is_no_checkpoint(content: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / "x.ckpt").write_bytes(content)
    with pytest.raises(UserError, match=expected):
        read_tensors(tmp_path / "x.ckpt")


def test_damaged_safetensors_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"\xff" * 20)
    with refused("x.safetensors"):
        read_tensors(tmp_path / "x.safetensors")
    with refused("none.ckpt"):
        read_tensors(tmp_path / "none.ckpt")
    with pytest.raises(UserError):
        read_tensors(tmp_path)


def test_settings_and_figures_beside_the_weights_are_no_obstacle(tmp_path: Path) -> None:
    beside = {
        "args": argparse.Namespace(lr=0.1, out=PurePosixPath("/x"), dtype=np.float32),
        "best": np.float64(91.5),
        "step": np.int64(7),
        "kind": np.dtype("float32"),
        "at": datetime.datetime(2024, 5, 1, tzinfo=datetime.UTC),
        "took": datetime.timedelta(hours=3),
        "history": collections.defaultdict(list, {"loss": [1.0]}),
        "last": collections.deque([1, 2], maxlen=3),
        "seen": collections.Counter("aab"),
    }
    for legacy in (False, True):
        torch.save(
            {"state_dict": WEIGHTS, **beside}, tmp_path / "x.pth",
            _use_new_zipfile_serialization=not legacy,
        )  # fmt: skip
        assert_same(read_tensors(tmp_path / "x.pth"), WEIGHTS)


def test_settings_that_lightning_saved_beside_the_weights_are_no_obstacle(tmp_path: Path) -> None:
    from omegaconf import OmegaConf

    settings = OmegaConf.create({"lr": 1e-4, "channels": [1, 2, {"name": "x"}], "ckpt": None})
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {"w": torch.ones(3)}, "hyper_parameters": settings}, path)
    assert read_tensors(path)["w"].tolist() == [1, 1, 1]
