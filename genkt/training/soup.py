"""Soups: the mean of several students' weights, and batch-norm statistics that fit it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from genkt.models.backbone import Backbone
from genkt.training.rows import rows_for_batch_norm
from genkt.types import UserError


def average_weights(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The uniform mean of several models' weights; integer buffers are those of the first.

    The mean is taken in float64 and returned in the first model's types. Batch-norm statistics are
    averaged like weights, which does not make them those of the mean: ``recalibrate_batch_norm``
    does. Source: Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models
    improves accuracy without increasing inference time" (uniform soup).

    Args:
        states: one state dict per model, all of one architecture, on one device.

    Raises:
        UserError: no state, or states of different models.
    """
    if not states:
        raise UserError.of("soup", "at least one student", "none")
    first = states[0]
    for number, state in enumerate(states[1:], start=1):
        _require_same(first, state, number)

    def mean(name: str) -> Tensor:
        if not first[name].is_floating_point():
            return first[name].clone()
        values = torch.stack([state[name].double() for state in states])
        return values.mean(dim=0).to(first[name].dtype)

    return {name: mean(name) for name in first}


@torch.no_grad()
def recalibrate_batch_norm(model: Backbone, pictures: Iterable[Tensor]) -> None:
    """Estimate batch norm's running means and variances anew, as plain averages over batches.

    Weights stay as they are, and so does all else: only the batch norms are in training mode
    meanwhile, so that nothing is random. A model without batch norm is left alone.

    Args:
        model: also one that is frozen; modes are afterwards what they were.
        pictures: at least one batch of uint8 [B, 3, H, W], on the model's device.

    Raises:
        UserError: no batch, or one of a single image where batch norm would see one value.
    """
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not layers:
        return
    batches = iter(pictures)
    first = next(batches, None)
    if first is None:
        raise UserError.of("soup", "images to estimate batch-norm statistics on", "none")
    least = rows_for_batch_norm(model)
    momenta = [layer.momentum for layer in layers]
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # torch: a cumulative average
        layer.train()
    try:
        for batch in itertools.chain([first], batches):
            if len(batch) < least:
                raise UserError.of("soup", f"batches of at least {least} images", "1")
            model(model.normalize(batch))
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for module, mode in modes:
            module.training = mode


def _require_same(first: Mapping[str, Tensor], state: Mapping[str, Tensor], number: int) -> None:
    for name in sorted(first.keys() ^ state.keys()):
        has, lacks = (0, number) if name in first else (number, 0)
        raise UserError(
            f'soup: expected students of one architecture; student {has} has "{name}", '
            f"student {lacks} has not"
        )
    for name, value in first.items():
        if state[name].shape != value.shape:
            raise UserError(
                f'soup: expected students of one architecture; "{name}" is '
                f"{list(value.shape)} in student 0, {list(state[name].shape)} in student {number}"
            )
