"""A reduced study of how often the intervals cover the truth, and the published one."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "docs" / "coverage.md"


@pytest.fixture(scope="module")
def study() -> ModuleType:
    spec = importlib.util.spec_from_file_location("genkt_coverage", ROOT / "tools" / "coverage.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("draws", "images"), [(3, 50), (3, 200), (5, 200), (10, 50)])
def test_intervals_cover_as_promised(study: ModuleType, draws: int, images: int) -> None:
    for name, world in study.WORLDS.items():
        found = study.coverage(world, draws, images, 600, seed=1)
        # 3 standard errors of 600 repetitions
        assert min(found.pair, found.arm) > study.PROMISE - 0.03, name


def test_the_study_sees_an_interval_that_does_not_cover(study: ModuleType) -> None:
    found = study.coverage(study.WORLDS["correlated"], 10, 50, 600, seed=1)
    assert found.student < 0.85
    (_, corrected), (_, plain), *_ = study.overlapping(300, 1)
    assert corrected > 0.93 > plain


def test_one_draw_covers_the_truth_of_these_students(study: ModuleType) -> None:
    found = study.coverage(study.WORLDS["correlated"], 1, 200, 600, seed=1)
    assert found.pair > study.PROMISE - 0.03


def test_the_page_has_every_cell(study: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    study.main(["--repetitions", "5", "--write", str(path)])
    cells = table(path)
    assert set(cells) == {(draws, images) for draws in study.DRAWS for images in study.IMAGES}


def test_the_published_page_keeps_the_promise(study: ModuleType) -> None:
    cells = table(PUBLISHED)
    assert set(cells) == {(draws, images) for draws in study.DRAWS for images in study.IMAGES}
    for (draws, images), shares in cells.items():
        if draws >= study.PROMISED_DRAWS and images >= study.PROMISED_IMAGES:
            assert min(shares[:6]) >= 100 * study.PROMISE, (draws, images)
    assert min(shares[6] for shares in cells.values() if len(shares) == 7) < 80  # the usual t


def table(path: Path) -> dict[tuple[int, int], list[float]]:
    """(draws, images) -> percentages of the first table."""
    lines = path.read_text(encoding="utf-8").partition("| draws | images")[2].splitlines()[2:]
    found = {}
    for line in lines[: lines.index("")]:
        draws, images, *shares = (cell.strip() for cell in line.strip("|").split("|"))
        known = [float(share) for share in shares if share != "–"]
        found[int(draws), int(images.replace(",", ""))] = known
    return found
