"""The store of teacher outputs: round trip, resume, damage, memory."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

from genkt.data.views import FIXED_VIEW, ViewSpec
from genkt.io import fingerprint
from genkt.stores import chunk_files as store_files
from genkt.stores import teacher_outputs as cache
from genkt.stores.chunk_files import decoding_key
from genkt.stores.teacher_outputs import (
    NonFiniteError,
    OutputStore,
    StoreError,
    StoreLayout,
    StoreWriter,
    store_identity,
    store_path,
)

IDENTITY = {"teacher": "abc", "ids": "123"}
LAYOUT = StoreLayout(num_rows=50, widths={"features": 6, "logits": 3}, dtype="float16")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 8 rows of 6 float16 columns, so that 50 rows have several and a short last one."""
    monkeypatch.setattr(store_files, "_CHUNK_BYTES", 8 * 6 * 2)


MAPS = StoreLayout(
    num_rows=50, widths={"features": 6, "feature_map": 12}, dtype="float16", map_shape=(2, 3, 2)
)


def values(layout: StoreLayout = LAYOUT, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(layout.num_rows, width, generator=generator)
        for name, width in layout.widths.items()
    }


def write(
    writer: StoreWriter, outputs: dict[str, torch.Tensor], stop: int = 10**9, batch: int = 7
) -> None:
    while writer.num_done < min(stop, writer.layout.num_rows):
        start = writer.num_done
        writer.write(start, {name: v[start : start + batch] for name, v in outputs.items()})


def finished(home: Path) -> OutputStore:
    writer = StoreWriter(home, IDENTITY, LAYOUT)
    write(writer, values())
    return writer.finish()


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


@settings(max_examples=25, deadline=None)
@given(
    num_rows=st.integers(1, 60),
    widths=st.sampled_from(
        [{"features": 5}, {"logits": 2}, {"features": 4, "logits": 7}, {"feature_map": 12}]
    ),
    dtype=st.sampled_from(["float16", "float32"]),
    batch=st.integers(1, 25),
    data=st.data(),
)
def test_round_trip(
    num_rows: int, widths: dict[str, int], dtype: str, batch: int, data: st.DataObject
) -> None:
    map_shape = (2, 3, 2) if "feature_map" in widths else None
    layout = StoreLayout(num_rows, widths, dtype, map_shape)
    outputs = values(layout, seed=num_rows)
    wanted = data.draw(st.lists(st.integers(0, num_rows - 1), max_size=30))
    with tempfile.TemporaryDirectory() as home:
        writer = StoreWriter(Path(home), IDENTITY, layout)
        write(writer, outputs, batch=batch)
        store = writer.finish()
        store.verify()
        for indices in (wanted, np.array(wanted, dtype=np.int64), torch.tensor(wanted).long()):
            output = store.rows(indices)
            for name in ("features", "logits", "feature_map"):
                got = getattr(output, name)
                if name in widths:
                    expected = outputs[name][wanted].to(getattr(torch, dtype)).float()
                    if name == "feature_map":
                        expected = expected.reshape(-1, 2, 3, 2)
                    assert got.dtype == torch.float32 and torch.equal(got, expected)
                else:
                    assert got is None or got.shape == (len(wanted), 0)


def test_interrupted_writing_resumes_behind_the_last_commit_with_identical_bytes(
    tmp_path: Path,
) -> None:
    whole = finished(tmp_path / "whole")
    home = tmp_path / "parts"
    resumed_from = []
    for stop in (0, 14, 35, 49, 50):  # inside a chunk, at several chunks, at the end
        writer = StoreWriter(home, IDENTITY, LAYOUT, commit_seconds=1e9)
        resumed_from.append(writer.num_done)
        write(writer, values(), stop)
        writer.commit()
        if writer.num_done < 45:
            # Written but never committed: garbage that must be overwritten.
            start = writer.num_done
            writer.write(start, {n: v[:5] + 100 for n, v in values().items()})
        writer.close()
    assert resumed_from == [0, 0, 14, 35, 49]
    store = StoreWriter(home, IDENTITY, LAYOUT).finish()
    assert contents(store.path) == contents(whole.path)
    assert sorted(contents(store.path)) == ["features.npy", "logits.npy", "meta.json"]
    assert not store.path.with_suffix(".partial").exists()


def test_a_store_without_maps_is_what_it_was_before_there_were_any() -> None:
    views = ViewSpec(num_views=3, seed=7, hflip=True)
    identity = store_identity(
        teacher="t", transform={"crop_pct": 0.9}, views=views, dtype="float16",
        outputs=("features", "logits"), precision="float32",
        ids=[f"a/{index}#0" for index in range(50)],
    )  # fmt: skip
    assert fingerprint(identity) == "746907298f8f38fa12aac6134cbfc7f5"
    assert identity | decoding_key(1) == identity != identity | decoding_key(2)
    assert LAYOUT.as_dict() == {
        "num_rows": 50, "widths": {"features": 6, "logits": 3}, "dtype": "float16",
    }  # fmt: skip


