"""Transfer sets on disk: what is written is read, in folders and tars; damage is named."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import tarfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image
from refusals import refused
from tiny import tree

from genkt.io import atomic_path
from genkt.transfer_set.composition import TransferSet, read_transfer_set
from genkt.transfer_set.read_set import write_header
from genkt.transfer_set.set_files import (
    HEADER,
    ImageFiles,
    Record,
    ShardWriter,
    part_path,
    read_records,
    remove_leftovers,
    shard_facts,
)
from genkt.types import UserError

CLASSES = ("cat", "dög")


def pixels(number: int, size: int = 12) -> np.ndarray:
    draws = np.random.default_rng(number)
    return draws.integers(0, 256, (size, size, 3), dtype=np.uint8)


def write_shard(root: Path, shard: int, files: ImageFiles, count: int = 3) -> dict[str, Any]:
    tokens = np.arange(count * 4, dtype=np.uint16).reshape(count, 2, 2)
    with ShardWriter(root, shard, files, CLASSES) as writer:
        for number in range(count):
            data = files.encode(pixels(10 * shard + number))
            writer.add(
                data, number, label=number % 3 - 1, parent=f"source/{number}#00",
                detail={"seed": 2**62 + number},
            )  # fmt: skip
        return writer.finish({"made": count}, {"tokens": tokens})


def write_set(root: Path, files: ImageFiles, shards: int = 2) -> TransferSet:
    for shard in range(shards):
        write_shard(root, shard, files)
    about = {"source": "synthesized", "num_shards": shards, "classes": list(CLASSES)}
    return TransferSet.of_rows(write_header(root, about | {"files": vars(files)}))


@pytest.mark.parametrize("container", ["folder", "tar"])
@pytest.mark.parametrize("name", ["webp", "png", "jpeg"])
def test_what_is_written_is_read(
    tmp_path: Path,
    container: Literal["folder", "tar"],
    name: Literal["webp", "png", "jpeg"],
) -> None:
    found = write_set(tmp_path / "set", ImageFiles(name, container=container))
    assert len(found) == 6 and found.num_shards == 2
    assert found.images.labels.tolist() == [-1, 0, 1, -1, 0, 1]
    assert found.images.classes == CLASSES
    for row in range(6):
        read = np.asarray(found.images.load(row)).astype(int)
        difference = abs(read - pixels(10 * (row // 3) + row % 3)).max()
        assert difference == 0 or (name == "jpeg" and difference < 90)
        record = found.record(row)
        assert record.id == found.images.ids[row] and record.parent == f"source/{row % 3}#00"
        assert record.detail == {"seed": 2**62 + row % 3}
        assert (record.offset is None) == (container == "folder")
    assert list(found.records()) == [found.record(row) for row in range(6)]
    assert found.tokens(1)["tokens"].tolist() == np.arange(12).reshape(3, 2, 2).tolist()
    assert "6 synthesized images" in repr(found)
    with refused(0, 5, 6, kind=IndexError):
        found.record(6)
    shuffled = pickle.loads(pickle.dumps(found.images.select([4, 1])))  # as loader processes do
    assert np.array_equal(shuffled.load(1), found.images.load(1))


def test_large_webp_is_lossy_and_small_is_not() -> None:
    for size, lossless in ((64, True), (65, False)):
        smooth = np.asarray(Image.fromarray(pixels(0)).resize((size, size), 3))
        data = ImageFiles("webp", quality=50).encode(smooth)
        with Image.open(io.BytesIO(data)) as image:
            assert np.array_equal(np.asarray(image), smooth) == lossless


def test_a_record_is_one_line_of_json() -> None:
    record = Record("images/é.png#1", 2, "retrieved", None, 5, {"query": "a\nb", "score": 0.25})
    assert record.line().count("\n") == 1 and record.file == "images/é.png"
    assert Record.parse(record.line()) == record


def test_any_name_of_a_source_fits_in_a_line(tmp_path: Path) -> None:
    parent = "caf\u00e9\u2028\x85 1.png#0"
    with ShardWriter(tmp_path, 0, ImageFiles()) as writer:
        writer.add(ImageFiles().encode(np.zeros((4, 4, 3), np.uint8)), 0, parent=parent)
        writer.finish({})
    assert [record.parent for record in read_records(tmp_path, 0)] == [parent]


def test_only_a_writers_own_leftovers_go(tmp_path: Path) -> None:
    theirs = [tmp_path / ".git", tmp_path / ".cache" / "huggingface"]
    for folder in theirs:
        folder.mkdir(parents=True)
    (tmp_path / ".gitattributes").touch()
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / HEADER) as temporary:
        kept = temporary.rename(temporary.with_name(temporary.name))
        shutil.copy(kept, tmp_path / "copy")
        raise KeyboardInterrupt
    (tmp_path / "copy").rename(kept)
    remove_leftovers(tmp_path)
    assert not kept.exists() and all(folder.is_dir() for folder in theirs)
    assert (tmp_path / ".gitattributes").is_file()


def test_tars_are_plain_webdataset_with_nothing_of_the_machine(tmp_path: Path) -> None:
    write_set(tmp_path, ImageFiles("png", container="tar"), shards=1)
    with tarfile.open(tmp_path / "images" / "00000.tar") as archive:
        members = archive.getmembers()
        assert [m.name for m in members[:4]] == [
            "000000.png", "000000.json", "000001.png", "000001.json",
        ]  # fmt: skip
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {
            (0, 0, 0, "", "", 0o644)
        }
        stream = archive.extractfile("000002.json")
        assert stream is not None
        about = json.load(stream)
    assert about["class"] == "dög" and about["label"] == 1 and about["parent"] == "source/2#00"


@pytest.mark.parametrize("container", ["folder", "tar"])
def test_a_shard_is_there_as_a_whole_or_not_at_all(
    tmp_path: Path, container: Literal["folder", "tar"], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ImageFiles(container=container)
    with pytest.raises(RuntimeError), ShardWriter(tmp_path, 0, files) as writer:
        writer.add(files.encode(pixels(0)), 0)
        raise RuntimeError("killed")
    assert tree(tmp_path) == {} and shard_facts(tmp_path, 0) is None
    written = write_shard(tmp_path, 0, files)
    once = tree(tmp_path)
    part_path(tmp_path, "shards", 0).unlink()  # as if it was killed before its marker
    left = tmp_path / "images" / ".00000.abcd123_"
    left.mkdir()
    (left / "half").write_bytes(b"x")
    (tmp_path / "manifest" / ".00000.jsonl.x9k_2mqz.jsonl").write_bytes(b"x")
    remove_leftovers(tmp_path)
    assert write_shard(tmp_path, 0, files) == written
    assert tree(tmp_path) == once


def test_wrong_folders_are_named(tmp_path: Path) -> None:
    with refused("transfer_set.json"):
        read_transfer_set(tmp_path / "nothing")
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UserError, match="is not finished; repeat its command"):
        read_transfer_set(tmp_path)
    (tmp_path / "transfer_set.json").write_text("{")
    with refused("transfer_set.json"):
        read_transfer_set(tmp_path)
    (tmp_path / "transfer_set.json").write_text('{"format": 99}')
    with refused(99, 1):
        read_transfer_set(tmp_path)


DAMAGES = {
    "shards/00001.json": ("unlink", "shard 1 is missing"),
    "shards/00000.json": ("cut", r"00000.json: damaged, expected the marker of a shard"),
    "manifest/00000.jsonl": ("cut", r"00000.jsonl: damaged"),
    "manifest/00001.jsonl": ("unlink", "though its shard was finished"),
    "images/00001.tar": ("cut", r"00001.tar: expected \d+ bytes, found \d+"),
}


@pytest.mark.parametrize("file", DAMAGES)
def test_damage_is_found_when_the_set_is_opened(tmp_path: Path, file: str) -> None:
    write_set(tmp_path, ImageFiles(container="tar"))
    how, message = DAMAGES[file]
    path = tmp_path / file
    path.unlink() if how == "unlink" else path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match=message) as caught:
        read_transfer_set(tmp_path)
    assert "\n" not in str(caught.value)


def test_damage_of_an_image_is_found_when_it_is_loaded(tmp_path: Path) -> None:
    found = write_set(tmp_path / "folder", ImageFiles())
    files = [found.directory / found.record(row).file for row in range(3)]
    files[0].unlink()
    files[1].write_bytes(files[2].read_bytes())
    with refused("000000.webp"):
        found.images.load(0)
    with refused("000001.webp"):
        found.images.load(1)
    found.images.load(2)
    found = write_set(tmp_path / "tar", ImageFiles(container="tar"))
    path = tmp_path / "tar" / "images" / "00000.tar"
    data = bytearray(path.read_bytes())
    data[:64] = b"\0" * 64
    path.write_bytes(bytes(data))
    with refused("00000.tar"):
        found.images.load(0)
    found.images.load(1)


def test_damaged_tokens_are_named(tmp_path: Path) -> None:
    found = write_set(tmp_path, ImageFiles())
    path = part_path(tmp_path, "tokens", 0)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with refused("00000.safetensors"):
        found.tokens(0)
    assert found.tokens(1)
