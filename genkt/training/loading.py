"""Loader processes whose errors look like those of this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from genkt.execution.errors import portable


def loaded(
    dataset: Dataset[Any], keys: Sequence[int], num_workers: int, *, ahead: int = 2,
    pin_memory: bool = False,
) -> Iterator[Any]:  # fmt: skip
    """The items of a data set for the keys, in their order.

    Args:
        ahead: items that each loader process has ready.

    Raises:
        Exception: whatever the data set raises, wherever it was read; what another process raised
            has its traceback as a note.
    """
    loader = DataLoader(
        _Told(dataset) if num_workers else dataset,
        batch_size=None,
        sampler=keys,
        num_workers=num_workers,
        collate_fn=_as_loaded,
        pin_memory=pin_memory,
        prefetch_factor=ahead if num_workers else None,
        generator=torch.Generator(),  # the loader's own draw leaves the global state alone
    )
    for item in loader:
        if isinstance(item, Exception):
            raise item
        yield item


class _Told(Dataset[Any]):
    """Gives an error as an item: a loader would put the whole traceback into its message."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset

    def __getitem__(self, key: int) -> Any:
        try:
            return self.dataset[key]
        except Exception as error:  # raised again where the item arrives
            return portable(error, "a process that loads images")


def _as_loaded(item: Any) -> Any:
    return item
