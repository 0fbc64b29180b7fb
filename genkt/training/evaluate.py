"""Predictions of a classifier on a labelled set."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from genkt.data.views import ViewDataset
from genkt.models.backbone import Backbone
from genkt.types import Prediction


@torch.inference_mode()
def predict(
    model: Backbone,
    dataset: ViewDataset,
    *,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    num_workers: int = 0,
) -> Prediction:
    """Class probabilities on every picture of a fixed-view data set, in evaluation mode.

    Args:
        dataset: rendered with the model's own transform first; view 0 of every sample is read.
    """
    images = dataset.images
    was_training = model.training
    model.eval()
    loader = DataLoader(
        _Pictures(dataset, batch_size),
        batch_size=None,
        sampler=range(0, len(images), batch_size),
        num_workers=num_workers,
        collate_fn=_as_loaded,
        generator=torch.Generator(),  # the loader's own draw leaves the global state alone
    )
    try:
        rows = [
            model(model.normalize(pictures.to(device))).logits.float().softmax(dim=1).cpu()
            for pictures in loader
        ]
    finally:
        model.train(was_training)
    probabilities = torch.cat(rows) if rows else torch.zeros(0, model.num_classes)
    return Prediction(images.ids, torch.from_numpy(images.labels), probabilities)


class _Pictures(Dataset[Tensor]):
    """Batches of pictures [B, 3, H, W] uint8, addressed by their first sample."""

    def __init__(self, dataset: ViewDataset, batch_size: int) -> None:
        self.dataset, self.batch_size = dataset, batch_size

    def __getitem__(self, start: int) -> Tensor:
        stop = min(start + self.batch_size, len(self.dataset))
        return self.dataset.batch([(index, 0) for index in range(start, stop)])[0]


def _as_loaded(pictures: Any) -> Any:
    return pictures
