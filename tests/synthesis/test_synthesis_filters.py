"""Filters by a teacher, near copies, deep inversion: what is left out is counted, not listed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from refusals import refused
from synthesis_cases import INVERSION, OF_SPEED, content, settings, sources
from tiny_generator import tiny_generator

from genkt.config.synthesis_settings import FilterSettings
from genkt.data.transform import ImageTransform
from genkt.generative.decoding.sampling import Sampling
from genkt.models.backbone import Backbone
from genkt.synthesis.filter_images import DISAGREEMENT, DUPLICATE, LOW_CONFIDENCE, judge
from genkt.synthesis.synthesize_set import run_synthesis
from genkt.transfer_set.composition import TransferSet
from genkt.transfer_set.set_files import ImageFiles, part_path


def teacher(num_classes: int = 3) -> Backbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model(
            "resnet18", layers=[1, 1, 1, 1], channels=[8, 8, 16, 16], num_classes=num_classes
        )
        torch.nn.init.normal_(model.get_classifier().weight, std=2.0)
    half = (0.5, 0.5, 0.5)
    return Backbone(model, ImageTransform((20, 20), half, half, "bilinear", 1.0), "tiny").freeze()


def run(home: Path, name: str, filters: FilterSettings, **changes: Any) -> TransferSet:
    return run_synthesis(
        settings(filters=filters, **changes), sources(home), home / name,
        generator=tiny_generator(), teacher=teacher(),
    )  # fmt: skip


def rows(found: TransferSet) -> dict[tuple[Any, ...], np.ndarray]:
    """Pictures by what made them."""
    return {
        (r.parent, (r.detail or {})["round"], (r.detail or {})["sample"]): np.asarray(
            found.images.load(index)
        )
        for index, r in enumerate(found.records())
    }


def test_low_confidence_is_left_out_and_counted(tmp_path: Path) -> None:
    everything = rows(run(tmp_path, "all", FilterSettings()))
    stacked = torch.from_numpy(np.stack(list(everything.values()))).permute(0, 3, 1, 2)
    confidence = judge(teacher(), stacked)[0].max(dim=1).values
    limit = float(confidence.median())
    found = run(tmp_path, "some", FilterSettings(min_confidence=limit))
    kept = rows(found)
    expected = [k for k, c in zip(everything, confidence.tolist(), strict=True) if c >= limit]
    assert list(kept) == expected and 0 < len(kept) < 42
    assert all(np.array_equal(kept[key], everything[key]) for key in kept)
    assert found.header["funnel"] == {
        "asked": 42, "made": 42, "kept": len(kept), "dropped": {LOW_CONFIDENCE: 42 - len(kept)},
    }  # fmt: skip
    assert len(list((found.directory / "images").rglob("*.webp"))) == len(kept)
    assert min((r.detail or {})["confidence"] for r in found.records()) >= limit - 1e-4
    assert sum(len(found.tokens(s)["tokens"]) for s in range(found.num_shards)) == len(kept)
    assert LOW_CONFIDENCE in (found.directory / "README.md").read_text()


def test_another_class_than_the_sources_is_left_out(tmp_path: Path) -> None:
    found = run(tmp_path, "some", FilterSettings(agreement=True))
    dropped = found.header["funnel"]["dropped"]
    assert set(dropped) == {DISAGREEMENT} and len(found) + dropped[DISAGREEMENT] == 42
    again = run(tmp_path, "other", FilterSettings(agreement=True), batch_size=4)
    assert content(again.directory, OF_SPEED) == content(found.directory, OF_SPEED)


@pytest.mark.parametrize("container", ["folder", "tar"])
def test_near_copies_are_left_out_across_shards(tmp_path: Path, container: Any) -> None:
    greedy = {"sampling": Sampling(temperature=0.0), "num_masks": 4}  # samples of a mask agree
    files = ImageFiles(container=container)
    filters = FilterSettings(max_similarity=1.0, diversity=True)
    found = run(tmp_path, "some", filters, digg=greedy, files=files)
    kept = rows(found)
    everything = rows(run(tmp_path, "all", FilterSettings(), digg=greedy, files=files))
    distinct: dict[bytes, Any] = {}
    for key, picture in everything.items():
        distinct.setdefault(picture.tobytes(), key)
    assert 0 < len(kept) <= len(distinct) < len(everything) / 2
    assert set(kept) <= set(distinct.values())
    funnel = found.header["funnel"]
    assert funnel["made"] == 84 and funnel["dropped"] == {DUPLICATE: 84 - len(kept)}
    assert found.header["diversity"]["distinct_tokens"] <= 1
    assert found.header["diversity"]["effective_number"] > 1
    for shard in range(found.num_shards):
        arrays = found.tokens(shard)
        count = int(found.starts[shard + 1] - found.starts[shard])
        assert {len(array) for array in arrays.values()} == {count}


def test_an_interrupted_removal_of_copies_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    greedy = {"sampling": Sampling(temperature=0.0)}
    filters = FilterSettings(max_similarity=1.0)
    whole = run(tmp_path, "whole", filters, digg=greedy)
    from genkt.synthesis import filter_images as synthesis_filters

    drop, done = synthesis_filters._drop_rows, []

    def stops(root: Path, shard: int, *rest: Any) -> None:
        if len(done) == 2:
            part_path(root, "shards", shard).unlink()  # killed while it wrote this shard anew
            raise KeyboardInterrupt
        done.append(shard)
        drop(root, shard, *rest)

    monkeypatch.setattr(synthesis_filters, "_drop_rows", stops)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "stopped", filters, digg=greedy)
    monkeypatch.setattr(synthesis_filters, "_drop_rows", drop)
    found = run(tmp_path, "stopped", filters, digg=greedy)
    assert content(found.directory, OF_SPEED) == content(whole.directory, OF_SPEED)


def test_filters_that_leave_nothing_are_an_error(tmp_path: Path) -> None:
    with refused("filters", 42):
        run(tmp_path, "set", FilterSettings(min_confidence=1.0))
    with refused("filters.min_confidence", "1.0", "0.1"):
        run(tmp_path, "set", FilterSettings(min_confidence=0.1))


@pytest.mark.parametrize("num_classes", [3, 4])
def test_deep_inversion_makes_classes_in_turn(tmp_path: Path, num_classes: int) -> None:
    found = run_synthesis(
        settings(INVERSION, shard_size=5), sources(tmp_path), tmp_path / "set",
        teacher=teacher(num_classes),
    )  # fmt: skip
    assert len(found) == 10 and found.num_shards == 3  # shards of whole batches: 4 each
    targets = [(record.detail or {})["target"] for record in found.records()]
    assert targets == [row % num_classes for row in range(10)]
    own = num_classes == 3  # the teacher's classes are those of the data
    assert found.images.labels.tolist() == (targets if own else [-1] * 10)
    assert found.images.load(0).size == (20, 20) and found.record(0).parent is None
    again = run_synthesis(
        settings(INVERSION, shard_size=5, batch_size=1), sources(tmp_path), tmp_path / "again",
        teacher=teacher(num_classes),
    )  # fmt: skip
    assert content(found.directory, OF_SPEED) == content(again.directory, OF_SPEED)
    page = (found.directory / "contact_sheet.html").read_text()
    assert f"for {num_classes} classes" in page
