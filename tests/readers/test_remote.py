"""Places that fsspec opens: copied once, compared at every opening, never stale."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from refusals import refused
from source_cases import png, shard
from tiny import CLASSES, run, transfer_words, write_images

from genkt.readers import remote
from genkt.readers.folders import read_folder
from genkt.transfer_set.open_images import open_images

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def memory() -> Iterator[Any]:
    """The file system in memory, empty."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    for number in range(12):
        system.pipe_file(f"/pets/{'cat' if number % 2 else 'dog'}/{number}.png", png(number))
    system.pipe_file("/pets/notes.txt", b"no picture")
    yield system
    system.store.clear()


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are fetched, as it happens."""
    names: list[str] = []
    original = remote._Remote.fetch

    def counted(self: Any, path: str, folder: Path) -> None:
        names.append(path)
        original(self, path, folder)

    monkeypatch.setattr(remote._Remote, "fetch", counted)
    return names


def test_a_place_reads_as_the_folder_itself(
    tmp_path: Path, memory: Any, fetched: list[str]
) -> None:
    for number in range(12):
        path = tmp_path / "pets" / ("cat" if number % 2 else "dog") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))
    expected = read_folder(tmp_path / "pets", progress=False)
    for place in ("memory://pets", f"file://{tmp_path}/pets"):
        fetched.clear()
        found = read_folder(place, progress=False)
        assert {name: part.ids for name, part in found.parts.items()} == {
            name: part.ids for name, part in expected.parts.items()
        }
        assert len(fetched) == 12, "and not the notes"
        assert found.train.load(0).tobytes() == expected.train.load(0).tobytes()
        fetched.clear()
        assert open_images(place).ids == open_images(tmp_path / "pets").ids and not fetched


def test_what_changed_there_is_fetched_again(memory: Any, fetched: list[str]) -> None:
    open_images("memory://pets")
    fetched.clear()
    memory.pipe_file("/pets/dog/0.png", png(100))
    memory.pipe_file("/pets/elk/5.png", png(5))
    memory.rm("/pets/cat", recursive=True)
    found = open_images("memory://pets")
    assert sorted(fetched) == ["dog/0.png", "elk/5.png"]
    assert {each.partition("/")[0] for each in found.ids} == {"dog", "elk"} and len(found) == 7
    assert found.ids == open_images("memory://pets").ids
    assert not (remote.local_copy("memory://pets") / "cat").exists(), "no empty class is left"


def test_a_copy_that_somebody_changed_is_fetched_again(memory: Any, fetched: list[str]) -> None:
    before = open_images("memory://pets").ids
    folder = remote.local_copy("memory://pets")
    fetched.clear()
    (folder / "dog" / "0.png").write_bytes(png(7))
    (folder / "dog" / "2.png").unlink()
    assert open_images("memory://pets").ids == before
    assert sorted(fetched) == ["dog/0.png", "dog/2.png"]


@pytest.mark.parametrize("index", [None, "{"])
def test_an_opening_that_was_killed_leaves_nothing_stale(
    memory: Any, fetched: list[str], index: str | None
) -> None:
    folder = remote.local_copy("memory://pets")
    copies = folder.parent / "copies.json"
    copies.unlink() if index is None else copies.write_text(index)
    memory.rm("/pets/cat/1.png")
    fetched.clear()
    assert len(open_images("memory://pets")) == len(fetched) == 11
    assert not (folder / "cat" / "1.png").exists()


def test_a_place_that_says_nothing_of_versions_is_fetched_each_time(
    memory: Any, fetched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_VERSIONS", ())
    for _ in range(2):
        fetched.clear()
        assert len(open_images("memory://pets")) == len(fetched) == 12


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A web server of ``tmp_path / "web"``; places below /closed cannot be listed."""

    class Handler(SimpleHTTPRequestHandler):
        def list_directory(self, path: str | os.PathLike[str]) -> Any:
            if "closed" in str(path):
                return self.send_error(403, "closed")
            return super().list_directory(path)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=tmp_path / "web"))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_web_server_is_a_place_if_it_lists(web: str, tmp_path: Path, fetched: list[str]) -> None:
    pytest.importorskip("aiohttp")
    for folder in ("pets", "closed"):
        for number in range(4):
            path = tmp_path / "web" / folder / ("ça va" if number % 2 else "dog") / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(number))
    for place in (f"{web}/pets", f"{web}/pets/"):
        found = read_folder(place, test_fraction=0, progress=False)
        assert found.classes == ("dog", "ça va") and len(fetched) == 4
    with refused(f"{web}/closed/: expected a folder whose files can be listed, got: 403"):
        read_folder(f"{web}/closed/")


def test_a_tar_is_a_place_too(tmp_path: Path) -> None:
    tar = shard(tmp_path / "a.tar", range(5))
    assert open_images(f"file://{tar}").ids == open_images(tar).ids


def test_what_cannot_be_read_is_one_clear_line(
    memory: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with refused("memory://birds: expected a folder whose files can be listed"):
        read_folder("memory://birds")
    with refused("'s4://' is no kind of place", "s3"):
        read_folder("s4://bucket/pets")
    memory.pipe_file("/texts/a.txt", b"a")
    with refused("memory://texts: no image"):
        open_images("memory://texts")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with refused("memory://pets", "genkt[remote]"):
        read_folder("memory://pets")


def test_a_picture_that_vanishes_while_it_is_fetched_is_named(
    memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = remote._Remote.stamp

    def stamp(self: Any, path: str) -> str:
        if path == "dog/4.png":
            memory.rm("/pets/dog/4.png")
        return original(self, path)

    monkeypatch.setattr(remote._Remote, "stamp", stamp)
    with refused("memory://pets: dog/4.png is gone"):
        open_images("memory://pets")
    monkeypatch.undo()
    assert len(open_images("memory://pets")) == 11


def test_names_do_not_lead_out_of_the_cache(monkeypatch: pytest.MonkeyPatch, memory: Any) -> None:
    name = "/pets/../../evil.png"
    facts = {"name": name, "size": 3, "created": 1}
    monkeypatch.setattr(type(memory), "find", lambda *a, **b: {name: facts})
    with refused("leads out of the place"):
        open_images("memory://pets")


def test_a_run_reads_a_place(tmp_path: Path) -> None:
    write_images(tmp_path / "images" / "train", CLASSES, per_class=4)
    write_images(tmp_path / "images" / "test", CLASSES, per_class=2, first=5)
    shutil.move(tmp_path / "images", tmp_path / "elsewhere")
    words = transfer_words(tmp_path, f"out={tmp_path / 'run'}", "data.labels_per_class=2")
    words = [each for each in words if not each.startswith("data.root=")]
    ran = run(*words, f"data.root=file://{tmp_path}/elsewhere")
    assert ran.code == 0, ran.err
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert report["near_copies"]["pairs"] == [] and not report["skipped"]
