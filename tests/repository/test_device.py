"""Everything that runs on a device, on a CUDA device that is none: what mixes devices fails."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from device_cases import DEVICE_CASES
from fake_cuda import fake_cuda, shadow
from torch.utils._pytree import tree_map


@pytest.mark.parametrize("name", DEVICE_CASES)
def test_a_device_gives_what_the_cpu_gives(name: str, tmp_path: Path) -> None:
    expected = DEVICE_CASES[name]("cpu", tmp_path / "cpu")
    with fake_cuda() as mode:
        found = tree_map(shadow, DEVICE_CASES[name]("cuda", tmp_path / "cuda"))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=5e-3)
    for w in sorted(mode.waits):
        print("WAIT", w)
