"""Perceptual distances for training a VQGAN: frozen-teacher features, or LPIPS from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genkt.losses.vq import perceptual_distance
from genkt.models.backbone import Backbone
from genkt.types import UserError


class TeacherFeatures(nn.Module):
    """Distance between a frozen model's intermediate features of two pictures.

    The foundation model is at hand anyway, so no other network is needed. Its input is scaled to
    its own size and normalised as its transform says.

    Args:
        teacher: a timm model with ``forward_intermediates``.

    Raises:
        UserError: the model has no such method.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, teacher: Backbone) -> None:
        super().__init__()
        if not hasattr(teacher.model, "forward_intermediates"):
            raise UserError(
                f"perceptual: expected a timm model with intermediate features, {teacher.name} "
                "has none; use another model, lpips or none"
            )
        self.teacher = teacher.freeze()
        for name in ("mean", "std"):
            values = torch.tensor(getattr(teacher.transform, name)).view(1, 3, 1, 1)
            self.register_buffer(name, values)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Scalar distance of pictures [B, 3, H, W] in -1..1."""
        with torch.no_grad():
            wanted = self._maps(b)
        return perceptual_distance(self._maps(a), wanted)

    def _maps(self, pictures: Tensor) -> list[Tensor]:
        size, model = self.teacher.transform.input_size, self.teacher.model
        if tuple(pictures.shape[-2:]) != tuple(size):
            pictures = nn.functional.interpolate(
                pictures, size, mode="bilinear", align_corners=False
            )
        inputs = ((pictures + 1) / 2 - self.mean) / self.std
        found: Any = model.forward_intermediates(inputs, intermediates_only=True)  # type: ignore[operator]
        return list(found)


class Lpips(nn.Module):
    """LPIPS with VGG16 (Zhang et al. 2018), from two weight files; nothing is downloaded.

    Args:
        vgg: torchvision's ``vgg16`` weights (a .pth or .safetensors file).
        linear: the learned channel weights, ``lin0.model.1.weight`` to ``lin4.model.1.weight``
            (the file that LPIPS and taming-transformers publish as vgg.pth).

    Raises:
        UserError: a file that cannot be read or holds other weights.
    """

    shift: Tensor
    scale: Tensor
    _ENDS = (4, 9, 16, 23, 30)  # after relu1_2, relu2_2, relu3_3, relu4_3, relu5_3
    _SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of the published network

    def __init__(self, vgg: str | Path, linear: str | Path) -> None:
        super().__init__()
        from torchvision.models.vgg import cfgs, make_layers

        from genkt.models.tensor_files import read_tensors

        features = make_layers(cfgs["D"])
        try:
            own = read_tensors(vgg).items()
            prefix = "features."  # the classifier behind them is not used
            features.load_state_dict(
                {k.removeprefix(prefix): v for k, v in own if k.startswith(prefix)}
            )
            weights = read_tensors(linear)
            rows = [weights[f"lin{i}.model.1.weight"].reshape(1, -1, 1, 1) for i in range(5)]
        except (RuntimeError, KeyError) as error:
            raise UserError(f"perceptual: {vgg}, {linear}: not LPIPS weights: {error}") from error
        starts = (0, *self._ENDS[:-1])
        self.slices = nn.ModuleList(
            features[start:end] for start, end in zip(starts, self._ENDS, strict=True)
        )
        self.weights = nn.ParameterList(row.float() for row in rows)
        self.register_buffer("shift", torch.tensor(self._SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(self._SCALE).view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Scalar distance of pictures [B, 3, H, W] in -1..1."""
        total = a.new_zeros(())
        a, b = (a - self.shift) / self.scale, (b - self.shift) / self.scale
        for part, weight in zip(self.slices, self.weights, strict=True):
            a, b = part(a), part(b)
            difference = (_unit(a) - _unit(b)).square()
            total = total + (difference * weight).sum(dim=1).mean()
        return total


def _unit(features: Tensor) -> Tensor:
    """Unit length over the channels; eps inside the root keeps the gradient finite at zero."""
    return features * (features.square().sum(dim=1, keepdim=True) + 1e-6).rsqrt()
