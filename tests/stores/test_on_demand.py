"""Teacher outputs on demand: what is asked for is computed once, right, and never damaged."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import refused
from test_teacher import VIEWS, Passes, image_set, teacher

from genkt.stores import on_demand
from genkt.stores.on_demand import OnDemandStore
from genkt.stores.teacher_outputs import OutputStore
from genkt.training.asked_outputs import outputs_on_demand
from genkt.training.teacher import cache_outputs
from genkt.types import UserError

BATCH = 4
ROWS = len(image_set()) * VIEWS.num_views


def asked(home: Path, model: Any = None, **options: Any) -> OnDemandStore:
    """A store of ten images under three views, in batches of four."""
    options = {"batch_size": BATCH, "dtype": "float32", **options}
    found = outputs_on_demand(model or teacher(), image_set(), VIEWS, home, **options)
    assert isinstance(found, OnDemandStore)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> OutputStore:
    home = tmp_path_factory.mktemp("whole")
    return cache_outputs(
        teacher(), image_set(), VIEWS, home, batch_size=BATCH, dtype="float32",
        outputs=["features", "logits", "feature_map"],
    )  # fmt: skip


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(requests=st.lists(st.lists(st.integers(0, ROWS - 1), max_size=9), min_size=1, max_size=6))
def test_whatever_is_asked_the_bits_are_those_of_all_rows_at_once(
    requests: list[list[int]], whole: OutputStore, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A row does not depend on what is computed with it, nor on what was asked before."""
    store = asked(tmp_path_factory.mktemp("asked"), outputs=["features", "logits", "feature_map"])
    for rows in requests:
        found, wanted = store.rows(rows), whole.rows(rows)
        assert torch.equal(found.features, wanted.features)
        assert found.logits is not None and wanted.logits is not None
        assert torch.equal(found.logits, wanted.logits)
        assert found.feature_map is not None and wanted.feature_map is not None
        assert torch.equal(found.feature_map, wanted.feature_map)
    assert store.num_computed == len({row for rows in requests for row in rows})


def test_each_row_is_computed_once_by_all_that_read_them(tmp_path: Path) -> None:
    model = teacher()
    passes, store = Passes(model), asked(tmp_path, model)
    assert not passes.count and not store.is_whole
    store.fill(np.array([5, 1, 1, 2]))
    assert (passes.count, store.num_computed) == (1, 3)
    store.rows([2, 5])
    again = asked(tmp_path, model)  # as another run would
    again.rows([1, 2, 5, 6])
    assert (passes.count, again.num_computed) == (2, 1)
    store.fill(np.arange(ROWS))
    assert store.num_computed == 3 + ROWS - 4 and store.is_whole
    with pytest.raises(IndexError):
        store.rows([ROWS])


def test_a_finished_store_takes_its_place(tmp_path: Path) -> None:
    whole = cache_outputs(teacher(), image_set(), VIEWS, tmp_path, batch_size=BATCH)
    model = teacher()
    passes = Passes(model)
    found = outputs_on_demand(model, image_set(), VIEWS, tmp_path, batch_size=BATCH)
    assert isinstance(found, OutputStore) and found.path == whole.path and found.is_whole
    found.rows([0])
    assert not passes.count


@pytest.mark.parametrize("name", ["features.npy", "logits.npy", "checks.npy"])
def test_damaged_rows_are_computed_again(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = np.arange(9)
    wanted = asked(tmp_path).rows(rows).logits
    path = asked(tmp_path).path / name
    content = bytearray(path.read_bytes())
    begin = len(content) - (len(content) - 128) // ROWS * (ROWS - 2)  # in the third row
    content[begin + 1] ^= 0x10
    path.write_bytes(bytes(content))
    store = asked(tmp_path)
    found = store.rows(rows).logits
    assert found is not None and wanted is not None and torch.equal(found, wanted)
    assert store.num_computed == 1 and "1 rows are damaged" in caplog.text


@pytest.mark.parametrize("name", ["about.json", "features.npy", "checks.npy"])
@pytest.mark.parametrize("how", ["cut", "gone"])
def test_a_store_that_is_not_whole_begins_anew(name: str, how: str, tmp_path: Path) -> None:
    asked(tmp_path).rows([3])
    path = asked(tmp_path).path / name
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-5])
    store = asked(tmp_path)
    store.rows([3])
    assert store.num_computed == 1


def test_outputs_that_are_not_finite_name_their_images(tmp_path: Path) -> None:
    model = teacher()
    with torch.no_grad():
        next(iter(model.parameters())).fill_(torch.nan)
    store = asked(tmp_path, model)
    with refused("toy/1"):
        store.rows([4])
    assert not np.load(store.path / "checks.npy").any()


def test_a_full_disk_is_told_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = teacher()
    passes, store = Passes(model), asked(tmp_path, model)
    monkeypatch.setattr("genkt.disk.free_bytes", lambda path: 10)
    with refused("free in"):
        store.rows([0, 1])
    assert not passes.count


def test_a_write_that_fails_leaves_no_row_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(write: Any, data: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = asked(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(on_demand, "write_all", fails)
        with pytest.raises((OSError, UserError)):
            store.rows([0, 1])
    assert store.rows([1]).logits is not None and store.num_computed == 1


SCRIPT = """
import sys, time
from pathlib import Path
home, counter, pause, together, *sys.path[:0] = sys.argv[1:]
from test_on_demand import ROWS, asked, np, teacher
model = teacher()
def passed(*_):
    with open(counter, "ab") as stream:
        stream.write(b"x")
    time.sleep(float(pause))
model.register_forward_hook(passed)
store = asked(Path(home), model)
Path(home, f"{id(store)}.ready").touch()
while len(list(Path(home).glob("*.ready"))) < int(together):
    time.sleep(0.01)
store.fill(np.arange(ROWS))
"""


def start(home: Path, counter: Path, pause: float, together: int = 1) -> subprocess.Popen[str]:
    """A process that asks for all rows as soon as ``together`` of them are ready."""
    tests = Path(__file__).parents[1]
    folders = [tests / "stores", tests / "training", tests]
    command = [sys.executable, "-c", SCRIPT, home, counter, pause, together, *folders]
    return subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)


def test_what_was_computed_before_a_kill_is_kept(tmp_path: Path, whole: OutputStore) -> None:
    home, counter = tmp_path / "home", tmp_path / "counter"
    home.mkdir()
    process = start(home, counter, pause=0.2)
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and process.poll() is None:
        if counter.exists() and counter.stat().st_size >= 4:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    store = asked(home)
    found = store.rows(np.arange(ROWS)).logits
    assert found is not None
    assert torch.equal(found, whole.rows(np.arange(ROWS)).logits)  # type: ignore[arg-type]
    assert 0 < store.num_computed <= ROWS - 2 * BATCH


def test_two_processes_compute_each_row_once(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    both = [start(tmp_path, counter, pause=0.05, together=2) for _ in range(2)]
    ended = [process.communicate(timeout=600) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    assert os.stat(counter).st_size == -(-ROWS // BATCH)
