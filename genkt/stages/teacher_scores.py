"""Whether a teacher's answers on labelled images are right."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genkt.data.images import ImageSet
from genkt.models.backbone import Backbone


def scores_of(logits: Tensor, labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """[N] 1 where the highest of the logits [N, C] is the label's, otherwise 0."""
    return (logits.argmax(dim=1) == torch.from_numpy(labels)).float().numpy()


def knows_classes(model: Backbone, images: ImageSet) -> bool:
    """Whether the files of a model name all classes of the images."""
    return set(images.classes) <= set(model.class_names)


def own_head_scores(model: Backbone, logits: Tensor, images: ImageSet) -> NDArray[np.float32]:
    """[N] of a head's answers among all classes that it knows, see ``knows_classes``."""
    places = {name: place for place, name in enumerate(model.class_names)}
    numbers = np.array([places[name] for name in images.classes], dtype=np.int64)
    return scores_of(logits, numbers[images.labels])
