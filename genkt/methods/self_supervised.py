"""Learning from two views of every image, without any label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genkt.io import derive_seed
from genkt.losses.numerics import no_autocast, widen
from genkt.methods.base import MethodOptions, Objective
from genkt.methods.kd import affine, uniform_linear
from genkt.methods.shapes import Shapes
from genkt.settings.bounds import Positive, Width
from genkt.types import ModelOutput, UserError


@dataclass(frozen=True)
class SimCLROptions(MethodOptions):
    """Options of SimCLR.

    Args:
        temperature: of the similarities, above 0.
        projection: width of z.
    """

    name: str = "simclr"
    temperature: Positive = 0.1
    projection: Width = 128


class SimCLR(Objective):
    """Each view must find the other view of its image among all other views of the batch.

    Views are compared by the cosine of z = W2 ReLU(W1 h + b1) + b2, h being the student's
    features; the projection is trained by the student's optimizer and not kept.
    Source: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations",
    Eq. 1; the loss is ``lightly.loss.NTXentLoss``. Differs from the paper: an image that a batch
    holds twice (where an epoch ends within it, or of fewer images than it has pairs) is a
    negative of itself. Needs lightly.
    """

    options_type = SimCLROptions
    sizes = ("student_width",)
    min_batch = 4

    def set_up(self, options: SimCLROptions, shapes: Shapes, seed: int) -> None:
        """See ``Objective``."""
        width = shapes.student_width
        generator = torch.Generator().manual_seed(derive_seed(seed, "projection"))
        self.hidden_weight, self.hidden_bias = uniform_linear(width, width, generator)
        self.weight, self.bias = uniform_linear(options.projection, width, generator)
        self.contrast = nt_xent(options.temperature)

    def parameter_groups(self) -> list[nn.Parameter]:
        """W1, b1, W2 and b2."""
        return [self.hidden_weight, self.hidden_bias, self.weight, self.bias]

    def loss(
        self, student: ModelOutput, teachers: Sequence[ModelOutput], labels: Tensor
    ) -> dict[str, Tensor]:
        """Parts: contrast; labels are not read.

        Args:
            student: rows 2i and 2i + 1 are two views of one image; at least two images.

        Raises:
            UserError: an odd number of rows, or a single pair.
        """
        rows = len(student.features)
        if rows % 2 or rows < self.min_batch:
            raise UserError.of(
                "simclr",
                "pairs of views in every micro-batch, at least 2 of them",
                f"{rows} rows",
                "; make batch_size a multiple of 4 times the micro-batches (train.accumulate)",
            )
        hidden = F.relu(affine(student.features, self.hidden_weight, self.hidden_bias))
        views = affine(hidden, self.weight, self.bias)
        with no_autocast(views):
            views = widen(views)
            contrast: Tensor = self.contrast(views[0::2], views[1::2])
        return {"total": contrast, "contrast": contrast.detach()}


def nt_xent(temperature: float) -> nn.Module:
    """The normalised temperature-scaled cross entropy between two views, [B, D] each.

    Raises:
        UserError: lightly is not installed.
    """
    try:
        from lightly.loss import NTXentLoss
    except ImportError as error:
        raise UserError("self-supervised stages need lightly: pip install 'genkt[ssl]'") from error
    loss: nn.Module = NTXentLoss(temperature=temperature)
    return loss
