"""A teacher cached in shards: the store of one process, byte for byte, whatever interrupts it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import Command
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused
from test_teacher import contents
from tiny import model_words, run, write_images

from genkt.data.images import ImageSet, from_arrays
from genkt.data.views import ViewSpec
from genkt.execution.ranks import Processes
from genkt.execution.tasks import ExecutorSettings
from genkt.models.load import ModelSpec, load_model
from genkt.stores.teacher_outputs import OutputStore, StoreWriter
from genkt.training import teacher_shards
from genkt.training.store_job import shards_of
from genkt.training.teacher import OutputName, cache_outputs
from genkt.training.teacher_shards import (
    CacheTask,
    TeacherSource,
    cache_by_tasks,
    load_once,
    samples_per_shard,
)

SPEC = ModelSpec(
    "resnet18", pretrained=False, args={"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]},
    transform={"input_size": [24, 24], "crop_pct": 1.0},
)  # fmt: skip
SOURCE = TeacherSource(SPEC, seed=0, device="cpu")
VIEWS = ViewSpec(num_views=3, seed=7, crop_scale=(0.5, 1.0), hflip=True)
POOL = ExecutorSettings("pool", 2, None)


@pytest.fixture
def images() -> ImageSet:
    pixels = np.random.default_rng(1).integers(0, 256, (30, 26, 28, 3), dtype=np.uint8)
    return from_arrays(pixels, [-1] * 30, (), "toy")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_shards, "_LEAST_ROWS", 20)  # shards of 8 samples, the last of 6


@pytest.fixture
def whole(tmp_path: Path, images: ImageSet) -> dict[str, bytes]:
    """What one process stores."""
    store = cache_outputs(load_model(SPEC), images, VIEWS, tmp_path / "whole", batch_size=4)
    return contents(store)


def cached(home: Path, images: ImageSet, executor: ExecutorSettings = POOL) -> OutputStore:
    return cache_by_tasks(SOURCE, images, VIEWS, home, executor=executor, batch_size=4)


def shards(home: Path, images: ImageSet, monkeypatch: pytest.MonkeyPatch) -> list[CacheTask]:
    """The tasks, not run."""
    taken: list[CacheTask] = []

    class Taken(Exception):
        pass

    def take(tasks: list[CacheTask], *_: object, **__: object) -> None:
        taken.extend(tasks)
        raise Taken

    with monkeypatch.context() as patch:
        patch.setattr(teacher_shards, "run_tasks", take)
        with pytest.raises(Taken):
            cached(home, images)
    return taken


def test_a_pool_writes_the_store_of_one_process(
    tmp_path: Path, images: ImageSet, whole: dict[str, bytes]
) -> None:
    store = cached(tmp_path, images)
    assert contents(store) == whole
    assert [path.suffix for path in sorted(tmp_path.iterdir())][:2] == ["", ".lock"]
    assert not list(tmp_path.glob("*.shards"))
    shards_of(store.path).mkdir()  # as a process leaves them that was killed after its merge
    assert cached(tmp_path, images).path == store.path  # found again
    assert not shards_of(store.path).exists()


def test_feature_maps_are_merged_a_few_rows_at_a_time(
    tmp_path: Path, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher_shards, "_MERGED_BYTES", 1)  # row by row
    monkeypatch.setattr(teacher_shards, "IN_PROCESS", ())  # shards although here is one process
    inline = ExecutorSettings("inline", None, None)
    outputs: tuple[OutputName, ...] = ("features", "feature_map")
    store = cache_by_tasks(
        SOURCE, images, VIEWS, tmp_path / "parts", executor=inline, batch_size=4, outputs=outputs
    )
    whole = cache_outputs(
        load_model(SPEC), images, VIEWS, tmp_path / "whole", batch_size=4, outputs=outputs
    )
    assert store.layout.map_shape == (16, 1, 1) and contents(store) == contents(whole)


def test_ranks_take_turns(
    tmp_path: Path, images: ImageSet, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    for task in shards(tmp_path, images, monkeypatch)[1::2]:
        task.run(lambda _: None)
    monkeypatch.setattr(teacher_shards, "processes_of", lambda _: Processes(0, 2))
    assert contents(cached(tmp_path, images, ExecutorSettings("auto", None, None))) == whole
    # the other rank, which was late, finds the whole and nothing to do
    monkeypatch.setattr(teacher_shards, "processes_of", lambda _: Processes(1, 2))
    assert contents(cached(tmp_path, images, ExecutorSettings("auto", None, None))) == whole


def test_tasks_know_that_the_whole_is_there(
    tmp_path: Path, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who still waits for a shard when another process has merged and removed them all."""
    tasks = shards(tmp_path, images, monkeypatch)
    assert [task.size for task in tasks] == [24, 24, 24, 18]
    assert not any(task.is_done() for task in tasks)
    for task in tasks:
        task.run(lambda _: None)
        assert task.is_done() and Path(task.path).is_dir()
    cached(tmp_path, images)
    assert all(task.is_done() for task in tasks)
    assert not any(Path(task.path).is_dir() for task in tasks)


