"""Values that travel between the floors of genkt, and the shape legend.

Shape legend, used in every docstring:
    B  rows of a batch            N  samples of a set
    C  classes                    D  feature width (D_s student, D_t teacher)
    H, W  image height and width  K  stored views of one sample
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

UNLABELLED = -1
"""The label of a sample whose class is not known."""


class UserError(ValueError):
    """A mistake in what the user gave; the command line prints it as one line, exit code 2.

    Attributes:
        key: what it is about (an argument, a setting, a file), where ``of`` was told.
        got: what was given for it, as ``of`` was told.
    """

    key: str | None = None
    got: object = None

    @classmethod
    def of(cls, key: object, expected: str, got: object, hint: str = "") -> Self:
        """The error "KEY: expected EXPECTED, got GOT", and what to do about it.

        >>> error = UserError.of("draws", "at least 1", 0, "; give draws=1")
        >>> print(error)
        draws: expected at least 1, got 0; give draws=1
        >>> error.key, error.got
        ('draws', 0)
        """
        error = cls(f"{key}: expected {expected}, got {got}{hint}")
        error.key, error.got = str(key), got
        return error


class DamagedError(UserError):
    """A file that genkt wrote earlier and that cannot be read, or is not what was written.

    Attributes:
        fact: what is wrong with it, without what to do about it.
    """

    fact: str = "damaged"


@dataclass(frozen=True)
class Range:
    """Bounds of a number in a settings dataclass: ``Annotated[float, Range(0, 1)]``.

    Args:
        above: the lowest number itself is left out.  below: the highest is.
    """

    low: float | None = None
    high: float | None = None
    above: bool = False
    below: bool = False

    def holds(self, value: float) -> bool:
        """Whether a number is within; what is not finite never is."""
        if not (isinstance(value, int) or math.isfinite(value)):
            return False
        if self.low is not None and (value < self.low or (self.above and value == self.low)):
            return False
        return self.high is None or value < self.high or (value == self.high and not self.below)

    def __str__(self) -> str:
        low, high = _number(self.low), _number(self.high)
        if self.below:
            return f"{'above' if self.above else 'from'} {low}, below {high}"
        if self.above:
            return f"above {low}" if self.high is None else f"above {low}, at most {high}"
        return f">= {low}" if self.high is None else f"{low} .. {high}"


def _number(value: float | None) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}" if value is not None else "any"


@dataclass(frozen=True)
class ModelOutput:
    """What one forward pass of a classifier yields.

    Args:
        features: [B, D] the vector that enters the classifier (pre-logits).
        logits: [B, C], or None where only features were computed or cached.
        feature_map: [B, D, H', W'], or None where not asked for. (A model's own forward pass
            gives it as the model keeps it, tokens [B, T, D] too: see ``Backbone.spatial_map``.)
    """

    features: Tensor
    logits: Tensor | None = None
    feature_map: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """One step's rows: labelled and unlabelled ones together.

    Args:
        images: [B, 3, H, W] uint8, the student's view at the student's input size.
        labels: [B] int64, ``UNLABELLED`` where the class is unknown.
        ids: B sample ids.
        samples: [B] int64, which images of the set they are, 0..N-1.
        teachers: one entry per teacher; its outputs for the same rows and views (cached), or empty.
        teacher_images: one uint8 tensor a teacher at that teacher's size, for online teachers.
    """

    images: Tensor
    labels: Tensor
    ids: tuple[str, ...]
    samples: Tensor
    teachers: tuple[ModelOutput, ...] = ()
    teacher_images: tuple[Tensor, ...] = ()


def require_finite(values: Tensor, ids: Sequence[str], key: str) -> None:
    """Refuse outputs of which no answer can be made: the largest of NaN would be class 0.

    Args:
        values: [N, any width] outputs.  ids: N sample ids.  key: whose outputs they are.

    Raises:
        UserError: with the first image and the number of the others.
    """
    broken = (~values.isfinite().all(dim=1)).nonzero().flatten().tolist()
    if not broken:
        return
    first = ids[broken[0]]
    others = f" and {len(broken) - 1:,} others" if broken[1:] else ""
    raise UserError.of(
        key,
        "finite outputs",
        f"NaN or infinity for {first.rpartition('#')[0] or first}{others}",
        f" (of {len(ids):,} images); its training has diverged, or its weights are damaged",
    )


@dataclass(frozen=True)
class Prediction:
    """A classifier's answers on N labelled samples.

    Args:
        ids: N sample ids.  labels: [N] int64.  probabilities: [N, C] float32 on CPU.

    Raises:
        UserError: probabilities that are not finite.
    """

    ids: tuple[str, ...]
    labels: Tensor
    probabilities: Tensor

    def __post_init__(self) -> None:
        require_finite(self.probabilities, self.ids, "predictions")

    @property
    def predicted(self) -> Tensor:
        """[N] the most probable class."""
        return self.probabilities.argmax(dim=1)

    @property
    def accuracy(self) -> float:
        """Share of right answers, 0..1."""
        return (self.predicted == self.labels).double().mean().item()

    @property
    def scores(self) -> NDArray[np.float32]:
        """[N] 1 where the answer is right, otherwise 0."""
        return (self.predicted == self.labels).float().numpy()


@dataclass(frozen=True)
class StudentScores:
    """How a student did on each of N test images, 0..1; all statistics are made from these.

    Args:
        final: [N] at the end.
        distilled: [N] before the last stage, None where there is none or it was not kept.
        validation: [M] on the images that choices are made on: validation images, or the labelled
            ones, each by a student of a fold that did not see it. None where it was not measured.
    """

    final: NDArray[np.float32]
    distilled: NDArray[np.float32] | None = None
    validation: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class TeacherScores:
    """How a teacher of a draw did on each of N test images, 0..1; None where it does not say.

    Args:
        taught: [N] with the head that it taught with: its own, a linear probe, or fine-tuned.
        probe: [N] of a linear probe of its features, fitted on the draw's labels.
        own: [N] of the head that it came with, where it taught with another one.
    """

    taught: NDArray[np.float32] | None = None
    probe: NDArray[np.float32] | None = None
    own: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Cost:
    """What a stage cost.

    Args:
        seconds: on the wall.
        fill_seconds: of these, while teachers answered what was not kept yet.
        samples: images that the trained model saw; it sees an image again in every epoch.
        steps: of the optimizer.
        teacher_images: images that teachers had to answer. Kept answers count, whoever computed
            them: an image, view and teacher once for a student. Online answers count every time.
    """

    seconds: float = 0.0
    samples: int = 0
    steps: int = 0
    peak_memory_bytes: int = 0
    teacher_images: int = 0
    fill_seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.seconds + other.seconds,
            self.samples + other.samples,
            self.steps + other.steps,
            max(self.peak_memory_bytes, other.peak_memory_bytes),
            self.teacher_images + other.teacher_images,
            self.fill_seconds + other.fill_seconds,
        )


@dataclass(frozen=True)
class Budget:
    """What went into an arm: labels of one draw; all else over its draws and seeds.

    Args:
        labels: training images with a label.
        validation_labels: labelled images that something was chosen by; 0: nothing was.
        choices: what: "weights" (the best of a training), "teacher" (how it was adapted),
            "search" (beta, or a learning rate), "stage" (whether the last one is taken back),
            "student" (which one is exported), "settings" (of the arm, by a comparison).
        steps: of all optimizers, those of adapted teachers and of searches too.
        samples: images that students saw, searches included.
        teacher_images: images that teachers had to answer or were adapted with, as in ``Cost``.
        seconds: of all of this, and of making images.
        search_seconds: those of searches for settings.
        making_seconds: those of generated, retrieved or re-represented images.
    """

    labels: int
    validation_labels: int = 0
    choices: tuple[str, ...] = ()
    steps: int = 0
    samples: int = 0
    teacher_images: int = 0
    seconds: float = 0.0
    search_seconds: float = 0.0
    making_seconds: float = 0.0


KEPT = "kept"
"""The extra that says whose student was kept: ``EARLIER`` or ``LATER``; absent without a choice."""

EARLIER, LATER = "earlier", "later"
"""The student before the last stage, and the one after it."""

STAGE = "stage."
"""Start of the extras with the names of the stages that both come from; absent for the baseline."""

JUDGED = "validation."
"""Start of the extras with the accuracies of both that the choice was made by."""


@dataclass
class StudentResult:
    """One trained student of a run: an arm (``baseline`` or the method's name) on one label draw.

    Args:
        arm: "stl" for the baseline or the method's short name.
        draw: index of the label draw.
        accuracy: test accuracy 0..1 at the end.
        accuracy_distilled: the same before the final fine-tuning, None where there is none.
        curve: one dict a logged step: step, stage, loss parts, accuracy where measured.
        cost: of every stage of this arm.
        extras: small facts for the report (chosen beta, teacher accuracy ...).
        seed: of the student, counted from 0, where a draw has several.
    """

    arm: str
    draw: int
    accuracy: float
    accuracy_distilled: float | None = None
    curve: list[dict[str, float | int | str]] = field(default_factory=list)
    cost: Cost = field(default_factory=Cost)
    extras: dict[str, float | int | str] = field(default_factory=dict)
    seed: int = 0


def draw_text(draw: int, seed: int) -> str:
    """How messages call a draw; the first of its students needs no number."""
    return f"draw {draw}, seed {seed}" if seed else f"draw {draw}"


def counted(number: int, thing: str, does: str = "") -> str:
    """How messages count.

    >>> counted(1, "file", "is"), counted(2310, "group of test images"), counted(0, "class", "has")
    ('1 file is', '2,310 groups of test images', '0 classes have')

    Args:
        does: what the thing does, as of one: "is", "was" or "has".
    """
    text = f"{number:,} {thing if number == 1 else plural(thing)}"
    return f"{text} {verb(number, does)}" if does else text


def verb(number: int, does: str) -> str:
    """ "is", "was" or "has" of one thing, "are", "were" or "have" of several."""
    return does if number == 1 else {"is": "are", "was": "were", "has": "have"}[does]


def plural(thing: str) -> str:
    """Several of a thing.

    >>> plural("near copy"), plural("array")
    ('near copies', 'arrays')
    """
    first, joint, rest = thing.partition(" of ")
    if first.endswith(("s", "x", "ch", "sh")):
        first += "e"
    elif first.endswith("y") and first[-2] not in "aeiou":
        first = f"{first[:-1]}ie"
    return f"{first}s{joint}{rest}"
