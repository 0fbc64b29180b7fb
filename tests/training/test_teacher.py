"""Caching a teacher: right values, computed once, never stale, whatever interrupts it."""

from __future__ import annotations

import functools
import json
import logging
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from forked import Command, until
from refusals import refused
from source_cases import picture_folder

from genkt.data import openers
from genkt.data.images import ImageSet, from_arrays
from genkt.data.views import FIXED_VIEW, ImageTransform, ViewSpec, render_view
from genkt.models.backbone import Backbone
from genkt.readers.folders import read_unlabelled
from genkt.stores.teacher_outputs import OutputStore, StoreWriter
from genkt.training import store_job
from genkt.training.teacher import cache_outputs
from genkt.types import UserError

TRANSFORM = ImageTransform((32, 32), (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), "bilinear", 0.9)
VIEWS = ViewSpec(num_views=3, seed=7, crop_scale=(0.5, 1.0), hflip=True, rotate_degrees=10)


def teacher(transform: ImageTransform = TRANSFORM) -> Backbone:
    torch.manual_seed(0)
    model = timm.create_model(
        "resnet18", layers=[1, 1, 1, 1], channels=[8, 16, 32, 64], num_classes=5
    )
    return Backbone(model, transform, "tiny")


def image_set(num: int = 10, pixel: int | None = None) -> ImageSet:
    pixels = np.random.default_rng(1).integers(0, 256, (num, 36, 40, 3), dtype=np.uint8)
    if pixel is not None:
        pixels[4, 20, 20, 1] = pixel
    return from_arrays(pixels, [-1] * num, (), "toy")


class Passes:
    """Counts the forward passes of a teacher."""

    def __init__(self, model: Backbone) -> None:
        self.count = 0
        model.register_forward_hook(self._add)

    def _add(self, *_: object) -> None:
        self.count += 1


def contents(store: OutputStore) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(store.path.iterdir())}


