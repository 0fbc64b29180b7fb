"""The intervals over models of ``benchmarks/kl_dp_pairs.py``: as stored, how often they cover."""

from __future__ import annotations

import importlib
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The benchmark, which is no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
        patch.setenv("OMP_NUM_THREADS", "1")  # it sets this for its own processes
        return importlib.import_module("kl_dp_pairs")


def test_the_stored_summary_is_that_of_the_stored_pairs(pairs: Any) -> None:
    path = ROOT / "benchmarks" / "results" / "kl_dp_pairs-cpu.json"
    stored = json.loads(path.read_text(encoding="utf-8"))["results"]
    again = pairs.summary(stored["pairs"])
    assert again["all"]["kl_dp"]["points"] == pytest.approx(
        stored["summary"]["all"]["kl_dp"]["points"]
    )
    assert again.keys() == stored["summary"].keys()


def made(rng: np.random.Generator, *, stronger: bool, dyads: float) -> list[dict[str, Any]]:
    """Changes without any effect on average: of teacher, of student, of the pair."""
    teacher, student = rng.standard_normal((2, 6))
    return [
        {"teacher": a, "student": b, "points": teacher[a] + student[b] + dyads * rng.normal()}
        for a, b in itertools.permutations(range(6), 2)
        if not stronger or a < b
    ]


@pytest.mark.parametrize("stronger", [False, True])
@pytest.mark.parametrize("dyads", [0.0, 1.0])
def test_intervals_cover(pairs: Any, stronger: bool, dyads: float) -> None:
    """The bootstrap over models that stood here before covered 84 to 88 %."""
    rng, covered = np.random.default_rng(0), 0
    for _ in range(400):
        found = made(rng, stronger=stronger, dyads=dyads)
        mean, low, high = pairs._over_models(found, lambda pair: pair["points"])
        assert low <= mean <= high
        covered += low <= 0 <= high
    assert covered / 400 > 0.95 - 2 * (0.95 * 0.05 / 400) ** 0.5


def test_with_effects_of_models_alone_it_is_students_t(pairs: Any) -> None:
    rng = np.random.default_rng(1)
    found = made(rng, stronger=False, dyads=0.0)
    sums = [
        np.mean([pair["points"] for pair in found if model == pair["teacher"]])
        + np.mean([pair["points"] for pair in found if model == pair["student"]])
        for model in range(6)
    ]
    mean, low, high = pairs._over_models(found, lambda pair: pair["points"])
    # A model's own effect is in five pairs of each side, every other one's in one of each.
    own = 5 / 4 * (np.array(sums) - np.mean(sums))
    error = np.sqrt((own**2).sum() / 5 / 6)
    assert high - mean == pytest.approx(2.5706 * error, rel=1e-4) == mean - low
