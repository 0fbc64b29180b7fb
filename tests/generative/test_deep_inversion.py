from __future__ import annotations

import math
from dataclasses import replace

import pytest
import timm
import torch
from refusals import refused
from torch import Tensor, nn

from genkt.data.views import ImageTransform
from genkt.generative import deep_inversion
from genkt.generative.deep_inversion import (
    DeepInversionSettings,
    invert,
    matched_layers,
    total_variation,
)
from genkt.models.backbone import Backbone
from genkt.models.load import ModelSpec, load_model

FEW = DeepInversionSettings(steps=3, batch_size=4)
TRANSFORM = ImageTransform((16, 24), (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), "bilinear", 1.0)


def tiny_teacher(name: str = "resnet18", **args: object) -> Backbone:
    """Random weights, batch-norm statistics that are not the initial ones."""
    sizes = args or {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=5, **sizes)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean)
                nn.init.uniform_(module.running_var, 0.5, 2)
    return Backbone(model.eval(), TRANSFORM, name)


def state_of(teacher: Backbone) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in teacher.state_dict().items()}


def test_pictures_are_of_their_classes() -> None:
    teacher = load_model(ModelSpec("genkt:digits_teacher")).freeze()
    labels = torch.arange(10)
    parts: list[dict[str, float]] = []
    settings = DeepInversionSettings(steps=60, flip=False)
    images = invert(
        teacher, labels, settings=settings, seeds=range(10), progress=lambda _, p: parts.append(p)
    )
    assert images.shape == (10, 3, 32, 32) and images.dtype == torch.uint8
    with torch.no_grad():
        logits = teacher(teacher.normalize(images)).logits
    assert logits is not None
    assert (logits.argmax(dim=1) == labels).double().mean() >= 0.8  # chance: 1 of 47
    assert len(parts) == 60
    assert parts[-1]["cross_entropy"] < 0.3 * parts[0]["cross_entropy"]
    assert parts[-1]["bn"] < 0.6 * parts[0]["bn"]
    assert parts[-1]["tv"] < 0.9 * parts[0]["tv"]


@pytest.mark.parametrize("training", [True, False])
def test_the_teacher_is_left_as_it_was(training: bool) -> None:
    teacher = tiny_teacher().train(training)
    teacher.model.bn1.eval()  # part of it frozen: that too must come back
    before = state_of(teacher)
    modes = [module.training for module in teacher.modules()]
    invert(teacher, torch.tensor([0, 1]), settings=FEW, seeds=[1, 2])
    after = teacher.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [module.training for module in teacher.modules()] == modes
    assert all(p.requires_grad and p.grad is None for p in teacher.parameters())
    assert not any(module._forward_pre_hooks for module in teacher.modules())


