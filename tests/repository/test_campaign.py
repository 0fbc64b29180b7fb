"""The campaign that tries to break runs: a cut of it finds nothing, and it finds what is seeded."""

from __future__ import annotations

import random
from pathlib import Path

import campaign as tool
import pytest
from forked import Command
from trials.bench import Bench
from trials.damages import DAMAGES, Damages

OTHER_EVERY_TIME = """
import os, genkt.cli.predict
genkt.cli.predict._FORMATS["json"] = lambda rows: str(os.getpid())
"""
NO_TRACE_OF_CARE = """
import genkt.cli.predict
genkt.cli.predict.run = lambda words: 1 / 0
"""
UNCHECKED = "import genkt.stores.teacher_outputs as cache; cache.check_chunks = lambda *_: None"


def flipped(words: list[str]) -> int:
    """A flipped byte of a cache, read with the check and without: what a trial says of both."""
    bench = Bench(Path(words[0]), isolated=False)
    for bench.defect in ("", UNCHECKED):
        bench.restore(bench.reference("cache").after)
        (path,) = bench.home.glob("cache/*/features.npy")
        DAMAGES["flip"](path, random.Random(0))
        damaged = path.relative_to(bench.home).as_posix()
        print(Damages(bench, 0)._command("cache", damaged, fresh=False))
    return 0


def campaign(*words: str) -> tuple[int, str]:
    """Its exit code, and what it printed."""
    ran = Command(words, main=tool.main)
    out, err = ran.communicate()
    assert ran.returncode is not None
    return ran.returncode, out + err


def test_a_cut_of_the_campaign_finds_no_fault(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    code, said = campaign(
        "--only", "kills,damages,words,disks,environments", "--count", "12,4,1,1,1",
        "--commands", "transfer,cache,predict", "--write", str(page),
    )  # fmt: skip
    assert code == 0, said
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
    code, said = campaign(*words, "--defect", defect)
    assert code == 1, said
    assert "--seed 0 --only kills --trial 0: predict, point" in said
    assert f"- 1: {fault}" in said
    assert fault in (keep / "kills-0" / "faults.txt").read_text(encoding="utf-8")
    assert (keep / "kills-0" / "home" / "run" / "report.json").is_file()


def test_it_finds_a_reader_that_lets_a_flipped_byte_pass(tmp_path: Path) -> None:
    ran = Command([str(tmp_path)], main=flipped)
    out, err = ran.communicate()
    assert ran.returncode == 0, err
    mended, missed = out.splitlines()
    assert mended == "[]"
    assert "silent difference: cache/" in missed and "features.npy: differs" in missed


def test_what_is_told_is_no_silent_difference(tmp_path: Path) -> None:
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
