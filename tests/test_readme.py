"""What the README shows of methods and recipes works as it stands there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from method_cases import LABELS, draw, outputs

from genkt.config.read_config import read_config
from genkt.config.recipe_settings import StagedRecipe
from genkt.config.transfer_settings import TransferConfig
from genkt.losses.logits import cross_entropy
from genkt.methods.base import MethodOptions, Objective, Shapes, TeacherShape
from genkt.methods.build import METHODS, Method, build_objective, parse_options
from genkt.settings.words import Words
from genkt.types import ModelOutput

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def block(mark: str) -> str:
    """The fenced block of the README that holds ``mark``."""
    (found,) = [part for part in README.split("```")[1::2] if mark in part]
    return found.partition("\n")[2]


def names_in(heading: str) -> list[str]:
    """The first column of the first table below a heading."""
    table = README.split(f"\n## {heading}\n")[1].partition("\n| ")[2].partition("\n\n")[0]
    return [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]


def test_the_tables_name_every_method_recipe_and_experiment() -> None:
    assert sorted(names_in("Methods")) == sorted(METHODS)
    assert sorted(names_in("Recipes")) == sorted(Words().choices("recipe"))
    assert sorted(names_in("The papers' settings")) == sorted(Words().choices("experiment"))


def test_the_method_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    known: dict[str, Any] = {
        "dataclass": dataclass, "MethodOptions": MethodOptions, "Objective": Objective,
        "Shapes": Shapes, "Sequence": Sequence, "__name__": __name__,
    }  # fmt: skip
    exec(block("class Centred(Objective)"), known)
    monkeypatch.setitem(METHODS, "centred", Method(known["CentredOptions"], known["Centred"]))
    options = parse_options({"name": "centred", "weight": 2.0})
    objective = build_objective(
        options, student_width=6, num_classes=3, teachers=[TeacherShape("t", 5, 3)]
    )
    student, teacher = outputs(6, 0), outputs(5, 1)
    found = objective.loss(student, [teacher], LABELS)
    assert student.logits is not None and teacher.logits is not None
    task = cross_entropy(student.logits, LABELS)
    shifted = ModelOutput(student.features, teacher.logits + draw(len(LABELS), 1))
    assert objective.loss(shifted, [teacher], LABELS)["distance"].item() < 1e-12
    assert torch.allclose(found["total"], task + 2 * found["distance"])


def test_the_recipe_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe" / "mine.yaml").write_text(block("name: mine"), encoding="utf-8")
    words = ["recipe=mine", "--config-dir", str(tmp_path)]
    recipe = read_config(TransferConfig, "transfer", words).recipe
    assert isinstance(recipe, StagedRecipe)
    assert list(recipe.stages) == ["adapt", "features", "distil", "finetune", "surest"]
    assert recipe.adaptation == "better"
    own = {name: stage.method.name for name, stage in recipe.distils.items() if stage.method}
    assert own == {"features": "aft", "surest": "kl_dp"}
