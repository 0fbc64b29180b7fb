"""Resumable steps: the same end whatever the interruptions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from refusals import refused

from genkt.training.steps import run_steps, warmup_cosine


class Walk:
    """A random walk whose draws depend on the step."""

    def __init__(self, *, bad_at: int = -1) -> None:
        self.step, self.seconds, self.bad_at = 0, 0.0, bad_at
        self.place = torch.zeros(3)

    def run_step(self) -> dict[str, float]:
        self.place = self.place * 0.9 + torch.randn(
            3, generator=torch.Generator().manual_seed(self.step)
        )
        self.step += 1
        return {"loss": float("nan") if self.step == self.bad_at else 1.0}

    def state(self) -> dict[str, Any]:
        return {"place": self.place}

    def restore(self, state: dict[str, Any]) -> None:
        self.place = state["place"]


def test_an_interrupted_run_ends_alike(tmp_path: Path) -> None:
    straight, told = Walk(), []
    run_steps(straight, 10, tmp_path / "a.pt", "walk", save_seconds=100)
    for stop in (3, 4, None):
        walk = Walk()
        run_steps(
            walk, 10, tmp_path / "b.pt", "walk", save_seconds=100, stop_after=stop,
            report=lambda step, _: told.append(step),
        )  # fmt: skip
    assert torch.equal(walk.place, straight.place) and walk.step == 10
    assert told == list(range(1, 11))


def test_foreign_states_and_bad_losses_are_refused(tmp_path: Path) -> None:
    run_steps(Walk(), 2, tmp_path / "a.pt", "walk", save_seconds=0)
    with refused("a.pt"):
        run_steps(Walk(), 2, tmp_path / "a.pt", "other walk", save_seconds=0)
    with refused("nan", 3, "lr"):
        run_steps(Walk(bad_at=3), 5, tmp_path / "b.pt", "walk", save_seconds=0)


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    factors = [warmup_cosine(step, 100, 0.1) for step in range(100)]
    assert factors[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert factors[10] == 1.0 and sorted(factors[10:], reverse=True) == factors[10:]
    assert 0 < factors[-1] < 0.001
