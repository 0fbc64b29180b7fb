"""Batches on a device, and cut into micro-batches."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from genkt.types import Batch, ModelOutput


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The same batch on a device, without waiting for the copies."""

    def move(tensor: Tensor) -> Tensor:
        return tensor.to(device, non_blocking=True)

    return Batch(
        images=move(batch.images),
        labels=move(batch.labels),
        ids=batch.ids,
        samples=move(batch.samples),
        teachers=tuple(map_output(teacher, move) for teacher in batch.teachers),
        teacher_images=tuple(move(images) for images in batch.teacher_images),
    )


def split_batch(batch: Batch, parts: int) -> list[Batch]:
    """Micro-batches of almost equal size, in order."""
    if parts == 1:
        return [batch]
    bounds = [round(i * len(batch.labels) / parts) for i in range(parts + 1)]
    return [_rows_of(batch, slice(low, high)) for low, high in itertools.pairwise(bounds)]


def _rows_of(batch: Batch, rows: slice) -> Batch:
    def cut(tensor: Tensor) -> Tensor:
        return tensor[rows]

    return Batch(
        images=cut(batch.images),
        labels=cut(batch.labels),
        ids=batch.ids[rows],
        samples=cut(batch.samples),
        teachers=tuple(map_output(teacher, cut) for teacher in batch.teachers),
        teacher_images=tuple(map(cut, batch.teacher_images)),
    )


def map_output(output: ModelOutput, change: Callable[[Tensor], Tensor]) -> ModelOutput:
    """Every tensor of an output changed in the same way."""
    logits, feature_map = [
        None if tensor is None else change(tensor) for tensor in (output.logits, output.feature_map)
    ]
    return ModelOutput(change(output.features), logits, feature_map)
