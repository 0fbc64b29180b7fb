"""torchvision data sets by name, without a network."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from refusals import refused
from source_cases import overlap

from genkt.readers.torchvision_sets import TORCHVISION_NAMES, from_dataset, read_torchvision


def test_fake_data_is_the_same_every_time() -> None:
    splits = read_torchvision("fake", validation_fraction=0.1)
    again = read_torchvision("fake", validation_fraction=0.1)
    assert splits.test is not None and splits.validation is not None
    assert len(splits.test) == 200 and len(splits.train) + len(splits.validation) == 200
    assert splits.train.ids == again.train.ids
    assert not overlap(splits.train, splits.test)
    copy = pickle.loads(pickle.dumps(splits.train.select([3])))
    assert np.array_equal(np.asarray(copy.load(0)), np.asarray(splits.train.load(3)))


def write_mnist(root: Path) -> None:
    """The four files of a tiny MNIST as torchvision expects them after unpacking."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    random = np.random.default_rng(0)
    for part, count in (("train", 40), ("t10k", 20)):
        pixels = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        header = struct.pack(">iiii", 0x803, count, 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(
            struct.pack(">ii", 0x801, count) + labels.tobytes()
        )


def test_a_real_torchvision_data_set(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    splits = read_torchvision("mnist", tmp_path)
    assert splits.test is not None
    assert (len(splits.train), len(splits.test)) == (40, 20)
    assert splits.classes[3] == "3 - three"
    assert splits.train.labels[13] == 3 and splits.train.ids[13].startswith("mnist/train/13#")
    assert splits.train.load(0).size == (28, 28)


@pytest.mark.parametrize("name", [name for name in TORCHVISION_NAMES if name != "fake"])
def test_missing_data_get_one_line(tmp_path: Path, name: str) -> None:
    with refused(name, "download=true"):
        read_torchvision(name, tmp_path)
    with refused(name, "root"):
        read_torchvision(name)


def test_failed_download_gets_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: Any, **__: Any) -> Any:
        raise OSError("Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", no_network)
    with refused("cifar10") as caught:
        read_torchvision("cifar10", tmp_path, download=True)
    assert "\n" not in str(caught.value)


def test_unknown_name() -> None:
    with refused("cifar", "cifar10"):
        read_torchvision("cifar", "/nowhere")


class Pairs:
    """A map-style data set one of whose pictures is broken."""

    def __init__(self, broken: int) -> None:
        self.broken = broken

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        if index == self.broken:
            raise OSError("image file is truncated")
        return Image.new("LA", (4, 4), (index, 255)), index % 2


def test_any_dataset_and_its_broken_pictures() -> None:
    images = from_dataset(Pairs(broken=4), ("even", "odd"), "pairs", max_skipped=1)
    assert (len(images), images.class_counts()) == (9, {"even": 4, "odd": 5})
    assert images.skipped[0].path == "pairs/4"
    assert images.ids[4].startswith("pairs/5#") and images.load(4).getpixel((0, 0)) == (5, 5, 5)
    assert from_dataset(Pairs(-1), (), "p", labelled=False).num_labelled == 0
    with refused(1, 10, "pairs/4"):
        from_dataset(Pairs(broken=4), ("even", "odd"), "pairs", max_skipped=0)
    with refused(-1, "pairs/1"):
        from_dataset(Pairs(-1), ("even",), "pairs")
