from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from method_cases import (
    AFT_OPTIONS,
    COSINE_PATCH,
    D_S,
    FEATURE_KD,
    L2_FEATURE,
    LABELS,
    WIDTHS,
    XE_KL,
    B,
    C,
    aft,
    build,
    draw,
    outputs,
    student_with_head,
    teachers,
)
from refusals import refused

from genkt.io import resource
from genkt.methods.aft import AFT
from genkt.methods.base import MethodOptions, Objective
from genkt.methods.build import (
    METHODS,
    beta_candidates,
    build_objective,
    parse_options,
    with_beta,
)
from genkt.methods.kd import LogitKDOptions
from genkt.methods.shapes import TeacherShape
from genkt.settings.faults import SettingsError
from genkt.types import ModelOutput, UserError


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_yaml_file_parses_builds_and_trains_a_step(name: str) -> None:
    values = yaml.safe_load((resource("configs") / "method" / f"{name}.yaml").read_text())
    assert values["name"] == name
    options = parse_options(values)
    if candidates := beta_candidates(options):
        options = with_beta(options, candidates[0])
    objective = build(options)
    _, student = student_with_head()
    objective(student, teachers(), LABELS, torch.arange(B))["total"].backward()


def test_every_option_in_yaml_has_a_comment_and_methods_have_files() -> None:
    files = sorted((resource("configs") / "method").glob("*.yaml"))
    assert {path.stem for path in files} == set(METHODS)
    for path in files:
        for line in Path(path).read_text().splitlines():
            assert line.startswith(("#", "name:")) or "  # " in line, f"{path.name}: {line}"


def test_paper_candidates_of_beta() -> None:
    grids = {
        name: yaml.safe_load((resource("configs") / "method" / f"{name}.yaml").read_text())
        for name in ("aft", "feature_kd")
    }
    assert grids["aft"]["beta_grid"] == [3, 10, 30]
    assert grids["feature_kd"]["beta_grid"] == [0.1, 1, 10, 100]


def test_too_few_rows_are_refused() -> None:
    two = [outputs(width, 1, rows=2) for width in WIDTHS]
    with refused(key="features", got=2):
        aft().loss(outputs(D_S, 9, rows=2), two, torch.tensor([0, 1]))
    labels = torch.tensor([0, 1, -1, -1, -1, -1, -1, -1])
    with refused("kernel_rows=labelled", 3, 2, 8):
        aft(kernel_rows="labelled").loss(outputs(D_S, 9), teachers(), labels)


def test_classes_and_teachers_are_checked_on_building() -> None:
    many = [TeacherShape("resnet18", 5, 1000), TeacherShape("dino", 4), TeacherShape("ok", 4, C)]
    with pytest.raises(UserError) as caught:
        build_objective(XE_KL, student_width=D_S, num_classes=C, teachers=many)
    message = str(caught.value)
    assert 'teacher "resnet18": method logit_kd needs logits for the 3 classes' in message
    assert 'teacher "dino": method logit_kd needs logits, it has none' in message
    assert "train its head on the task first, or use aft or feature_kd" in message
    assert '"ok"' not in message
    build_objective(AFT_OPTIONS, student_width=D_S, num_classes=C, teachers=many)
    for options in (AFT_OPTIONS, FEATURE_KD, L2_FEATURE, XE_KL):
        with refused("teacher", options.name):
            build_objective(options, student_width=D_S, num_classes=C)
    with pytest.raises(UserError) as caught:
        build_objective(COSINE_PATCH, student_width=D_S, num_classes=C, teachers=many[:1])
    for giver in ("student", 'teacher "resnet18"'):
        assert f"{giver}: method cosine_patch needs a feature map" in str(caught.value)
    with refused(2, 1):
        build_objective(MethodOptions("stl"), student_width=D_S, num_classes=1)


