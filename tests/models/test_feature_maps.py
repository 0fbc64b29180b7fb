"""One form of feature maps: places in order, prefix tokens gone, or a clear refusal."""

from __future__ import annotations

import copy
import pickle

import pytest
import timm
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused
from test_backbone import FAMILIES, SMALL, noise, transform
from torch import Tensor, nn

from genkt.data.views import ImageTransform
from genkt.models.backbone import Backbone
from genkt.models.feature_maps import spatial_map

HALF = (0.5, 0.5, 0.5)
PREFIXED = {
    "registers": ("vit_small_patch14_reg4_dinov2", 28, {"img_size": 28, **SMALL}),
    "cait": ("cait_xxs24_224", 32, {"img_size": 32, **SMALL}),
    "swin v2": (
        "swinv2_tiny_window8_256", 32,
        {"img_size": 32, "window_size": 1, "embed_dim": 8, "depths": [1] * 4, "num_heads": [1] * 4},
    ),
}  # fmt: skip
ALL = {**FAMILIES, **PREFIXED}
OWN_MAP = ("resnet", "vit", "dinov2", "mixer", "convnext", "swin", "registers", "cait")
"""Families whose last intermediate map, in timm's own conversion, is what the head reads."""


def backbone(family: str) -> tuple[Backbone, Tensor]:
    name, size, args = ALL[family]
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5, **args)
    return Backbone(model, transform(size), name).eval(), noise(size)


@pytest.mark.parametrize("family", ALL)
def test_every_family_has_a_map_of_the_declared_shape(family: str) -> None:
    model, images = backbone(family)
    with torch.no_grad():
        output = model(images)
        found = model.spatial_map(output)
    assert output.feature_map is not None
    assert found.shape == (2, *model.map_shape) and model.map_width == model.map_shape[0]
    assert found.untyped_storage().data_ptr() == output.feature_map.untyped_storage().data_ptr()
    if family.startswith(OWN_MAP):
        with torch.no_grad():
            expected = model.model.forward_intermediates(  # type: ignore[operator]
                images, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True
            )[-1]
        torch.testing.assert_close(found, expected)
    assert copy.deepcopy(model).map_shape == pickle.loads(pickle.dumps(model)).map_shape


@pytest.mark.parametrize("family", ["resnet", "swin", "mixer"])
def test_the_mean_over_places_is_what_the_head_pools(family: str) -> None:
    model, images = backbone(family)
    with torch.no_grad():
        output = model(images)
    torch.testing.assert_close(model.spatial_map(output).mean(dim=(2, 3)), output.features)


@given(
    height=st.integers(1, 6), width=st.integers(1, 6), patch=st.integers(1, 32),
    prefix=st.integers(0, 5),
)  # fmt: skip
def test_tokens_of_a_grid(height: int, width: int, patch: int, prefix: int) -> None:
    model = nn.Identity()
    model.num_prefix_tokens = prefix  # type: ignore[assignment]
    places = torch.arange(height * width * 2.0).reshape(1, height, width, 2)
    tokens = torch.cat([torch.full((1, prefix, 2), -1.0), places.reshape(1, -1, 2)], dim=1)
    size = (height * patch, width * patch)
    if height * width == 1:
        with refused(key="model 'x'"):
            spatial_map(tokens, model, input_size=size, name="x")
    else:
        found = spatial_map(tokens, model, input_size=size, name="x")
        assert torch.equal(found, places.movedim(-1, 1))


@pytest.mark.parametrize(
    ("feature_map", "message"),
    [
        (None, "model 'x'"),
        ([torch.zeros(1, 2, 3, 3)], "model 'x'"),
        (torch.zeros(2, 5), "model 'x'"),
        (torch.zeros(2, 10, 4), "model 'x'"),
        (torch.zeros(2, 8, 4), "model 'x'"),  # 2 x 4 is no square
        (torch.zeros(2, 1, 4), "model 'x'"),
        (torch.zeros(2, 0, 4), "model 'x'"),
    ],
)
def test_what_is_no_map_is_refused(feature_map: object, message: str) -> None:
    with refused(message):
        spatial_map(feature_map, nn.Identity(), input_size=(32, 32), name="x")


@pytest.mark.parametrize("name", ["pit_ti_224", "coat_lite_mini"])
def test_timm_families_without_a_grid_are_told_apart(name: str) -> None:
    """PiT gives its class token alone, CoaT one that it does not declare."""
    model = Backbone(timm.create_model(name, num_classes=3), transform(224), name)
    assert model.map_width is None
    with refused(key=f"model '{name}'"):
        _ = model.map_shape


def test_plain_modules_have_no_map() -> None:
    plain = torchvision.models.resnet18(num_classes=3)
    model = Backbone(plain, ImageTransform((32, 32), HALF, HALF, "bilinear", 1.0), "plain")
    assert model.map_width is None
    with refused(key="model 'plain'", got="NoneType"):
        model.spatial_map(model(noise(32)))


def test_maps_pass_gradients() -> None:
    model, images = backbone("dinov2")
    model.spatial_map(model(images)).square().sum().backward()
    gradient = model.model.patch_embed.proj.weight.grad  # type: ignore[union-attr]
    assert isinstance(gradient, Tensor) and gradient.abs().sum() > 0
