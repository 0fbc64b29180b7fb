"""What an analysis has to tell: plain values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genkt.metrics.complementary import TransferChange
from genkt.metrics.intervals import ScoreInterval
from genkt.metrics.scored_arms import DrawDesign, of_arm

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Share:
    """``num_right`` answers of ``num_samples``.

    Args:
        interval: over images (or groups), of this model alone; None for fewer than two of them.
    """

    num_right: int
    num_samples: int
    interval: ScoreInterval | None = None

    @classmethod
    def of(cls, right: NDArray[np.bool_], groups: Sequence[str] | None) -> Share:
        """Whether each of [N] answers is right, and what each image belongs to."""
        scores = {(0, 0): right.astype(np.float32)}
        return cls(int(right.sum()), len(right), of_arm(scores, DrawDesign(groups=groups)))

    @property
    def value(self) -> float:
        """0..1."""
        return self.num_right / self.num_samples


@dataclass(frozen=True)
class AnalyzedModel:
    """One model.

    Args:
        name: as it was given.  title: short.
        width: D of its features.
        accuracy: of its own head on the analysed part; None where the head is for other classes.
        by_class: right answers of each class, empty without such a head.
        probe: of a linear probe of its features.  logme: evidence of the same labels, nats.
        distance: Frechet distance from the training images, None where these are the analysed
            ones or too few.  distance_other: from ``other``.
    """

    name: str
    title: str
    num_parameters: int
    width: int
    accuracy: Share | None
    by_class: Sequence[int]
    probe: Share
    logme: float
    distance: float | None
    distance_other: float | None


@dataclass(frozen=True)
class TopClasses:
    """The classes that hold the first ``percent`` of a pair's positive flips.

    Args:
        classes: indices, the highest share of flips first.
        similarity: mean pairwise cosine of their embeddings, NaN for fewer than two.
    """

    percent: float
    classes: Sequence[int]
    similarity: float


@dataclass(frozen=True)
class Pair:
    """What one model has right that another has wrong.

    Args:
        student, teacher: places among the classifiers: wrong, right.
        flips: [C] samples by class.
        entropy: of these over the classes, nats.
        difference: accuracy of the teacher minus that of the student, of these two models alone;
            None for a single sample.
    """

    student: int
    teacher: int
    flips: Sequence[int]
    entropy: float
    top: Sequence[TopClasses]
    difference: ScoreInterval | None = None


@dataclass(frozen=True)
class Transfer:
    """A student before and after a transfer, and its teacher: titles, and what changed."""

    before: str
    after: str
    teacher: str
    change: TransferChange


@dataclass(frozen=True)
class WeightedProbe:
    """Linear probes of teacher features as they are and as a run of AFT has weighted them.

    Args:
        run: its title.  teachers: their names, features side by side.
        plain: of psi.  weighted: of psi * sigmoid(s), one per label draw.
    """

    run: str
    teachers: Sequence[str]
    width: int
    plain: Share
    weighted: Sequence[Share]


@dataclass(frozen=True)
class AnalyzeData:
    """One analysis of M models, K of them classifiers of these classes, on N samples.

    Args:
        title: what the data are called.  split: the analysed part.
        class_sizes: [C] samples of the analysed part.
        answers: what heads answer among: all of their classes, or the data's alone.
        num_train: images that probes and LogME learn from.  probe_on: which these are.
        any_right: samples that some classifier has right.
        flips: [K, K] share of all samples, row wrong and column right.
        kl: [K, K] KL(column || row) in nats.  top1: [K, K] share of equal answers.
        cka: [M, M].
        embedded_by: what classes are compared by.  similarity: of all classes.
        num_distance: images a side of the Frechet distances.  other: where the others are.
    """

    title: str
    split: str
    classes: Sequence[str]
    class_sizes: Sequence[int]
    answers: str
    num_train: int
    probe_on: str
    models: Sequence[AnalyzedModel]
    any_right: Share | None
    flips: Matrix
    kl: Matrix
    top1: Matrix
    cka: Matrix
    pairs: Sequence[Pair]
    top_percent: Sequence[float]
    embedded_by: str
    similarity: float
    transfer: Transfer | None
    weighted: Sequence[WeightedProbe]
    num_distance: int
    other: str | None
    notes: Sequence[str]
    skipped: Sequence[tuple[str, str]]
    command: str
    versions: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def num_samples(self) -> int:
        """N."""
        return sum(self.class_sizes)

    @property
    def classifiers(self) -> list[AnalyzedModel]:
        """The K models with a head for these classes, in the order of the matrices."""
        return [model for model in self.models if model.accuracy is not None]

    @property
    def by_logme(self) -> list[AnalyzedModel]:
        """All models, the one whose features suit the labels best first."""
        return sorted(self.models, key=lambda model: -model.logme)

    def relative(self, top: TopClasses) -> float:
        """How much more alike the top classes are than all classes: 0.5 is half as much again."""
        if not self.similarity > 0:
            return float("nan")
        return top.similarity / self.similarity - 1
