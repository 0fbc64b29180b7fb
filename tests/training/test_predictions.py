"""Outputs of which no answer can be made are refused by the name of their image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from refusals import refused
from torch import Tensor, nn
from training_cases import TRANSFORM

from genkt.analysis.collect_outputs import Features, Parts
from genkt.analysis.probes import probed
from genkt.data.images import from_arrays
from genkt.data.views import FIXED_VIEW, ViewDataset
from genkt.inference.load_classifier import Classifier
from genkt.models.backbone import Backbone
from genkt.training.predictions import outputs, predict
from genkt.types import Prediction, require_finite

BRIGHT = 5
"""The first picture that the diverged model has no answer for."""


class Diverged(nn.Module):
    """Answers as usual for dark pictures; the outputs of bright ones are not finite."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.value = nn.Linear(3, 4), 1.0

    def forward(self, images: Tensor) -> Tensor:
        means = images.mean(dim=(2, 3))
        return self.head(torch.where(means > 0, means * self.value, means))


def diverged(value: float = float("nan")) -> Backbone:
    module = Diverged()
    model = Backbone(module, TRANSFORM, "diverged")
    module.value = value
    return model


def dataset(num: int = 8) -> ViewDataset:
    pixels = np.zeros((num, 16, 16), np.uint8)
    pixels[BRIGHT:] = 250
    images = from_arrays(pixels, [0] * num, ("a", "b", "c", "d"), "tiny")
    return ViewDataset(images, FIXED_VIEW, [TRANSFORM])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("answer", [predict, outputs])
def test_the_image_is_named_and_the_others_counted(
    answer: Callable[..., object], value: float
) -> None:
    model = diverged(value).train()
    with refused(f"tiny/{BRIGHT}", 2, 8, key="model diverged"):
        answer(model, dataset(), batch_size=3)
    assert model.training, "as it was"
    answer(model, dataset(BRIGHT), batch_size=3)


def test_a_single_image_has_no_others() -> None:
    with refused(f"tiny/{BRIGHT}") as caught:
        predict(diverged(), dataset(BRIGHT + 1))
    assert "others" not in str(caught.value)


def test_a_file_is_named_by_its_path(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), "white").save(tmp_path / "scan.png")
    classifier = Classifier(diverged(), ("a", "b", "c", "d"))
    with refused(tmp_path / "scan.png"):
        classifier.predict([Image.new("RGB", (16, 16)), tmp_path / "scan.png"])
    with refused("picture 1"):
        classifier.predict([Image.new("RGB", (16, 16)), Image.new("RGB", (16, 16), "white")])


def test_a_model_that_answers_nothing_is_refused_when_it_is_opened() -> None:
    module = Diverged()
    module.head.weight.data[0, 0] = float("nan")
    with refused("'broken'", key="model 'broken'"):
        Backbone(module, TRANSFORM, "broken")


def test_no_prediction_holds_what_is_not_finite() -> None:
    good = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    assert Prediction(("x#1", "y#2"), torch.zeros(2), good).predicted.tolist() == [0, 0]
    with refused("y", key="predictions"):
        Prediction(("x#1", "y#2"), torch.zeros(2), good.log().exp() * torch.tensor([[1], [1e40]]))
    require_finite(torch.zeros(0, 3), (), "nothing")


def test_a_linear_probe_answers_with_finite_numbers() -> None:
    images = dataset().images.select([0, 1])
    labelled = from_arrays(np.zeros((2, 4, 4), np.uint8), [0, 1], ("a", "b", "c", "d"), "train")
    parts = Parts(labelled, images, None, ())
    features = Features(torch.eye(2), torch.tensor([[1.0, 0.0], [float("nan"), 0.0]]), None)
    with refused("tiny/1", key="linear probe"):
        probed(features, parts)