def test_maps_name_their_shape_and_are_resumed_and_checked_like_all(tmp_path: Path) -> None:
    identity, views = {}, ViewSpec()
    for shape in (None, (2, 3, 2), (12, 1, 1)):
        identity[shape] = store_path(
            tmp_path,
            store_identity(
                teacher="t", transform={}, views=views, dtype="float16", outputs=("feature_map",),
                precision="float32", ids=["a"], map_shape=shape,
            ),
        )  # fmt: skip
    assert len(set(identity.values())) == 3
    writer = StoreWriter(tmp_path, IDENTITY, MAPS)
    write(writer, values(MAPS), 21)
    writer.commit()
    writer.close()
    turned = StoreLayout(50, MAPS.widths, "float16", (2, 2, 3))
    resumed = StoreWriter(tmp_path, IDENTITY, MAPS)
    assert resumed.num_done == 21
    write(resumed, values(MAPS))
    store = resumed.finish()
    assert store.layout == MAPS and OutputStore.open(store.path).layout == MAPS
    revived = pickle.loads(pickle.dumps(store))
    rows, found = values(MAPS)["feature_map"].half().float(), revived.rows([49, 3]).feature_map
    assert found is not None and torch.equal(found, rows[[49, 3]].reshape(2, 2, 3, 2))
    assert store.rows([1], maps=False).feature_map is None
    flip(store.path / "feature_map.npy", -1)
    with refused("feature_map", 49, kind=StoreError):
        OutputStore.open(store.path)
    shutil.rmtree(store.path)
    writer = StoreWriter(tmp_path, IDENTITY, MAPS)
    write(writer, values(MAPS), 21)
    writer.commit()
    writer.close()
    assert StoreWriter(tmp_path, IDENTITY, turned).num_done == 0


def test_commits_happen_by_themselves(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, IDENTITY, LAYOUT, commit_seconds=0.0)
    write(writer, values(), 21)
    writer.close()
    assert 7 <= StoreWriter(tmp_path, IDENTITY, LAYOUT).num_done <= 21


@pytest.mark.parametrize("damage", ["value", "size", "progress", "layout", "unreadable"])
def test_a_damaged_partial_store_is_started_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    writer = StoreWriter(tmp_path, IDENTITY, LAYOUT)
    write(writer, values(), 21)
    writer.commit()
    writer.close()
    partial, layout = writer.partial, LAYOUT
    if damage == "value":
        flip(partial / "logits.npy", 128 + 20 * 3 * 2)  # row 20, behind the last whole chunk
    elif damage == "size":
        flip_size(partial / "features.npy", -1)
    elif damage == "progress":
        edit(partial / "progress.json", "num_done", 28)
    elif damage == "unreadable":
        (partial / "progress.json").write_text('{"num_done"')
    else:
        layout = StoreLayout(50, {"features": 6}, "float16")
    again = StoreWriter(tmp_path, IDENTITY, layout)
    assert again.num_done == 0 and "starting again" in caplog.text
    write(again, values())
    again.finish().verify()


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def flip_size(path: Path, change: int) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:change] if change < 0 else data + bytes(change))


def edit(path: Path, key: str, value: object) -> None:
    content = json.loads(path.read_text())
    content[key] = value
    path.write_text(json.dumps(content))


def rewrite(path: Path, dtype: str) -> None:
    np.save(path, np.load(path).astype(dtype))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "first value": (lambda p: flip(p / "features.npy", 128), r"features rows 0\.\.7 are damaged"),
    "last value": (lambda p: flip(p / "logits.npy", -1), r"logits rows 48\.\.49 are damaged"),
    "header": (lambda p: flip(p / "features.npy", 30), "features.npy"),
    "magic": (lambda p: flip(p / "features.npy", 0), "features.npy is missing or damaged"),
    "short": (lambda p: flip_size(p / "features.npy", -2), "features.npy has 726 bytes, not 728"),
    "long": (lambda p: flip_size(p / "logits.npy", 1), "logits.npy has 429 bytes, not 428"),
    "other dtype": (lambda p: rewrite(p / "logits.npy", "float32"), "logits.npy has"),
    "no array": (lambda p: (p / "logits.npy").unlink(), "logits.npy is missing"),
    "no meta": (lambda p: (p / "meta.json").unlink(), "No such file"),
    "half a meta": (lambda p: flip_size(p / "meta.json", -40), "JSONDecodeError"),
    "edited meta": (lambda p: edit(p / "meta.json", "identity", {"teacher": "x"}), "altered"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_is_refused(tmp_path: Path, damage: str) -> None:
    path = finished(tmp_path).path
    OutputStore.open(path, IDENTITY)
    act, message = DAMAGES[damage]
    act(path)
    with pytest.raises(StoreError, match=message):
        OutputStore.open(path, IDENTITY)


def test_a_store_of_another_identity_is_refused(tmp_path: Path) -> None:
    path = finished(tmp_path).path
    other = {**IDENTITY, "teacher": "other"}
    with refused("249c0322710d62f96ee3f2bfb23adc0f", kind=StoreError):
        OutputStore.open(path, other)
    shutil.copytree(path, store_path(tmp_path, other))
    with refused("bd1941cec483925ccda05db79cf34913", kind=StoreError):
        OutputStore.open(store_path(tmp_path, other), other)
    with refused("meta.json", kind=StoreError):
        OutputStore.open(tmp_path / "absent")


def test_a_large_store_is_sampled_when_opened_and_read_whole_by_verify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "CHECKED_BYTES", 1)
    path = finished(tmp_path).path
    flip(path / "features.npy", 128 + 20 * 6 * 2)
    store = OutputStore.open(path)
    with refused("16..23", kind=StoreError):
        store.verify()
    flip(path / "features.npy", 128)  # the first and last chunks are always among the sample
    with refused("0..7", kind=StoreError):
        OutputStore.open(path)


