"""Objectives in one's own loop: made by keywords, called on plain tensors, in any float type."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from method_cases import LABELS, WIDTHS, B, C, draw, outputs, teachers, training_rows
from refusals import refused
from torch import Tensor, nn

from genkt.io import resource
from genkt.losses.contrastive import info_nce, patch_cosine_distance, similarity_distillation
from genkt.losses.factors import factor_distance
from genkt.losses.features import feature_regression
from genkt.losses.kernels import kernel_distance, linear_kernel
from genkt.losses.logits import (
    kl_distillation,
    soft_target_cross_entropy,
    top_k_distillation,
)
from genkt.losses.partition import partitioned_distillation
from genkt.losses.relational import rkd_angle, rkd_distance
from genkt.methods.aft import AFT, BilevelAFT, NoKernelAFT
from genkt.methods.b_tuning import BTuning
from genkt.methods.base import MethodOptions, Objective
from genkt.methods.build import METHODS, build_objective, parse_options, with_beta
from genkt.methods.contrastive_distillation import CD, CRD
from genkt.methods.factor_transfer import FactorTransfer
from genkt.methods.kd import FeatureKD, L2Feature, LogitKD
from genkt.methods.kl_dp import KLDP, TopKKLDP
from genkt.methods.rkd import RKD
from genkt.methods.shapes import SIZES, TeacherShape, TrainingRows
from genkt.methods.soft_labels import SoftTarget, TopKKD
from genkt.methods.supervised import Supervised
from genkt.methods.task_agnostic import BothContrastive, CosinePatch, StudentContrastive
from genkt.types import ModelOutput, UserError

D_S = 6
WIDE: dict[str, Any] = {"student_width": D_S, "teacher_width": list(WIDTHS)}
MAPS: dict[str, Any] = {"student_map_width": D_S, "teacher_map_width": list(WIDTHS)}
CASES: list[tuple[type[Objective], str, dict[str, Any]]] = [
    (Supervised, "stl", {}),
    (AFT, "aft", WIDE),
    (AFT, "aft", WIDE | {"mu": "dense", "kernel": "rbf", "beta": 3.0, "kernel_rows": "labelled"}),
    (NoKernelAFT, "aft", WIDE | {"no_kernel": True}),
    (BilevelAFT, "aft", WIDE | {"bilevel": True}),
    (FeatureKD, "feature_kd", WIDE),
    (L2Feature, "l2_feature", WIDE),
    (LogitKD, "logit_kd", {"temperature": 2.0, "kl_weight": 0.7}),
    (SoftTarget, "soft_target", {}),
    (TopKKD, "top_k_kd", {"num_classes": C, "top_k": 2}),
    (KLDP, "kl_dp", {"selection": "supervised"}),
    (TopKKLDP, "kl_dp", {"top_k": 2}),
    (RKD, "rkd", {"beta": 2}),
    (FactorTransfer, "factor_transfer", WIDE | {"paraphraser_steps": 20}),
    (BTuning, "b_tuning", WIDE | {"num_classes": C}),
    (CD, "cd", {}),
    (CRD, "crd", WIDE | {"num_negatives": 6, "dim": 5}),
    (StudentContrastive, "contrastive", WIDE),
    (BothContrastive, "contrastive", WIDE | {"project": "both", "dim": 7}),
    (CosinePatch, "cosine_patch", MAPS),
]  # fmt: skip
MAIN = {NoKernelAFT: AFT, BilevelAFT: AFT, TopKKLDP: KLDP, BothContrastive: StudentContrastive}
each_case = pytest.mark.parametrize(("kind", "name", "keywords"), CASES)


def made(kind: type[Objective], keywords: dict[str, Any], seed: int = 0) -> Objective:
    """By the keywords of a family's main class, prepared where it must be."""
    objective = MAIN.get(kind, kind)(**keywords, seed=seed)
    if objective.prepares:
        objective.prepare(training_rows())
    return objective


def totals(objective: Objective, student: ModelOutput, given: Sequence[ModelOutput]) -> Tensor:
    return objective(student, list(given), LABELS, torch.arange(B))["total"]


def wide(output: ModelOutput) -> ModelOutput:
    assert output.logits is not None and output.feature_map is not None
    return ModelOutput(
        output.features.double(), output.logits.double(), output.feature_map.double()
    )


