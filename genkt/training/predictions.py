"""Predictions of a classifier on a labelled set."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from genkt.data.images import LostImage
from genkt.data.views import ViewDataset
from genkt.models.backbone import Backbone
from genkt.training.loading import loaded
from genkt.training.lost_images import LostImages
from genkt.training.row_pictures import RowPictures
from genkt.types import ModelOutput, Prediction, require_finite


def predict(
    model: Backbone,
    dataset: ViewDataset,
    *,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    num_workers: int = 0,
    lost: LostImages | None = None,
) -> Prediction:
    """Class probabilities on every picture of a fixed-view data set, in evaluation mode.

    Args:
        dataset: rendered with the model's own transform first; view 0 of every sample is read.
        lost: counts pictures that can no longer be read; they are left out of the prediction.
            None: such a picture is an error.

    Raises:
        UserError: probabilities that are not finite; the image is named.
    """
    images = dataset.images
    blank: dict[int, LostImage] = {}
    found = _forward(
        model, dataset, batch_size, device, num_workers, blank if lost is not None else None
    )
    rows = [_logits(output).softmax(dim=1).cpu() for output in found]
    probabilities = torch.cat(rows) if rows else torch.zeros(0, model.num_classes)
    for place, error in blank.items():
        assert lost is not None
        lost.add(images.ids[place], error, len(images))
    if blank:
        kept = np.setdiff1d(np.arange(len(images)), list(blank))
        images, probabilities = images.select(kept), probabilities[kept]
    require_finite(probabilities, images.ids, f"model {model.name}")
    return Prediction(images.ids, torch.from_numpy(images.labels), probabilities)


def outputs(
    model: Backbone,
    dataset: ViewDataset,
    *,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> ModelOutput:
    """Features and logits of every picture of a fixed-view data set, in one pass.

    Args:
        dataset: as for ``predict``.
        progress: called with the pictures that are done.

    Returns:
        Features [N, D] and logits [N, C], float32 on the CPU.

    Raises:
        UserError: outputs that are not finite; the image is named.
    """
    features, logits = [torch.zeros(0, model.width)], [torch.zeros(0, model.num_classes)]
    for output in _forward(model, dataset, batch_size, device, 0):
        features.append(output.features.float().cpu())
        logits.append(_logits(output).cpu())
        if progress is not None:
            progress(len(output.features))
    all_features, all_logits = torch.cat(features), torch.cat(logits)
    for values in (all_features, all_logits):
        require_finite(values, dataset.images.ids, f"model {model.name}")
    return ModelOutput(all_features, all_logits)


def _logits(output: ModelOutput) -> Tensor:
    assert output.logits is not None
    return output.logits.float()


@torch.inference_mode()
def _forward(
    model: Backbone, dataset: ViewDataset, batch_size: int, device: torch.device | str,
    num_workers: int, blank: dict[int, LostImage] | None = None,
) -> Iterator[ModelOutput]:  # fmt: skip
    """The outputs of one batch after the other, in evaluation mode.

    Args:
        blank: gets the samples that can no longer be read, which are blank; None: an error.
    """
    was_training = model.training
    model.eval()
    batches = RowPictures(dataset, range(len(dataset)), batch_size, survives=blank is not None)
    try:
        for pictures, lost in loaded(batches, batches.starts(), num_workers):
            if blank is not None:
                blank |= lost
            output: ModelOutput = model(model.normalize(pictures.to(device, non_blocking=True)))
            yield output
    finally:
        model.train(was_training)
