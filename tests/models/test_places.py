"""Where things are written: links, pipes, folders, full disks, places that cannot be written."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused
from safetensors import SafetensorError
from tiny import picture, run, transfer_words, tree

from genkt import disk
from genkt.disk import existing_above, output_file, require_free, size_text, writing_fault
from genkt.files import write_array
from genkt.io import atomic_folder, atomic_path, write_text
from genkt.runs.run_log import log_to_file
from genkt.training.checkpoint import save_state
from genkt.types import UserError


def test_a_link_is_followed_not_replaced(tmp_path: Path) -> None:
    target = write_text(tmp_path / "deep" / "target.txt", "old")
    link = tmp_path / "link.txt"
    link.symlink_to(target)
    chain = tmp_path / "chain.txt"
    chain.symlink_to(link)
    write_text(chain, "new")
    assert chain.is_symlink() and link.is_symlink() and target.read_text() == "new"
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "elsewhere" / "file")
    write_text(dangling, "made")
    assert dangling.is_symlink() and (tmp_path / "elsewhere" / "file").read_text() == "made"
    assert [path.name for path in target.parent.iterdir()] == ["target.txt"]


def test_a_folder_that_is_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with atomic_folder(tmp_path / "link") as temporary:
        (temporary / "a").write_text("a")
        assert temporary.parent == tmp_path and temporary != tmp_path / "link"
    assert (tmp_path / "link").is_symlink() and tree(tmp_path / "real") == {"a": b"a"}


def test_a_pipe_is_written_into_and_stays_one(tmp_path: Path, finished: Path) -> None:
    pipe, read = tmp_path / "pipe.csv", list[str]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    picture(0, 1).save(tmp_path / "a.png")
    ran = run(
        "predict", str(finished / "run"), str(tmp_path / "a.png"), f"output={pipe}", "format=csv"
    )
    reader.join(60)
    assert ran.code == 0 and read[0].startswith("image,label,probability\n"), ran.err
    assert pipe.is_fifo() and sorted(path.name for path in tmp_path.iterdir()) == [
        "a.png", "pipe.csv",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["folder", "below a file", "proc"])
@pytest.mark.parametrize("command", ["predict", "evaluate", "export"])
def test_an_output_that_cannot_be_is_told_before_the_work(
    kind: str, command: str, tmp_path: Path, finished: Path
) -> None:
    file = write_text(tmp_path / "file", "mine")
    output = {"folder": tmp_path, "below a file": file / "x.csv", "proc": Path("/proc/x/y")}[kind]
    words = {
        "predict": [str(finished / "run"), str(finished / "images")],
        "evaluate": [f"model={finished / 'run'}", "data=digits"],
        "export": [str(finished / "run")],
    }[command]
    ran = run(command, *words, f"output={output}")
    assert ran.code == 2 and len(ran.lines) == 1 and not ran.out, ran.err
    assert str(output) in ran.err and "Traceback" not in ran.err
    assert file.read_text() == "mine" and [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("setting", ["out", "cache"])
def test_a_run_below_a_file_is_refused_and_leaves_nothing(setting: str, tmp_path: Path) -> None:
    file = write_text(tmp_path / "file", "mine")
    words = transfer_words(tmp_path, f"{setting}={file / 'x'}")
    ran = run(*words)
    assert ran.code == 2 and len(ran.lines) == 1 and f"{file} is a file" in ran.err, ran.err
    ran = run(*words, "dry_run=true")
    assert setting == "cache" or (ran.code == 2 and "is a file" in ran.err), ran.out + ran.err
    assert file.read_text() == "mine"


def test_the_caches_place_can_be_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENKT_CACHE", "/proc/none")
    words = [word for word in transfer_words(tmp_path) if not word.startswith("cache=")]
    ran = run(*words)
    assert ran.code == 2 and len(ran.lines) == 1, ran.err
    assert "/proc/none" in ran.err and "GENKT_CACHE" in ran.err and "cache=FOLDER" in ran.err


def test_a_full_disk_is_told_with_its_place_and_room() -> None:
    with pytest.raises(OSError) as caught, atomic_path("/dev/full") as temporary:
        temporary.write_bytes(b"x" * 100_000)
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == "/dev/full"
    assert "are free there" in disk.explained(caught.value)


def test_a_full_disk_tells_how_much_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "free_bytes", lambda path: 40_000)

    def told(write: Callable[[Path], object], *error: object) -> str:
        def refuse(path: object, *_: object) -> None:
            raise OSError(*error)

        with monkeypatch.context() as patch, pytest.raises(OSError) as caught:
            patch.setattr(os, "replace", refuse)
            write(tmp_path / "file")
        return disk.explained(pickle.loads(pickle.dumps(caught.value)))

    full = (errno.ENOSPC, "full")
    text = told(lambda path: write_text(path, "é" * 50_000), *full)
    assert f"{tmp_path / 'file'}: full: " in text
    assert "100 kB were to be written, 60 kB are missing" in text
    array = np.zeros(30_000, dtype=np.float32)
    assert "120 kB were to be written, 80 kB are missing" in told(
        lambda path: write_array(path, array),
        "9 requested and 3 written",  # as NumPy says it
    )
    state = {"a": [torch.zeros(10_000)], "b": (torch.zeros(100), 3)}
    text = told(lambda path: save_state(path, state), *full)
    assert "40.4 kB were to be written, 400 B are missing" in text
    assert "missing" not in told(lambda path: write_text(path, "short"), *full)


def test_libraries_with_errors_of_their_own_for_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing() -> None:
        with atomic_path(tmp_path / "model.safetensors"):
            raise SafetensorError("whatever it says")

    with pytest.raises(SafetensorError):
        failing()
    monkeypatch.setattr(disk, "free_bytes", lambda path: 100)
    with pytest.raises(OSError) as caught:
        failing()
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    assert require_free(tmp_path / "not" / "there", 1, "it") > 1
    with refused("EB", key="it"):
        require_free(tmp_path, 1e18, "it")
    assert existing_above(tmp_path / "a" / "b") == tmp_path


def test_asking_whether_a_place_can_be_written_leaves_nothing(tmp_path: Path) -> None:
    assert writing_fault(tmp_path / "a" / "b") is None and not list(tmp_path.iterdir())
    assert writing_fault("/proc/none") is not None
    assert output_file(tmp_path / "deep" / "x") == tmp_path / "deep" / "x"
    with pytest.raises(UserError, match="it is a folder"):
        output_file(tmp_path)


@given(st.integers(0, 10**16))
def test_sizes_keep_three_digits(value: int) -> None:
    number, unit = size_text(value).split()
    size = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "PB": 1e15}[unit]
    assert float(number) * size == pytest.approx(value, rel=5.01e-3)


def test_cells_that_a_spreadsheet_would_run(
    tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("=cmd|x").mkdir()
    picture(0, 1).save("=cmd|x/-1.png")
    ran = run("predict", str(finished / "run"), "=cmd|x/-1.png", "format=csv", "device=cpu")
    assert ran.code == 0 and ran.out.splitlines()[1].startswith("'=cmd|x/-1.png,"), ran.err


def test_a_log_without_room_says_so_once(capsys: pytest.CaptureFixture[str]) -> None:
    handler = log_to_file(Path("/dev/full"))
    logger = logging.getLogger("genkt")
    try:
        for _ in range(3):
            logger.warning("x" * 100_000)
    finally:
        logger.removeHandler(handler)
        handler.close()
    told = capsys.readouterr().err
    assert told.count("/dev/full: No space left on device") == 1 and "Traceback" not in told
