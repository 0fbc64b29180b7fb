"""Models of several heads, or of heads that pool: one feature vector, timm's own logits."""

from __future__ import annotations

import copy
import pickle
from functools import cache
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from refusals import refused
from test_backbone import SMALL, noise, transform
from torch import Tensor, nn
from training_cases import HALF

from genkt.data.views import ImageTransform
from genkt.inference.load_classifier import Classifier
from genkt.inference.onnx_export import export_onnx
from genkt.models.backbone import Backbone
from genkt.models.heads import heads_of
from genkt.models.load import ModelSpec, load_model
from genkt.models.weights import weights_notes
from genkt.training.distiller import trainable
from genkt.training.probe import fit_head
from genkt.types import UserError

SAM = {"img_size": 64, "window_size": 2, "global_attn_indexes": (0,), "neck_chans": 8}
FAMILIES: dict[str, tuple[str, int, dict[str, object], int]] = {
    "levit": ("levit_128s", 224, {"embed_dim": (32, 32, 48), "depth": (1, 1, 1)}, 48),
    "efficientformer": (
        "efficientformer_l1", 224, {"embed_dims": (4, 4, 8, 8), "depths": (1, 1, 1, 1)}, 8,
    ),
    "efficientformerv2": (
        "efficientformerv2_s0", 224, {"embed_dims": (4, 4, 8, 8), "depths": (1, 1, 1, 1)}, 8,
    ),
    "efficientvim": (
        "efficientvim_m1", 224, {"embed_dim": (16, 16, 32), "depths": (1, 1, 1)}, 16 + 16 + 32 + 32,
    ),
    "efficientvim, distilled": (
        "efficientvim_m1_dist", 224, {"embed_dim": (16, 16, 32), "depths": (1, 1, 1)},
        16 + 16 + 32 + 32,
    ),
    "swiftformer": (
        "swiftformer_xs", 224, {"embed_dims": (4, 4, 8, 12), "layers": (1, 1, 1, 1)}, 12,
    ),
    "crossvit": ("crossvit_tiny_240", 240, {"depth": ((1, 1, 0),)}, 96 + 192),
    "deit, distilled": ("deit_tiny_distilled_patch16_224", 32, {"img_size": 32, **SMALL}, 16 + 16),
    "pit, distilled": ("pit_ti_distilled_224", 224, {"depth": (1, 1, 1)}, 256 + 256),
    "sequencer": (
        "sequencer2d_s", 56,
        {
            "layers": (1,) * 4, "embed_dims": (8,) * 4, "hidden_sizes": (2,) * 4,
            "pretrained_cfg_overlay": {"input_size": (3, 56, 56)},
        }, 8,
    ),
    "samvit": ("samvit_base_patch16", 64, {**SMALL, **SAM}, 8),
    "repvit": (
        "repvit_m1", 64,
        {"distillation": True, "embed_dim": (8, 8, 16, 16), "depth": (1, 1, 1, 1)}, 16,
    ),
}  # fmt: skip


@cache
def _built(family: str) -> Backbone:
    name, size, args, _ = FAMILIES[family]
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5, **args)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for head in heads_of(model):  # timm may start heads at zero, or all alike
            for parameter in head.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator))
    return Backbone(model, transform(size), name).eval()


