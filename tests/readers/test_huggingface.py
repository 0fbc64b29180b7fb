"""Hugging Face data sets, saved to disk here: columns, splits, labels, broken pictures."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refusals import refused
from source_cases import picture_folder, png

import genkt.readers.huggingface
from genkt.data.images import decode
from genkt.readers.file_index import examine_bytes
from genkt.readers.huggingface import read_huggingface

datasets = pytest.importorskip("datasets")
datasets.disable_progress_bars()
datasets.config.HF_HUB_OFFLINE = True

CLASSES = ["cat", "dog", "elk"]


def build(numbers: range, labels: list[int | None] | None = None, **more: Any) -> Any:
    """A data set of numbered pictures, as encoded bytes."""
    pictures = [{"bytes": png(number), "path": None} for number in numbers]
    columns: dict[str, Any] = {"image": pictures}
    features: dict[str, Any] = {"image": datasets.Image()}
    if labels is not None:
        columns["label"] = labels
        features["label"] = datasets.ClassLabel(names=CLASSES)
    for name, (values, kind) in more.items():
        columns[name], features[name] = values, kind
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def test_a_saved_data_set(tmp_path: Path) -> None:
    build(range(6), [0, 1, 2, None, 1, -1]).save_to_disk(tmp_path / "toys")
    images = read_huggingface(str(tmp_path / "toys"))
    assert images.classes == tuple(CLASSES) and images.labels.tolist() == [0, 1, 2, -1, 1, -1]
    assert images.ids[3].startswith("toys/3#") and images.blocks is None
    copy = pickle.loads(pickle.dumps(images.select([4])))
    assert np.array_equal(np.asarray(copy.load(0)), np.asarray(decode(png(4))))


def test_selected_rows_and_no_labels(tmp_path: Path) -> None:
    build(range(6)).select([5, 1]).save_to_disk(tmp_path / "toys")
    images = read_huggingface(str(tmp_path / "toys"))
    assert images.classes == () and images.labels.tolist() == [-1, -1]
    assert np.array_equal(np.asarray(images.load(0)), np.asarray(decode(png(5))))


def test_splits(tmp_path: Path) -> None:
    place = tmp_path / "toys"
    parts = {"train": build(range(3), [0, 1, 2]), "test": build(range(3, 5), [0, 1])}
    datasets.DatasetDict(parts).save_to_disk(place)
    assert len(read_huggingface(str(place), "test")) == 2
    assert read_huggingface(str(place), "train").ids[0].startswith("toys/train/0#")
    with refused("toys"):
        read_huggingface(str(place))
    with refused("tests"):
        read_huggingface(str(place), "tests")
    datasets.DatasetDict({"only": build(range(3))}).save_to_disk(tmp_path / "single")
    assert len(read_huggingface(str(tmp_path / "single"))) == 3
    build(range(3)).save_to_disk(tmp_path / "bare")
    with refused("train"):
        read_huggingface(str(tmp_path / "bare"), "train")


def test_columns_are_found_or_asked_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = [{"bytes": png(9), "path": None}] * 3
    kinds = datasets.ClassLabel(names=["x", "y"])
    build(
        range(3), mask=(other, datasets.Image()), coarse=([1, 0, 1], kinds), fine=([0, 0, 1], kinds)
    ).save_to_disk(tmp_path / "two")
    images = read_huggingface(str(tmp_path / "two"))
    assert np.array_equal(np.asarray(images.load(0)), np.asarray(decode(png(0))))
    assert images.labels.tolist() == [1, 0, 1] and "column coarse" in caplog.text
    build(range(3), left=(other, datasets.Image())).rename_column("image", "right").save_to_disk(
        tmp_path / "unclear"
    )
    with refused("unclear"):
        read_huggingface(str(tmp_path / "unclear"))
    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "texts")
    with refused("texts"):
        read_huggingface(str(tmp_path / "texts"))


@pytest.mark.parametrize(
    ("column", "values", "kind", "classes", "labels"),
    [
        ("label", [10, 9, 10, None], "int64", ("9", "10"), [1, 0, 1, -1]),
        ("Species", ["elk", "cat", "", "elk"], "string", ("cat", "elk"), [1, 0, -1, 1]),
        ("target", [3.0, 1.5, 2.0, 3.0], "float32", ("2", "3"), [1, -1, 0, 1]),
        ("caption", ["a", "b", "c", "d"], "string", (), [-1] * 4),
    ],
)
def test_labels_of_plain_columns(
    column: str, values: list[Any], kind: str, classes: tuple[str, ...], labels: list[int],
    tmp_path: Path, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    more = {column: (values, datasets.Value(kind))}
    build(range(4), **more).save_to_disk(tmp_path / "toys")
    images = read_huggingface(str(tmp_path / "toys"))
    assert images.classes == classes and images.labels.tolist() == labels
    (said,) = [record.message for record in caplog.records if "toys" in record.message]
    assert column in said and (not classes or "1 row has none" in said)


def test_broken_pictures_are_named(tmp_path: Path) -> None:
    whole = build(range(4)).cast_column("image", datasets.Image(decode=False)).to_list()
    whole[1]["image"]["bytes"] = b"no picture"
    whole[2]["image"]["bytes"] = png(2)[:-30]
    whole[3]["image"] = None
    features = datasets.Features({"image": datasets.Image()})
    datasets.Dataset.from_list(whole, features=features).save_to_disk(tmp_path / "toys")
    images = read_huggingface(str(tmp_path / "toys"), max_skipped=3)
    reasons = [entry.reason for entry in images.skipped]
    assert len(images) == 1 and images.skipped[0].path == "toys/1"
    assert reasons[0] == "not a picture that Pillow can open" and reasons[2] == "empty file"
    assert "truncated" in reasons[1]
    with refused(3, 4):
        read_huggingface(str(tmp_path / "toys"), max_skipped=2)


def test_a_folder_that_the_library_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    for number, name in enumerate("abc"):
        picture_folder(tmp_path / "photos" / name, [number])
    images = read_huggingface(str(tmp_path / "photos"))
    assert images.class_counts() == {"a": 1, "b": 1, "c": 1}
    assert np.array_equal(np.asarray(images.load(1)), np.asarray(decode(png(1))))
    picture_folder(tmp_path / "photos" / "c", [2]).joinpath("2.png").write_bytes(png(5))
    with refused("photos/2"):
        images.load(2)
    (tmp_path / "photos" / "b" / "1.png").unlink()
    with refused("1.png"):
        images.load(1)


def test_a_known_data_set_is_not_hashed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(range(80)).save_to_disk(tmp_path / "toys")
    first = read_huggingface(str(tmp_path / "toys"))
    examined: list[bytes] = []

    def counted(data: bytes) -> tuple[str, str]:
        examined.append(data)
        return examine_bytes(data)

    monkeypatch.setattr(genkt.readers.huggingface, "examine_bytes", counted)
    assert read_huggingface(str(tmp_path / "toys")).ids == first.ids and not examined
    build(range(1, 81)).save_to_disk(tmp_path / "other")
    assert read_huggingface(str(tmp_path / "other")).ids[0] != first.ids[0]
    assert len(examined) == 80


def test_nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with refused("hf:no/such"):
        read_huggingface("no/such")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with refused("genkt[huggingface]"):
        read_huggingface("no/such")
