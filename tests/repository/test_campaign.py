"""The campaign that tries to break runs: a cut of it finds nothing, and it finds what is seeded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "campaign.py"
OTHER_EVERY_TIME = """
import os, genkt.cli.predict
genkt.cli.predict._FORMATS["json"] = lambda rows: str(os.getpid())
"""
NO_TRACE_OF_CARE = """
import genkt.cli.predict
genkt.cli.predict.run = lambda words: 1 / 0
"""
FLIPPED = """
import random, sys
from pathlib import Path
sys.path.insert(0, "tools")
from trials.bench import Bench
from trials.damages import DAMAGES, Damages
work = Path(sys.argv[1])
bench = Bench(work, False)
UNCHECKED = "import genkt.stores.teacher_outputs as cache; cache.check_chunks = lambda *_: None"
for bench.defect in ("", UNCHECKED):
    bench.restore(bench.reference("cache").after)
    (path,) = bench.home.glob("cache/*/features.npy")
    DAMAGES["flip"](path, random.Random(0))
    damaged = path.relative_to(bench.home).as_posix()
    print(Damages(bench, 0)._command("cache", damaged, fresh=False))
"""


def campaign(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(TOOL), *words], capture_output=True, text=True, check=False
    )


def test_a_cut_of_the_campaign_finds_no_fault(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    ran = campaign(
        "--only", "kills,damages,words,disks,environments", "--count", "12,4,1,1,1",
        "--commands", "transfer,cache,predict", "--write", str(page),
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    lines = page.read_text(encoding="utf-8").splitlines()
    rows = [line.split("|")[1:5] for line in lines if line.startswith("| ")][2:]
    assert [tuple(cell.strip() for cell in row) for row in rows] == [
        ("kills", "12", "0", "22.09 %"),  # 1 - 0.05 ** (1 / 12)
        ("damages", "4", "0", "52.71 %"),
        ("words", "1", "0", "95.00 %"),
        ("disks", "1", "0", "95.00 %"),
        ("environments", "1", "0", "95.00 %"),
    ]


@pytest.mark.parametrize(
    ("defect", "fault"),
    [
        pytest.param(OTHER_EVERY_TIME, "silent difference: answers.json: differs", id="results"),
        pytest.param(NO_TRACE_OF_CARE, "traceback: ZeroDivisionError", id="traceback"),
    ],
)
def test_it_finds_other_results_and_tracebacks(defect: str, fault: str, tmp_path: Path) -> None:
    keep = tmp_path / "kept"
    words = ("--only", "kills", "--commands", "predict", "--count", "1", "--keep", str(keep))
    ran = campaign(*words, "--defect", defect)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "--seed 0 --only kills --trial 0: predict, point" in ran.stdout
    assert f"- 1: {fault}" in ran.stdout
    assert fault in (keep / "kills-0" / "faults.txt").read_text(encoding="utf-8")
    assert (keep / "kills-0" / "home" / "run" / "report.json").is_file()


def test_it_finds_a_reader_that_lets_a_flipped_byte_pass(tmp_path: Path) -> None:
    words = [sys.executable, "-c", FLIPPED, str(tmp_path)]
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    mended, missed = ran.stdout.splitlines()
    assert mended == "[]"
    assert "silent difference: cache/" in missed and "features.npy: differs" in missed


def test_what_is_told_is_no_silent_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    from trials.bench import Bench
    from trials.damages import Damages

    damages, name = Damages(Bench(tmp_path, isolated=False), 0), "run/report.json"
    expected = {"accuracy.json": {"accuracy": 0.5, "notes": []}, name: {}}

    def told(accuracy: float, note: str) -> set[str]:
        found = {"accuracy.json": {"accuracy": accuracy, "notes": [note]}, name: []}
        return damages._told(expected, found, name)

    note = f"{tmp_path / 'home' / name}: damaged, so it is not known"
    assert told(0.5, note) == {"accuracy.json"}
    assert not told(0.4, note), "figures are the same, or it is a fault"
    assert not told(0.5, "something")
    plan = "store/0f/plans/1.json"
    assert damages._told({plan: [[0, 6]]}, {plan: []}, plan) == {plan}
