"""The campaign that tries to break runs: a cut of it finds nothing, and it finds what is seeded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
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
for bench.defect in ("", "import genkt.data.cache as cache; cache.check_chunks = lambda *_: None"):
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
        "--only", "kills,damages,disks,environments", "--count", "12,4,2,2",  # words: test_fuzz
        "--commands", "transfer,cache,predict", "--write", str(page),
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    lines = page.read_text(encoding="utf-8").splitlines()
    rows = [line.split("|")[1:5] for line in lines if line.startswith("| ")][2:]
    assert [tuple(cell.strip() for cell in row) for row in rows] == [
        ("kills", "12", "0", "22.09 %"),  # 1 - 0.05 ** (1 / 12)
        ("damages", "4", "0", "52.71 %"),
        ("disks", "2", "0", "77.64 %"),
        ("environments", "2", "0", "77.64 %"),
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


def told_in(home: Path, found: object, err: str, name: str = "run/metrics.jsonl") -> bool:
    """Whether a damaged log with these lines of two, or a file with these values, is told."""
    from trials.bench import Bench
    from trials.damages import Damages

    expected = {name: [{"step": 1}, {"step": 2}], "accuracy.json": {"accuracy": 0.5, "notes": []}}
    damages = Damages(Bench(home, isolated=False), 0)
    other = {**expected, **({name: found} if isinstance(found, list) else {"accuracy.json": found})}
    return bool(damages._told(expected, other, name, err))


def test_what_is_told_is_no_silent_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    log = tmp_path / "home" / "run" / "metrics.jsonl"
    warning = f"{log}: 1 of 2 records are missing from it"
    assert told_in(tmp_path, [{"step": 2}], warning)
    assert not told_in(tmp_path, [{"step": 2}], "another warning")
    assert not told_in(tmp_path, [{"step": 3}], warning), "a line that was never written"
    assert not told_in(tmp_path, [{"step": 2}, {"step": 2}], warning)
    note = {"accuracy": 0.5, "notes": [f"{log}: damaged, so it is not known"]}
    assert told_in(tmp_path, note, "")
    assert not told_in(tmp_path, {**note, "accuracy": 0.4}, ""), "figures are the same, or a fault"
    assert not told_in(tmp_path, {**note, "notes": ["something"]}, "")
