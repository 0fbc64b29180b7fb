"""Where trials take place: one folder, always at the same path, and the results to compare with."""

from __future__ import annotations

import importlib
import random
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from trials.cases import CASES, Case
from trials.child import SECRET, Ended, Job, Running
from trials.points import Points
from trials.state import Snapshot, differences, snapshot

_KEPT = 300
"""Characters of a message that a fault shows."""


class BenchError(Exception):
    """The campaign itself cannot go on."""


@dataclass(frozen=True)
class Reference:
    """A command that nobody disturbed.

    Args:
        words: of it.  before, after: copies of its home.
        state: what it left.  out: what it printed.
        points: how many points of it write; see ``Points``.
    """

    words: list[str]
    before: Path
    after: Path
    state: Snapshot
    out: str
    seconds: float
    points: int


@dataclass
class Bench:
    """The folder of the trials, and one reference a case, made when it is first asked for.

    Args:
        work: an empty folder.  isolated: whether ``isolate`` has worked.
        defect: Python that every forked command runs first, to test the campaign.
        only: the commands, by their names in ``CASES``; none: all.
    """

    work: Path
    isolated: bool
    defect: str = ""
    only: Sequence[str] = ()
    _references: dict[str, Reference] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        """Where commands run."""
        return self.work / "home"

    def names(self, fits: Callable[[Case], bool]) -> list[str]:
        """The commands of this campaign that fit."""
        chosen = self.only or CASES
        return [name for name, case in CASES.items() if name in chosen and fits(case)]

    def reference(self, name: str) -> Reference:
        """The undisturbed command."""
        if name not in self._references:
            self._references[name] = self._made(name)
        return self._references[name]

    def _made(self, name: str) -> Reference:
        case = CASES[name]
        self._start_home(case)
        words = case.words(self.home)
        before = self._copied(f"before {name}")
        counted = self.work / "points"
        modules = self.work / "modules"
        points = Points(self.home)

        def setup() -> None:
            import atexit

            points.install()
            atexit.register(_tell, points, counted, modules)

        ended = self.run(words, setup=setup, defect=False)
        if faults := self.faults(ended, (0,)):
            raise BenchError(f"{name}, undisturbed: {faults[0]}\n{ended.err}")
        _import_all(modules.read_text().split())
        state = snapshot(self.home)
        return Reference(
            words, before, self._copied(f"after {name}"), state, ended.out, ended.seconds,
            int(counted.read_text()),
        )  # fmt: skip

    def _start_home(self, case: Case) -> None:
        if case.after:
            self.restore(self.reference(case.after).after)
        else:
            shutil.rmtree(self.home, ignore_errors=True)
            (self.home / "tmp").mkdir(parents=True)

    def _copied(self, name: str) -> Path:
        target = self.work / name.replace(" ", "-")
        shutil.copytree(self.home, target, symlinks=True)
        return target

    def restore(self, stored: Path) -> None:
        """Put a stored home in the place of the present one."""
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.copytree(stored, self.home, symlinks=True)

    def job(self, words: Sequence[str], *, defect: bool = True, **settings: object) -> Job:
        """A command in the home folder."""
        job = Job(words, self.home, confined=self.isolated)
        job = replace(job, **settings)  # type: ignore[arg-type]
        if defect and self.defect and not job.fresh:
            job = replace(job, setup=_both(self.defect, job))
        return job

    def run(self, words: Sequence[str], **settings: object) -> Ended:
        """Run a command to its end."""
        return Running(self.job(words, **settings)).wait()  # type: ignore[arg-type]

    def faults(self, ended: Ended, codes: Sequence[int] = (0, 2)) -> list[str]:
        """What no end of a command may show."""
        found = []
        last = (ended.err.strip().splitlines() or [""])[-1][:_KEPT]
        if ended.hung:
            found.append(f"hangs: {last}")
        elif "Traceback (most recent call last)" in ended.err + ended.out:
            found.append(f"traceback: {last}")
        elif ended.code not in codes:
            found.append(f"code {ended.code}: {last}")
        elif ended.code == 2 and not last.startswith("genkt"):
            found.append(f"code 2 without a line of its own: {last}")
        found += [f"outlives the command: {each}" for each in ended.left]
        if SECRET in ended.err + ended.out:
            found.append("prints a secret of the environment")
        return found

    def again(self, name: str, **settings: object) -> list[str]:
        """The same command must now end well, with all that the reference has."""
        reference = self.reference(name)
        ended = self.run(reference.words, **settings)
        return self.faults(ended, (0,)) or self.compared(name)

    def compared(self, name: str) -> list[str]:
        """How the home folder differs from the reference's."""
        lines = differences(self.reference(name).state, snapshot(self.home))
        return [f"silent difference: {line}" for line in lines]


def seeded(seed: int, kind: str, trial: int) -> random.Random:
    """The draws of one trial."""
    return random.Random(f"{seed}/{kind}/{trial}")


def _both(defect: str, job: Job) -> Callable[[], None]:
    def setup() -> None:
        exec(defect, {})
        job.setup()

    return setup


def _tell(points: Points, counted: Path, modules: Path) -> None:
    count = points.count
    modules.write_text("\n".join(sys.modules))
    counted.write_text(str(count))


def _import_all(names: Sequence[str]) -> None:
    """What a command imported, every later fork of this process has."""
    for name in names:
        if name not in sys.modules and not name.startswith(("_", "torch._dynamo")):
            with suppress(Exception):
                importlib.import_module(name)
