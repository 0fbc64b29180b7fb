"""Files that genkt reads again: whatever happened to them is one line, or told and made again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused

from genkt.disk import PROBE, writing_fault
from genkt.files import (
    broken_seals,
    discard,
    file_digest,
    read_array,
    read_or_forget,
    read_signed,
    read_tensors,
    seals_of,
    write_shard,
    write_signed,
)
from genkt.io import (
    atomic_folder,
    atomic_path,
    clear_dead_temporaries,
    contents,
    read_json,
    temporary_prefix,
    write_text,
)
from genkt.training.checkpoint import load_state, save_state, save_weights
from genkt.types import DamagedError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.text(min_size=1, max_size=5).filter(lambda k: k != "digest"), VALUES))
def test_a_signed_file_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, value: dict[str, object]
) -> None:
    path = tmp_path_factory.getbasetemp() / "signed.json"
    write_signed(path, value)
    assert read_signed(path, "a value") == json.loads(json.dumps(value))


@given(st.data())
def test_any_change_of_a_signed_file_is_found(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.json"
    write_signed(path, {"accuracy": 0.5, "arms": ["a", "b"]})
    written = path.read_bytes()
    place = data.draw(st.integers(0, len(written) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != written[place]))
    path.write_bytes(written[:place] + bytes([other]) + written[place + 1 :])
    try:
        assert read_signed(path, "a value") == {"accuracy": 0.5, "arms": ["a", "b"]}  # white space
    except DamagedError as error:
        assert "\n" not in str(error) and str(path) in str(error)


CONTENTS: dict[str, bytes | None] = {
    "missing": None, "empty": b"", "cut": b'{"a": ', "other": b"[1]", "no text": b"\xff\xfe\x00",
    "number": b"3", "unsigned": b'{"a": 1}',
}  # fmt: skip


@pytest.mark.parametrize("content", CONTENTS)
def test_what_is_no_signed_file_is_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    if (data := CONTENTS[content]) is not None:
        path.write_bytes(data)
    told = "x.json"
    with refused(told, kind=DamagedError) as error:
        read_signed(path, "a value", "do this")
    assert "\n" not in str(error.value)
    if content == "unsigned":
        assert read_signed(path, "a value", unsigned=("a", "b")) == {"a": 1}


def test_what_may_not_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with refused("x.json", "JSON", kind=DamagedError):
        read_json(tmp_path / "x.json")


def test_arrays_are_of_the_expected_kind(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.ones((2, 3), np.float32))
    assert read_array(path, np.float32, (None, 3)).shape == (2, 3)
    wrong = [np.ones((2, 4), np.float32), np.ones((2, 3)), np.array([[1, 2, np.nan]], np.float32)]
    for array in (*wrong, np.array([{}], dtype=object), np.ones(3, np.float32)):
        np.save(path, array, allow_pickle=True)
        with refused("float32", "[any, 3]", kind=DamagedError):
            read_array(path, np.float32, (None, 3))


def test_weights_that_were_altered_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    tensors = {"a": torch.arange(100.0), "b": torch.ones(2, dtype=torch.int64)}
    save_weights(path, tensors)
    assert all(torch.equal(read_tensors(path)[name], tensors[name]) for name in tensors)
    data = bytearray(path.read_bytes())
    data[-30] ^= 1
    path.write_bytes(data)
    with refused("x.safetensors", kind=DamagedError):
        read_tensors(path)


def test_a_flipped_bit_of_a_state_is_found(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    save_state(path, {"identity": "me", "value": torch.arange(1000.0)})
    data = bytearray(path.read_bytes())
    place = data.index(torch.tensor([500.0, 501.0]).numpy().tobytes())
    data[place] ^= 1
    path.write_bytes(data)
    with refused("state.pt"):
        load_state(path, "me")
    discard(path)
    path.mkdir()
    with refused("state.pt"):
        load_state(path, "me")


def test_seals(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        (tmp_path / name).write_text(name)
    seals = seals_of(tmp_path, "abcd")
    assert broken_seals(tmp_path, seals) == [] and seals["a"] == file_digest(tmp_path / "a")
    (tmp_path / "a").write_text("b")
    (tmp_path / "b").unlink()
    discard(tmp_path / "c")
    (tmp_path / "c").mkdir()
    assert broken_seals(tmp_path, seals) == ["a", "b", "c"]


def test_what_is_made_again_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "x.json"
    path.mkdir()
    assert read_or_forget(path, lambda: read_json(path), "measured again") is None
    assert "x.json: damaged" in caplog.text and caplog.text.strip().endswith("; measured again")
    assert not path.exists()


def test_names_that_are_no_text_go_through_json(tmp_path: Path) -> None:
    path = write_text(tmp_path / "x.json", json.dumps({"a": "\udcff"}, ensure_ascii=False))
    assert read_json(path) == {"a": "\udcff"}


def test_what_dead_processes_left_is_removed(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    mine = temporary_prefix("x.npy")
    theirs = mine.replace(f"-{os.getpid()}.", f"-{ended.stdout.strip()}.")
    for name in (f"{theirs}abcdefgh.npy", f"{mine}abcdefgh.npy", ".x.npy.abcdefgh.npy",
                 ".x.npy.abcdefgg.npy", ".hidden", "kept.npy"):  # fmt: skip
        (tmp_path / name).touch()
    (tmp_path / f"{theirs}folder__").mkdir()
    os.utime(tmp_path / ".x.npy.abcdefgg.npy", (0, 0))  # of an older genkt, years ago
    os.utime(tmp_path / "kept.npy", (0, 0))
    clear_dead_temporaries(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{mine}abcdefgh.npy", ".x.npy.abcdefgh.npy", ".hidden", "kept.npy",
    }  # fmt: skip
    clear_dead_temporaries(tmp_path / "nowhere")


def test_what_dead_writers_of_the_same_file_left_goes_when_it_is_written(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    names = {
        name: temporary_prefix(name).replace(f"-{os.getpid()}.", f"-{ended.stdout.strip()}.")
        for name in ("x.json", "y.json", "set")
    }
    (tmp_path / f"{names['x.json']}abcdefgh.json").touch()
    (tmp_path / f"{names['y.json']}abcdefgh.json").touch()
    (tmp_path / f"{names['set']}abcdefgh").mkdir()
    own = tmp_path / ".x.json.settings.json"  # the user's: no process is named
    own.touch()
    os.utime(own, (0, 0))
    write_text(tmp_path / "x.json", "whole")
    with atomic_folder(tmp_path / "set") as folder:
        (folder / "a").touch()
    assert {path.name for path in tmp_path.iterdir()} == {
        "x.json", "set", own.name, f"{names['y.json']}abcdefgh.json",
    }  # fmt: skip


def test_what_a_killed_command_left_does_not_fill_a_folder(tmp_path: Path) -> None:
    assert contents(tmp_path / "missing") == set()
    (tmp_path / f"{temporary_prefix('x.json')}abcdefgh.json").touch()
    (tmp_path / PROBE).mkdir()
    assert contents(tmp_path) == set()
    assert writing_fault(tmp_path) is None and not (tmp_path / PROBE).exists()
    (tmp_path / ".hidden").touch()
    assert contents(tmp_path) == {".hidden"}


def test_temporary_names_tell_who_writes(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "x.npy") as temporary:
        assert temporary.name.startswith(temporary_prefix("x.npy"))
        clear_dead_temporaries(tmp_path)
        temporary.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


def test_a_shard_is_there_as_a_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker, rows, text = (tmp_path / name for name in ("0.json", "0.npy", "0.jsonl"))
    array = np.arange(6, dtype=np.float16).reshape(2, 3)
    write_shard(marker, {rows: array, text: b"one\n"}, {"num": 2})
    assert read_signed(marker, "a shard") == {"num": 2}
    assert np.array_equal(np.load(rows), array) and text.read_bytes() == b"one\n"
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_shard(marker, {rows: array, text: b"one\n"}, {"num": 2})
    assert first == {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr("genkt.files.write_array", full)
    other = tmp_path / "1.json"
    with pytest.raises(OSError, match="no space"):
        write_shard(other, {tmp_path / "1.jsonl": b"x", tmp_path / "1.npy": array}, {"num": 1})
    assert not other.exists()