@pytest.mark.parametrize("name", sorted(METHODS))
def test_yaml_and_python_have_the_same_defaults(name: str) -> None:
    values = yaml.safe_load((resource("configs") / "method" / f"{name}.yaml").read_text())
    assert parse_options(values) == METHODS[name].options() == parse_options({"name": name})  # type: ignore[call-arg]


@each_case
def test_keywords_make_what_a_run_makes(
    kind: type[Objective], name: str, keywords: dict[str, Any]
) -> None:
    alone = made(kind, keywords, seed=5)
    assert type(alone) is kind
    beta = {"beta": alone.beta} if hasattr(alone, "beta") else {}
    own = {key: value for key, value in keywords.items() if key not in SIZES}
    shapes = [TeacherShape(f"t{index}", width, C, width) for index, width in enumerate(WIDTHS)]
    in_run = build_objective(
        parse_options({"name": name, **own, **beta}), student_width=D_S, num_classes=C,
        teachers=shapes, student_map_width=D_S, seed=5,
    )  # fmt: skip
    if in_run.prepares:
        in_run.prepare(training_rows())
    assert type(in_run) is kind
    student = outputs(D_S, 9)
    assert torch.equal(totals(alone, student, teachers()), totals(in_run, student, teachers()))


@each_case
def test_float64_comes_out_of_float64(
    kind: type[Objective], name: str, keywords: dict[str, Any]
) -> None:
    student, given = wide(outputs(D_S, 9)), [wide(teacher) for teacher in teachers()]
    found = totals(made(kind, keywords), student, given)  # its own parameters are float32
    assert found.dtype == torch.float64
    converted = totals(made(kind, keywords).double(), student, given)
    assert converted.dtype == torch.float64
    narrow = totals(made(kind, keywords), outputs(D_S, 9), teachers())
    assert torch.allclose(found, converted, rtol=1e-5, atol=1e-6)
    assert torch.allclose(narrow.double(), found, rtol=1e-4, atol=1e-5)


@each_case
def test_signatures_tell_sizes_and_defaults(
    kind: type[Objective], name: str, keywords: dict[str, Any]
) -> None:
    found = inspect.signature(kind).parameters
    usual = METHODS[name].options()  # type: ignore[call-arg]
    needed = [key for key, one in found.items() if one.default is inspect.Parameter.empty]
    assert needed == list(kind.sizes) and found["seed"].default == 0
    for key, parameter in found.items():
        if key not in (*kind.sizes, "seed", "beta"):
            assert parameter.default == getattr(usual, key)


@each_case
def test_copies_compute_the_same(
    kind: type[Objective], name: str, keywords: dict[str, Any]
) -> None:
    objective, student = made(kind, keywords), outputs(D_S, 9)
    again = copy.deepcopy(objective)
    assert type(again) is kind
    assert torch.equal(totals(again, student, teachers()), totals(objective, student, teachers()))


def test_beta_is_the_papers_middle_unless_given() -> None:
    sizes = {"student_width": 64, "teacher_width": 256}
    assert AFT(**sizes).beta == 10 and AFT(**sizes, beta=3).beta == 3
    assert RKD().beta == FeatureKD(**sizes).beta == FactorTransfer(**sizes).beta == 1
    assert BTuning(**sizes, num_classes=5).beta == 100
    with refused(key="method.beta", got='"search"'):
        AFT(**sizes, beta="search")


def test_tensors_tuples_and_outputs_mean_the_same() -> None:
    student, (first, second) = outputs(D_S, 9), teachers()
    assert student.logits is not None
    aft = AFT(student_width=D_S, teacher_width=WIDTHS[0])
    expected = aft(student, [first], LABELS)["total"]
    both = (student.features, student.logits)
    for one in (first, [first], first.features, [first.features], (first,)):
        assert torch.equal(aft(both, one, LABELS)["total"], expected)
    several = AFT(student_width=D_S, teacher_width=WIDTHS)
    joined = torch.cat([first.features, second.features], dim=1)
    whole = AFT(student_width=D_S, teacher_width=sum(WIDTHS))
    assert torch.equal(
        several(both, [first.features, second], LABELS)["total"],
        whole(both, joined, LABELS)["total"],
    )
    kd, none = LogitKD(), torch.full_like(LABELS, -1)
    assert torch.equal(
        kd(student.logits, first.logits)["total"], kd(student, (first,), none)["total"]
    )


