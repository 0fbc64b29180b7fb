"""Shard tasks that write a line each, and may die, fail or hang; no torch, so processes start fast.

Run as a script it has this process, under its environment, run some of them.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from genkt.execution.run_tasks import run_tasks
from genkt.execution.tasks import ExecutorSettings, Progress
from genkt.io import atomic_path
from genkt.types import UserError

SIZE = 5
INLINE = ExecutorSettings("inline", None, None)
AUTO = ExecutorSettings("auto", None, None)
POOL = ExecutorSettings("pool", 2, None)


class TwoPartsError(UserError):
    """An error that does not come back from a pickle: its constructor takes more."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")


class OwnError(Exception):
    """An error of a bug, with state that cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("a bug")
        self.state = lambda: None


@dataclass(frozen=True)
class LineTask:
    """Writes ``home/results/NUMBER``; ``home/ran`` gets a file a run, ``NUMBER-PROCESS``.

    Args:
        fault: "" or what happens halfway, see ``FAULTS``.
    """

    home: str
    number: int
    fault: str = ""

    @property
    def name(self) -> str:
        return f"line {self.number}"

    @property
    def size(self) -> int:
        return SIZE

    @property
    def path(self) -> Path:
        return Path(self.home, "results", str(self.number))

    def is_done(self) -> bool:
        return self.path.is_file()

    def run(self, progress: Progress) -> None:
        ran = Path(self.home, "ran")
        ran.mkdir(parents=True, exist_ok=True)
        again = any(ran.glob(f"{self.number}-*"))
        (ran / f"{self.number}-{os.getpid()}").touch()
        with atomic_path(self.path) as temporary:
            temporary.write_text("half")
            progress(2)
            if self.fault:
                FAULTS[self.fault](again)
            temporary.write_text(f"the line of {self.number}\n" * 100)


def _die(again: bool) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_once(again: bool) -> None:
    if not again:
        _die(again)


def _user_error(again: bool) -> None:
    raise UserError("images: expected some, found none")


def _two_parts(again: bool) -> None:
    raise TwoPartsError("images", "expected some, found none")


def _bug(again: bool) -> None:
    raise OwnError


def _hang(again: bool) -> None:
    if not again:
        time.sleep(600)


def _locks(again: bool) -> None:
    """As bars and loaders make them; those of a name would outlive a kill of all processes."""
    locks = multiprocessing.RLock(), multiprocessing.Queue(2)
    maps = Path("/proc/self/maps").read_text().splitlines()
    own = {int(line.split()[4]) for line in maps if "/dev/shm/" in line}
    named = {path.name for path in Path("/dev/shm").iterdir() if path.stat().st_ino in own}
    if named or not own:
        raise UserError(f"{locks}: named {named} of {own}")


FAULTS: dict[str, Callable[[bool], None]] = {
    "die": _die, "die once": _die_once, "user error": _user_error, "two parts": _two_parts,
    "locks": _locks,
    "bug": _bug, "hang": _hang,
}  # fmt: skip


def tasks(home: Path, fault: str = "", at: int = 3, count: int = 7) -> list[LineTask]:
    """So many tasks, one of them with a fault."""
    return [LineTask(str(home), n, fault if n == at else "") for n in range(count)]


def results(home: Path) -> dict[str, bytes]:
    """Everything that is in the folder of results."""
    return {path.name: path.read_bytes() for path in Path(home, "results").iterdir()}


def processes_of_tasks(home: Path) -> dict[int, set[int]]:
    """The processes that ran each task."""
    found: dict[int, set[int]] = {}
    for path in Path(home, "ran").iterdir():
        number, process = path.name.split("-")
        found.setdefault(int(number), set()).add(int(process))
    return found


def main(home: str, fault: str, settings: str) -> None:
    """Run the tasks; what goes wrong is printed as the command line would."""
    try:
        run_tasks(tasks(Path(home), fault), ExecutorSettings(*json.loads(settings)), description="")
    except UserError as error:
        print(error)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main(*sys.argv[1:])
