"""``method=auto``: looks at the data and the models, and says what it chose and why."""

from __future__ import annotations

from dataclasses import dataclass

from torch.nn.modules.batchnorm import _BatchNorm

from genkt.config.evidence import contrast, share_of_gains
from genkt.config.transfer_settings import TransferConfig
from genkt.data.splits import Splits
from genkt.io import derive_seed
from genkt.models.backbone import Backbone
from genkt.runs.model_factories import student_factory, teacher_factories
from genkt.runs.pool import drawn_labels
from genkt.settings.objects import has_objects
from genkt.transfers.plan_rules import PlanFacts


@dataclass(frozen=True)
class DataFacts:
    """The facts that a choice depends on.

    Args:
        labels_per_class: labelled images of a draw divided by the number of classes.
        num_unlabelled: other training images of a draw, and unlabelled ones.
        student_pretrained: its weights are loaded.
        student_knows, teachers_know: their heads have the classes of the data.
        built_in: the data are those that the shipped generator knows.
    """

    labels_per_class: float
    num_unlabelled: int
    student_pretrained: bool
    student_knows: bool
    teachers_know: bool
    built_in: bool


@dataclass(frozen=True)
class MethodChoice:
    """Settings of ``genkt transfer``, and two lines that explain them to the user."""

    words: tuple[str, ...]
    what: str
    why: str


def facts_of(config: TransferConfig, splits: Splits) -> DataFacts:
    """The facts of a run; models are built to look at their heads.

    A student given in Python counts as pretrained.
    """
    labelled, others = drawn_labels(config.data, splits, derive_seed(config.seed, "draw", 0))
    unlabelled = 0 if splits.unlabelled is None else len(splits.unlabelled)
    settings = config.student
    loaded = has_objects(settings) or settings.pretrained or settings.weights is not None
    student = student_factory(settings)(None, 0) if loaded else None
    teachers = [make(None, 0) for make in teacher_factories(config.teacher)]
    return DataFacts(
        labels_per_class=len(labelled) / len(splits.classes),
        num_unlabelled=len(others) + unlabelled,
        student_pretrained=loaded,
        student_knows=student is not None and _knows(student, splits.classes),
        teachers_know=all(_knows(teacher, splits.classes) for teacher in teachers),
        built_in=config.data.built_in,
    )


def plan_facts_of(config: TransferConfig, splits: Splits) -> PlanFacts:
    """The facts that the rules of a plan read; the student is built to look at its layers."""
    labelled, others = drawn_labels(config.data, splits, derive_seed(config.seed, "draw", 0))
    unlabelled = 0 if splits.unlabelled is None else len(splits.unlabelled)
    student = student_factory(config.student)(None, 0)
    settings = config.student
    return PlanFacts(
        labelled=len(labelled),
        transfer=len(others) + unlabelled,
        batch_norm=any(isinstance(module, _BatchNorm) for module in student.modules()),
        pretrained=has_objects(settings) or settings.pretrained or settings.weights is not None,
    )


def _knows(model: Backbone, classes: tuple[str, ...]) -> bool:
    """Whether a model's own head has the names of these classes, in this order."""
    return model.class_names == classes


def choose(facts: DataFacts) -> MethodChoice:
    """Settings for these facts.

    Figures in the reasons are stored results of the arm that the default run is: the few labelled
    images are in every batch (``train.labelled_per_batch``).
    """
    knows = ("teacher.adapt=none",) if facts.teachers_know else ()
    if facts.student_knows and facts.teachers_know:
        images = "unlabelled" if facts.num_unlabelled else "labelled"
        return MethodChoice(
            (
                "recipe=general_kt",
                f"transfer_set={images}",
                "recipe.stages.finetune.steps=0",
                *knows,
            ),
            "student and teachers know these classes: each row is taught by the more "
            "certain of the two",
            "plain distillation overwrites what a trained student knows: by it "
            f"{share_of_gains('logit_kd')} pairs of models gained, so {share_of_gains('kl_dp')} "
            "(as in Roth et al. 2024)",
        )
    if facts.num_unlabelled:
        return MethodChoice(
            ("method=logit_kd", "transfer_set=unlabelled", *knows),
            f"the teacher's predictions on {facts.num_unlabelled:,} unlabelled images of your own",
            f"no other transfer set gained as much ({_gain('real_few', facts)}), and on it no "
            "method was better beyond chance",
        )
    if facts.built_in:
        return MethodChoice(
            ("method=logit_kd", "transfer_set=digg", *knows),
            "the teacher's predictions on completions of the labelled images (DIGG)",
            f"without unlabelled images they gained too ({_gain('digg_few', facts)})",
        )
    if facts.student_pretrained:
        return MethodChoice(
            ("method=aft", "transfer_set=labelled"),
            "the teacher's features on the labelled images alone (AFT)",
            "the student is pretrained and there are no other images, as in Qiu et al. "
            "2024; not measured here",
        )
    return MethodChoice(
        ("method=stl", "transfer_set=labelled"),
        "plain fine-tuning; give unlabelled images (data.unlabelled=[FOLDER]) to gain by a teacher",
        "on few labelled images alone a teacher did a student from scratch no good "
        f"({_gain('few', facts)})",
    )


def _gain(arm: str, facts: DataFacts) -> str:
    """How an arm compared with plain fine-tuning, and on which data."""
    measured = contrast("transfer_sets", arm, "stl")
    labels = facts.labels_per_class
    here = f", you have {labels:.3g}" if labels > measured.labels_per_class else ""
    on = f"on {measured.data} with {measured.labels_per_class} labels per class{here}"
    return f"{measured}{'' if measured.established else ', not established'}, {on}"
