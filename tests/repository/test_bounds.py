"""Every number of every settings dataclass has bounds; what makes no sense is refused."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_configs import KINDS
from tiny import model_words, run

from genkt.methods.base import MethodOptions
from genkt.methods.build import METHODS
from genkt.types import Range

UNBOUNDED: dict[str, str] = {}
"""Settings whose range has no upper bound, each with the reason."""


def numbers(kind: Any, where: str, bounds: Range | None = None) -> dict[str, Range | None]:
    """dotted place -> bounds of every number below a type."""
    origin = get_origin(kind)
    if origin is Annotated:
        own = [mark for mark in kind.__metadata__ if isinstance(mark, Range)]
        return numbers(get_args(kind)[0], where, own[0] if own else bounds)
    if origin in (Union, types.UnionType, list, tuple, dict):
        parts = get_args(kind)[1:] if origin is dict else get_args(kind)
        return {k: v for part in parts for k, v in numbers(part, where, bounds).items()}
    if kind is MethodOptions:
        options = [method.options for method in METHODS.values()]
        return {k: v for each in options for k, v in numbers(each, each.__name__).items()}
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind, include_extras=True)
        name = kind.__name__
        fields = dataclasses.fields(kind)
        inner = [numbers(hints[f.name], f"{name}.{f.name}") for f in fields]
        return {k: v for each in inner for k, v in each.items()}
    return {where: bounds} if kind in (int, float) else {}


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_has_a_lowest_and_a_highest_value(kind: type) -> None:
    found = numbers(kind, "")
    without = [key for key, bounds in found.items() if bounds is None]
    open_ = [
        key for key, b in found.items() if b and (b.low is None or b.high is None)
        if key not in UNBOUNDED
    ]  # fmt: skip
    assert (without, open_) == ([], [])


def test_what_the_walk_finds() -> None:
    assert len({key for kind in KINDS for key in numbers(kind, "")}) > 150


@given(st.floats(), st.floats(0, 10), st.booleans())
def test_a_range_holds_what_lies_in_it(value: float, low: float, above: bool) -> None:
    bounds = Range(low, 20, above=above)
    assert bounds.holds(value) == ((low < value if above else low <= value) and value <= 20)
    for wrong in (float("inf"), float("-inf"), float("nan")):
        assert not bounds.holds(wrong) and not Range().holds(wrong)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train.epochs=inf", "train.steps=null"], "train.epochs: expected a number 0 .. 1000000"),
        (["adapt.lr=inf"], "adapt.lr: expected a number above 0, at most 1000, got inf"),
        (["train.lr=nan"], "train.lr: expected a number above 0, at most 1000 or auto, got nan"),
        (["train.lr=0"], "train.lr: expected a number above 0"),
        (["train.num_workers=1000"], "train.num_workers: expected a number 0 .. 128 or auto"),
        (["train.batch_size=1" + 20 * "0"], "train.batch_size: expected a number 1 .. 1048576"),
        (["draws=1000000000"], "draws: expected a number 1 .. 10000 or auto, got 1000000000"),
        (["transfer_set.dilation=1000000000"], "dilation: expected a number 0 .. 1000"),
        (["seed=1" + 400 * "0"], "seed: expected a number -9223372036854775808 .. "),
        (["method.temperature=inf"], "method.temperature: expected"),
        (["method.temperature=1e300"], "method.temperature: expected a number above 0"),
        (["student.transform={crop_pct: 0}"], "student.transform.crop_pct: expected a number in"),
        (["student.transform={std: [0,0,0]}"], "student.transform.std: expected numbers above 0"),
        (["student.transform={mean: a}"], "student.transform.mean: expected a number, or one for"),
        (["student.transform={input_size: a}"], "student.transform.input_size: expected pixels as"),
        (["student.size=1000000"], "student.size: expected a number 1 .. 16384"),
        (["train.epochs=3"], "train.steps, train.epochs: expected one of them, got 240 and 3"),
        (["recipe.stages={}"], "recipe.stages={}: changes nothing"),
        (["transfer_set=labelled", "train.labelled_per_batch=500"],
         "train.labelled_per_batch: expected at most train.batch_size"),
        (["data.views.rotate_degrees=inf"], "data.views.rotate_degrees: expected a number"),
    ],
)  # fmt: skip
def test_values_without_sense_are_refused(words: list[str], expected: str) -> None:
    ran = run("transfer", *model_words("teacher"), "student=embedded", "dry_run=true", *words)
    assert ran.code == 2 and len(ran.lines) == 1 and expected in ran.err, ran.err


def test_a_number_of_any_command_is_bounded() -> None:
    for words, expected in (
        (["export", "run=x", "opset=1000000000"], "opset: expected a number"),
        (["retrieve", "multiplier=1000000000000"], "multiplier: expected a number 1 .. 1000000"),
        (["inspect", "x", "examples=10000000"], "examples: expected a number 0 .. 1000"),
    ):
        ran = run(*words)
        assert ran.code == 2 and expected in ran.err, ran.err
