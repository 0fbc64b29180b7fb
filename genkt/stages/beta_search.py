"""Chooses a method's beta on held-out labels, without images made from held-out images."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from genkt.data.images import ImageSet
from genkt.data.splits import holdout
from genkt.data.views import FIXED_VIEW, ViewDataset
from genkt.losses.logits import cross_entropy
from genkt.methods.base import MethodOptions
from genkt.methods.build import beta_candidates, with_beta
from genkt.models.backbone import Backbone
from genkt.runs.pool import Draw, Pool
from genkt.runs.run_images import RunImages
from genkt.training.predictions import predict
from genkt.types import UNLABELLED, Cost

Trial = Callable[[Draw, Backbone, MethodOptions, str], Cost]
"""(draw, student to train, options, name) -> cost."""

FOLDER = "search"
"""Folder of the trials, in the folder of their student."""


def cost_name(stage: str) -> str:
    """The name of a search among the costs of its student."""
    return FOLDER if stage == "distil" else f"{FOLDER}-{stage}"


def searched(
    images: RunImages, pool: Pool, draw: Draw, student: Backbone, options: MethodOptions,
    trial: Trial, name: str,
) -> tuple[MethodOptions, Cost]:  # fmt: skip
    """Replace ``beta=search`` by the candidate that does best on a held-out tenth of the labels.

    Every candidate trains a copy of the student on the other labels, without what was synthesized
    from the held-out images. Best: most right answers, then lowest cross-entropy, then the smaller
    beta. The student itself is trained on all labels afterwards.

    Args:
        name: of the stage.
    """
    candidates = beta_candidates(options)
    if not candidates:
        return options, Cost()
    kept, held = holdout(draw.images.select(draw.labelled), 0.1, draw.seed, "beta")
    labels = np.full_like(draw.labels, UNLABELLED)
    labels[draw.labelled[kept]] = draw.labels[draw.labelled[kept]]
    part = replace(
        pool.without(draw, draw.labelled[held]), labels=labels, labelled=draw.labelled[kept]
    )
    prefix = cost_name(name)
    total, scores = Cost(), []
    for beta in candidates:
        learner = copy.deepcopy(student)
        total += trial(part, learner, with_beta(options, beta), f"{prefix}-{beta:g}")
        unseen = draw.images.select(draw.labelled[held])
        accuracy, loss = _held_out_score(learner, unseen, images.fabric.device)
        scores.append((-accuracy, loss, beta))
    return with_beta(options, min(scores)[2]), total


def _held_out_score(
    student: Backbone, images: ImageSet, device: torch.device
) -> tuple[float, float]:
    """(accuracy, cross-entropy) on training images, under the fixed view."""
    dataset = ViewDataset(images, FIXED_VIEW, [student.transform])
    prediction = predict(student, dataset, device=device)
    log_probabilities = prediction.probabilities.clamp_min(1e-12).log()
    return prediction.accuracy, cross_entropy(log_probabilities, prediction.labels).item()