def test_values_must_be_finite_in_the_dtype(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, IDENTITY, LAYOUT)
    outputs = values()
    outputs["logits"][[3, 5], 0] = 70000.0  # float16 ends at 65504
    with refused("float16", 3, 5, kind=NonFiniteError):
        write(writer, outputs)
    assert writer.num_done == 0
    outputs["features"][4, 2] = float("nan")
    with refused("row 4", "precision=float32", kind=NonFiniteError):
        write(writer, outputs)
    wide = StoreWriter(tmp_path / "wide", IDENTITY, StoreLayout(50, LAYOUT.widths, "float32"))
    outputs["features"][4, 2] = 1e30
    write(wide, outputs)
    stored = wide.finish().rows([3, 4])
    assert stored.logits is not None and stored.logits[0, 0] == 70000
    assert stored.features[1, 2] == torch.tensor(1e30)


def test_a_disk_without_room_is_told_before_anything_is_computed(tmp_path: Path) -> None:
    huge = StoreLayout(10**14, {"features": 1000}, "float32")
    with refused("PB", key="teacher cache"):
        StoreWriter(tmp_path, IDENTITY, huge)


def test_layout_refuses_what_cannot_be_stored() -> None:
    with refused(key="dtype", got="'int8'"):
        StoreLayout(1, {"features": 2}, "int8")
    with refused(key="outputs", got=["maps"]):
        StoreLayout(1, {"maps": 2}, "float16")
    with refused("'logits': 0"):
        StoreLayout(1, {"logits": 0}, "float16")


@pytest.mark.parametrize("rows", [[-1], [50], [0, 1, 99]])
def test_rows_out_of_range(tmp_path: Path, rows: list[int]) -> None:
    with refused(50, kind=IndexError):
        finished(tmp_path).rows(rows)


def test_a_store_travels_to_other_processes(tmp_path: Path) -> None:
    store = finished(tmp_path)
    revived = pickle.loads(pickle.dumps(store))
    assert torch.equal(revived.rows([4, 2]).features, store.rows([4, 2]).features)


def test_a_loader_of_other_samples_or_views_is_refused(tmp_path: Path) -> None:
    ids = [f"a/{i}#0" for i in range(50)]
    identity = store_identity(
        teacher="t", transform={}, views=FIXED_VIEW, dtype="float16",
        outputs=("features", "logits"), precision="float32", ids=ids,
    )  # fmt: skip
    writer = StoreWriter(tmp_path, identity, LAYOUT)
    write(writer, values())
    store = writer.finish()
    store.require_samples(ids, FIXED_VIEW)
    with refused("ceac8299932541cfa648a1e512af1f84", kind=StoreError):
        store.require_samples(ids[::-1], FIXED_VIEW)
    with refused("ceac8299932541cfa648a1e512af1f84", kind=StoreError):
        store.require_samples(ids, ViewSpec(hflip=True))


MILLION_ROWS = """
import os, sys, numpy as np, torch
from pathlib import Path
from genkt.stores.teacher_outputs import OutputStore, StoreLayout, StoreWriter

def memory(field):
    status = dict(line.split(":") for line in open("/proc/self/status"))
    return int(status[field].split()[0]) / 1024

def forget_peak():
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")

layout = StoreLayout(1_000_000, {"features": 128}, "float16")
rng = np.random.default_rng(0)
block = torch.from_numpy(rng.standard_normal((4096, 128), dtype=np.float32))
writer = StoreWriter(Path(sys.argv[1]), {"teacher": "big"}, layout)
base = forget_peak()
while writer.num_done < 1_000_000:
    start = writer.num_done
    writer.write(start, {"features": block[: 1_000_000 - start] + start % 97})
store = writer.finish()
print(memory("VmHWM") - base)
base = forget_peak()
for _ in range(1500):
    rows = rng.integers(0, 1_000_000, 256)
    features = store.rows(rows).features
print(memory("VmHWM") - base)
expected = (block[rows % 4096] + torch.from_numpy((rows - rows % 4096) % 97)[:, None]).half()
assert torch.equal(features, expected.float())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_stays_flat_at_a_million_rows(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", MILLION_ROWS, str(tmp_path)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    writing, reading = (float(line) for line in result.stdout.split())
    # The store is 244 MiB; 1500 batches touch nearly every page of it.
    assert writing < 60, writing
    assert reading < 130, reading
