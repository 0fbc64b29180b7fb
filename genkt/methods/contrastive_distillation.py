"""Contrastive distillation beside the task loss: CD within a batch, CRD beside a memory."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from genkt.io import derive_seed
from genkt.losses.contrastive import (
    MIN_ROWS,
    estimate_log_normalizer,
    memory_nce,
    similarity_distillation,
)
from genkt.losses.numerics import in_one_type, no_autocast
from genkt.losses.relational import unit_vectors
from genkt.methods.base import MethodOptions, Objective
from genkt.methods.kd import uniform_linear
from genkt.methods.shapes import Output, Shapes, TrainingRows
from genkt.settings.bounds import Count, Positive, ShareAboveZero, ShareBelowOne, Width
from genkt.types import UNLABELLED, ModelOutput, UserError


def never_compiled(method: Callable[..., Any]) -> Callable[..., Any]:
    """``torch.compiler.disable``, which loads the compiler (a second) only at the first call."""
    eager: list[Callable[..., Any]] = []

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not eager:
            eager.append(torch.compiler.disable(method))  # type: ignore[no-untyped-call]
        return eager[0](*args, **kwargs)

    return call


@dataclass(frozen=True)
class CDOptions(MethodOptions):
    """Options of ``cd``.

    Args:
        cd_weight: lambda of lambda * CD + (1 - lambda) * cross-entropy.
    """

    name: str = "cd"
    cd_weight: ShareAboveZero = 0.5

    @property
    def needs_labels(self) -> str:
        """Cross-entropy has a share of the loss."""
        return f"method.cd_weight={self.cd_weight:g}" if self.cd_weight < 1 else ""


@dataclass(frozen=True)
class CRDOptions(MethodOptions):
    """Options of ``crd``.

    Args:
        beta: weight of the contrastive term.
        num_negatives: K per row, at most N - 1 of N training images.
        momentum: share of the old entry where a memory bank is updated.
        temperature: tau of exp(cosine / tau).
        dim: width of the space that student and teacher are projected to.
    """

    name: str = "crd"
    beta: Positive = 0.8
    num_negatives: Count = 16384
    momentum: ShareBelowOne = 0.5
    temperature: Positive = 0.07
    dim: Width = 128


class CD(Objective):
    """lambda * CD + (1 - lambda) * cross-entropy; lambda = 1 / 2 weighs them equally.

    CD compares *features* (the vectors that enter the classifiers), as in the paper's
    Appendix A.2, not logits. With several teachers it is the mean of their divergences:
    cosines of concatenated features would depend mostly on the teacher with the largest values.

    Source: Roth et al., "Fantastic Gains and Where to Find Them", Appendix A.2.
    """

    needs = frozenset({"features"})
    min_batch = MIN_ROWS
    options_type = CDOptions

    def set_up(self, options: CDOptions, shapes: Shapes, seed: int) -> None:
        """See ``Objective``."""
        self.weight = float(options.cd_weight)

    def loss(
        self, student: ModelOutput, teachers: Sequence[ModelOutput], labels: Tensor
    ) -> dict[str, Tensor]:
        """Parts: cross_entropy (labelled rows), similarity_kl (all rows)."""
        self._check_count(teachers)
        task = self._task_loss(student, labels)
        features = [teacher.features.detach() for teacher in teachers]
        divergence = similarity_distillation(student.features, features)
        return {
            "total": self.weight * divergence + (1 - self.weight) * task,
            "cross_entropy": task.detach(),
            "similarity_kl": divergence.detach(),
        }


class Negatives(nn.Module):
    """Draws, for a row, images that are not known to be of its class.

    A labelled row's negatives are images of other classes and images without label; an unlabelled
    row's are all images but itself. Each is drawn with the same probability, with replacement.
    The images stand in ``order``, those of one class side by side, each unlabelled one by itself.

    Args:
        labels: [N] int64, ``UNLABELLED`` where unknown.
        seed: of the draws; a counter of them is part of the state.

    Raises:
        UserError: an image has no negative.
    """

    order: Tensor
    start: Tensor
    alike: Tensor
    num_draws: Tensor

    def __init__(self, labels: Tensor, seed: int) -> None:
        super().__init__()
        self.seed = seed
        alone = labels.max() + 1 + torch.arange(len(labels), device=labels.device)
        groups = torch.where(labels == UNLABELLED, alone, labels)
        order = groups.argsort(stable=True)
        ordered = groups[order]
        start = torch.searchsorted(ordered, groups)
        alike = torch.searchsorted(ordered, groups, right=True) - start
        if (alike == len(labels)).any():
            raise UserError(
                "method crd: needs training images of two classes at least, or several without "
                f"label: among the {len(labels)} here, one has no negative"
            )
        self.register_buffer("order", order)
        self.register_buffer("start", start)
        self.register_buffer("alike", alike)
        self.register_buffer("num_draws", torch.zeros((), dtype=torch.int64))
        self._counted: int | None = None

    def draw(self, samples: Tensor, count: int) -> Tensor:
        """[B, count] int64: negatives of each of samples [B]; every call draws new ones."""
        if self._counted is None:  # waits for the device, so only where a training goes on
            self._counted = int(self.num_draws.item())
        seed = derive_seed(self.seed, "crd negatives", self._counted)
        self._counted += 1
        self.num_draws += 1
        generator = torch.Generator().manual_seed(seed)  # on the CPU: the same on every device
        numbers = torch.randint(1 << 62, (len(samples), count), generator=generator)
        start, alike = self.start[samples, None], self.alike[samples, None]
        places = numbers.to(samples.device, non_blocking=True) % (len(self.order) - alike)
        return self.order[torch.where(places < start, places, places + alike)]

    def _load_from_state_dict(self, *args: Any, **keywords: Any) -> None:
        super()._load_from_state_dict(*args, **keywords)
        self._counted = None


class Memory(nn.Module):
    """The student and one teacher in one space, and a bank of all images for either.

    Args:
        student_width, teacher_width: D_s, D_t.
        options: dim, temperature and momentum.
        generator: of both projections.
    """

    student_bank: Tensor
    teacher_bank: Tensor
    log_normalizers: Tensor

    def __init__(
        self, student_width: int, teacher_width: int, options: CRDOptions,
        generator: torch.Generator,
    ) -> None:  # fmt: skip
        super().__init__()
        self.momentum, self.temperature = float(options.momentum), float(options.temperature)
        dim = options.dim
        self.student_weight, self.student_bias = uniform_linear(dim, student_width, generator)
        self.teacher_weight, self.teacher_bias = uniform_linear(dim, teacher_width, generator)
        for name in ("student_bank", "teacher_bank"):
            self.register_buffer(name, torch.empty(0, dim))
        # NaN until the first batch.
        self.register_buffer("log_normalizers", torch.full((2,), torch.nan))

    def fill(self, num_samples: int, generator: torch.Generator) -> None:
        """Draw both banks anew, [N, dim], of mean squared norm 1."""
        bound = (3 / self.student_bank.shape[1]) ** 0.5
        for name in ("student_bank", "teacher_bank"):
            size = num_samples, self.student_bank.shape[1]
            setattr(self, name, torch.empty(size).uniform_(-bound, bound, generator=generator))

    def forward(
        self, student_features: Tensor, teacher_features: Tensor, samples: Tensor, negatives: Tensor
    ) -> Tensor:
        """The contrastive term of both directions, a scalar; the rows update the banks.

        Args:
            student_features: [B, D_s].  teacher_features: [B, D_t].
            samples: [B], whose rows these are.  negatives: [B, K], samples too.
        """
        with no_autocast(student_features):
            student = self._projected(student_features, self.student_weight, self.student_bias)
            teacher = self._projected(teacher_features, self.teacher_weight, self.teacher_bias)
            compared = torch.cat([samples[:, None], negatives], dim=1)
            term = self._estimation(0, student, self.teacher_bank, compared)
            term = term + self._estimation(1, teacher, self.student_bank, compared)
            self._take_in(self.student_bank, student.detach(), samples)
            self._take_in(self.teacher_bank, teacher.detach(), samples)
        return term

    def _projected(self, features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return unit_vectors(functional.linear(*in_one_type(features, weight, bias)))

    def _estimation(self, side: int, anchors: Tensor, bank: Tensor, compared: Tensor) -> Tensor:
        # A copy: the gradient needs the entries as they are now, and is computed after the update.
        # All B N cosines take less memory than B K gathered vectors where N < K dim.
        cosines = (anchors @ bank.clone().to(anchors.dtype).T).gather(1, compared)
        known = self.log_normalizers[side].clone()
        estimate = estimate_log_normalizer(
            cosines.detach(), temperature=self.temperature, num_samples=len(bank)
        )
        log_normalizer = torch.where(known.isnan(), estimate, known)
        self.log_normalizers[side] = log_normalizer
        return memory_nce(
            cosines,
            temperature=self.temperature,
            log_normalizer=log_normalizer,
            num_samples=len(bank),
        )

    def _take_in(self, bank: Tensor, rows: Tensor, samples: Tensor) -> None:
        mixed = unit_vectors(self.momentum * bank[samples] + (1 - self.momentum) * rows)
        # Of an image that is in the batch twice the last row counts, whichever is written last.
        places = torch.arange(len(samples), device=samples.device)
        last = torch.where(samples[:, None] == samples, places, -1).amax(dim=1)
        bank[samples] = mixed[last].to(bank.dtype)


class CRD(Objective):
    """Cross-entropy + beta * contrastive term against memory banks (``crd``).

    Student and teacher features are projected linearly to one space and normalised. Two banks
    hold a moving average of every image's projections, one the student's, one the teacher's.
    Noise-contrastive estimation separates the teacher's entry of the student's image from those of
    K negatives, and in the same way the student's entry for the teacher's row. Banks start at
    random; log Z is estimated on the first batch and kept, one for each direction, as in the
    released code. The projections are trained by the student's optimizer. With several teachers
    each has projections and banks of its own, and the term is the mean of theirs. Costs, for
    each teacher, B N cosines per step and memory for 2 N dim numbers.

    Source: Tian et al., "Contrastive Representation Distillation", as used by Roth et al.,
    "Fantastic Gains and Where to Find Them", Appendix A.2. Differs from the paper: the mean over
    teachers instead of the sum (a factor on beta); negatives are always drawn with replacement,
    and unlabelled images are among them (``Negatives``).
    """

    needs = frozenset({"features"})
    prepares = frozenset({"labels"})
    options_type = CRDOptions
    sizes = ("student_width", "teacher_width")

    def set_up(self, options: CRDOptions, shapes: Shapes, seed: int) -> None:
        """See ``Objective``."""
        self.beta, self.num_negatives = float(options.beta), options.num_negatives
        self.seed = seed
        generator = torch.Generator().manual_seed(derive_seed(seed, "crd projections"))
        self.memories = nn.ModuleList(
            Memory(shapes.student_width, teacher.width, options, generator)
            for teacher in shapes.teachers
        )
        self.negatives: Negatives | None = None

    def prepare(self, rows: TrainingRows) -> None:
        """Set up the banks for the N training images, and the negatives by their labels.

        Raises:
            UserError: an image has no negative.
        """
        self.negatives = Negatives(rows.labels.cpu(), self.seed)
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "crd banks"))
        for memory in self.memories:
            assert isinstance(memory, Memory)
            memory.fill(len(rows.labels), generator)

    def parameter_groups(self) -> list[nn.Parameter]:
        """All projections'."""
        return list(self.parameters())

    # Never compiled: inductor drops the copy of a bank that the gradient needs after the update.
    @never_compiled
    def forward(
        self,
        student: Output,
        teachers: Output | Sequence[Output] = (),
        labels: Tensor | None = None,
        samples: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """See ``Objective``; ``samples`` are needed here."""
        return super().forward(student, teachers, labels, samples)

    def row_loss(
        self,
        student: ModelOutput,
        teachers: Sequence[ModelOutput],
        labels: Tensor,
        samples: Tensor | None,
    ) -> dict[str, Tensor]:
        """See ``loss``."""
        return self.loss(student, teachers, labels, samples)

    def loss(
        self,
        student: ModelOutput,
        teachers: Sequence[ModelOutput],
        labels: Tensor,
        samples: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Parts: cross_entropy (labelled rows), contrastive_nce (all rows); updates the banks."""
        if samples is None or self.negatives is None:
            raise UserError(
                "method crd: call prepare(TrainingRows(labels)) once before training, and give the "
                "samples of each batch: which training images its rows are"
            )
        self._check_count(teachers)
        task = self._task_loss(student, labels)
        count = min(self.num_negatives, len(self.negatives.order) - 1)
        negatives = self.negatives.draw(samples, count)
        terms = [
            memory(student.features, teacher.features.detach(), samples, negatives)
            for memory, teacher in zip(self.memories, teachers, strict=True)
        ]
        term = torch.stack(terms).mean()
        return {
            "total": task + self.beta * term,
            "cross_entropy": task.detach(),
            "contrastive_nce": term.detach(),
        }
