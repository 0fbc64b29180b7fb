"""Student and objective as one module, so that one wrapper serves autocast, DDP and compile."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from genkt.methods.base import Objective
from genkt.models.backbone import Backbone
from genkt.types import Batch, ModelOutput


class Distiller(nn.Module):
    """Forward pass of one step: uint8 images in, named losses out.

    With several processes the outputs of all ranks are gathered (with gradients) before the
    objective, so that batch statistics such as AFT's kernels are those of the global batch and
    the result equals one process on the same batch.
    """

    def __init__(self, student: Backbone, objective: Objective) -> None:
        super().__init__()
        self.student = student
        self.objective = objective

    def forward(
        self,
        images: Tensor,
        labels: Tensor,
        samples: Tensor,
        teachers: Sequence[ModelOutput],
        inner_optimizer: torch.optim.Optimizer | None = None,
    ) -> dict[str, Tensor]:
        """uint8 images [B, 3, H, W], labels and samples [B] -> {"total": scalar, part: ...}."""
        output = self.student(self.student.normalize(images))
        output = reduced(output, self.objective.needs, self.student)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            output, labels, samples = (
                _gather(output),
                _gather_tensor(labels),
                _gather_tensor(samples),
            )
            teachers = [_gather(teacher) for teacher in teachers]
        if inner_optimizer is not None:
            self._inner_updates(output, teachers, labels, inner_optimizer)
        losses: dict[str, Tensor] = self.objective(output, teachers, labels, samples)
        return losses

    def _inner_updates(
        self,
        output: ModelOutput,
        teachers: Sequence[ModelOutput],
        labels: Tensor,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Update the objective's own parameters while the student is constant (bilevel AFT)."""
        logits = None if output.logits is None else output.logits.detach()
        still = ModelOutput(output.features.detach(), logits)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        with torch.enable_grad():
            for _ in range(self.objective.num_inner_steps):
                loss = self.objective.inner_loss(still, teachers, labels)
                gradients = torch.autograd.grad(loss, parameters)
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter.grad = gradient
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)


def reduced(output: ModelOutput, needs: Collection[str], model: Backbone) -> ModelOutput:
    """A model's output with its feature map as [B, D, H', W'], or without it if unread."""
    feature_map = model.spatial_map(output) if "feature_map" in needs else None
    return ModelOutput(output.features, output.logits, feature_map)


def teacher_outputs(
    batch: Batch, online: Sequence[Backbone], needs: Collection[str]
) -> tuple[ModelOutput, ...]:
    """Outputs of every teacher for a batch: cached ones as loaded, online ones computed now."""
    outputs = [
        cached if "feature_map" in needs else ModelOutput(cached.features, cached.logits)
        for cached in batch.teachers
    ]
    for teacher, images in zip(online, batch.teacher_images, strict=True):
        with torch.no_grad():
            outputs.append(reduced(teacher(teacher.normalize(images)), needs, teacher))
    return tuple(outputs)


def _gather(output: ModelOutput) -> ModelOutput:
    logits, feature_map = [
        None if tensor is None else _gather_tensor(tensor)
        for tensor in (output.logits, output.feature_map)
    ]
    return ModelOutput(_gather_tensor(output.features), logits, feature_map)


def _gather_tensor(tensor: Tensor) -> Tensor:
    """Rows of all ranks in rank order; gradients flow back to the rank that owns the row."""
    tensor = tensor.contiguous()
    if tensor.requires_grad:
        from torch.distributed.nn.functional import all_gather  # type: ignore[attr-defined]

        return torch.cat(all_gather(tensor))  # type: ignore[no-untyped-call]
    parts = [torch.empty_like(tensor) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, tensor)
    return torch.cat(parts)


@contextmanager
def trainable(student: Backbone, head_only: bool) -> Iterator[None]:
    """For a linear probe freeze all but the classifier; afterwards everything is as before."""
    if not head_only:
        yield
        return
    frozen, before = student.frozen, [p.requires_grad for p in student.parameters()]
    student.freeze()
    for parameter in student.classifier_parameters():
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        student.frozen = frozen
        for parameter, was_trainable in zip(student.parameters(), before, strict=True):
            parameter.requires_grad_(was_trainable)
