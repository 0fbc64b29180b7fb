"""The adapter: one forward gives features, map and logits of any family, or a clear refusal."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from training_cases import HALF, TRANSFORM, TinyNet, assert_same, tiny_net, tiny_resnet

from genkt.data.views import ImageTransform
from genkt.models.backbone import Backbone, transform_of
from genkt.types import UserError

SMALL = {"depth": 1, "embed_dim": 16, "num_heads": 2}
FAMILIES: dict[str, tuple[str, int, dict[str, object]]] = {
    "resnet": ("resnet18", 32, {"layers": [1, 1, 1, 1], "channels": [4, 4, 8, 8]}),
    "vit, class token": ("vit_tiny_patch16_224", 32, {"img_size": 32, **SMALL}),
    "vit, mean": ("vit_tiny_patch16_224", 32, {"img_size": 32, "global_pool": "avg", **SMALL}),
    "vit, map": ("vit_base_patch16_siglip_224", 32, {"img_size": 32, **SMALL}),
    "dinov2": ("vit_small_patch14_dinov2", 28, {"img_size": 28, **SMALL}),
    "mixer": ("mixer_s32_224", 64, {"img_size": 64}),
    "convnext": ("convnext_atto", 32, {"depths": [1] * 4, "dims": [8, 8, 16, 16]}),
    "efficientnet": ("efficientnet_lite0", 32, {}),
    "mobilenetv3": ("mobilenetv3_small_050", 32, {}),
    "mobilevitv2": ("mobilevitv2_050", 64, {}),
    "fastvit": ("fastvit_t8", 64, {}),
    "swin": (
        "swin_tiny_patch4_window7_224", 32,
        {"img_size": 32, "window_size": 1, "embed_dim": 8, "depths": [1] * 4, "num_heads": [1] * 4},
    ),
    "bit": ("resnetv2_50x1_bit", 32, {}),
    "regnet": ("regnetx_002", 32, {}),
    "densenet": ("densenet121", 32, {"block_config": [1, 1, 1, 1]}),
}  # fmt: skip


def transform(size: int) -> ImageTransform:
    return ImageTransform((size, size), HALF, HALF, "bilinear", 1.0)


def noise(size: int, rows: int = 2) -> Tensor:
    return torch.randn(rows, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_classifier_on_the_features_is_the_model(family: str) -> None:
    name, size, args = FAMILIES[family]
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5, **args)
    with torch.no_grad():
        for parameter in model.get_classifier().parameters():  # timm may start heads at zero
            parameter.normal_()
    backbone = Backbone(model, transform(size), name).eval()
    images = noise(size)
    with torch.no_grad():
        out, logits = backbone(images), model(images)
    torch.testing.assert_close(out.logits, logits)
    torch.testing.assert_close(backbone.classify(out.features), logits)
    assert out.features.shape == (2, backbone.width) and backbone.num_classes == 5
    assert out.feature_map is not None and out.feature_map.shape[0] == 2
    assert logits.abs().max() > 0
    copied = copy.deepcopy(backbone)
    assert copied.fingerprint() == backbone.fingerprint()


@pytest.mark.parametrize("family", ["resnet18", "mobilenet_v3_small", "vit_b_16", "own"])
def test_plain_modules_with_one_linear_head(family: str) -> None:
    torch.manual_seed(0)
    if family == "own":
        model: nn.Module = TinyNet()
    elif family == "vit_b_16":
        model = torchvision.models.VisionTransformer(16, 8, 1, 2, 16, 32, num_classes=3)
        nn.init.normal_(model.heads.head.weight)
    else:
        model = torchvision.models.get_model(family, weights=None, num_classes=3)
    backbone = Backbone(model, transform(16), family).eval()
    images = noise(16)
    out = backbone(images)
    torch.testing.assert_close(out.logits, model(images))
    torch.testing.assert_close(backbone.classify(out.features), out.logits)
    assert out.features.shape == (2, backbone.width) and not backbone.is_timm
    out.features.sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    # A copy computes with its own weights, and leaves the first one alone.
    copied = copy.deepcopy(backbone)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    assert copied(images).features.abs().sum() == 0 < backbone(images).features.abs().sum()


def test_dropout_is_drawn_once() -> None:
    backbone = tiny_net(dropout=0.5).train()
    out = backbone(noise(16))
    torch.testing.assert_close(backbone.classify(out.features), out.logits)


def test_volo_fits_without_its_auxiliary_classifier() -> None:
    model = timm.create_model("volo_d1_224", img_size=32, num_classes=3, use_aux_head=False)
    assert Backbone(model, transform_of(model), "volo").num_classes == 3


@pytest.mark.parametrize(
    ("name", "args", "size", "message"),
    [
        ("volo_d1_224", {"img_size": 32}, 32, r"classifier\(features\) differs from model\(x\)"),
        ("vit_tiny_patch16_224", {"depth": 1}, 32, "a forward pass on a .* image failed"),
    ],
)
def test_families_that_do_not_fit_are_refused(
    name: str, args: dict[str, object], size: int, message: str
) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=4, **args)
    with pytest.raises(UserError, match=message) as caught:
        Backbone(model, transform(size), name)
    assert name in str(caught.value) and "\n" not in str(caught.value)


class Unused(TinyNet):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))


class Two(TinyNet):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images), super().forward(images)  # type: ignore[return-value]


class Scaled(TinyNet):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images)[:, :, None]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(768, 3)), "or a linear layer in an attribute"),
        (nn.Flatten(), "expected a model with weights"),
        (Unused(), "does not call the classifier"),
        (Two(), "expected logits .* got a tuple"),
        (Scaled(), "expected features .* and logits"),
    ],
)
def test_plain_modules_that_do_not_fit_are_refused(model: nn.Module, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        Backbone(model, TRANSFORM, "odd")
    assert str(caught.value).count("model 'odd'") == 1


def test_wrapping_leaves_modes_and_random_state_alone() -> None:
    model = timm.create_model("resnet18", layers=[1] * 4, channels=[4, 4, 8, 8], num_classes=3)
    model.bn1.eval()
    before = torch.get_rng_state()
    backbone = Backbone(model, TRANSFORM, "tiny")
    assert model.training and not model.bn1.training and model.layer1.training
    assert torch.equal(torch.get_rng_state(), before)
    assert not Backbone(model.eval(), TRANSFORM, "tiny").training and backbone.training


def test_a_frozen_teacher_stands_still() -> None:
    teacher = tiny_resnet().freeze()
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    nn.ModuleList([teacher]).train()
    assert not any(module.training for module in teacher.modules())
    assert not teacher(noise(16)).logits.requires_grad
    assert_same(before, teacher.state_dict())
    student = tiny_resnet().train()
    student(noise(16))
    assert not torch.equal(
        student.state_dict()["model.bn1.running_mean"], before["model.bn1.running_mean"]
    )


def test_the_fingerprint_sees_one_weight_and_nothing_else() -> None:
    model = tiny_resnet()
    print_ = model.fingerprint()
    assert copy.deepcopy(model).freeze().fingerprint() == print_ == tiny_resnet().fingerprint()
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.model.conv1.weight[0, 0, 0, 0] += 1e-6  # type: ignore[index, union-attr, operator]
    assert other.fingerprint() != print_
    moved = copy.deepcopy(model)
    moved.model.bn1.running_mean += 1e-6  # type: ignore[union-attr, operator]
    assert moved.fingerprint() != print_
    activation = tiny_resnet(act_layer=nn.SiLU)
    assert activation.fingerprint() != print_  # equal weights, another function
    assert tiny_net().fingerprint() != print_


def test_functions_inside_do_not_put_their_address_into_the_fingerprint() -> None:
    class Applied(nn.Identity):
        def extra_repr(self) -> str:
            return repr(lambda value: value)

    prints = set()
    kept = []
    for _ in range(3):
        model = TinyNet()
        model.load_state_dict(tiny_net().model.state_dict())
        model.dropout = Applied()  # type: ignore[assignment]
        kept.append(repr(model))
        prints.add(Backbone(model, TRANSFORM, "x").fingerprint())
    assert len(prints) == 1


def test_exported_students_come_back_from_timm(tmp_path: Path) -> None:
    own = ImageTransform((32, 32), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bilinear", 0.9)
    model = timm.create_model("resnet18", layers=[1, 1, 1, 1], channels=[4, 4, 8, 8], num_classes=3)
    backbone = Backbone(model, own, "tiny").eval()
    backbone.export(tmp_path, ("cat", "dog", "owl"))
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert torch.equal(again(noise(32)), backbone(noise(32)).logits)
    assert transform_of(again) == own
    assert list(again.pretrained_cfg["label_names"]) == ["cat", "dog", "owl"]
    picture = Image.fromarray(np.arange(60 * 40 * 3, dtype=np.uint8).reshape(60, 40, 3))
    config = timm.data.resolve_model_data_config(again)
    theirs = timm.data.create_transform(**config, is_training=False)(picture)
    torch.testing.assert_close(theirs, own.normalize(own.to_uint8(picture)[None])[0])


def test_weights_that_two_parts_share_are_exported(tmp_path: Path) -> None:
    sizes = {"serial_depths": [1] * 4, "parallel_depth": 1, "img_size": 32}
    model = timm.create_model("coat_tiny", num_classes=3, **sizes)
    assert len(list(model.parameters())) < len(list(model.named_parameters(remove_duplicate=False)))
    backbone = Backbone(model, transform(32), "coat").eval()
    backbone.export(tmp_path)
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert torch.equal(again(noise(32)), backbone(noise(32)).logits)
    plain = TinyNet()
    plain.more = plain.head  # type: ignore[assignment]
    Backbone(plain, TRANSFORM, "plain").export(tmp_path / "plain")
    saved = load_file(tmp_path / "plain" / "model.safetensors")
    assert torch.equal(saved["more.weight"], plain.head.weight)


def test_an_exported_plain_module_is_its_weights(tmp_path: Path) -> None:
    tiny_net().export(tmp_path / "student")
    assert_same(
        load_file(tmp_path / "student" / "model.safetensors"), tiny_net().model.state_dict()
    )


def test_counts() -> None:
    model = tiny_net()
    assert model.num_parameters == sum(v.numel() for v in model.state_dict().values())
    assert [tuple(p.shape) for p in model.classifier_parameters()] == [(3, 8), (3,)]
