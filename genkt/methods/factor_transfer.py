"""Factor transfer: the student guesses a compressed version of the teachers' features."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from genkt.io import derive_seed
from genkt.losses.factors import factor_distance
from genkt.losses.numerics import in_one_type, no_autocast, widen
from genkt.methods.base import BetaOptions, Objective
from genkt.methods.kd import uniform_linear
from genkt.methods.shapes import Shapes, TrainingRows
from genkt.settings.bounds import BatchSize, Count, Positive, Rate
from genkt.types import ModelOutput, UserError

HELD_OUT = 0.1
"""Share of the training rows that validate the paraphraser instead of training it."""
CHECK_EVERY = 20
"""Steps of the paraphraser between two checks on the held-out rows."""

Layers = list[tuple[Tensor, Tensor]]
"""Weight [outputs, inputs] and bias [outputs] of each affine layer of a network."""


@dataclass(frozen=True)
class FactorTransferOptions(BetaOptions):
    """Options of ``factor_transfer``.

    Args:
        paraphraser_steps: updates of the paraphraser, at most.
        paraphraser_patience: checks on held-out rows without a lower error before it stops.
        paraphraser_batch_size: rows of one of its updates.
        paraphraser_lr: learning rate of its Adam.
    """

    name: str = "factor_transfer"
    beta_grid: tuple[Positive, ...] = (0.1, 1, 10, 100)
    paraphraser_steps: Count = 500
    paraphraser_patience: Count = 5
    paraphraser_batch_size: BatchSize = 128
    paraphraser_lr: Rate = 1e-3


class FactorTransfer(Objective):
    """Cross-entropy + beta * L1 distance between normalised factors of teachers and student.

    The paraphraser, an autoencoder of the teachers' features, is trained before the student and
    is frozen from then on; its code is the factor. The translator maps the student's features to
    a factor and is trained by the student's optimizer. Several teachers are concatenated
    column-wise before the paraphraser.

    Source: Kim et al., "Paraphrasing Complex Network: Network Compression via Factor Transfer", as
    the baseline of Qiu et al., "Transferring Knowledge from Large Foundation Models to Small
    Downstream Models": both networks are MLPs on last-layer features. Differs from the papers:
    ReLU stands between layers only, so that factors are signed; teacher features are centred and
    divided by one common scale first; the paraphraser stops early on held-out training rows
    (the released code of Qiu et al. looks at test features).
    """

    needs = frozenset({"features"})
    prepares = frozenset({"teachers"})
    options_type = FactorTransferOptions
    sizes = ("student_width", "teacher_width")
    mean: Tensor
    scale: Tensor
    explained: Tensor

    def set_up(self, options: FactorTransferOptions, shapes: Shapes, seed: int) -> None:
        """See ``Objective``."""
        self.beta = options.chosen_beta
        self.options, self.seed = options, seed
        self.widths = factor_widths(shapes.teacher_width)
        generator = torch.Generator().manual_seed(derive_seed(seed, "factor_transfer translator"))
        width, num_factors = shapes.student_width, self.widths[-1]
        translator = uniform_layers((width, width, num_factors, num_factors), generator)
        self.translator = nn.ParameterList([values for layer in translator for values in layer])
        self._reserve("mean", shapes.teacher_width)
        self._reserve("scale")
        self._reserve("explained")
        for index, (inputs, outputs) in enumerate(itertools.pairwise(self.widths)):
            self._reserve(f"weight{index}", outputs, inputs)
            self._reserve(f"bias{index}", outputs)

    def prepare(self, rows: TrainingRows) -> None:
        """Train the paraphraser on the teachers' features of the training rows; labels unread.

        Raises:
            UserError: fewer than two rows, features or errors that are not finite.
        """
        features = self._teacher_features(rows.teachers).cpu().float()
        if len(features) < 2:
            raise UserError(
                "method factor_transfer: needs at least 2 training images, one of them held out "
                f"from its paraphraser, got {len(features)}"
            )
        if not torch.isfinite(features).all():
            raise UserError.of(
                "method factor_transfer", "finite teacher features", "NaN or infinity"
            )
        mean, scale = _centre_and_scale(features)
        self.mean.copy_(mean)
        self.scale.copy_(scale)
        encoder, explained = train_paraphraser((features - mean) / scale, self.options, self.seed)
        for index, (weight, bias) in enumerate(encoder):
            self.get_buffer(f"weight{index}").copy_(weight)
            self.get_buffer(f"bias{index}").copy_(bias)
        self.explained.fill_(explained)

    def parameter_groups(self) -> list[nn.Parameter]:
        """The translator's."""
        return list(self.translator)

    def loss(
        self, student: ModelOutput, teachers: Sequence[ModelOutput], labels: Tensor
    ) -> dict[str, Tensor]:
        """Parts: cross_entropy (labelled rows), factor_distance (all rows)."""
        task = self._task_loss(student, labels)
        psi = self._teacher_features(teachers)
        with no_autocast(psi):
            values = list(self.translator)
            translator: Layers = list(zip(values[::2], values[1::2], strict=True))
            distance = factor_distance(
                apply_layers(widen(student.features), translator),
                apply_layers((psi - self.mean) / self.scale, self._encoder()),
            )
        return {
            "total": task + self.beta * distance,
            "cross_entropy": task.detach(),
            "factor_distance": distance.detach(),
        }

    def artifacts(self) -> dict[str, Tensor]:
        """``paraphraser_explained``: share of the held-out variance that the autoencoder keeps."""
        return {"paraphraser_explained": self.explained.clone()}

    def _reserve(self, name: str, *size: int) -> None:
        # NaN, so that a value before prepare is not taken for a valid one.
        self.register_buffer(name, torch.full(size, torch.nan))

    def _encoder(self) -> Layers:
        return [
            (self.get_buffer(f"weight{index}"), self.get_buffer(f"bias{index}"))
            for index in range(len(self.widths) - 1)
        ]


