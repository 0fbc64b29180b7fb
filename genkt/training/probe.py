"""Linear probes of cached features: a teacher gets a head for the task without another forward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from genkt.data.images import LostImage
from genkt.data.views import ViewSpec
from genkt.io import fingerprint, fingerprint_tensors
from genkt.types import ModelOutput

_UNSEEN = -1e4  # logit of a class without a labelled image: probability 0, gradient finite


class OutputRows(Protocol):
    """Teacher outputs by row: a cache, or a cache with another head."""

    @property
    def lost(self) -> Mapping[int, LostImage]:
        """Rows without outputs, with the errors of their images; ``rows`` raises them."""

    @property
    def is_whole(self) -> bool:
        """Whether every row is there; else ``rows`` may have to compute some."""

    def fill(self, rows: np.ndarray) -> None:
        """Have the rows computed that are missing, before they are read."""

    def rows(self, indices: np.ndarray, *, maps: bool = True) -> ModelOutput:
        """Features, logits and, unless unwanted, feature maps of the rows, in the order asked."""

    def fingerprint(self) -> str:
        """What all outputs follow from: the teacher, its head, the images and their views."""

    def require_samples(self, ids: Sequence[str], views: ViewSpec) -> None:
        """Raise where the rows are not of these samples and views."""


class ProbedStore:
    """A cache of features whose logits come from a linear head fitted afterwards."""

    def __init__(self, store: OutputRows, head: nn.Linear) -> None:
        self.store, self.head = store, head

    @property
    def lost(self) -> Mapping[int, LostImage]:
        """As of the cache below it."""
        return self.store.lost

    @property
    def is_whole(self) -> bool:
        """As the cache below it."""
        return self.store.is_whole

    def fill(self, rows: np.ndarray) -> None:
        """As the cache below it."""
        self.store.fill(rows)

    def rows(self, indices: np.ndarray, *, maps: bool = True) -> ModelOutput:
        """Cached features [B, D] and feature maps, and the head's logits [B, C]."""
        cached = self.store.rows(indices, maps=maps)
        with torch.no_grad():
            return ModelOutput(cached.features, self.head(cached.features), cached.feature_map)

    def fingerprint(self) -> str:
        """Of the cache below it, and of the head."""
        return fingerprint(self.store.fingerprint(), fingerprint_tensors(self.head.state_dict()))

    def require_samples(self, ids: Sequence[str], views: ViewSpec) -> None:
        """As the cache below it."""
        self.store.require_samples(ids, views)


class PartStore:
    """A cache of some samples of a set, read by the rows of the whole set.

    Args:
        store: the cache.  samples: which samples of the set it holds, in its order.
        num_samples: of the whole set.  num_views: rows per sample.
    """

    def __init__(
        self, store: OutputRows, samples: np.ndarray, num_samples: int, num_views: int
    ) -> None:
        self.store, self.samples, self.num_views = store, samples, num_views
        self.places = np.full(num_samples, -1)
        self.places[samples] = np.arange(len(samples))

    @property
    def lost(self) -> Mapping[int, LostImage]:
        """As of the cache below it, by the rows of the whole set."""
        found = [(*divmod(row, self.num_views), error) for row, error in self.store.lost.items()]
        return {
            int(self.samples[place]) * self.num_views + view: error for place, view, error in found
        }

    @property
    def is_whole(self) -> bool:
        """As the cache below it."""
        return self.store.is_whole

    def fill(self, rows: np.ndarray) -> None:
        """As the cache below it, for rows of the whole set."""
        self.store.fill(self._inside(rows))

    def rows(self, indices: np.ndarray, *, maps: bool = True) -> ModelOutput:
        """The rows of the whole set; the cache must hold their samples."""
        return self.store.rows(self._inside(indices), maps=maps)

    def _inside(self, rows: np.ndarray) -> np.ndarray:
        samples, views = np.divmod(rows, self.num_views)
        places = self.places[samples]
        assert (places >= 0).all(), "a row of a sample that is not cached"
        return places * self.num_views + views

    def fingerprint(self) -> str:
        """Of the cache below it, and of which samples it holds."""
        return fingerprint(self.store.fingerprint(), self.samples.tobytes())

    def require_samples(self, ids: Sequence[str], views: ViewSpec) -> None:
        """As the cache below it, for the samples that it holds."""
        self.store.require_samples([ids[sample] for sample in self.samples.tolist()], views)


def fit_head(
    features: Tensor, labels: Sequence[int] | np.ndarray, num_classes: int, num_views: int
) -> nn.Linear:
    """Logistic regression on features, as a linear layer.

    Features are centred and divided by one common scale, which the layer undoes, so that the
    strength of the penalty means the same for every teacher.

    Args:
        features: [N, D] of the labelled images, all their views.
        labels: N class indices; classes that do not occur get probability 0.
        num_classes: C of the layer.
        num_views: rows per image; the penalty counts images, not views.
    """
    from sklearn.linear_model import LogisticRegression

    values, targets = features.double().numpy(), np.asarray(labels)
    mean, scale = values.mean(axis=0), max(float(values.std()), 1e-12)
    weight = np.zeros((num_classes, values.shape[1]))
    bias = np.full(num_classes, _UNSEEN)
    seen = np.unique(targets)
    if len(seen) == 1:
        bias[seen] = 0.0
    else:
        model = LogisticRegression(C=1 / num_views, max_iter=1000)
        model.fit((values - mean) / scale, targets)
        coefficients, intercepts = model.coef_, model.intercept_
        if len(seen) == 2:  # scikit-learn keeps one row for two classes
            coefficients = np.concatenate([-coefficients, coefficients]) / 2
            intercepts = np.concatenate([-intercepts, intercepts]) / 2
        weight[seen] = coefficients / scale
        bias[seen] = intercepts - weight[seen] @ mean
    head = nn.Linear(values.shape[1], num_classes)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias))
    return head.requires_grad_(False).eval()
