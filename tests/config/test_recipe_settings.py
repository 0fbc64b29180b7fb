"""What recipes, stages and transfer sets answer for themselves, and that each kind is built."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

import genkt.config
from genkt.config.read_config import read_config
from genkt.config.recipe_settings import RecipeSettings, StagedRecipe
from genkt.config.set_settings import MixSet, Opener
from genkt.config.stage_settings import DistilStage, FinetuneStage, StageSettings
from genkt.config.transfer_settings import TransferConfig
from genkt.runs import transfer_rows
from genkt.settings.words import Words
from genkt.stages import build_stages, recipe_plan

RECIPES = sorted(Words().choices("recipe"))
SETS = sorted(Words().choices("transfer_set"))
PLACES = {"folder": ["transfer_set.root=x"], "saved": ["transfer_set.root=x"]} | {
    "mix": ["transfer_set.parts=[unlabelled,labelled]", "transfer_set.shares=[1,3]"],
    "retrieved": ["transfer_set.gallery=x"],
}


def config_of(*words: str) -> TransferConfig:
    return read_config(TransferConfig, "transfer", ["device=cpu", *words])


def test_every_kind_is_built() -> None:
    assert set(get_args(StageSettings)) == set(build_stages._BUILDERS)
    assert set(get_args(RecipeSettings)) == set(recipe_plan._PLANS)
    assert set(get_args(Opener)) == set(transfer_rows._OPENERS)


def test_settings_are_not_asked_for_their_class() -> None:
    package = Path(genkt.config.__file__).parents[1]
    kinds = {
        node.name
        for path in (package / "config").glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
    }
    asked = [
        f"{path.name}:{node.lineno}"
        for folder in ("runs", "stages", "transfers", "comparison")
        for path in (package / folder).glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance"
        if kinds & {name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name)}
    ]
    assert not asked


@pytest.mark.parametrize(
    ("name", "main", "arms", "distils", "reads", "re_represents"),
    [
        ("distil", "logit_kd", 0, ["distil"], True, False),
        ("best", "best", 0, ["distil"], True, False),
        ("irf", "irf", 6, [], False, True),
        ("lp_ft", "lp_ft", 0, [], False, False),
        ("ssl", "ssl", 0, [], True, False),
        ("supervised_pretrain", "supervised_pretrain", 0, [], False, False),
        ("ota", "ota", 0, ["distil"], True, True),
        ("pseudo_label", "pseudo_label", 0, [], True, False),
    ],
)
def test_what_a_recipe_says(
    name: str, main: str, arms: int, distils: list[str], reads: bool, re_represents: bool
) -> None:
    config = config_of(f"recipe={name}", "method=logit_kd")
    recipe = config.recipe
    assert config.main_arm == recipe.main_arm("logit_kd") == main
    assert len(recipe.other_arms) == arms and list(recipe.distils) == distils
    assert config.reads_transfer_set == recipe.reads_transfer_set == reads
    assert config.re_represents == re_represents
    assert all(recipe.trained_as(arm) in config.arms for arm in config.arms)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_in_small_is_short_and_of_the_same_kind(name: str) -> None:
    recipe = config_of(f"recipe={name}").recipe
    small = recipe.in_small(6, 2)
    assert type(small) is type(recipe) and small.name == recipe.name
    assert list(small.trained) == list(recipe.trained)
    assert small.reads_transfer_set == recipe.reads_transfer_set
    for stage in small.trained.values():
        assert (stage.steps is None or stage.steps <= 1) and stage.epochs is None
        assert stage.batch_size in (None, 6)


@given(st.integers(0, 500), st.integers(0, 500), st.floats(0.1, 9))
def test_a_shortened_stage_takes_no_more_steps(own: int, most: int, epochs: float) -> None:
    recipe = StagedRecipe(
        "mine",
        {
            "a": FinetuneStage(do="finetune", steps=own),
            "b": DistilStage(do="distil", epochs=epochs),
            "c": DistilStage(do="distil"),
        },
    )
    short = recipe.shortened(most).trained
    assert short["a"].steps == min(own, most)
    assert short["b"].steps == most and short["b"].epochs is None
    assert short["c"] == recipe.stages["c"]  # as the run's own settings, which are short
    assert recipe.shortened(most).shortened(most) == recipe.shortened(most)


def test_what_plain_fine_tuning_and_irf_check_of_their_batches() -> None:
    sizes = config_of("recipe.stages.distil.batch_size=24", "train.batch_size=60").batch_sizes
    assert sizes == [
        ("train.batch_size", 60), ("recipe.stages.distil.batch_size", 24),
        ("train.batch_size", 60),
    ]  # fmt: skip
    assert config_of("method=stl", "train.batch_size=60").batch_sizes == [("train.batch_size", 60)]
    assert config_of("recipe=irf", "recipe.batch_size=8").batch_sizes == [("recipe.batch_size", 8)]
    probe = config_of("recipe=lp_ft", "baseline=false", "train.batch_size=60")
    assert len(probe.batch_sizes) == len(probe.recipe.trained) - 1  # its batch norm stands still


@pytest.mark.parametrize("name", SETS)
def test_a_set_in_small_needs_nothing_from_elsewhere(name: str) -> None:
    words = [
        f"transfer_set={name}",
        *PLACES.get(name, ()),
        "smoke=true",
    ]  # places are not looked at
    settings = config_of(*words).transfer_set
    small, told = settings.in_small(6, "genkt:digits_generator")
    assert small.name == (name if name in ("labelled", "unlabelled", "digg") else "unlabelled")
    assert bool(told) == (name not in ("labelled", "unlabelled"))
    assert all(part.places is None for part in small.set_parts)
    assert small.generators in ([], ["genkt:digits_generator"])
    assert small.most_made in (0, 6)


def test_the_parts_of_a_mix() -> None:
    settings = MixSet("mix", ["labelled", "a", "unlabelled"], [1, 2, 1], [None, 5, 9], None)
    shown = [(part.name, part.places, part.share, part.most) for part in settings.set_parts]
    assert shown == [("labelled", None, 1, None), ("a", "a", 2, 5), ("unlabelled", None, 1, 9)]
    assert settings.mixes_in_labelled and settings.most_images is None
    assert settings.note([]) == (
        "Of the transfer rows of a step: 25 % labelled, 50 % a, 25 % unlabelled."
    )
