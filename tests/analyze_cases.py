"""Models to analyse."""

from __future__ import annotations

from pathlib import Path

import timm
import torch

from genkt.models.backbone import Backbone, transform_of

TEACHER = "genkt:digits_teacher"


def exported(home: Path, classes: tuple[str, ...], seed: int, num_classes: int = 0) -> Path:
    """A tiny network with random weights, in a folder that timm loads."""
    torch.manual_seed(seed)
    half = (0.5, 0.5, 0.5)
    overlay = {"input_size": (3, 24, 24), "mean": half, "std": half, "crop_pct": 1.0}
    model = timm.create_model(
        "resnet18", num_classes=num_classes or len(classes), layers=[1, 1, 1, 1],
        channels=[8, 8, 16, 16], pretrained_cfg_overlay=overlay,
    )  # fmt: skip
    return Backbone(model, transform_of(model), home.name).export(home, classes)