def test_logits_need_no_sizes_and_are_checked_where_some_are_given() -> None:
    student, given = draw(B, 12, seed=1), [draw(B, 12, seed=k) for k in (2, 3)]
    for objective in (LogitKD(), SoftTarget(), KLDP(), CD(), RKD(), TopKKD(num_classes=12)):
        assert objective((student, student), given, LABELS)["total"].isfinite()
    with refused(key="teachers", got=0):
        LogitKD()(student)
    with refused(key="teachers", got=0):
        KLDP()(student, given[0])
    with refused(2, key="teachers", got=1):
        LogitKD(teacher_width=[5, 4])(student, given[0])
    with refused(5, key="method.top_k", got=6):
        TopKKD(num_classes=5, top_k=6)
    with refused("classes", 2, 1):
        LogitKD(num_classes=1)


@pytest.mark.parametrize(
    ("kind", "keywords", "message"),
    [
        (AFT, {"student_width": 4}, "AFT: needs teacher_width"),
        (AFT, {}, "AFT: needs student_width, teacher_width"),
        (AFT, {"student_width": 4, "teacher_width": 4, "betta": 3}, "Did you mean beta"),
        (AFT, {"student_width": 4, "teacher_width": 4, "kernel": "rdf"}, "one of rbf, linear"),
        (AFT, {"student_width": 4, "teacher_width": 4, "beta_grid": (1,)}, "beta_grid: expected"),
        (AFT, {"student_width": [4], "teacher_width": 4}, "student_width: expected a whole number"),
        (AFT, {"student_width": 4, "teacher_width": [4, 0.5]}, "or a list of them"),
        (AFT, {"student_width": 4, "teacher_width": []}, "or a list of them"),
        (LogitKD, {"temperature": 0}, "temperature"),
        (CosinePatch, MAPS | {"teacher_width": 4}, "as many numbers in teacher_map_width"),
    ],
)
def test_wrong_keywords(kind: type[Objective], keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        kind(**keywords)
    assert message in str(caught.value)


def test_what_is_no_output_is_refused() -> None:
    aft = AFT(student_width=D_S, teacher_width=5)
    for wrong in (None, "x", (draw(B, 5),) * 3, [[draw(B, 5)]]):
        with refused("ModelOutput"):
            aft(outputs(D_S, 9), wrong, LABELS)  # type: ignore[arg-type]
    with refused(key="student", got="none"):
        aft(draw(B, D_S), draw(B, 5), LABELS)
    with refused("prepare"):
        CRD(student_width=D_S, teacher_width=5)(outputs(D_S, 9), draw(B, 5), LABELS)


def test_an_objective_of_ones_own_is_made_from_options_and_shapes() -> None:
    class Own(Objective):
        def __init__(self, options: MethodOptions, shapes: Any, seed: int = 0) -> None:
            super().__init__(options, shapes)

    with refused(key="Own"):
        Objective.__init__(Own.__new__(Own), weight=3)


def test_a_search_gives_one_candidate_after_the_other() -> None:
    options = parse_options({"name": "aft"})
    shapes = [TeacherShape("t", 5)]
    built = [
        build_objective(with_beta(options, beta), student_width=4, num_classes=3, teachers=shapes)
        for beta in (3, 30)
    ]
    assert [objective.beta for objective in built] == [3, 30]


LOSSES: dict[str, Any] = {
    "kl_distillation": kl_distillation,
    "soft_target": soft_target_cross_entropy,
    "top_k": lambda s, t: top_k_distillation(s, t, top_k=2),
    "partitioned": lambda s, t: partitioned_distillation(s, [s, t], torch.arange(B) % 2),
    "rkd_distance": rkd_distance,
    "rkd_angle": rkd_angle,
    "similarity": similarity_distillation,
    "info_nce": lambda s, t: info_nce(s, t, temperature=0.1),
    "factor_distance": factor_distance,
    "kernels": lambda s, t: kernel_distance(linear_kernel(s), linear_kernel(t)),
    "patches": lambda s, t: patch_cosine_distance(s[..., None, None], t[..., None, None]),
    "regression": lambda s, t: feature_regression(s, t, weight=torch.eye(4), bias=torch.zeros(4)),
}


@pytest.mark.parametrize("name", LOSSES)
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 999), other=st.sampled_from([torch.float16, torch.float64]))
def test_losses_take_float_types_that_differ(name: str, seed: int, other: torch.dtype) -> None:
    student, teacher = draw(B, 4, seed=seed), draw(B, 4, seed=seed + 1000).half().float()
    expected = LOSSES[name](student, teacher)
    found = LOSSES[name](student, teacher.to(other))
    assert found.dtype in (torch.float32, other)
    assert torch.allclose(found.double(), expected.double(), rtol=1e-4, atol=1e-5)
    exact = LOSSES[name](student.double(), teacher.double())
    assert exact.dtype == torch.float64
    assert torch.allclose(exact, expected.double(), rtol=1e-4, atol=1e-5)


