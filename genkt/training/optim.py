"""Optimizers and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from genkt.training.train_settings import TrainSettings
from genkt.types import UserError


def build_optimizer(
    parameters: Iterable[nn.Parameter], settings: TrainSettings
) -> torch.optim.Optimizer:
    """The stage's optimizer; biases and norm scales (one-dimensional) get no weight decay.

    Raises:
        UserError: nothing is trainable.
    """
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trainable if p.dim() <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise UserError("student: expected trainable weights, all of them are frozen")
    # One kernel for all tensors, on the CPU too. It divides by the loss scale itself, which fp16's
    # gradient clipping cannot have.
    fused = settings.precision != "fp16"
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            groups,
            lr=settings.rate,
            momentum=settings.momentum,
            nesterov=settings.momentum > 0,
            fused=fused,
        )
    if settings.optimizer == "adam":
        return torch.optim.Adam(groups, lr=settings.rate, fused=fused)
    return torch.optim.AdamW(groups, lr=settings.rate, fused=fused)


def lr_factor(step: int, num_steps: int, warmup: float, *, steady: bool = False) -> float:
    """Linear warm-up over a share of the steps, then a half cosine to zero; in (0, 1].

    Args:
        steady: it stays at 1 after the warm-up.
    """
    num_warmup = round(warmup * num_steps)
    if step < num_warmup:
        return (step + 1) / (num_warmup + 1)
    if steady:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - num_warmup) / max(1, num_steps - num_warmup)))


def set_lr_factor(optimizers: Iterable[torch.optim.Optimizer], factor: float) -> None:
    """Scale every group's own base learning rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group.setdefault("base_lr", group["lr"])
            group["lr"] = group["base_lr"] * factor
