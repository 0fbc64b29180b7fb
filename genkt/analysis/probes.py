"""The quality of features before any training: linear probes, LogME, distances of the parts."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from genkt.analysis.collect_outputs import Collected, Features, Parts
from genkt.metrics.frechet import MIN_ROWS, equal_sizes, frechet_distance
from genkt.metrics.logme import rank_by_logme
from genkt.metrics.rounding import without_noise
from genkt.report.analyze.analyze_data import Share
from genkt.training.probe import fit_head
from genkt.types import UserError, require_finite


def probed(features: Features, parts: Parts) -> Share:
    """A linear probe fitted on the training images and applied to the analysed ones."""
    head = fit_head(features.train, parts.train.labels, len(parts.classes), num_views=1)
    answers = head(features.analysed)
    require_finite(answers, parts.analysed.ids, "linear probe")
    right = answers.argmax(dim=1) == torch.from_numpy(parts.labels)
    return Share.of(right.numpy(), parts.groups)


def evidence(found: Sequence[Collected], parts: Parts) -> dict[str, float]:
    """LogME of every model's features of the training images, by name."""
    features = {model.name: model.features.train for model in found}
    labels = torch.from_numpy(parts.train.labels)
    ranked = rank_by_logme(features, labels, len(parts.classes))
    return {name: without_noise(value) for name, value in ranked}


def num_compared(parts: Parts) -> int:
    """Images per set in every distance: the size of the smallest set."""
    others = [] if parts.other is None else [len(parts.other)]
    return min([len(parts.train), len(parts.analysed), *others])


def distances(model: Collected, parts: Parts, seed: int) -> tuple[float | None, float | None]:
    """Frechet distances of the analysed images from the training ones and from the others.

    All sets are cut to the size of the smallest, as the score falls with the number of images.

    Returns:
        The two distances. The first is None if both sets are the same images, the second without
        other images. None instead of the pair for fewer than two images.
    """
    features = model.features
    if num_compared(parts) < MIN_ROWS:
        return None, None
    sets = [features.analysed, features.train]
    if features.other is not None:
        sets.append(features.other)
    try:
        analysed, train, *others = equal_sizes(sets, seed)
        same = parts.train.ids == parts.analysed.ids
        near = None if same else without_noise(frechet_distance(analysed, train))
        far = without_noise(frechet_distance(analysed, others[0])) if others else None
        return near, far
    except UserError as error:
        raise UserError(f"model {model.name}: {error}") from error