ONE_OR_SEVERAL = ("kl_distillation", "soft_target", "top_k", "similarity", "info_nce")


@pytest.mark.parametrize("name", ONE_OR_SEVERAL)
def test_one_teacher_is_a_list_of_one(name: str) -> None:
    student, teacher = draw(B, 4, seed=1), draw(B, 4, seed=2)
    assert torch.equal(LOSSES[name](student, teacher), LOSSES[name](student, [teacher]))
    with refused(got="none"):
        LOSSES[name](student, [])


@pytest.mark.parametrize("loss", [rkd_distance, rkd_angle])
def test_features_of_several_teachers_stand_side_by_side(loss: Any) -> None:
    student, several = draw(B, 4, seed=1), [draw(B, 3, seed=2), draw(B, 2, seed=3)]
    assert torch.equal(loss(student, several), loss(student, torch.cat(several, dim=1)))
    assert torch.equal(linear_kernel(several), linear_kernel(torch.cat(several, dim=1)))


class Plain(nn.Module):
    """A student that knows nothing of genkt."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 6), nn.Linear(6, C)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(images)
        return features, self.head(features)


def test_a_plain_loop_learns() -> None:
    torch.manual_seed(0)
    student, teacher = Plain(), nn.Linear(4, 5)
    images = draw(B, 4, seed=1)
    aft = AFT(student_width=6, teacher_width=5, beta=10)
    own = aft.own_optimizer()
    optimizer = torch.optim.Adam([*student.parameters(), *aft.parameter_groups()], lr=0.02)
    assert own is not None
    history = []
    for _ in range(30):
        losses = aft(student(images), teacher(images), LABELS)
        losses["total"].backward()
        for each in (optimizer, own):
            each.step()
            each.zero_grad()
        history.append(losses["total"].item())
    assert history[-1] < history[0] / 2


def test_rows_to_prepare_on_and_inner_updates_take_plain_tensors_too() -> None:
    labels = torch.arange(20) % C
    mine, theirs = draw(20, D_S, seed=1), draw(20, 5, seed=2)
    objective = BTuning(student_width=D_S, teacher_width=5, num_classes=C)
    objective.prepare(TrainingRows.of(labels, theirs, mine))
    expected = objective.teacher_mean.clone()
    objective.prepare(TrainingRows(labels, (ModelOutput(theirs),), ModelOutput(mine)))
    assert torch.equal(objective.teacher_mean, expected) and expected.isfinite().all()
    aft = AFT(student_width=D_S, teacher_width=5, bilevel=True)
    loss = aft.inner_loss(mine, theirs, labels)
    assert torch.equal(loss, aft.inner_loss(ModelOutput(mine), [ModelOutput(theirs)], labels))


@pytest.mark.parametrize(
    "loss",
    [
        similarity_distillation,
        lambda student, given: info_nce(student, given, temperature=0.1),
        lambda student, given: patch_cosine_distance(
            student[..., None, None],
            given[..., None, None] if isinstance(given, Tensor) else
            [each[..., None, None] for each in given],
        ),
    ],
)  # fmt: skip
def test_terms_of_several_teachers_are_averaged(loss: Any) -> None:
    student, several = draw(B, 4, seed=1), [draw(B, 4, seed=2), draw(B, 4, seed=3)]
    each = [loss(student, teacher) for teacher in several]
    assert torch.allclose(loss(student, several), torch.stack(each).mean())


def test_other_widths_than_declared_are_named() -> None:
    aft = AFT(student_width=D_S, teacher_width=[5, 4])
    student, first, second = (draw(B, D_S), draw(B, C)), draw(B, 5), draw(B, 4)
    aft(student, [first, second], LABELS.tolist())  # type: ignore[arg-type]
    with refused(4, key="features of teacher 1", got=5):
        aft(student, [first, first], LABELS)
    with refused(6, key="features of student", got=5):
        aft((first, student[1]), [first, second], LABELS)
    with refused(4, key="logits of teacher 0", got=3):
        LogitKD(num_classes=4, teacher_width=5)(draw(B, 4), draw(B, 3))
    with refused(key="AFT", got=64):
        AFT(64, 256)  # type: ignore[arg-type]
