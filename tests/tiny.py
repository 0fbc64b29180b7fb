"""The smallest real runs: tiny images on disk, tiny models, a few steps, through the CLI."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from genkt.cli.main import main

TRANSFORM = (
    "{input_size: [24,24], mean: [0.5,0.5,0.5], std: [0.5,0.5,0.5], crop_pct: 1.0, "
    "interpolation: bilinear}"
)
ARGS = "{layers: [1,1,1,1], channels: [8,8,16,16]}"
CLASSES = ("cat", "dog", "elk")


def model_words(group: str) -> list[str]:
    """A tiny network with random weights as the student or the teacher."""
    return [
        f"{group}=resnet18",
        f"{group}.pretrained=false",
        f"{group}.args={ARGS}",
        f"{group}.transform={TRANSFORM}",
    ]


BUDGET = [
    "device=cpu",
    "plan=off",
    "draws=1",
    "train.steps=4",
    "train.batch_size=12",
    "train.labelled_per_batch=4",
    "train.log_every=1",
    "train.num_workers=0",
    "finetune.steps=2",
    "adapt.steps=2",
]
DATA = ["data=folder", "data.labels_per_class=2", "data.views.num_views=2"]


@dataclass(frozen=True)
class Ran:
    """What a command gave back: exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The messages on standard error, without the progress bars."""
        return [line for line in self.err.splitlines() if line.startswith("genkt ")]


def run(*words: str) -> Ran:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(words))
    return Ran(code, out.getvalue(), err.getvalue())


def picture(label: int, number: int, size: int = 20) -> Image.Image:
    """A picture whose colour says its class, with noise of its own."""
    pixels = np.random.default_rng(100 * label + number).integers(0, 60, (size, size, 3))
    pixels[..., label % 3] += 120
    return Image.fromarray(pixels.astype(np.uint8))


def write_images(
    root: Path, classes: tuple[str, ...] = CLASSES, per_class: int = 10, first: int = 0
) -> Path:
    """``root/class/n.png`` (some in sub-folders, some jpg), every picture another.

    Sets whose labels start with another ``first`` share no picture.
    """
    for label, name in enumerate(classes, first):
        for number in range(per_class):
            folder = root / name / ("deep" if number % 3 == 0 else "")
            folder.mkdir(parents=True, exist_ok=True)
            suffix = "jpg" if number % 4 == 0 else "png"
            picture(label, number).save(folder / f"{number}.{suffix}")
    return root


def transfer_words(home: Path, *more: str) -> list[str]:
    """``genkt transfer`` on ``home/images`` (written if missing) into ``home/run``."""
    images = home / "images"
    if not images.is_dir():
        write_images(images)
    return [
        "transfer",
        *DATA,
        f"data.root={images}",
        *model_words("student"),
        *model_words("teacher"),
        *BUDGET,
        f"cache={home / 'cache'}",
        f"out={home / 'run'}",
        *more,
    ]


def tree(root: Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


KEPT = ("student.safetensors", "probabilities.npy", "scores.npy")
"""The files of a student that must not change."""


def student_bits(home: Path) -> dict[str, bytes]:
    """These files of all students of ``home/run``."""
    return {
        name: content
        for name, content in tree(home / "run" / "draws").items()
        if name.rpartition("/")[2] in KEPT
    }
