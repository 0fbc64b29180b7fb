"""Linear probes of cached features: the head equals the regression it was fitted by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from genkt.data.images import LostImage
from genkt.data.transform import ImageTransform
from genkt.data.views import ViewSpec
from genkt.models.backbone import Backbone
from genkt.training.probe import PartStore, ProbedStore, fit_head
from genkt.types import ModelOutput

HALF = (0.5, 0.5, 0.5)


def clusters(num_classes: int, each: int, width: int, seed: int) -> tuple[Tensor, list[int]]:
    """Well separated classes far from the origin."""
    generator = torch.Generator().manual_seed(seed)
    labels = [index % num_classes for index in range(num_classes * each)]
    centres = 5 * torch.randn(num_classes, width, generator=generator) + 40
    noise = torch.randn(len(labels), width, generator=generator)
    return centres[labels] + noise, labels


@given(st.integers(2, 5), st.integers(0, 100))
@settings(max_examples=10, deadline=None)
def test_head_is_logistic_regression_on_scaled_features(num_classes: int, seed: int) -> None:
    features, labels = clusters(num_classes, 6, 8, seed)
    head = fit_head(features, labels, num_classes, num_views=1)
    values = features.double().numpy()
    scaled = (values - values.mean(axis=0)) / values.std()
    model = LogisticRegression(C=1.0, max_iter=1000).fit(scaled, labels)
    expected = model.predict_proba(scaled)
    found = head(features).softmax(dim=1)
    assert torch.allclose(found, torch.from_numpy(expected).float(), atol=2e-4)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_answers_do_not_depend_on_the_features_scale_or_place(scale: float) -> None:
    features, labels = clusters(4, 5, 16, 0)
    plain = fit_head(features, labels, 4, 1)(features).softmax(dim=1)
    moved = scale * features + 7
    assert torch.allclose(fit_head(moved, labels, 4, 1)(moved).softmax(dim=1), plain, atol=1e-3)


def test_penalty_counts_images_not_views() -> None:
    features, labels = clusters(3, 4, 6, 1)
    once = fit_head(features, labels, 3, num_views=1)
    thrice = fit_head(features.repeat_interleave(3, 0), np.repeat(labels, 3), 3, num_views=3)
    assert torch.allclose(once(features), thrice(features), atol=1e-2)


def test_classes_without_a_labelled_image_get_no_probability() -> None:
    features, labels = clusters(2, 5, 6, 2)
    head = fit_head(features, [label + 1 for label in labels], 4, 1)  # classes 1 and 2 of 0..3
    probabilities = head(features).softmax(dim=1)
    assert probabilities[:, [0, 3]].max() == 0
    assert (probabilities.argmax(dim=1) == torch.tensor(labels) + 1).all()


def test_one_class_only_is_always_answered() -> None:
    features, _ = clusters(2, 5, 6, 3)
    head = fit_head(features, [1] * len(features), 3, 1)
    assert (head(features).argmax(dim=1) == 1).all()
    assert torch.isfinite(head(features)).all()


class Rows:
    """A store of the test's own; maps are features at every place."""

    def __init__(self, features: Tensor) -> None:
        self.features, self.checked = features, False
        self.lost: dict[int, LostImage] = {}

    def rows(self, indices: np.ndarray, *, maps: bool = True) -> ModelOutput:
        features = self.features[torch.as_tensor(indices)]
        feature_map = features[:, :, None, None].expand(-1, -1, 2, 3) if maps else None
        return ModelOutput(features, None, feature_map)

    def require_samples(self, ids: object, views: object) -> None:
        self.checked = True


def test_probed_store_serves_cached_features_and_the_heads_logits() -> None:
    features, labels = clusters(3, 5, 6, 4)
    head = fit_head(features, labels, 3, 1)
    rows = Rows(features)
    store = ProbedStore(rows, head)
    output = store.rows(np.array([4, 1, 1]))
    assert torch.equal(output.features, features[[4, 1, 1]])
    assert output.logits is not None and not output.logits.requires_grad
    assert torch.equal(output.logits, head(features[[4, 1, 1]]))
    assert output.feature_map is not None
    assert torch.equal(output.feature_map[..., 1, 2], features[[4, 1, 1]])
    assert store.rows(np.array([4]), maps=False).feature_map is None
    store.require_samples(("a",), None)  # type: ignore[arg-type]
    assert rows.checked


@pytest.mark.parametrize("name", ["resnet18", "resnetv2_50x1_bit"])
def test_a_model_answers_by_a_given_head(name: str) -> None:
    """Models with a linear classifier and with BiT's 1x1 convolution alike."""
    channels = {"channels": [8, 8, 16, 16]} if name == "resnet18" else {}
    model: nn.Module = timm.create_model(name, num_classes=3, **channels)
    backbone = Backbone(model, ImageTransform((32, 32), HALF, HALF, "bilinear", 1.0), name).eval()
    head = nn.Linear(backbone.width, 3)
    backbone.answer_by(head)
    output = backbone(torch.randn(2, 3, 32, 32))
    assert torch.allclose(output.logits, head(output.features), atol=1e-5)


def test_a_cache_of_some_samples_is_read_by_the_rows_of_all() -> None:
    class Few:
        lost = {1: LostImage("b.png", "gone"), 2: LostImage("d.png", "gone")}

        def rows(self, indices: np.ndarray, *, maps: bool = True) -> ModelOutput:
            features = torch.from_numpy(indices)[:, None].float()
            return ModelOutput(features, None, features[:, :, None, None] if maps else None)

        def require_samples(self, ids: Sequence[str], views: ViewSpec) -> None:
            assert list(ids) == ["b", "d"]

    store = PartStore(Few(), np.array([1, 3]), num_samples=5, num_views=2)
    store.require_samples(["a", "b", "c", "d", "e"], ViewSpec())
    assert {row: error.place for row, error in store.lost.items()} == {3: "b.png", 6: "d.png"}
    output = store.rows(np.array([2, 7, 6]))
    assert output.features[:, 0].tolist() == [0, 3, 2]
    assert output.feature_map is not None
    assert output.feature_map.flatten().tolist() == [0, 3, 2]
    assert store.rows(np.array([2]), maps=False).feature_map is None
    with pytest.raises(AssertionError):
        store.rows(np.array([0]))
