"""The rules of a plan: in bounds, monotone, and behind what the user gives."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genkt.config.read_config import read_config
from genkt.config.transfer_settings import TransferConfig
from genkt.transfers.plan_rules import (
    LEAST,
    MOST,
    SHARE,
    PlanFacts,
    derived,
    labelled_rows,
    labelled_share,
    step_bounds,
)

FACTS = st.builds(
    PlanFacts,
    labelled=st.integers(1, 10**6),
    transfer=st.integers(0, 10**7),
    batch_norm=st.booleans(),
    pretrained=st.booleans(),
)
BATCH = st.integers(2, 4096)


@given(FACTS, BATCH)
def test_the_share_of_labelled_rows_is_that_of_every_batch(facts: PlanFacts, batch: int) -> None:
    rows = labelled_rows(facts, batch)
    assert 1 <= rows <= max(1, batch // 2 + batch % 2)
    assert rows == 1 or abs(rows / batch - labelled_share(facts)) <= 0.5 / batch + 1e-12
    assert SHARE <= labelled_share(facts) <= 0.5


@given(FACTS, BATCH, st.integers(1, 10**6))
def test_more_transfer_images_never_mean_fewer_steps(
    facts: PlanFacts, batch: int, more: int
) -> None:
    larger = replace(facts, transfer=facts.transfer + more)
    (least, most), (later, last) = step_bounds(facts, batch), step_bounds(larger, batch)
    assert LEAST[0] <= least <= later <= LEAST[1] and MOST[0] <= most <= last <= MOST[1]
    assert least < most and labelled_share(larger) <= labelled_share(facts)


@given(FACTS, st.integers(1, 10**6))
def test_more_labels_never_mean_a_smaller_share(facts: PlanFacts, more: int) -> None:
    assert labelled_share(replace(facts, labelled=facts.labelled + more)) >= labelled_share(facts)


WORDS = ("data=digits", "method=logit_kd", "transfer_set=unlabelled")
SOME = PlanFacts(labelled=100, transfer=2900, batch_norm=True, pretrained=False)


def words(facts: PlanFacts, *more: str) -> dict[str, str]:
    config = read_config(TransferConfig, "transfer", [*WORDS, *more])
    own = {word.split("=")[0] for word in more}
    found = derived(config, facts, own.__contains__)
    assert all(each.why for each in found)
    read_config(TransferConfig, "transfer", [*(each.word for each in found), *WORDS, *more])
    return {each.key: each.value for each in found}


def test_a_strangers_folder_has_a_pilot() -> None:
    found = words(SOME)
    for key in ("train.steps", "train.lr", "plain.lr", "draws"):
        assert found[key] == "auto"
    assert found["train.labelled_per_batch"] == "20" and found["method.temperature"] == "2"
    assert words(SOME, "train.batch_size=64")["train.labelled_per_batch"] == "10"


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("pretrained", [True, False])
def test_few_steps_of_the_user_have_rates_without_a_pilot(
    batch_norm: bool, pretrained: bool
) -> None:
    facts = replace(SOME, batch_norm=batch_norm, pretrained=pretrained)
    found = words(facts, "train.steps=100")
    assert "draws" not in found and "train.steps" not in found
    assert 1e-4 <= float(found["plain.lr"]) <= float(found["train.lr"]) * 2 <= 0.1


@pytest.mark.parametrize("more", [(), ("train.steps=100",)])
def test_what_the_user_gives_is_not_derived(more: tuple[str, ...]) -> None:
    every = words(SOME, *more)
    assert len(every) >= 5
    for key, value in every.items():
        assert key not in words(SOME, *more, f"{key}={value}")


def test_methods_that_train_no_classifier_are_fine_tuned() -> None:
    assert words(SOME)["finetune.steps"] == "0"
    assert "finetune.steps" not in words(SOME, "method=l2_feature")
    assert words(SOME, "method=stl", "transfer_set=labelled") == {}


def test_a_rate_of_the_recipes_own_stage_stays() -> None:
    assert "train.lr" not in words(SOME, "recipe=best")
