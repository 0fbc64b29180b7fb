"""The tables that the default rules' constants are read from, on made-up results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from worlds.calibration import Cell, distilled, first_phase, next_setting, plain
from worlds.calibration_table import Question, answer
from worlds.calibration_table import table as calibration_table
from worlds.study_table import accuracies, differences, read_studies, table

from genkt.types import UserError

RATE = Question("rate", ("rate",), {"steps": 240})


def _cell(rate: float, validation: float, test: float, steps: int = 240) -> Cell:
    setting = distilled("first", rate=rate, temperature=2, steps=steps)
    return {"key": setting.key, "phase": "first", **setting.values,
            "validation": validation, "test": test, "teacher": 0.9}  # fmt: skip


def _worlds() -> dict[str, list[Cell]]:
    """Three worlds: two like the high rate, one the low; the test says otherwise in one."""
    return {
        "a": [_cell(1e-3, 0.5, 0.4), _cell(1e-2, 0.7, 0.6)],
        "b": [_cell(1e-3, 0.5, 0.9), _cell(1e-2, 0.8, 0.7), _cell(0.5, 0.9, 0.9, steps=3)],
        "c": [_cell(1e-3, 0.6, 0.55), _cell(1e-2, 0.5, 0.5), _cell(0.1, 0.9, 0.9)],
    }


def test_a_constant_is_chosen_on_the_validation_images_of_the_other_worlds() -> None:
    found = answer(_worlds(), RATE)
    assert found.test == {
        (1e-3,): {"a": 0.4, "b": 0.9, "c": 0.55},
        (1e-2,): {"a": 0.6, "b": 0.7, "c": 0.5},
    }  # 0.1 was run in one world alone
    assert [found.chosen_without(name) for name in "abc"] == [(1e-2,)] * 3
    assert [found.best(name) for name in "abc"] == [(1e-2,), (1e-2,), (1e-3,)]
    assert [found.price(name) for name in "abc"] == pytest.approx([0, 0, 0.05])


def test_the_next_setting_follows_what_the_first_phase_has_chosen() -> None:
    cells: list[Cell] = []
    for setting in first_phase(low_rates=False):
        good = setting.values["rate"] == 6e-3 and setting.values["temperature"] == 2
        assert next_setting(cells, low_rates=False) == setting
        made = _cell(0, 0.9 if good else 0.1, 0.5)
        cells.append(made | setting.values | {"key": setting.key})
    following = next_setting(cells, low_rates=False)
    assert following is not None
    assert (following.values["rate"], following.values["temperature"]) == (6e-3, 2)
    assert following.values["steps"] == 1000


def test_the_table_has_every_question_that_was_asked() -> None:
    shown = calibration_table(_worlds())
    assert "| rate / temperature | a | b | c |" in shown
    assert "| 0.01 / 2 | 60.0* | 70.0* | 50.0 |" in shown
    assert "Plain" not in shown
    assert plain(rate=1e-3, steps=300).key not in shown


def _study() -> dict[str, Any]:
    def of(mean: float, unit: str) -> dict[str, float]:
        return {f"mean_{unit}": mean, f"low_{unit}": mean - 1, f"high_{unit}": mean + 2}

    return {
        "reference": "tuned",
        "arms": [
            {"arm": name, "same_as": same, "accuracy": of(mean, "percent")}
            for name, same, mean in [("plain", None, 50), ("tuned", None, 80), ("bare", "tuned", 0)]
        ],
        "minus_reference": [{"a": "plain", "b": "tuned", "accuracy": of(-30, "points")}],
    }


def test_the_studies_are_one_table_and_twins_are_equal(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no world"):
        read_studies(tmp_path)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "compare.json").write_text(json.dumps(_study()))
    studies = read_studies(tmp_path)
    assert accuracies(studies["one"]) == {"plain": 50, "tuned": 80, "bare": 80}
    assert differences(studies["one"])["plain"] == (-30, -31, -28)
    assert differences(studies["one"])["bare"] == (0, 0, 0)
    rows = table(studies).splitlines()
    assert len(rows) == 2 + 2 + 1
    assert rows[2].startswith("| one | 50.0 | 80.0 | 80.0 | -30.0 (-31.0 to -28.0) |")
    assert rows[-1] == "| mean | 50.0 | 80.0 | 80.0 | -30.0 | +0.0 |"
