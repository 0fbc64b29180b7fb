"""Soups: the mean of several students' weights, and batch-norm statistics that fit it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from genkt.models.backbone import Backbone
from genkt.types import UserError


def average_weights(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The uniform mean of several models' weights; integer buffers are those of the first.

    Source: Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves
    accuracy without increasing inference time".

    Raises:
        UserError: no state, or states of different models.
    """
    if not states:
        raise UserError("soup: expected at least one student, got none")
    first = states[0]
    shapes = {name: value.shape for name, value in first.items()}
    for number, state in enumerate(states):
        if {name: value.shape for name, value in state.items()} != shapes:
            raise UserError(f"soup: student {number} is another model than student 0")

    def mean(name: str) -> Tensor:
        if not first[name].is_floating_point():
            return first[name].clone()
        values = torch.stack([state[name].double() for state in states])
        return values.mean(dim=0).to(first[name].dtype)

    return {name: mean(name) for name in first}


@torch.no_grad()
def recalibrate_batch_norm(model: Backbone, pictures: Iterable[Tensor]) -> None:
    """Estimate running means and variances anew, as plain averages over the given batches.

    Args:
        pictures: uint8 [B, 3, H, W] on the model's device.
    """
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    was_training = model.training
    model.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # torch: a cumulative average
        layer.train()
    try:
        for batch in pictures:
            model(model.normalize(batch))
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        model.train(was_training)
