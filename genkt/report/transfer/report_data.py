"""What a report is made of: plain values only, so that it never touches models or loaders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from genkt.metrics.scored_arms import DrawDesign, Scored
from genkt.types import Budget, Cost, Prediction, StudentResult, UserError, draw_text

ARM_NAMES: Mapping[str, str] = {
    "stl": "Plain fine-tuning",
    "feature_kd": "Feature KD",
    "l2_feature": "L2 features (OTA)",
    "logit_kd": "Logit KD",
    "soft_target": "Soft targets",
    "top_k_kd": "Top-k KD",
    "kl_dp": "KL+DP",
    "mcl": "XE-KL+MCL",
    "aft": "AFT",
    "rkd": "Relational KD",
    "factor_transfer": "Factor transfer",
    "b_tuning": "B-Tuning",
    "cd": "CD",
    "crd": "CRD",
    "contrastive": "Contrastive",
    "cosine_patch": "Cosine of patches",
    "task_oriented": "Task-oriented",
    "task_agnostic": "Task-agnostic",
    "ota": "One to Transfer All",
    "general_kt": "General transfer",
    "lp_ft": "LP, then FT",
    "pseudo_label": "Pseudo-labels",
    "ssl": "Self-supervised",
    "supervised_pretrain": "Pretrained",
}
"""How the built-in arms are called for readers; other arms show under their own name."""


CURVES: Mapping[str, str] = {
    "validation_accuracy": "Validation accuracy",
    "total": "Training loss",
    "cross_entropy": "Cross-entropy on the labels",
    "kernel_distance": "Kernel distance to the teachers",
    "feature_regression": "Regression of the teachers' features",
    "kl": "Divergence from the teacher",
}
"""Logged quantities that are drawn as learning curves, and what the reader calls them."""


@dataclass(frozen=True)
class ModelSummary:
    """One model of the run.

    Args:
        role: "student" or "teacher".  name: timm name or path.
        num_parameters: of the whole network.  size_bytes: on disk, None where it is not stored.
        accuracy: test accuracy 0..1 on the task, None where the model has no head for it.
    """

    role: str
    name: str
    num_parameters: int
    size_bytes: int | None = None
    accuracy: float | None = None


@dataclass(frozen=True)
class TeacherArm:
    """A teacher with one of its heads, on the images that the students are tested on.

    Args:
        arm: its key, such as "teacher0_probe".  name: for readers.
        taught: the students learned from it with this head.
        mean: test accuracy 0..1 over the draws.
        scores: draw -> [N] in 0..1; empty where an older genkt did not keep them.
    """

    arm: str
    name: str
    taught: bool
    mean: float
    scores: Mapping[int, NDArray[np.floating]] = field(default_factory=dict)


@dataclass(frozen=True)
class SplitSummary:
    """One part of the data, e.g. ("labelled", 20, (2, 2, ...)).

    Args:
        per_class: [C] counts, None where the classes are not known.
    """

    name: str
    num_samples: int
    per_class: tuple[int, ...] | None = None


@dataclass(frozen=True)
class TransferSample:
    """One picture of the transfer set for the contact sheet, with its provenance.

    Args:
        source: "real", "retrieved", "synthesized" or "re-represented".
        label: class name, None where the sample is unlabelled.
        detail: where it comes from (file, query, generator), shown on hover.
        row: samples of one row are shown side by side, e.g. a source and what was made of it.
    """

    image: Image
    source: str
    label: str | None = None
    detail: str = ""
    row: int = 0


@dataclass(frozen=True)
class DistanceSummary:
    """Frechet distances of equally many upstream and downstream images.

    Source: Wang et al. 2022, "One to Transfer All", Figure 4.

    Args:
        before, after: upstream against the downstream images as they are, and re-represented.
        num_images: of each of the three sets.
        upstream: what they are compared with.  model: whose features.
    """

    before: float
    after: float
    num_images: int
    upstream: str
    model: str


@dataclass(frozen=True)
class NearCopyRow:
    """A test picture and a picture of another part that is nearly the same.

    Args:
        test, other: their names.  part: of the other one.  likeness: at most 1.
        pictures: both, where the page shows them.
    """

    test: str
    part: str
    other: str
    likeness: float
    pictures: tuple[Image, Image] | None = None


@dataclass(frozen=True)
class ReportData:
    """Everything one run has to tell.

    Args:
        title: of the run, e.g. "digits, 2 labels per class".
        cells: one trained student an arm, a draw and a seed.  Keys read from a cell's ``curve``:
            "step" (of the run or of the stage), "stage", and what is listed in ``curves``.
        classes: C class names.
        method, baseline: the arms that the answer compares; equal when there is only one arm.
        exported_draw, exported_seed: of the student that is exported, whose predictions are shown.
        predictions: arm -> test-set predictions of that draw and seed, all on the same samples in
            one order.
        probabilities: arm -> (draw, seed) -> [N, C] of that student on these samples. Without them
            accuracy is the only figure.
        scores, distilled: arm -> the scores of its students on these samples, at the end and before
            the final fine-tuning. Without them there are no intervals.
        teachers: heads of teachers that answer the task.
        design: where the students come from.
        budgets: arm -> what went into it.
        curves: curve key -> what the reader calls it; keys that hold "accuracy" or begin with
            "validation_" are shares 0..1.
        artifacts: teacher name -> [D_t] learned feature weights, 0..1 (AFT); of other shapes
            only the shape is told.
        sample_images: test sample id -> picture, see ``genkt.report.kit.sheets.pick_samples``.
        transfer_samples: a few pictures of the transfer set.
        transfer_composition: source -> number of samples, e.g. {"real, unlabelled": 980}.
        transfer_sheet: page with more of them, relative to the report; "" for none.
        near_copies: test pictures that are nearly pictures of other parts, the most alike first;
            None where nobody has looked.
        distance: of the downstream images from upstream, where it was measured.
        models: student and teachers.
        stages: the method's stages in order -> their cost over all draws.
        after: stage -> mean test accuracy over the draws when it had ended, 0..1.
        splits: sizes of the data's parts.  skipped: (path, reason) of unreadable files.
        training_labels: of a draw.  validation_labels: those that some choice has read
            (``genkt.runs.label_budget``).
        command: the exact command line.  versions: python, torch, timm, genkt, hardware, date ...
        config: the resolved configuration.  snippet: code that loads the student.
        notes: sentences for the reader: warnings, choices the run made (beta ...).
        arm_names: arm -> what the reader calls it, where that is not ``ARM_NAMES``.
        subject: what the answer is about.
    """

    title: str
    cells: Sequence[StudentResult]
    classes: Sequence[str]
    method: str
    baseline: str = "stl"
    exported_draw: int = 0
    exported_seed: int = 0
    predictions: Mapping[str, Prediction] = field(default_factory=dict)
    probabilities: Mapping[str, Scored] = field(default_factory=dict)
    scores: Mapping[str, Scored] = field(default_factory=dict)
    distilled: Mapping[str, Scored] = field(default_factory=dict)
    teachers: Sequence[TeacherArm] = ()
    design: DrawDesign = field(default_factory=DrawDesign)
    budgets: Mapping[str, Budget] = field(default_factory=dict)
    curves: Mapping[str, str] = field(default_factory=lambda: dict(CURVES))
    artifacts: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    sample_images: Mapping[str, Image] = field(default_factory=dict)
    transfer_samples: Sequence[TransferSample] = ()
    transfer_composition: Mapping[str, int] = field(default_factory=dict)
    transfer_sheet: str = ""
    near_copies: Sequence[NearCopyRow] | None = None
    distance: DistanceSummary | None = None
    models: Sequence[ModelSummary] = ()
    stages: Mapping[str, Cost] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)
    splits: Sequence[SplitSummary] = ()
    skipped: Sequence[tuple[str, str]] = ()
    training_labels: int = 0
    validation_labels: int = 0
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    snippet: str = ""
    notes: Sequence[str] = ()
    arm_names: Mapping[str, str] = field(default_factory=dict)
    subject: str = "Distilled student"

    @property
    def exported(self) -> str:
        """The draw, and the seed where it is not the first, of the exported student."""
        return draw_text(self.exported_draw, self.exported_seed)

    def __post_init__(self) -> None:
        """Check that the parts belong together. Raises: UserError."""
        arms = [cell.arm for cell in self.cells]
        if self.method not in arms:
            raise UserError(f"report: no cell of arm {self.method!r}, only {sorted(set(arms))}")
        seen = {(cell.arm, cell.draw, cell.seed) for cell in self.cells}
        if len(seen) != len(self.cells):
            raise UserError("report: expected one cell an arm, draw and seed, got some twice")
        first = next(iter(self.predictions.values()), None)
        for arm, prediction in self.predictions.items():
            num_classes = int(prediction.probabilities.shape[1])
            if num_classes != len(self.classes):
                raise UserError(
                    f"report: predictions of {arm!r} have {num_classes} classes, "
                    f"expected {len(self.classes)}"
                )
            if first is not None and prediction.ids != first.ids:
                raise UserError("report: the arms' predictions are not of the same samples")
        self._check_scores(None if first is None else len(first.ids))

    def _check_scores(self, num_samples: int | None) -> None:
        """Check that all scores are of the same images, which ``predictions`` are of too."""
        arms = [*self.scores.values(), *self.distilled.values(), *self.probabilities.values()]
        every = [scores for arm in arms for scores in arm.values()]
        every += [scores for teacher in self.teachers for scores in teacher.scores.values()]
        sizes = {len(scores) for scores in every} | ({num_samples} - {None})
        if len(sizes) > 1:
            raise UserError(
                "report: expected scores of the same samples, got "
                f"{' and '.join(map(str, sorted(sizes, key=str)))} of them"
            )

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms in the order of the table: baseline, others as they came, method last."""
        present = list(dict.fromkeys(cell.arm for cell in self.cells))
        middle = [arm for arm in present if arm not in (self.baseline, self.method)]
        first = [self.baseline] if self.baseline in present else []
        last = [self.method] if self.method != self.baseline else []
        return tuple(first + middle + last)

    @property
    def has_baseline(self) -> bool:
        """Whether the run has another arm to compare the method with."""
        return self.baseline != self.method and self.baseline in self.arms

    def name_of(self, arm: str) -> str:
        """What the reader calls an arm."""
        return self.arm_names.get(arm) or ARM_NAMES.get(arm) or arm

    def weights(self) -> dict[str, NDArray[np.float64]]:
        """The artifacts that are curves of learned feature weights."""
        arrays = {name: np.asarray(value, np.float64) for name, value in self.artifacts.items()}
        return {
            name: array
            for name, array in arrays.items()
            if array.ndim == 1 and array.size and array.min() >= 0 and array.max() <= 1
        }