def factor_widths(width: int) -> tuple[int, int, int, int]:
    """Widths of the paraphraser's encoder: D_t, D_t, F, F with F = D_t / 2, rounded up."""
    num_factors = (width + 1) // 2
    return width, width, num_factors, num_factors


def uniform_layers(widths: Sequence[int], generator: torch.Generator) -> Layers:
    """Affine layers from each width to the next, uniform within 1 / sqrt(inputs)."""
    return [
        uniform_linear(outputs, inputs, generator) for inputs, outputs in itertools.pairwise(widths)
    ]


def apply_layers(rows: Tensor, layers: Layers) -> Tensor:
    """Affine layers with a ReLU between any two.

    Args:
        rows: [B, inputs of the first layer].

    Returns:
        [B, outputs of the last layer].
    """
    for index, (weight, bias) in enumerate(layers):
        rows = functional.linear(*in_one_type(rows.relu() if index else rows, weight, bias))
    return rows


def train_paraphraser(
    features: Tensor, options: FactorTransferOptions, seed: int
) -> tuple[Layers, float]:
    """Train an autoencoder of features; the same arguments give the same encoder.

    Encoder D -> D -> F -> F, decoder F -> F -> D -> D. Mean squared error, Adam on mini-batches of
    rows drawn in random order. A tenth of the rows, at least one, is held out; the result has
    the weights of the lowest error on them.

    Args:
        features: [N, D] float32 on the CPU, centred, of unit variance; N >= 2.
        options: steps, patience, batch size and learning rate.
        seed: of the weights, the held-out rows and the order.

    Returns:
        The encoder's layers, and 1 - error / variance on the held-out rows (below 0 where the
        mean of the other rows would be nearer).

    Raises:
        UserError: the error was never finite.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "factor_transfer paraphraser"))
    order = torch.randperm(len(features), generator=generator)
    num_held = max(1, round(HELD_OUT * len(features)))
    held, kept = features[order[:num_held]], features[order[num_held:]]
    widths = factor_widths(features.shape[1])
    encoder = uniform_layers(widths, generator)
    layers = encoder + uniform_layers(widths[::-1], generator)
    trained = [values for layer in layers for values in layer]
    optimizer = torch.optim.Adam(trained, lr=options.paraphraser_lr)
    batches = _batches(len(kept), options.paraphraser_batch_size, generator)
    lowest, best, waited = torch.inf, _copy(encoder), 0
    for step in range(1, options.paraphraser_steps + 1):
        rows = kept[next(batches)]
        optimizer.zero_grad()
        torch.autograd.backward(functional.mse_loss(apply_layers(rows, layers), rows))
        optimizer.step()
        if step % CHECK_EVERY and step < options.paraphraser_steps:
            continue
        with torch.no_grad():
            error = functional.mse_loss(apply_layers(held, layers), held).item()
        if error < lowest:
            lowest, best, waited = error, _copy(encoder), 0
        elif (waited := waited + 1) >= options.paraphraser_patience:
            break
    if not math.isfinite(lowest):
        raise UserError(
            "method factor_transfer: the error of its paraphraser is not finite; lower "
            f"method.paraphraser_lr, which is {options.paraphraser_lr:g}"
        )
    variance = (held - kept.mean(dim=0)).square().mean().item()
    return best, 1 - lowest / max(variance, 1e-12)


def _batches(num_rows: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Row numbers of one batch after the other; every row once, then all again."""
    while True:
        yield from torch.split(torch.randperm(num_rows, generator=generator), size)


def _copy(layers: Layers) -> Layers:
    return [(weight.detach().clone(), bias.detach().clone()) for weight, bias in layers]


def _centre_and_scale(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [D] and the root mean square distance of a feature from its mean, a scalar.

    The scale has a floor, so that the rounding of constant features is not blown up.
    """
    mean = features.mean(dim=0)
    scale = (features - mean).square().mean().sqrt()
    return mean, torch.maximum(scale, 1e-6 * features.abs().max() + 1e-30)
