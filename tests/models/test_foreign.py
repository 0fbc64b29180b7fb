"""Networks that know nothing of genkt behind its one face, and their outputs in a cache."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from refusals import refused
from torch import Tensor, nn

from genkt.data.images import from_arrays
from genkt.data.transform import ImageTransform
from genkt.models.backbone import Backbone
from genkt.models.foreign import as_backbone
from genkt.stores.teacher_outputs import OutputStore
from genkt.training.teacher import cache_outputs
from genkt.types import UserError

HALF = (0.5, 0.5, 0.5)
TRANSFORM = ImageTransform((16, 16), HALF, HALF, "bilinear")
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
IMAGES = from_arrays(PIXELS, [0, 1, 0, 1], ("a", "b"), "noise")


class Answers(nn.Module):
    """Patches, then what a library of transformers may return."""

    def __init__(self, kind: str = "dict") -> None:
        super().__init__()
        self.kind = kind
        self.embed = nn.Conv2d(3, 8, 4, 4)
        self.output = nn.ModuleDict({"dense": nn.Linear(8, 3)})
        self.norm = nn.BatchNorm2d(8)

    def forward(self, images: Tensor) -> Any:
        maps = self.norm(self.embed(images))
        tokens = maps.flatten(2).transpose(1, 2)
        pooled = tokens.mean(dim=1)
        parts = {"tokens": tokens, "pooled": pooled, "maps": maps}
        if self.kind == "logits":
            return self.output["dense"](pooled)
        if self.kind == "all":
            return parts | {"logits": self.output["dense"](pooled)}
        return SimpleNamespace(**parts) if self.kind == "object" else parts


def images(seed: int = 1) -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", ["dict", "object"])
def test_the_parts_of_an_answer_become_features(kind: str) -> None:
    module = Answers(kind).eval()
    for key, pool, expected in (
        ("pooled", None, lambda parts: parts["pooled"]),
        ("tokens", "first", lambda parts: parts["tokens"][:, 0]),
        ("tokens", "mean", lambda parts: parts["pooled"]),
        ("maps", "mean", lambda parts: parts["pooled"]),
    ):
        model = as_backbone(module, transform=TRANSFORM, features=key, pool=pool)  # type: ignore[arg-type]
        answer = module(images())
        parts = answer if kind == "dict" else vars(answer)
        found = model(images())
        assert torch.allclose(found.features, expected(parts), atol=1e-6)
        assert (model.width, model.num_classes) == (8, 0) and found.logits.shape == (2, 0)


@pytest.mark.parametrize("kind", ["logits", "all"])
def test_a_classifier_of_another_name(kind: str) -> None:
    module = Answers(kind).eval()
    model = as_backbone(module, transform=TRANSFORM, classifier="output.dense", name="mine")
    found, answer = model(images()), module(images())
    assert torch.equal(found.logits, answer if kind == "logits" else answer["logits"])
    assert (model.name, model.width, model.num_classes) == ("mine", 8, 3)
    assert set(model.classifier_parameters()) == set(module.output["dense"].parameters())


def test_what_is_one_already_or_declares_its_transform_needs_nothing() -> None:
    import timm

    tiny = timm.create_model("resnet18", layers=[1, 1, 1, 1], channels=[4, 4, 8, 8], num_classes=3)
    model = as_backbone(tiny)
    assert isinstance(model, Backbone) and as_backbone(model) is model
    assert model.transform.input_size == (224, 224)


def test_the_mode_and_the_running_means_of_the_module_stay() -> None:
    module = Answers().train()
    before = copy.deepcopy(module.state_dict())
    model = as_backbone(module, transform=TRANSFORM, features="pooled")
    assert module.training and model.training
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "declares no input transform"),
        ({"transform": TRANSFORM}, "expected timm's forward_features"),
        ({"transform": TRANSFORM, "features": "poled"}, 'a tensor "poled" in its answer, got tok'),
        ({"transform": TRANSFORM, "features": "tokens"}, r"got [1, 16, 8]; give pool="),
        ({"transform": TRANSFORM, "classifier": "output.dens"}, "Did you mean output.dense"),
        ({"transform": TRANSFORM, "classifier": "a", "features": "b"}, "got both"),
        ({"transform": TRANSFORM, "pool": "mean"}, "pool needs features"),
    ],
)
def test_what_does_not_do_is_said(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        as_backbone(Answers(), **given)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_outputs_of_one_or_several_are_cached_and_other_parts_never_mixed_up(
    tmp_path: Path,
) -> None:
    module = Answers().eval()
    pooled = as_backbone(module, transform=TRANSFORM, features="pooled")
    first = as_backbone(module, transform=TRANSFORM, features="tokens", pool="first")
    stores = cache_outputs([pooled, first], IMAGES, home=tmp_path)
    assert isinstance(stores, tuple) and len({store.path for store in stores}) == 2
    again = cache_outputs(pooled, IMAGES, home=tmp_path)
    assert isinstance(again, OutputStore) and again.path == stores[0].path
    batch = TRANSFORM.normalize(torch.from_numpy(PIXELS).permute(0, 3, 1, 2))
    for model, store in zip((pooled, first), stores, strict=True):
        with torch.no_grad():
            expected = model(batch).features
        assert torch.allclose(store.rows(range(4)).features, expected, atol=2e-3)


def test_the_cache_of_all_runs_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENKT_CACHE", str(tmp_path))
    model = as_backbone(Answers(), transform=TRANSFORM, features="pooled")
    assert cache_outputs(model, IMAGES).path.parent == tmp_path
    with refused("transform"):
        cache_outputs(Answers(), IMAGES)


def test_a_network_in_float64_computes_in_it(tmp_path: Path) -> None:
    model = as_backbone(Answers().eval().double(), transform=TRANSFORM, features="pooled")
    pixels = model.normalize(torch.from_numpy(PIXELS).permute(0, 3, 1, 2))
    assert pixels.dtype == model(pixels).features.dtype == torch.float64
    store = cache_outputs(model, IMAGES, home=tmp_path, dtype="float32")
    with torch.no_grad():
        expected = model(pixels).features.float()
    assert torch.allclose(store.rows(range(4)).features, expected, atol=1e-6)
