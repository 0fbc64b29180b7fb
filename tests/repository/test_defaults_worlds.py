"""The worlds that settings are measured on: the same every time, no picture in two parts."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from worlds.catalogue import WORLDS, World
from worlds.networks import Network
from worlds.pictures import Pictures
from worlds.write_world import unique, words_of, write_world

from genkt.readers.folders import read_folder

COUNTS = {"train": 16, "unlabelled": 30, "validation": 8, "test": 16, "upstream": 8}


def _tiny() -> World:
    network = Network((4, 4, 4, 4), 8, steps=1)
    return replace(WORLDS["shapes"], counts=COUNTS, teacher=network, student=network)


def _files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.png"))
    }


def test_a_world_is_the_same_every_time_and_no_picture_is_in_two_parts(tmp_path: Path) -> None:
    folders = [
        write_world("shapes", tmp_path / each, tmp_path, {"shapes": _tiny()}) for each in "ab"
    ]
    first, second = map(_files, folders)
    assert first == second
    assert len(set(first.values())) == len(first) == 16 + 30 + 8 + 16


def test_genkt_reads_a_world_as_a_folder_of_pictures(tmp_path: Path) -> None:
    folder = write_world("shapes", tmp_path, tmp_path, {"shapes": _tiny()})
    parts = read_folder(folder / "pictures").parts
    assert {name: len(images) for name, images in parts.items()} == {
        name: count for name, count in COUNTS.items() if name != "upstream"
    }
    assert set(parts["train"].class_counts().values()) == {2}
    assert not (parts["unlabelled"].labels >= 0).any()
    assert f"data.root={folder / 'pictures'}" in words_of(folder)
    assert (folder / "teacher" / "config.json").is_file()


def test_a_picture_of_two_parts_stays_in_the_one_that_is_tested() -> None:
    pixels = np.arange(3, dtype=np.uint8)[:, None, None, None] + np.zeros((1, 4, 4, 3), np.uint8)
    of = {"train": [0, 1, 1], "unlabelled": [0, 2], "test": [1]}
    parts = unique({name: Pictures(pixels[rows], np.zeros(len(rows), np.int64))
                    for name, rows in of.items()})  # fmt: skip
    kept = {name: each.pixels[:, 0, 0, 0].tolist() for name, each in parts.items()}
    assert kept == {"train": [0], "unlabelled": [2], "test": [1]}


@pytest.mark.parametrize("name", ["letters", "greek", "shapes", "patterns"])
def test_every_drawn_world_has_all_classes_in_turn(name: str, tmp_path: Path) -> None:
    world = WORLDS[name]
    counts = dict.fromkeys(COUNTS, len(world.classes))
    for pictures in world.make(counts, tmp_path).values():
        assert pictures.labels.tolist() == list(range(len(world.classes)))
        assert pictures.pixels.std(axis=(1, 2, 3)).min() > 1