def built(family: str) -> tuple[Backbone, Tensor]:
    backbone = copy.deepcopy(_built(family))
    return backbone, noise(backbone.transform.input_size[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_logits_are_timms_and_come_from_the_features_alone(family: str) -> None:
    backbone, images = built(family)
    with torch.no_grad():
        out, logits = backbone(images), backbone.model(images)
        assert torch.equal(out.logits, logits) and logits.abs().max() > 0
        torch.testing.assert_close(backbone.classify(out.features), logits)
        # A mean of heads on parts of the features is one linear map of all of them.
        nothing, every = torch.zeros(1, backbone.width), torch.eye(backbone.width)
        bias = backbone.classify(nothing)
        columns = backbone.classify(every) - bias
        torch.testing.assert_close(out.features @ columns + bias, logits, rtol=1e-3, atol=1e-3)
    assert (columns.abs().sum(dim=1) > 0).all(), "a feature that no head reads"
    assert out.features.shape == (2, backbone.width) == (2, FAMILIES[family][3])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_moves_every_weight_of_the_classifier(family: str) -> None:
    backbone, images = built(family)
    backbone.train()
    weights = backbone.classifier_parameters()
    names = {name for name, p in backbone.named_parameters() if any(p is w for w in weights)}
    assert {id(p) for h in heads_of(backbone.model) for p in h.parameters()} <= {
        id(w) for w in weights
    }
    before = {name: p.detach().clone() for name, p in backbone.named_parameters()}
    optimizer = torch.optim.SGD(backbone.parameters(), lr=1e-2)
    out = backbone(images)
    F.cross_entropy(out.logits, torch.tensor([0, 1])).backward()
    optimizer.step()
    moved = {name for name, p in backbone.named_parameters() if not torch.equal(p, before[name])}
    assert names <= moved and moved - names, "the body learns too"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_probe_trains_the_classifier_and_nothing_else(family: str) -> None:
    backbone, images = built(family)
    with trainable(backbone, head_only=True):
        backbone(images).logits.sum().backward()
        trained = [p for p in backbone.parameters() if p.requires_grad]
    assert {id(p) for p in trained} == {id(p) for p in backbone.classifier_parameters()}
    assert all(p.grad is not None for p in trained)


def test_the_weights_that_mix_the_heads_are_the_classifiers() -> None:
    backbone, _ = built("efficientvim, distilled")
    mixing = (backbone.model.weights, backbone.model.weights_dist)
    found = backbone.classifier_parameters()
    assert all(any(p is weight for p in found) for weight in mixing)


@pytest.mark.parametrize(
    ("family", "shape"),
    [("levit", (48, 4, 4)), ("deit, distilled", (16, 2, 2)), ("samvit", (8, 4, 4))],
)
def test_they_have_maps_where_timm_gives_one(family: str, shape: tuple[int, int, int]) -> None:
    assert built(family)[0].map_shape == shape


@pytest.mark.parametrize("family", ["crossvit", "efficientvim"])
def test_maps_of_several_branches_are_no_map(family: str) -> None:
    backbone, _ = built(family)
    assert backbone.map_width is None
    with refused(got="list"):
        _ = backbone.map_shape


@pytest.mark.parametrize("family", ["levit", "deit, distilled", "repvit"])
def test_distilled_training_gives_the_mean_of_the_heads(family: str) -> None:
    backbone, images = built(family)
    backbone.model.set_distilled_training(True)  # type: ignore[operator]
    backbone.train()
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()  # both passes see the same statistics
    with torch.no_grad():
        one, two = backbone.model(images)
        assert not torch.allclose(one, two)
        torch.testing.assert_close(backbone(images).logits, (one + two) / 2)


@pytest.mark.parametrize("family", FAMILIES)
def test_exported_they_come_back_from_timm(family: str, tmp_path: Path) -> None:
    backbone, images = built(family)
    backbone.export(tmp_path, tuple("abcde"))
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    with torch.no_grad():
        assert torch.equal(again(images), backbone(images).logits)
    loaded = load_model(ModelSpec(f"local-dir:{tmp_path}")).eval()
    assert loaded.fingerprint() == backbone.fingerprint()
    assert copy.deepcopy(loaded).width == pickle.loads(pickle.dumps(loaded)).width == loaded.width


def test_as_onnx_they_answer_the_same(tmp_path: Path) -> None:
    backbone, _ = built("deit, distilled")
    found = export_onnx(Classifier(backbone, tuple("abcde")), tmp_path / "model.onnx")
    assert found.max_difference < 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_they_answer_by_a_fitted_head(family: str) -> None:
    backbone, images = built(family)
    before = backbone.fingerprint()
    with torch.no_grad():
        features = backbone(images).features
    head = fit_head(features, [0, 1], 3, 1)
    backbone.answer_by(head)
    with torch.no_grad():
        out = backbone(images)
    assert backbone.num_classes == 3 and out.logits.argmax(dim=1).tolist() == [0, 1]
    assert torch.equal(out.logits, head(out.features))
    assert torch.equal(backbone.classify(out.features), out.logits)
    assert [id(p) for p in backbone.classifier_parameters()] == [id(p) for p in head.parameters()]
    assert backbone.fingerprint() != before
    with refused(backbone.width, 7):
        backbone.answer_by(nn.Linear(7, 3))


@pytest.mark.parametrize("family", ["deit, distilled", "crossvit", "efficientvim"])
def test_without_classes_the_features_are_the_output(family: str) -> None:
    name, size, args, width = FAMILIES[family]
    model = Backbone(timm.create_model(name, num_classes=0, **args), transform(size), name)
    assert model.width == width and model.classifier_parameters() == []


@pytest.mark.parametrize("family", ["levit", "repvit", "crossvit"])
def test_weights_of_other_classes_bring_their_heads(family: str, tmp_path: Path) -> None:
    name, _, args, _ = FAMILIES[family]
    backbone, images = built(family)
    backbone.export(tmp_path)
    weights = str(tmp_path / "model.safetensors")
    loaded = load_model(ModelSpec(name, weights=weights, args=args)).eval()
    assert loaded.num_classes == 5
    with torch.no_grad():
        assert torch.equal(loaded(images).logits, backbone(images).logits)


@pytest.mark.parametrize("family", ["levit", "deit, distilled"])
@pytest.mark.parametrize("lacks", [("head.", "head_dist."), ("head_dist.",)])
def test_heads_that_weights_lack_are_new_and_named(
    family: str, lacks: tuple[str, ...], tmp_path: Path
) -> None:
    """The statistics of a head that normalises its input belong to it, not to the body."""
    name, _, args, _ = FAMILIES[family]
    state = built(family)[0].model.state_dict()
    weights = tmp_path / "model.pth"
    torch.save({k: v for k, v in state.items() if not k.startswith(lacks)}, weights)
    got = load_model(ModelSpec(name, weights=str(weights), args=args), num_classes=5)
    lacking = [
        k for k, v in got.model.state_dict().items() if not torch.equal(v, state[k]) and v.ndim
    ]
    assert lacking and all(k.startswith(lacks) for k in lacking)
    said = weights_notes([str(weights)])[-1]
    assert "the file has none" in said if len(lacks) == 2 else "head_dist." in said


def test_the_classes_of_a_file_are_those_of_its_last_layers(tmp_path: Path) -> None:
    """48 is the width of what enters the heads, and normalised there."""
    name, _, args, _ = FAMILIES["levit"]
    weights = built("levit")[0].export(tmp_path) / "model.safetensors"
    load_model(ModelSpec(name, weights=str(weights), args=args), num_classes=48)
    assert (
        "its head of 48 classes is new, that of the file has 5" in weights_notes([str(weights)])[-1]
    )


def test_a_part_of_a_head_is_none(tmp_path: Path) -> None:
    source = timm.create_model("resnet18", num_classes=5, layers=(1,) * 4, channels=(4, 4, 8, 8))
    state = source.state_dict()
    del state["fc.bias"]
    weights = tmp_path / "model.pth"
    torch.save(state, weights)
    args = {"layers": (1,) * 4, "channels": (4, 4, 8, 8)}
    got = load_model(ModelSpec("resnet18", weights=str(weights), args=args), num_classes=5)
    assert not torch.equal(got.model.state_dict()["fc.weight"], state["fc.weight"])
    assert "left out (fc.weight)" in weights_notes([str(weights)])[0]


class Everywhere(nn.Module):
    """Two heads that classify every place; the mean over places comes after them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 8, 8)
        self.heads = nn.ModuleList([nn.Linear(4, 3), nn.Linear(4, 3)])

    def get_classifier(self) -> nn.ModuleList:
        return self.heads

    def forward_features(self, images: Tensor) -> Tensor:
        return self.stem(images).flatten(2).mT  # type: ignore[no-any-return]

    def forward_head(self, tokens: Tensor) -> Tensor:
        return sum(head(tokens).mean(dim=1) for head in self.heads) / 2  # type: ignore[return-value]

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))


class Beside(Everywhere):
    """Adds to its heads what they have not read."""

    def forward_head(self, tokens: Tensor) -> Tensor:
        vector = tokens.mean(dim=1)
        return sum(head(vector) for head in self.heads) + tokens[:, 0, :3]  # type: ignore[return-value]


class Half(Everywhere):
    """Calls one of its two heads."""

    def forward_head(self, tokens: Tensor) -> Tensor:
        return self.heads[0](tokens.mean(dim=1))  # type: ignore[no-any-return]


class Headless(Everywhere):
    """Knows of no head."""

    def get_classifier(self) -> None:  # type: ignore[override]
        return None


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Everywhere(), "a vector .* for each head, got"),
        (Beside(), "differs from model"),
        (Half(), "from all 2 heads, got 1"),
        (Headless(), "expected a classifier, got none"),
    ],
)
def test_heads_whose_vectors_are_not_all_are_refused(model: nn.Module, message: str) -> None:
    shape = ImageTransform((16, 16), HALF, HALF, "bilinear", 1.0)
    with pytest.raises(UserError, match=message):
        Backbone(model, shape, "odd")
