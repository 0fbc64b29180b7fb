"""DeepInversion: pictures made from a trained classifier alone, without any data.

Source: Yin et al. 2020, "Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion",
Eq. 1-4: pixels x are optimised from noise to minimise

    cross_entropy(x, y) + tv_weight TV(x) + l2_weight |x|
        + bn_weight sum_l (|mean_l(x) - running_mean_l| + |var_l(x) - running_var_l|)

over the batch-norm layers l of the frozen teacher. Differs from the paper: TV and |x| are norms of
one picture, averaged over the batch, so that their weights mean the same for every batch size;
the adversarial student of "Adaptive DeepInversion" is left out.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genkt.io import derive_seed
from genkt.models.backbone import Backbone
from genkt.settings.bounds import BatchSize, Count, NotNegative
from genkt.types import Range, UserError

_Norm = nn.BatchNorm2d | nn.SyncBatchNorm
_MOST_UNCHECKED = 50
"""Losses that are looked at together: each look waits for the device."""
Progress = Callable[[int, dict[str, float]], None]
"""Called after every step with its number (from 0) and the unweighted parts of the loss."""


@dataclass(frozen=True)
class DeepInversionSettings:
    """How pictures are optimised.

    Args:
        steps: Adam steps per batch.
        lr: step size in units of normalised pixels; falls to 0 along a half cosine.
        bn_weight: of the distance to the batch-norm statistics; 0 leaves them out.
        tv_weight: of the differences between neighbouring pixels.
        l2_weight: of the pixels' norm.
        jitter: a batch is shifted by at most so many pixels in each step (around the border).
        flip: mirror the batch in half of the steps; not for digits or letters.
        batch_size: pictures optimised together; they share their batch-norm statistics.
    """

    steps: Count = 400
    lr: Annotated[float, Range(1e-6, 1000)] = 0.1
    bn_weight: NotNegative = 0.02
    tv_weight: NotNegative = 0.03
    l2_weight: NotNegative = 1e-5
    jitter: Annotated[int, Range(0, 1000)] = 2
    flip: bool = True
    batch_size: BatchSize = 128


def invert(
    teacher: Backbone,
    labels: Tensor,
    *,
    settings: DeepInversionSettings,
    seeds: Sequence[int],
    progress: Progress | None = None,
) -> Tensor:
    """Pictures that the teacher takes for members of the given classes.

    The teacher is left exactly as it was; it computes in evaluation mode. Pictures of one batch
    depend on one another, because their statistics are matched together. The result is a function
    of all ``labels`` and ``seeds``, split into batches of ``settings.batch_size`` in the given
    order. To get the same pictures again, pass the same sequence of requests.

    Args:
        labels: [B] int64 target classes.
        seeds: B seeds, of each picture's noise; the first of a batch also shifts and flips it.
        progress: called with the loss of every step.

    Returns:
        [B, 3, H, W] uint8 on the CPU at the teacher's input size.

    Raises:
        UserError: no batch-norm statistics in the teacher, labels that are not its classes,
            another number of seeds, or a loss that is not finite.

    Example:
        >>> from genkt.models.load import ModelSpec, load_model
        >>> teacher = load_model(ModelSpec("genkt:digits_teacher"))
        >>> few = DeepInversionSettings(steps=2, flip=False)
        >>> invert(teacher, torch.tensor([3, 7]), settings=few, seeds=[0, 1]).dtype
        torch.uint8
    """
    _check(teacher, labels, seeds)
    layers = matched_layers(teacher) if settings.bn_weight else []
    size = settings.batch_size
    batches = [
        _invert_batch(
            teacher, layers, labels[i : i + size], seeds[i : i + size], settings, progress
        )
        for i in range(0, len(labels), size)
    ]
    return torch.cat([torch.empty(0, 3, *_size(teacher), dtype=torch.uint8), *batches])


def matched_layers(teacher: Backbone) -> list[_Norm]:
    """The batch-norm layers whose running statistics pictures can be matched to.

    Raises:
        UserError: the teacher has none (BiT and ConvNeXt have other norms, for example).
    """
    modules = list(teacher.model.modules())
    layers = [
        module
        for module in modules
        if isinstance(module, _Norm) and module.running_mean is not None
    ]
    if not layers:
        norms = sorted({type(m).__name__ for m in modules if "Norm" in type(m).__name__})
        raise UserError(
            f"deep inversion: expected a teacher with batch-norm statistics (ResNets, EfficientNets"
            f", ...), but {teacher.name} has {', '.join(norms) or 'no norm layers'}; "
            "bn_weight=0 leaves the statistics out, with much lower quality."
        )
    return layers


def _invert_batch(
    teacher: Backbone,
    layers: list[_Norm],
    labels: Tensor,
    seeds: Sequence[int],
    settings: DeepInversionSettings,
    progress: Progress | None,
) -> Tensor:
    """The pictures of one batch, [b, 3, H, W] uint8 on the CPU."""
    device = next(teacher.parameters()).device
    labels = labels.to(device)
    mean, std = (
        torch.tensor(values, device=device).view(3, 1, 1)
        for values in (teacher.transform.mean, teacher.transform.std)
    )
    low, high = -mean / std, (1 - mean) / std
    pixels = _noise(seeds, _size(teacher)).to(device).requires_grad_()
    optimizer = torch.optim.Adam([pixels], lr=settings.lr)
    draws = torch.Generator().manual_seed(derive_seed(seeds[0], "deep inversion", "views"))
    unchecked: list[Tensor] = []
    with torch.enable_grad(), _evaluating(teacher), _statistics(layers) as distances:
        for step in range(settings.steps):
            distances.clear()
            logits = teacher(_shifted(pixels, settings, draws)).logits
            parts = {"cross_entropy": F.cross_entropy(logits, labels)}
            parts["tv"], parts["l2"] = total_variation(pixels), pixels.flatten(1).norm(dim=1).mean()
            parts["bn"] = torch.stack(distances).sum() if distances else pixels.new_zeros(())
            loss = (
                parts["cross_entropy"]
                + settings.tv_weight * parts["tv"]
                + settings.l2_weight * parts["l2"]
                + settings.bn_weight * parts["bn"]
            )
            unchecked.append(loss.detach())
            if len(unchecked) == _MOST_UNCHECKED or step + 1 == settings.steps:
                _require_finite(unchecked, step, settings)
            # Of the pixels alone: the teacher's weights keep whatever gradients they have.
            (pixels.grad,) = torch.autograd.grad(loss, pixels)
            optimizer.param_groups[0]["lr"] = settings.lr * _cosine(step, settings.steps)
            optimizer.step()
            with torch.no_grad():
                pixels.clamp_(low, high)
            if progress is not None:
                progress(step, {name: part.item() for name, part in parts.items()})
    return ((pixels.detach() * std + mean) * 255).round().clamp(0, 255).to(torch.uint8).cpu()


def _require_finite(losses: list[Tensor], step: int, settings: DeepInversionSettings) -> None:
    """Refuse losses that are not finite, the last one being of ``step``, and forget the others."""
    first = step + 1 - len(losses)
    for number, loss in enumerate(torch.stack(losses).tolist(), start=first):
        if not math.isfinite(loss):
            raise UserError(
                f"deep inversion: the loss is {loss} at step {number}; lower lr "
                f"(now {settings.lr:g}) or bn_weight (now {settings.bn_weight:g})."
            )
    losses.clear()


def total_variation(pictures: Tensor) -> Tensor:
    """Mean over pictures of the norms of the differences to the neighbours in four directions.

    Args:
        pictures: [B, 3, H, W].

    Returns:
        Scalar; 0 for pictures of one colour.
    """
    differences = (
        pictures[..., 1:] - pictures[..., :-1],
        pictures[..., 1:, :] - pictures[..., :-1, :],
        pictures[..., 1:, 1:] - pictures[..., :-1, :-1],
        pictures[..., 1:, :-1] - pictures[..., :-1, 1:],
    )
    # From squares with a floor: the norm itself has no gradient at a picture of one colour.
    norms = [((d.square().flatten(1).sum(dim=1) + 1e-12).sqrt() - 1e-6) for d in differences]
    return torch.stack(norms).sum(dim=0).mean()


@contextlib.contextmanager
def _statistics(layers: list[_Norm]) -> Iterator[list[Tensor]]:
    """A list that every forward pass appends each layer's distance to."""
    distances: list[Tensor] = []

    def measure(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, _Norm)
        assert layer.running_mean is not None and layer.running_var is not None
        var, mean = torch.var_mean(inputs[0].float(), dim=(0, 2, 3), correction=0)
        distances.append((mean - layer.running_mean).norm() + (var - layer.running_var).norm())

    handles = [layer.register_forward_pre_hook(measure) for layer in layers]
    try:
        yield distances
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _evaluating(teacher: Backbone) -> Iterator[None]:
    """Evaluation mode, in which batch norm neither uses nor moves batch statistics."""
    modes = [(module, module.training) for module in teacher.modules()]
    teacher.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _shifted(pixels: Tensor, settings: DeepInversionSettings, draws: torch.Generator) -> Tensor:
    """The batch moved by a few pixels and perhaps mirrored: a step's view of it."""
    most = settings.jitter
    down, right = torch.randint(-most, most + 1, (2,), generator=draws).tolist()
    mirrored = torch.rand((), generator=draws).item() < 0.5
    moved = torch.roll(pixels, (down, right), dims=(2, 3))
    return moved.flip(3) if settings.flip and mirrored else moved


def _noise(seeds: Sequence[int], size: tuple[int, int]) -> Tensor:
    """[b, 3, H, W] standard normal, each picture from its own seed."""
    generators = (torch.Generator().manual_seed(seed) for seed in seeds)
    return torch.stack([torch.randn(3, *size, generator=own) for own in generators])


def _cosine(step: int, steps: int) -> float:
    return (1 + math.cos(math.pi * step / steps)) / 2


def _size(teacher: Backbone) -> tuple[int, int]:
    return teacher.transform.input_size


def _check(teacher: Backbone, labels: Tensor, seeds: Sequence[int]) -> None:
    if labels.ndim != 1 or labels.is_floating_point():
        raise UserError.of("labels", "whole numbers [B]", f"{labels.dtype} {list(labels.shape)}")
    if len(seeds) != len(labels):
        raise UserError.of("seeds", f"{len(labels)}, one per label", len(seeds))
    wrong = sorted(set(labels.tolist()) - set(range(teacher.num_classes)))
    if wrong:
        raise UserError(
            f"labels: {teacher.name} knows the classes 0 to {teacher.num_classes - 1}, got {wrong}"
        )
