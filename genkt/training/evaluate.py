"""Predictions of a classifier on a labelled set."""

from __future__ import annotations

import torch
from torch.utils.data import DataLoader

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
        dataset: rendered with the model's own transform first; its keys are (sample, 0).
    """
    images = dataset.images
    was_training = model.training
    model.eval()
    keys = [(index, 0) for index in range(len(images))]
    loader = DataLoader(dataset, batch_size=batch_size, sampler=keys, num_workers=num_workers)
    rows = [
        model(model.normalize(pictures[0].to(device))).logits.float().softmax(dim=1).cpu()
        for pictures in loader
    ]
    model.train(was_training)
    probabilities = torch.cat(rows) if rows else torch.zeros(0, model.num_classes)
    return Prediction(images.ids, torch.from_numpy(images.labels), probabilities)
