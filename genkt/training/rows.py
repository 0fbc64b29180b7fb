"""The smallest micro-batch that batch norm and a method allow."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from genkt.models.backbone import Backbone
from genkt.training.train_settings import TrainSettings


@torch.no_grad()
def rows_for_batch_norm(model: Backbone) -> int:
    """2 where a batch norm would see a single value per channel of one picture, else 1.

    Batch norm cannot train on one value. Maps of more than a pixel give it several, so this depends
    on the size of the model's input. Costs a forward pass of two blank pictures; nothing of the
    model changes.
    """
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not layers:
        return 1
    fewest: list[int] = []

    def look(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        values: Tensor = inputs[0]
        fewest.append(values.numel() // values.shape[1] // 2)

    modes = [(module, module.training) for module in model.modules()]
    hooks = [layer.register_forward_pre_hook(look) for layer in layers]
    like = next(model.parameters())
    try:
        model.eval()
        model(like.new_zeros(2, 3, *model.transform.input_size))
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes:
            module.training = mode
    return 2 if fewest and min(fewest) < 2 else 1


def rows_fault(
    key: str, model: Backbone, settings: TrainSettings, world_size: int, num_parts: int
) -> str:
    """One line where a step is cut into micro-batches too small for batch norm, else "".

    Args:
        key: of the batch size, for the message.
        world_size: processes that share a step.
        num_parts: micro-batches of a step in each of them.
    """
    rows = settings.batch_size // world_size // num_parts
    if rows >= 2 or model.frozen or rows_for_batch_norm(model) == 1:
        return ""
    shared = f" of each of {world_size} processes" if world_size > 1 else ""
    parts = f" in each of {num_parts} micro-batches (train.accumulate)" if num_parts > 1 else ""
    instead = ", or a smaller train.accumulate" if num_parts > 1 else ""
    return (
        f"{key}: the batch norm of {model.name} needs at least 2 images{parts}{shared}, "
        f"got {rows}; give at least {2 * world_size * num_parts}{instead}"
    )
