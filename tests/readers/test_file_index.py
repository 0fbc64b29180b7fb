"""What earlier starts learnt about files: never stale, never half written, never in the way."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from refusals import refused
from source_cases import picture_folder, png

import genkt.readers.file_index as file_index
from genkt.data.looks import look_of
from genkt.readers.file_index import (
    Examined,
    examine_files,
    file_facts,
    index_of,
    pack,
    pack_hashes,
    read_columns,
    unpack,
    unpack_hashes,
    write_columns,
)
from genkt.readers.folders import read_unlabelled

NUM = 80
NAMES = [f"{number}.png" for number in range(NUM)]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read, as it happens."""
    names: list[str] = []
    original = file_index.examine_file

    def counted(path: str, look: bool = False) -> Examined:
        names.append(Path(path).name)
        return original(path, look)

    monkeypatch.setattr(file_index, "examine_file", counted)
    return names


def examine(root: Path, names: list[str]) -> list[tuple[str, str]]:
    return [each[:2] for each in examine_files(root, names, description="x", num_threads=1)]


def looks_at(root: Path, names: list[str]) -> list[int]:
    found = examine_files(root, names, description="x", looks=True, num_threads=1)
    return [each.look for each in found]


def test_an_unchanged_file_is_not_read_again(tmp_path: Path, reads: list[str]) -> None:
    root = picture_folder(tmp_path / "r", range(NUM))
    first = examine(root, NAMES)
    assert reads == NAMES and all(digest and not reason for digest, reason in first)
    reads.clear()
    assert examine(root, NAMES[::-1]) == first[::-1] and not reads
    (tmp_path / "link").symlink_to(root)
    assert examine(tmp_path / "link", NAMES[:3]) == first[:3] and not reads


def test_what_pictures_look_like_is_remembered(tmp_path: Path, reads: list[str]) -> None:
    root = picture_folder(tmp_path / "r", range(NUM))
    looks = looks_at(root, NAMES)
    assert reads == NAMES and looks[3] == look_of(Image.open(root / "3.png")) and all(looks)
    reads.clear()
    assert looks_at(root, NAMES) == looks and examine(root, NAMES) and not reads


def test_an_index_without_looks_is_read_again_only_for_them(
    tmp_path: Path, reads: list[str]
) -> None:
    root = picture_folder(tmp_path / "r", range(NUM))
    first = examine(root, NAMES)
    columns = read_columns(index_of("folder", root))
    assert columns is not None
    del columns["looks"]
    write_columns(index_of("folder", root), columns)
    reads.clear()
    assert examine(root, NAMES) == first and not reads
    assert all(looks_at(root, NAMES)) and reads == NAMES
    reads.clear()
    assert all(looks_at(root, NAMES)) and not reads


