"""Standard streams that are closed, full or ASCII, and a current folder that is gone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from refusals import refused

from genkt.disk import cache_home

ROOT = Path(__file__).resolve().parents[2]
GENKT = f"'{sys.executable}' -m genkt"


def shell(line: str, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, cwd=folder, timeout=600,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    )  # fmt: skip


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_streams_do_no_harm(closed: str) -> None:
    ran = shell(f"{GENKT} --help {closed}")
    assert ran.returncode == 0 and ran.stderr == ""
    assert ("usage" in ran.stdout) == (">&-" not in closed.replace("2>&-", ""))


def test_a_full_disk_behind_standard_output_is_one_line() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    ran = shell(f"{GENKT} --help > /dev/full")
    assert ran.returncode == 2 and "No space left on device" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_a_reader_that_has_seen_enough_is_no_fault() -> None:
    ran = shell(f"{GENKT} transfer --help | head -1")
    assert ran.returncode == 0 and ran.stderr == "" and len(ran.stdout.splitlines()) == 1


UMLAUTS = "Äpfel"


@pytest.mark.parametrize(
    "environment",
    [{"PYTHONUTF8": "0", "LC_ALL": "POSIX"}, {"PYTHONIOENCODING": "ascii"}],
    ids=["posix", "ascii"],
)
def test_umlauts_are_read_and_written(
    finished: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / UMLAUTS).mkdir()
    picture = next((finished / "images").rglob("1.png"))
    shutil.copyfile(picture, tmp_path / UMLAUTS / "ü.png")
    ran = shell(f"{GENKT} predict '{finished / 'run'}' '{tmp_path / UMLAUTS}'", **environment)
    assert ran.returncode == 0, ran.stderr
    escaped = f"{UMLAUTS}/ü.png".encode("ascii", "backslashreplace").decode()
    assert f"{UMLAUTS}/ü.png" in ran.stdout or escaped in ran.stdout


def test_a_current_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    ran = shell(f"rmdir '{gone}'; {GENKT} predict run x.png", gone)
    assert ran.returncode == 2 and "the current folder has been deleted" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_no_home_folder_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("GENKT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with refused("GENKT_CACHE", "HOME"):
        cache_home()