def test_hooks_go_even_when_it_fails() -> None:
    teacher = tiny_teacher()

    def stop(step: int, parts: dict[str, float]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        invert(teacher, torch.tensor([0]), settings=FEW, seeds=[1], progress=stop)
    assert not any(module._forward_pre_hooks for module in teacher.modules())


def test_statistics_distance_equals_one_by_hand() -> None:
    teacher = tiny_teacher()
    told: list[dict[str, float]] = []
    still = replace(FEW, steps=1, jitter=0, flip=False)
    invert(
        teacher, torch.tensor([3, 1]), settings=still, seeds=[7, 8],
        progress=lambda _, p: told.append(p),
    )  # fmt: skip
    noise = [torch.randn(3, 16, 24, generator=torch.Generator().manual_seed(s)) for s in (7, 8)]
    # Batch norm in training mode with momentum 1 writes the batch's own statistics.
    copy = tiny_teacher()
    for layer in matched_layers(copy):
        layer.momentum = 1.0
    # Each layer is measured on what comes in from layers that compute with running statistics.
    total = 0.0
    for layer, own in zip(matched_layers(teacher), matched_layers(copy), strict=True):
        copy.eval()
        own.train()
        with torch.no_grad():
            copy(torch.stack(noise))
        assert own.running_var is not None and own.running_mean is not None
        assert layer.running_var is not None and layer.running_mean is not None
        inputs: list[Tensor] = []
        handle = layer.register_forward_pre_hook(lambda _, i, seen=inputs: seen.append(i[0]))
        with torch.no_grad():
            teacher(torch.stack(noise))
        handle.remove()
        count = inputs[0].numel() // inputs[0].shape[1]
        biased = own.running_var * (count - 1) / count
        total += (own.running_mean - layer.running_mean).norm().item()
        total += (biased - layer.running_var).norm().item()
        own.load_state_dict(layer.state_dict())
    assert told[0]["bn"] == pytest.approx(total, rel=1e-4)


def test_total_variation() -> None:
    assert total_variation(torch.full((2, 3, 4, 4), 0.7)).item() == 0
    step = torch.zeros(1, 1, 2, 3)
    step[..., 1:] = 2  # an edge between two columns
    # right: 2 edges of 2; down: none; both diagonals: 1 edge of 2 each
    assert total_variation(step).item() == pytest.approx(math.sqrt(8) + 2 + 2, abs=1e-5)
    both = torch.cat([step, torch.zeros_like(step)])
    assert total_variation(both).item() == pytest.approx((math.sqrt(8) + 4) / 2, abs=1e-5)
    flat = torch.zeros(1, 3, 4, 4, requires_grad=True)
    total_variation(flat).backward()
    assert flat.grad is not None and torch.isfinite(flat.grad).all()
    smooth = torch.randn(2, 3, 4, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(total_variation, smooth)


def test_a_batch_depends_on_its_own_requests_alone() -> None:
    teacher, labels, seeds = tiny_teacher(), torch.arange(10) % 5, list(range(10))
    every = invert(teacher, labels, settings=FEW, seeds=seeds)
    parts = [
        invert(teacher, labels[i : i + 4], settings=FEW, seeds=seeds[i : i + 4]) for i in (0, 4, 8)
    ]
    assert torch.equal(torch.cat(parts), every)
    other = invert(teacher, labels, settings=FEW, seeds=[*seeds[:4], 99, *seeds[5:]])
    changed = (other != every).flatten(1).any(dim=1)
    assert not changed[:4].any() and not changed[8:].any() and changed[4]


def test_no_pictures_and_pixels_in_range() -> None:
    teacher = tiny_teacher()
    none = invert(teacher, torch.empty(0, dtype=torch.long), settings=FEW, seeds=[])
    assert none.shape == (0, 3, 16, 24) and none.dtype == torch.uint8
    wild = invert(teacher, torch.tensor([1]), settings=replace(FEW, lr=100.0), seeds=[1])
    assert wild.min() == 0 and wild.max() == 255


@pytest.mark.parametrize("wrong", [0, 3, 4])
def test_a_loss_that_is_not_finite_names_its_step(
    wrong: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = iter(range(5))

    def variation(pictures: Tensor) -> Tensor:
        return pictures.sum() * (math.nan if next(steps) == wrong else 0.0)

    monkeypatch.setattr(deep_inversion, "total_variation", variation)
    monkeypatch.setattr(deep_inversion, "_MOST_UNCHECKED", 2)
    with refused(f"the loss is nan at step {wrong};"):
        invert(tiny_teacher(), torch.tensor([1]), settings=replace(FEW, steps=5), seeds=[1])


def test_a_teacher_without_batch_norm() -> None:
    teacher = tiny_teacher(
        "vit_tiny_patch16_224", img_size=(16, 24), patch_size=8, embed_dim=8, depth=1, num_heads=2
    )
    labels = torch.tensor([0, 1])
    with refused("LayerNorm", "bn_weight=0") as error:
        invert(teacher, labels, settings=FEW, seeds=[1, 2])
    assert "\n" not in str(error.value)
    images = invert(teacher, labels, settings=replace(FEW, bn_weight=0.0), seeds=[1, 2])
    assert images.shape == (2, 3, 16, 24)


def test_errors() -> None:
    teacher = tiny_teacher()
    with refused(0, 4, "[-1, 5]"):
        invert(teacher, torch.tensor([5, 2, -1]), settings=FEW, seeds=[1, 2, 3])
    with refused(key="seeds", got=1):
        invert(teacher, torch.tensor([0, 1]), settings=FEW, seeds=[1])
    with refused(key="labels", got="torch.float32 [1]"):
        invert(teacher, torch.tensor([0.5]), settings=FEW, seeds=[1])
    with torch.no_grad():
        teacher.model.fc.weight.fill_(math.nan)
    with refused("nan", 0, "lr"):
        invert(teacher, torch.tensor([0]), settings=FEW, seeds=[1])