@pytest.mark.parametrize("views", [FIXED_VIEW, VIEWS], ids=["fixed", "three views"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_rows_are_the_teachers_outputs_on_the_views(
    tmp_path: Path, views: ViewSpec, num_workers: int
) -> None:
    model, images = teacher(), image_set()
    store = cache_outputs(
        model, images, views, tmp_path, dtype="float32", batch_size=4, num_workers=num_workers
    )
    assert len(store) == 10 * views.num_views
    store.require_samples(images.ids, views)
    model.eval()
    for sample in range(10):
        for index in range(views.num_views):
            view = render_view(images.load(sample), views, images.ids[sample], index)
            pixels = TRANSFORM.to_uint8(view, cropped=views.crops)
            with torch.no_grad():
                expected = model(model.normalize(pixels[None]))
            got = store.rows([sample * views.num_views + index])
            assert got.logits is not None
            torch.testing.assert_close(got.features, expected.features, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(got.logits, expected.logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_feature_maps_are_the_teachers_on_the_views(tmp_path: Path, dtype: str) -> None:
    model, images = teacher().eval(), image_set()
    outputs = ("feature_map", "logits", "features")
    store = cache_outputs(model, images, VIEWS, tmp_path, outputs=outputs, dtype=dtype)  # type: ignore[arg-type]
    assert store.layout.map_shape == model.map_shape == (64, 1, 1)
    assert store.layout.widths == {"features": 64, "logits": 5, "feature_map": 64}
    plain = cache_outputs(model, images, VIEWS, tmp_path, dtype=dtype)  # type: ignore[arg-type]
    assert plain.path != store.path and plain.layout.map_shape is None
    rows = [29, 4, 0]
    got, expected = store.rows(rows), plain.rows(rows)
    assert torch.equal(got.features, expected.features) and expected.feature_map is None
    assert got.feature_map is not None and got.feature_map.shape == (3, 64, 1, 1)
    # this network's features are its map, pooled
    torch.testing.assert_close(got.feature_map[:, :, 0, 0], got.features, rtol=1e-3, atol=1e-3)
    assert store.rows(rows, maps=False).feature_map is None


def test_places_of_a_map_keep_their_order(tmp_path: Path) -> None:
    """Of tokens as of convolutions: a map read back is the model's own, place by place."""
    torch.manual_seed(0)
    tokens = timm.create_model(
        "vit_tiny_patch16_224", img_size=(32, 48), depth=1, embed_dim=12, num_heads=2, num_classes=3
    )
    transform = replace(TRANSFORM, input_size=(32, 48), crop_pct=1.0)
    model, images = Backbone(tokens, transform, "tokens").eval(), image_set(5)
    store = cache_outputs(
        model, images, FIXED_VIEW, tmp_path, outputs=("feature_map",), dtype="float32"
    )
    pictures = torch.stack([transform.to_uint8(images.load(index)) for index in range(5)])
    with torch.no_grad():
        output = model(model.normalize(pictures))
    assert output.feature_map is not None
    found = store.rows([3, 1])
    assert found.feature_map is not None and found.feature_map.shape == (2, 12, 2, 3)
    assert found.features.shape == (2, 0) and found.logits is None
    for row, sample in enumerate([3, 1]):
        for place in range(6):
            torch.testing.assert_close(
                found.feature_map[row, :, place // 3, place % 3],
                output.feature_map[sample, 1 + place], rtol=1e-4, atol=1e-5,
            )  # fmt: skip


def test_a_teacher_without_a_map_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = torchvision.models.resnet18(num_classes=3)
    model = Backbone(plain, TRANSFORM, "plain")
    with refused(key="model 'plain'", got="NoneType"):
        cache_outputs(model, image_set(3), VIEWS, tmp_path, outputs=("features", "feature_map"))
    assert not list(tmp_path.iterdir())


def test_a_cache_is_computed_once(tmp_path: Path) -> None:
    model, images = teacher(), image_set()
    passes = Passes(model)
    first = cache_outputs(model, images, VIEWS, tmp_path, batch_size=8)
    assert passes.count == 4  # 30 rows
    second = cache_outputs(model, images, VIEWS, tmp_path, batch_size=8)
    cache_outputs(teacher(), image_set(), VIEWS, tmp_path, batch_size=3, num_workers=1)
    assert passes.count == 4 and first.path == second.path
    assert first.layout.dtype == "float16" and first.layout.widths == {"features": 64, "logits": 5}


def test_any_change_gives_another_store(tmp_path: Path) -> None:
    """One weight, one buffer, one pixel, one number of the transform or the views: recomputed."""
    weight, buffer = teacher(), teacher()
    with torch.no_grad():
        weight.model.fc.weight[2, 3] += 1e-6
        buffer.model.bn1.running_mean[1] += 1e-6
    images = image_set()
    shifted = replace(TRANSFORM, mean=(0.4, 0.5, 0.6001))
    changes: dict[str, tuple[Backbone, ImageSet, ViewSpec, dict[str, str | tuple[str, ...]]]] = {
        "nothing": (teacher(), images, VIEWS, {}),
        "weight": (weight, images, VIEWS, {}),
        "buffer": (buffer, images, VIEWS, {}),
        "pixel": (teacher(), image_set(pixel=77), VIEWS, {}),
        "order": (teacher(), images.select([1, 0, *range(2, 10)]), VIEWS, {}),
        "fewer": (teacher(), images.select(range(9)), VIEWS, {}),
        "crop_pct": (teacher(replace(TRANSFORM, crop_pct=0.95)), images, VIEWS, {}),
        "mean": (teacher(shifted), images, VIEWS, {}),
        "filter": (teacher(replace(TRANSFORM, interpolation="bicubic")), images, VIEWS, {}),
        "seed": (teacher(), images, replace(VIEWS, seed=8), {}),
        "rotation": (teacher(), images, replace(VIEWS, rotate_degrees=10.5), {}),
        "num_views": (teacher(), images, replace(VIEWS, num_views=2), {}),
        "dtype": (teacher(), images, VIEWS, {"dtype": "float32"}),
        "outputs": (teacher(), images, VIEWS, {"outputs": ("logits",)}),
        "maps": (teacher(), images, VIEWS, {"outputs": ("features", "logits", "feature_map")}),
        "precision": (teacher(), images, VIEWS, {"precision": "bfloat16"}),
    }
    paths = {}
    for name, (model, samples, views, options) in changes.items():
        passes = Passes(model)
        store = cache_outputs(model, samples, views, tmp_path, **options)  # type: ignore[arg-type]
        assert passes.count > 0, name
        paths[name] = store.path
    assert len(set(paths.values())) == len(changes)


def test_a_damaged_store_is_recomputed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, images = teacher(), image_set()
    store = cache_outputs(model, images, VIEWS, tmp_path)
    good = contents(store)
    for name in ("features.npy", "meta.json"):
        data = bytearray(good[name])
        data[-9] ^= 1
        (store.path / name).write_bytes(data)
        passes = Passes(model)
        again = cache_outputs(model, images, VIEWS, tmp_path)
        assert passes.count == 1 and "Recomputing" in caplog.text
        assert contents(again) == good
        caplog.clear()


def test_the_teacher_is_evaluated_whatever_its_mode(tmp_path: Path) -> None:
    model, images = teacher(), image_set()
    expected = contents(cache_outputs(model.eval(), images, FIXED_VIEW, tmp_path / "eval"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    store = cache_outputs(model.train(), images, FIXED_VIEW, tmp_path / "train")
    assert model.training and contents(store) == expected
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_outputs_that_do_not_fit_are_refused_with_their_samples(tmp_path: Path) -> None:
    images, model = image_set(), teacher()
    with torch.no_grad():
        model.model.fc.bias[1] = 1e5
    with pytest.raises(UserError) as overflow:
        cache_outputs(model, images, VIEWS, tmp_path)
    message = str(overflow.value)
    assert "logits overflow float16" in message and "Use dtype=float32" in message
    assert images.ids[0] in message and "and 5 more" in message and "\n" not in message
    wide = cache_outputs(model, images, VIEWS, tmp_path, dtype="float32").rows([0])
    assert wide.logits is not None and wide.logits[0, 1] > 9e4
    cache_outputs(model, images, VIEWS, tmp_path, outputs=("features",))
    with torch.no_grad():
        model.model.fc.bias[1] = float("nan")
    with refused("toy/0"):
        cache_outputs(model, images, VIEWS, tmp_path)


def test_autocast_computes_in_its_precision(tmp_path: Path) -> None:
    model, images = teacher(), image_set()
    exact = cache_outputs(model, images, FIXED_VIEW, tmp_path, dtype="float32")
    low = cache_outputs(model, images, FIXED_VIEW, tmp_path, dtype="float32", precision="bfloat16")
    difference = (exact.rows(range(10)).features - low.rows(range(10)).features).abs().max()
    assert 1e-5 < difference < 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": ViewSpec(num_views=0, hflip=True)}, "teacher cache"),
        ({"images": image_set(3).select([])}, "teacher cache"),
        (
            {"outputs": ("featur",)},
            "feature_map",
        ),
        ({"outputs": ()}, "feature_map"),
        ({"precision": "bf16"}, "bfloat16"),
        ({"dtype": "int8"}, "dtype"),
        ({"batch_size": 0}, "teacher cache"),
    ],
)
def test_what_cannot_be_cached_is_refused(
    tmp_path: Path, options: dict[str, object], message: str
) -> None:
    arguments = {"images": image_set(3), "views": VIEWS, **options}
    with refused(message):
        cache_outputs(teacher(), home=tmp_path, **arguments)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_picture_that_cannot_be_read_stops_the_run_and_the_next_one_resumes(
    tmp_path: Path,
) -> None:
    images = image_set()

    def broken(sample_id: str, item: int) -> object:
        if item == 7:
            raise OSError("gone")
        return images.open_item(sample_id, item)

    half = ImageSet(images.ids, images.labels, images.classes, images.items, broken)  # type: ignore[arg-type]
    with refused("gone", kind=OSError):
        cache_outputs(teacher(), half, VIEWS, tmp_path / "a", batch_size=3)
    resumed = cache_outputs(teacher(), images, VIEWS, tmp_path / "a", batch_size=3)
    whole = cache_outputs(teacher(), images, VIEWS, tmp_path / "b", batch_size=3)
    assert contents(resumed) == contents(whole)


class Counting:
    """A forward hook: a byte to a file for each pass, then a pause."""

    def __init__(self, counter: Path, pause: float) -> None:
        self.counter, self.pause = counter, pause

    def __call__(self, *_: Any) -> None:
        with open(self.counter, "ab", buffering=0) as stream:
            stream.write(b".")
        time.sleep(self.pause)


def caching(words: list[str], pause: float, together: int) -> int:
    """Cache in the first word, count in the second, once ``together`` processes are ready."""
    home, counter = map(Path, words)
    store_job.StoreWriter = functools.partial(  # type: ignore[misc,assignment]
        StoreWriter, commit_seconds=0.0
    )
    model = teacher()
    model.register_forward_hook(Counting(counter, pause))
    gate = counter.parent / "ready"
    gate.mkdir(exist_ok=True)
    (gate / str(os.getpid())).touch()
    while len(list(gate.iterdir())) < together:
        time.sleep(0.01)
    print(cache_outputs(model, image_set(), VIEWS, home, batch_size=2).path)
    return 0


def start(home: Path, counter: Path, pause: float, together: int = 1) -> Command:
    """A process that caches as soon as ``together`` of them are ready."""
    main = functools.partial(caching, pause=pause, together=together)
    return Command([str(home), str(counter)], main=main)


def test_killed_caching_resumes_with_identical_bytes(tmp_path: Path) -> None:
    whole = cache_outputs(teacher(), image_set(), VIEWS, tmp_path / "whole", batch_size=2)
    home, counter = tmp_path / "killed", tmp_path / "counter"
    process = start(home, counter, pause=0.1)
    committed = [0]

    def far_enough() -> bool:
        for progress in home.glob("*.partial/progress.json"):
            committed[0] = json.loads(progress.read_text())["num_done"]
        return bool(committed[0]) and counter.stat().st_size >= 5

    until(far_enough, process)
    process.kill()
    assert process.returncode == -signal.SIGKILL and 0 < committed[0] < 30
    model = teacher()
    passes = Passes(model)
    resumed = cache_outputs(model, image_set(), VIEWS, home, batch_size=2)
    assert 0 < passes.count <= 15 - committed[0] // 2
    assert contents(resumed) == contents(whole)


def test_two_processes_compute_one_cache(tmp_path: Path) -> None:
    home, counter = tmp_path / "home", tmp_path / "counter"
    both = [start(home, counter, pause=0.1, together=2) for _ in range(2)]
    results = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], results
    assert results[0][0] == results[1][0] != ""
    assert sum("another process is computing" in errors for _, errors in results) == 1
    assert counter.stat().st_size == 15  # 30 rows by 2: one process's passes
    OutputStore.open(Path(results[0][0].strip())).verify()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_values_agree(tmp_path: Path) -> None:
    images = image_set()
    cpu = cache_outputs(teacher(), images, VIEWS, tmp_path / "cpu", batch_size=4)
    gpu = cache_outputs(teacher(), images, VIEWS, tmp_path / "gpu", batch_size=4, device="cuda")
    rows = range(30)
    torch.testing.assert_close(
        gpu.rows(rows).features, cpu.rows(rows).features, rtol=2e-2, atol=2e-2
    )


def test_outputs_of_an_earlier_decoding_are_not_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    files, drawn = read_unlabelled(picture_folder(tmp_path / "files", range(4))), image_set(4)
    model, home = teacher(), tmp_path / "cache"
    passes = Passes(model)
    old = {name: cache_outputs(model, each, FIXED_VIEW, home) for name, each in
           (("files", files), ("drawn", drawn))}  # fmt: skip
    passes.count = 0
    monkeypatch.setattr(openers, "DECODING", openers.DECODING + 1)
    assert cache_outputs(model, drawn, FIXED_VIEW, home).path == old["drawn"].path
    assert not passes.count and not warnings_in(caplog), "no file was decoded for it"
    assert cache_outputs(model, files, FIXED_VIEW, home).path != old["files"].path
    assert passes.count and str(old["files"].path) in caplog.text
    caplog.clear()
    cache_outputs(model, files, FIXED_VIEW, home)
    assert not warnings_in(caplog)


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was warned of; a log may hold lines of progress as well."""
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
