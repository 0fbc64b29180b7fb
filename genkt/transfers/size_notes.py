"""A note before training on a student that sees far more pixels than its pictures have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from statistics import median

import numpy as np

from genkt.data.images import ImageSet
from genkt.models.load import ModelSpec, load_model
from genkt.runs.model_factories import student_spec
from genkt.settings.objects import object_in
from genkt.transfers.phases import OpenedRun
from genkt.types import UserError

_FAR = 2
"""So many times the side of the pictures is too large: four times the pixels and the time."""

_STRIDE = 32
"""Most networks halve a picture five times; others take its multiples too."""

_TRIED = 3
_LOOKED_AT = 16


def size_notes(opened: OpenedRun) -> list[str]:
    """One line where the student's input is far larger than the pictures; often none."""
    settings = opened.config.student
    if object_in(settings.model) is not None:  # its size cannot be set
        return []
    height, width = opened.fresh_student().transform.input_size
    side = _side(opened.pool.splits.train)
    if min(height, width) < _FAR * side:
        return []
    spec = student_spec(settings)
    own = f"student {spec.name} sees {height} x {width} pixels, the pictures have about {side}"
    tried = [size for size in _sizes(side) if _FAR * size <= min(height, width)]
    for size in tried:
        smaller, words = _smaller(spec, size)
        if _works(smaller, opened.num_classes):
            times = height * width / size**2
            return [f"{own}: {words} computes about {times:.0f} times less."]
    return [f"{own}: a network for smaller pictures computes less."]


def _side(images: ImageSet) -> int:
    """The median of the shorter sides of some pictures."""
    rows = np.unique(np.linspace(0, len(images) - 1, _LOOKED_AT).astype(int))
    return round(median(min(images.load(int(row)).size) for row in rows))


def _sizes(side: int) -> Iterator[int]:
    """Multiples of ``_STRIDE`` from the pictures' side on."""
    first = -(-side // _STRIDE)
    return (number * _STRIDE for number in range(first, first + _TRIED))


def _smaller(spec: ModelSpec, size: int) -> tuple[ModelSpec, str]:
    """The student for another size, and the words that ask for it."""
    words, args, transform = [], dict(spec.args), dict(spec.transform)
    if "img_size" in args:
        args["img_size"] = size
        words.append(f"student.args.img_size={size}")
    if "img_size" not in args or "input_size" in transform:
        transform["input_size"] = [size, size]
        words.append(f"student.size={size}")
    return replace(spec, args=args, transform=transform), " ".join(words)


def _works(spec: ModelSpec, num_classes: int) -> bool:
    """Whether the network can be built for its size, and a picture goes through it."""
    try:
        load_model(spec, num_classes=num_classes)
    except UserError:
        return False
    return True
