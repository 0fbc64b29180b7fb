"""The tool that sends timm's families through the adapter: one model, crashes, the table."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from refusals import refused

TOOL = Path(__file__).resolve().parents[2] / "tools" / "timm_families.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("timm_families", TOOL)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_model_is_taken_and_an_unknown_one_is_not(
    tool: ModuleType,
) -> None:
    taken = tool._attempt(tool.Member("resnet", "test_resnet", "ResNet", 5), seconds=100)
    assert (taken.width, taken.map, taken.refused) == (96, "96 x 5 x 5", "")
    assert taken.classifier == 96 * 3 + 3 and taken.input == "160 x 160"
    unknown = tool._attempt(tool.Member("none", "test_resmet", "ResNet", 5), seconds=100)
    assert "not a timm model" in unknown.refused and unknown.width == 0
    page = tool._page([taken, unknown], "python tool")
    assert "1 of 2 classes are taken, 1 of 2 modules" in page
    assert (
        "| resnet | ResNet | test_resnet | 0.0 | 160 x 160 | 96 | 291 | 96 x 5 x 5 | taken |"
        in page
    )
    assert "| refused: model" in page


def test_neither_a_crash_nor_a_hang_ends_the_others(tool: ModuleType) -> None:
    with refused("SIGABRT", kind=RuntimeError):
        tool._apart(os.abort, seconds=100)
    with refused("0.1", kind=RuntimeError):
        tool._apart(time.sleep, 100, seconds=0.1)
    with refused("ZeroDivisionError", kind=RuntimeError):
        tool._apart(lambda: 1 // 0, seconds=100)
    assert tool._apart(max, 1, 2, seconds=100) == 2