def test_an_interrupted_merge_goes_on(
    tmp_path: Path, images: ImageSet, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = shards(tmp_path, images, monkeypatch)
    for task in reversed(tasks):
        task.run(lambda _: None)
    monkeypatch.setattr(teacher_shards, "_MERGED_ROWS", 7)
    write, starts = StoreWriter.write, list[int]()

    def stops(self: StoreWriter, start_row: int, outputs: dict[str, torch.Tensor]) -> None:
        starts.append(start_row)
        if start_row == 31:  # in the middle of a shard
            self.commit()
            raise KeyboardInterrupt
        write(self, start_row, outputs)

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "write", stops)
        with pytest.raises(KeyboardInterrupt):
            cached(tmp_path, images)
    assert starts[-1] == 31 and all(Path(task.path).is_dir() for task in tasks)
    assert contents(cached(tmp_path, images)) == whole


@pytest.mark.parametrize("what", ["shard", "whole"])
def test_what_is_damaged_is_computed_again(
    tmp_path: Path, images: ImageSet, whole: dict[str, bytes], what: str,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    tasks = shards(tmp_path, images, monkeypatch)
    for task in tasks:
        task.run(lambda _: None)
    if what == "whole":
        shutil.copytree(tasks[0].home, tmp_path / "kept")
        path = cached(tmp_path, images).path
        shutil.copytree(tmp_path / "kept", tasks[0].home)
    else:
        path = Path(tasks[2].path)
    data = bytearray((path / "features.npy").read_bytes())
    data[-9] ^= 1
    (path / "features.npy").write_bytes(data)
    assert contents(cached(tmp_path, images)) == whole
    assert "Recomputing" in caplog.text


def test_another_teacher_elsewhere_is_refused(
    tmp_path: Path, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = shards(tmp_path, images, monkeypatch)[0]
    teacher, fingerprint = load_once(SOURCE)
    monkeypatch.setattr(teacher_shards, "load_once", lambda _: (teacher, fingerprint[::-1]))
    with refused(0, 7, "resnet18"):
        task.run(lambda _: None)


@given(
    num_samples=st.integers(1, 10**8), num_views=st.integers(1, 64), batch_size=st.integers(1, 999)
)
def test_shards_hold_whole_batches(num_samples: int, num_views: int, batch_size: int) -> None:
    rows = samples_per_shard(num_samples, num_views, batch_size) * num_views
    assert rows % batch_size == 0 and rows >= 20
    assert -(-num_samples * num_views // rows) <= 256


def test_two_processes_of_a_launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "images", per_class=8)
    options = [
        "cache", "data=folder", f"data.root={tmp_path / 'images'}", *model_words("teacher"),
        "data.views.num_views=99", "data.labels_per_class=2", "batch_size=11", "device=cpu",
        "draws=1",
    ]  # fmt: skip
    ran = run(*options, f"cache={tmp_path / 'one'}")
    assert ran.code == 0, ran.err
    here = {"RANK": "1", "WORLD_SIZE": "2"}
    other = Command([*options, f"cache={tmp_path / 'two'}"], env=here)
    monkeypatch.setattr(teacher_shards, "_LEAST_ROWS", 1024)  # as in the other process
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    ran = run(*options, f"cache={tmp_path / 'two'}")
    assert ran.code == 0, ran.err
    out, err = other.communicate()
    assert other.returncode == 0 and not out, err  # one process speaks
    one, two = (next((tmp_path / name).glob("*/meta.json")).parent for name in ("one", "two"))
    assert ran.out.startswith(f"{two}: ") and int(ran.out.split()[1].replace(",", "")) > 1024
    assert one.name == two.name
    assert {path.name: path.read_bytes() for path in two.iterdir()} == {
        path.name: path.read_bytes() for path in one.iterdir()
    }
