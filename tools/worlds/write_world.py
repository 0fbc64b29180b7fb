"""Writes a world: class folders of PNG files, its teacher, its student's first weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from genkt.io import derive_seed, read_json, write_json
from worlds.catalogue import WORLDS, World
from worlds.networks import accuracy, trained
from worlds.pictures import Parts, Pictures

WORLD = "world.json"
"""What a world holds beside its folders: the settings of its runs, its counts, its teacher."""


def write_world(name: str, out: Path, packages: Path, worlds: dict[str, World] = WORLDS) -> Path:
    """Write a world to ``out/name``, unless it is there.

    Args:
        packages: where the packages of data are unpacked; see ``docs/worlds.md``.

    Raises:
        UserError: a package that is not there.
    """
    folder, world = out / name, worlds[name]
    if (folder / WORLD).is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    parts = unique(world.make(world.counts, packages))
    for part in ("train", "unlabelled", "validation", "test"):
        _write_part(folder / "pictures" / part, parts[part], world.classes)
    teacher, right = _teacher(name, world, parts, folder)
    words = ["data=folder", f"data.root={folder / 'pictures'}", *teacher]
    words += [*_student(name, world, packages, folder, worlds), *world.words]
    counts = {part: len(pictures) for part, pictures in parts.items()}
    write_json(folder / WORLD, {"words": words, "counts": counts, "teacher_right": right})
    return folder


def words_of(folder: Path) -> list[str]:
    """The settings of every run in a world."""
    return [str(word) for word in read_json(folder / WORLD)["words"]]


def unique(parts: Parts) -> Parts:
    """Each picture once, in the part that comes first of test, validation, train, the others."""
    seen: set[bytes] = set()
    kept = {}
    for part in sorted(parts, key=["test", "validation", "train", "unlabelled", "upstream"].index):
        rows = []
        for row, pixels in enumerate(parts[part].pixels):
            content = pixels.tobytes()
            if content not in seen:
                seen.add(content)
                rows.append(row)
        kept[part] = parts[part].rows(np.asarray(rows, dtype=np.int64))
    return {part: kept[part] for part in parts}


def _write_part(folder: Path, pictures: Pictures, classes: tuple[str, ...]) -> None:
    """One file a picture; those of ``unlabelled`` in one folder, in an order that says nothing."""
    hidden = folder.name == "unlabelled"
    order = np.random.default_rng(derive_seed("order")).permutation(len(pictures))
    for place, row in enumerate(order if hidden else range(len(pictures))):
        home = folder if hidden else folder / classes[int(pictures.labels[row])]
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pictures.pixels[row]).save(home / f"{place:05}.png", compress_level=1)


def _teacher(name: str, world: World, parts: Parts, folder: Path) -> tuple[list[str], float | None]:
    """Its setting, and how much of the test it names rightly with its own head."""
    if isinstance(world.teacher, str):
        return [f"teacher={world.teacher}"], None
    model = trained(world.teacher, parts["upstream"], world.classes, derive_seed(name, "teacher"))
    model.export(folder / "teacher", world.classes)
    return _model("teacher", folder / "teacher"), accuracy(model, parts["test"])


def _model(who: str, folder: Path) -> list[str]:
    return [f"{who}=local-dir:{folder}", f"{who}.channels_last=true"]


def _student(
    name: str, world: World, packages: Path, folder: Path, worlds: dict[str, World]
) -> list[str]:
    if isinstance(world.student, str):
        return [f"student={world.student}"]
    if world.first_weights is None:
        return world.student.words("student")
    before = worlds[world.first_weights]
    counts = dict.fromkeys(before.counts, 1) | {"upstream": before.counts["upstream"]}
    parts = before.make(counts, packages)
    seed = derive_seed(name, "student")
    model = trained(world.student, parts["upstream"], before.classes, seed)
    model.export(folder / "student", before.classes)
    return _model("student", folder / "student")
