"""Perceptual distances: teacher features with gradients, LPIPS from files."""

from __future__ import annotations

from pathlib import Path

import torch
from refusals import refused
from safetensors.torch import save_file

from genkt.generative.perceptual import Lpips, TeacherFeatures
from genkt.models.load import ModelSpec, load_model


def test_teacher_features_see_a_difference_and_pass_gradients() -> None:
    distance = TeacherFeatures(load_model(ModelSpec("genkt:digits_teacher")))
    b = torch.rand(2, 3, 32, 32) * 2 - 1
    a = (b + 0.3 * torch.randn_like(b)).requires_grad_()
    apart = distance(a, b)
    assert distance(b, b).item() == 0.0 and apart.item() > 0
    apart.backward()
    assert a.grad is not None and torch.isfinite(a.grad).all() and a.grad.abs().sum() > 0
    assert all(p.grad is None for p in distance.parameters())


def test_teacher_input_is_what_its_transform_makes() -> None:
    teacher = load_model(ModelSpec("genkt:digits_teacher"))
    distance = TeacherFeatures(teacher)
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    pictures = images.float() / 127.5 - 1
    ours = ((pictures + 1) / 2 - distance.mean) / distance.std
    assert torch.allclose(ours, teacher.normalize(images), atol=1e-5)


def test_lpips_needs_its_two_files(tmp_path: Path) -> None:
    from torchvision.models.vgg import cfgs, make_layers

    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = make_layers(cfgs["D"]).state_dict()
    weights = {f"features.{name}": value for name, value in layers.items()}
    save_file(weights, tmp_path / "vgg16.safetensors")
    widths = (64, 128, 256, 512, 512)
    linear = {f"lin{i}.model.1.weight": torch.ones(1, w, 1, 1) for i, w in enumerate(widths)}
    torch.save(linear, tmp_path / "vgg.pth")
    distance = Lpips(tmp_path / "vgg16.safetensors", tmp_path / "vgg.pth")
    a = torch.rand(1, 3, 32, 32) * 2 - 1
    assert distance(a, a).item() == 0.0 and distance(a, -a).item() > 0
    linear.pop("lin3.model.1.weight")
    torch.save(linear, tmp_path / "vgg.pth")
    with refused("LPIPS"):
        Lpips(tmp_path / "vgg16.safetensors", tmp_path / "vgg.pth")
    with refused("missing.pth"):
        Lpips(tmp_path / "missing.pth", tmp_path / "vgg.pth")