def test_first_outputs_are_checked() -> None:
    objective, good = build(XE_KL), teachers()
    objective.check_teachers(good)
    aft().check_teachers([ModelOutput(teacher.features) for teacher in good])
    build(MethodOptions("stl")).check_teachers([])
    with refused("t1"):
        objective.check_teachers([good[0], ModelOutput(good[1].features)])
    with refused("logit_kd"):
        objective.loss(outputs(D_S, 9), [good[0], ModelOutput(good[1].features)], LABELS)
    with refused(key="teachers", got=1):
        objective.loss(outputs(D_S, 9), good[:1], LABELS)
    with refused(key='features of teacher "t0"', got=4):
        aft().check_teachers(good[::-1])
    broken = good[0].features.clone()
    broken[3, 2] = torch.nan
    with refused(key='features of teacher "t0"'):
        aft().check_teachers([ModelOutput(broken), good[1]])
    assert aft().loss(outputs(D_S, 9), [ModelOutput(broken), good[1]], LABELS)["total"].isnan()
    maps = [*zip(WIDTHS, (5, 3), strict=True)]
    wrong = [ModelOutput(draw(B, w), feature_map=draw(B, d, 2, 2)) for w, d in maps]
    with refused(key='feature_map of teacher "t1"', got=3):
        build(COSINE_PATCH).check_teachers(wrong)
    tokens = [ModelOutput(draw(B, width), feature_map=draw(B, 9, width)) for width in WIDTHS]
    with refused(key='feature_map of teacher "t0"', got="shape [8, 9, 5]"):
        build(COSINE_PATCH).check_teachers(tokens)
    build(COSINE_PATCH).check_teachers(good)
    with refused(key="student"):
        aft().loss(ModelOutput(draw(B, D_S)), good, LABELS)


def test_labels_are_checked() -> None:
    objective = build(MethodOptions("stl"))
    objective.check_labels(LABELS)
    with refused(key="labels", got=[-2, 3]):
        objective.check_labels(torch.tensor([0, 3, -1, -2, 3]))


def test_searched_beta() -> None:
    searched = dataclasses.replace(AFT_OPTIONS, beta="search")
    assert beta_candidates(searched) == (3.0, 10.0)
    assert beta_candidates(AFT_OPTIONS) == beta_candidates(XE_KL) == ()
    with refused(key="method.beta", got='"search"'):
        build(searched)
    objective = build(with_beta(searched, 10))
    assert isinstance(objective, AFT) and objective.beta == 10.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beta": "serch"}, 'beta: expected a number > 0 or search, got "serch"'),
        ({"beta": 0}, "beta"),
        ({"beta": float("nan")}, "beta"),
        ({"beta": True}, "beta"),
        ({"beta_grid": ()}, "beta_grid"),
        ({"beta_grid": 3}, "beta_grid"),
        ({"beta_grid": (1, -1)}, "beta_grid"),
        ({"mu_lr": -1}, "mu_lr"),
        ({"kernel": "rdf"}, "kernel: expected one of rbf, linear"),
        ({"mu": "diag"}, "mu: expected one of diagonal, "),
        ({"kernel_rows": "none"}, "kernel_rows"),
        ({"bilevel": "yes"}, "bilevel"),
        ({"no_kernel": 1}, "no_kernel"),
        ({"no_kernel": True, "kernel": "rbf"}, "no_kernel: replaces kernel and mu"),
        ({"no_kernel": True, "bilevel": True}, "bilevel: needs a learned mu"),
        ({"bilevel": True, "mu": "identity"}, "bilevel: needs a learned mu"),
    ],
)
def test_wrong_aft_options(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        aft(**changes)
    assert f"method.{message}" in str(caught.value)


def test_wrong_logit_options_are_reported_together() -> None:
    with pytest.raises(UserError) as caught:
        build(LogitKDOptions("logit_kd", temperature=0.0, kl_weight=1.5))
    for key in ("method.temperature", "method.kl_weight"):
        assert f"{key}: " in str(caught.value)


def test_wrong_keys_and_names() -> None:
    with refused("atf", key="method"):
        parse_options({"name": "atf"})
    with refused("{}", key="method"):
        parse_options({})
    with pytest.raises(UserError) as caught:
        parse_options({"name": "logit_kd", "temperture": 2.0, "kl_weight": 1.0})
    assert isinstance(caught.value, SettingsError)
    (fault,) = caught.value.faults  # the temperature itself has a default
    assert (fault.key, fault.kind) == ("method.temperture", "unknown")
    assert "Did you mean temperature?" in fault.text
    with refused("method.kl_weight"):
        parse_options({"name": "logit_kd", "temperature": 2.0, "kl_weight": 0})


def test_the_abstract_objective_has_no_loss() -> None:
    from genkt.methods.shapes import Shapes

    objective = Objective(MethodOptions("none"), Shapes(D_S, C))
    with pytest.raises(NotImplementedError):
        objective(outputs(D_S, 9), [], LABELS)
    with pytest.raises(NotImplementedError):
        objective.inner_loss(outputs(D_S, 9), [], LABELS)
