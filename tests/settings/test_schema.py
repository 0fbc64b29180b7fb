"""Plain values to typed settings: every fault at once, each under its key."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genkt.settings.faults import Fault, SettingsError
from genkt.settings.schema import parse
from genkt.types import Range


@dataclass(frozen=True)
class Inner:
    name: Literal["inner"]
    share: Annotated[float, Range(0, 1)]
    pair: tuple[float, float]


@dataclass(frozen=True)
class Other:
    name: Literal["other", "another"]
    paths: str | list[str]


@dataclass(frozen=True)
class Outer:
    count: Annotated[int, Range(1)] | None
    flag: bool
    text: str
    part: Inner | Other
    workers: int | Literal["auto"]
    extra: dict[str, Any]

    def __post_init__(self) -> None:
        if self.text == "refused":
            raise SettingsError([Fault("text", "refused"), Fault("flag", "refused as well")])


GOOD: dict[str, Any] = {
    "count": 3,
    "flag": True,
    "text": "a",
    "part": {"name": "inner", "share": 1, "pair": [1, 2.5]},
    "workers": "auto",
    "extra": {"a": [1]},
}


def faults_of(**changes: Any) -> list[str]:
    faults: list[Fault] = []
    parse(Outer, {**GOOD, **changes}, "", faults)
    return list(map(str, faults))


def test_values_become_the_types_that_are_declared() -> None:
    faults: list[Fault] = []
    found = parse(Outer, GOOD, "", faults)
    assert not faults
    assert found == Outer(3, True, "a", Inner("inner", 1.0, (1.0, 2.5)), "auto", {"a": [1]})
    assert isinstance(found.part.share, float)
    assert faults_of(count=None) == []
    assert faults_of(part={"name": "another", "paths": ["a", "b"]}) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"count": 0}, "count: expected a number >= 1 or null, got 0"),
        ({"count": 1.5}, "count: expected a whole number or null, got 1.5"),
        ({"count": True}, "count: expected a whole number or null, got True"),
        ({"count": "x"}, 'count: expected a whole number or null, got "x"'),
        ({"flag": 1}, "flag: expected true or false, got 1"),
        ({"text": None}, "text: expected a text, got null"),
        ({"workers": "none"}, 'workers: expected a whole number or auto, got "none"'),
        ({"extra": 3}, "extra: expected a mapping {key: value}, got 3"),
        ({"part": 3}, "part: expected one of inner, other, another, got 3"),
        ({"part": {"name": "inner?"}}, "part: expected one of inner, "),
        ({"flga": 1}, "flga: unknown setting. Did you mean flag?"),
        (
            {"part": {**GOOD["part"], "pair": [1]}},
            "part.pair: expected a list of 2 values, got [1]",
        ),
        (
            {"part": {**GOOD["part"], "pair": [1, "b"]}},
            'part.pair[1]: expected a number, got "b"',
        ),
        (
            {"part": {**GOOD["part"], "share": float("nan")}},
            "part.share: expected a number 0 .. 1, got nan",
        ),
    ],
)
def test_each_fault_names_its_key_and_what_was_expected(
    changes: dict[str, Any], expected: str
) -> None:
    found = faults_of(**changes)
    assert len(found) == 1
    assert found[0].startswith(expected)


def test_the_closest_choice_comes_first() -> None:
    assert "one of inner," in faults_of(part={"name": "iner"})[0]
    assert "one of another," in faults_of(part={"name": "anoter"})[0]


def test_all_faults_are_reported_together() -> None:
    found = faults_of(count=0, flag="no", part={"name": "inner", "share": 2, "pear": 1})
    assert [fault.split(":")[0] for fault in found] == [
        "count", "flag", "part.pear", "part.share", "part.pair",
    ]  # fmt: skip
    assert found[-1] == "part.pair: missing"


def test_faults_that_a_dataclass_finds_itself_are_lines_of_their_own() -> None:
    assert faults_of(text="refused") == ["text: refused", "flag: refused as well"]


def test_faults_keep_their_keys_wherever_the_group_stands() -> None:
    fault = Fault("steps", "expected one of them", "together", also=("epochs", "pair[1]"))
    moved = fault.below("recipe.stages.x")
    assert str(moved).startswith("recipe.stages.x.steps, recipe.stages.x.epochs, recipe.stages.x.p")
    assert Fault("", "whole").below("a.b") == Fault("a.b", "whole") and moved.kind == "together"
    error = pickle.loads(pickle.dumps(SettingsError([moved, moved])))
    assert error.faults == (moved,) and str(error) == str(moved) and error.key == moved.key


def test_a_folder_named_like_a_number_is_a_text() -> None:
    faults: list[Fault] = []
    assert parse(Outer, {**GOOD, "text": 2024}, "", faults).text == "2024"
    assert not faults


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(key=st.sampled_from(sorted(GOOD)), value=ANY)
def test_no_value_raises(key: str, value: Any) -> None:
    for fault in faults_of(**{key: value}):
        assert fault.split(":")[0].startswith(key)