def test_what_changed_is_read_again(tmp_path: Path, reads: list[str]) -> None:
    root = picture_folder(tmp_path / "r", range(NUM))
    before = examine(root, NAMES)
    reads.clear()
    (root / "3.png").write_bytes(png(1000))
    stale = root / "4.png"
    times = stale.stat()
    data = stale.read_bytes()
    stale.write_bytes(png(4 + 10**6)[: len(data)].ljust(len(data), b"\0"))
    os.utime(stale, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert stale.stat().st_size == times.st_size and stale.stat().st_mtime_ns == times.st_mtime_ns
    (root / "new.png").write_bytes(png(5))
    os.replace(root / "new.png", root / "5.png")
    (root / "6.png").unlink()
    after = examine(root, NAMES)
    assert reads == ["3.png", "4.png", "5.png", "6.png"]
    assert after[3][0] not in ("", before[3][0]) and after[5] == before[5]
    assert after[6] == ("", "No such file or directory") and after[7:] == before[7:]


def test_unusable_files_are_tried_again(tmp_path: Path, reads: list[str]) -> None:
    root = picture_folder(tmp_path / "r", range(NUM))
    (root / "bad.png").write_bytes(b"x")
    assert examine(root, [*NAMES, "bad.png"])[-1][1] == "not a picture that Pillow can open"
    reads.clear()
    assert examine(root, [*NAMES, "bad.png"])[-1][1] and reads == ["bad.png"]


def test_few_files_leave_no_index(tmp_path: Path, reads: list[str]) -> None:
    root = picture_folder(tmp_path / "r", range(10))
    examine(root, NAMES[:10])
    assert not index_of("folder", root).exists()


def test_a_file_written_while_it_is_read_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = picture_folder(tmp_path / "r", range(NUM))
    original = file_index.examine_file

    def slow(path: str, look: bool = False) -> Examined:
        found = original(path, look)
        if path.endswith("/7.png"):
            Path(path).write_bytes(png(7777))
        return found

    monkeypatch.setattr(file_index, "examine_file", slow)
    early = examine(root, NAMES)
    monkeypatch.setattr(file_index, "examine_file", original)
    assert examine(root, NAMES)[7] != early[7]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other", "text"])
def test_a_damaged_index_is_told_and_made_anew(
    tmp_path: Path, reads: list[str], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    root = picture_folder(tmp_path / "r", range(NUM))
    first = examine(root, NAMES)
    path = index_of("folder", root)
    data = bytearray(path.read_bytes())
    if damage == "other":
        write_columns(path, {"names": pack(["a"])})
        data = bytearray(path.read_bytes()).replace(b"a\0", b"b\0")
    data[len(data) // 2] ^= 4 if damage == "flipped" else 0
    damaged = {"cut": data[:-900], "empty": b"", "text": b"hello"}.get(damage, data)
    path.write_bytes(damaged)
    reads.clear()
    assert examine(root, NAMES) == first and reads == NAMES
    assert "damaged index of image files" in caplog.text
    reads.clear()
    assert examine(root, NAMES) == first and not reads


def test_every_flipped_byte_is_noticed_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    write_columns(path, {"hashes": pack_hashes(["0123456789abcdef", ""]), "names": pack(["é", ""])})
    whole, columns = path.read_bytes(), read_columns(path)
    assert columns is not None and unpack(columns["names"]) == ["é", ""]
    assert unpack_hashes(columns["hashes"]) == ["0123456789abcdef", ""]
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        found = read_columns(path)
        assert found is None or all(np.array_equal(found[k], columns[k]) for k in columns), at
        path.write_bytes(whole[:at])
        assert read_columns(path) is None


def test_a_cache_that_cannot_be_written_is_only_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GENKT_CACHE", str(tmp_path / "file" / "cache"))
    root = picture_folder(tmp_path / "r", range(NUM))
    assert all(digest for digest, _ in examine(root, NAMES))
    assert "cannot be written" in caplog.text


def test_gone_files_leave_the_index(tmp_path: Path) -> None:
    root = picture_folder(tmp_path / "r", range(NUM))
    examine(root, NAMES)
    for name in NAMES[:70]:
        (root / name).unlink()
    picture_folder(root, range(100, 170))
    examine(root, [f"{number}.png" for number in range(100, 170)])
    columns = read_columns(index_of("folder", root))
    assert columns is not None
    expected = [f"{number}.png" for number in (*range(70, 80), *range(100, 170))]
    assert unpack(columns["names"]) == expected
    assert (columns["facts"] == file_facts(root / name for name in expected)).all()


def _examine_part(root: Path, first: int, barrier: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    examine(root, [f"{number}.png" for number in range(first, first + 70)])


def test_two_writers_at_once_lose_nothing(tmp_path: Path, reads: list[str]) -> None:
    root = picture_folder(tmp_path / "r", range(210))
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(3)
    workers = [
        context.Process(target=_examine_part, args=(root, first, barrier)) for first in (0, 70, 140)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    reads.clear()
    examine(root, [f"{number}.png" for number in range(210)])
    assert not reads


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
import genkt.readers.file_index as file_index
original = np.savez
def savez(path, *arrays, **columns):
    original(path, *arrays, **columns)
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[: len(data) // 2])
    os.kill(os.getpid(), signal.SIGKILL)
np.savez = savez
root = Path(sys.argv[1])
file_index.examine_files(root, [p.name for p in root.iterdir()], description="x")
"""


def test_a_writer_killed_half_way_leaves_the_old_index(tmp_path: Path, reads: list[str]) -> None:
    root = picture_folder(tmp_path / "r", range(NUM))
    first = examine(root, NAMES)
    before = index_of("folder", root).read_bytes()
    picture_folder(root, range(1000, 1070))
    ran = subprocess.run([sys.executable, "-c", KILLED, str(root)], check=False)
    assert ran.returncode == -signal.SIGKILL
    assert index_of("folder", root).read_bytes() == before
    reads.clear()
    assert examine(root, NAMES) == first and not reads


def test_interrupted_reading_keeps_what_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: list[str]
) -> None:
    root = picture_folder(tmp_path / "r", range(200))
    names = [f"{number}.png" for number in range(200)]
    counted = file_index.examine_file

    def interrupted(path: str, look: bool = False) -> Examined:
        if path.endswith("/150.png"):
            raise KeyboardInterrupt
        return counted(path, look)

    monkeypatch.setattr(file_index, "examine_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        examine(root, names)
    monkeypatch.setattr(file_index, "examine_file", counted)
    reads.clear()
    examine(root, names)
    assert 50 <= len(reads) < 200 and "0.png" not in reads


def test_a_wrong_index_heals(tmp_path: Path, reads: list[str]) -> None:
    root = picture_folder(tmp_path / "r", range(NUM))
    read_unlabelled(root)
    path = index_of("folder", root)
    columns = read_columns(path)
    assert columns is not None
    hashes = columns["hashes"].copy()
    hashes[0] ^= 1
    write_columns(path, {**columns, "hashes": hashes})
    images = read_unlabelled(root)
    with refused("0.png"):
        for index in range(NUM):
            images.load(index)
    reads.clear()
    again = read_unlabelled(root)
    assert len(reads) == NUM
    assert all(again.load(index).size == (6, 6) for index in range(NUM))


def test_after_a_change_of_decoding_everything_is_read_again(
    tmp_path: Path,
    reads: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    root = picture_folder(tmp_path / "r", range(NUM))
    first = examine(root, NAMES)
    reads.clear()
    monkeypatch.setattr(file_index, "DECODING", file_index.DECODING + 1)
    with caplog.at_level("INFO"):
        assert examine(root, NAMES) == first and len(reads) == NUM
    assert "change in decoding" in caplog.text and "damaged" not in caplog.text
    reads.clear()
    assert examine(root, NAMES) == first and not reads


def test_an_index_without_a_decoding_is_of_an_earlier_one(
    tmp_path: Path, reads: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    root = picture_folder(tmp_path / "r", range(NUM))
    examine(root, NAMES)
    path = index_of("folder", root)
    columns = read_columns(path)
    assert columns is not None
    digest = np.frombuffer(file_index._digest(columns), np.uint8)
    np.savez(path, **columns, digest=digest)  # as genkt wrote it before
    reads.clear()
    examine(root, NAMES)
    assert len(reads) == NUM and "damaged" not in caplog.text
