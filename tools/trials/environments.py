"""Odd environments, signals, and two commands at once."""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trials.bench import Bench, seeded
from trials.child import Ended, Running, nothing
from trials.state import differences, snapshot

_ENDS = {
    signal.SIGINT: (0, 130),
    signal.SIGTERM: (0, 143, -signal.SIGTERM),
    signal.SIGUSR1: (0, 138, -signal.SIGUSR1),
}
"""The exit codes that a signal may lead to; 0 where the command was done first."""


@dataclass(frozen=True)
class Oddity:
    """An environment.

    Args:
        env: variables; None removes one.  setup: called before the new Python starts.
        codes: how a command may end in it.
        other_sums: whether sums are split among another number of threads, which changes last
            bits: its results are compared with those of a second run in the same environment.
    """

    env: Mapping[str, str | None] = field(default_factory=dict)
    setup: Callable[[], None] = nothing
    codes: tuple[int, ...] = (0,)
    other_sums: bool = False


def _close(*handles: int) -> Callable[[], None]:
    def setup() -> None:
        for handle in handles:
            os.close(handle)

    return setup


def _to(place: str, *handles: int) -> Callable[[], None]:
    def setup() -> None:
        target = os.open(place, os.O_WRONLY)
        for handle in handles:
            os.dup2(target, handle)
        os.close(target)

    return setup


def _broken_pipe() -> None:
    here, there = os.pipe()
    os.close(here)
    os.dup2(there, 1)
    os.close(there)


def _deleted_folder() -> None:
    os.mkdir("gone")
    os.chdir("gone")
    os.rmdir(os.path.join(os.environ["HOME"], "gone"))


def _unwritable() -> None:
    Path("closed").mkdir(mode=0o500, exist_ok=True)


def _limit(what: int, most: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(what, (most, most))


def _mask() -> None:
    os.umask(0o077)


ODDITIES: dict[str, Oddity] = {
    "closed stdin": Oddity(setup=_close(0)),
    "closed stdout": Oddity(setup=_close(1), codes=(0, 2)),
    "closed stderr": Oddity(setup=_close(2)),
    "all streams closed": Oddity(setup=_close(0, 1, 2), codes=(0, 2)),
    "stdout full": Oddity(setup=_to("/dev/full", 1), codes=(0, 2)),
    "stderr full": Oddity(setup=_to("/dev/full", 2), codes=(0, 2)),
    "broken pipe": Oddity(setup=_broken_pipe),
    "no UTF-8": Oddity({"PYTHONUTF8": "0", "LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0"}),
    "ASCII": Oddity({"PYTHONIOENCODING": "ascii"}),
    "no HOME": Oddity({"HOME": None}),
    "HOME unwritable": Oddity({"HOME": "/proc"}),
    "HOME closed": Oddity({"HOME": "closed"}, _unwritable),
    "no place for temporary files": Oddity({"TMPDIR": "missing"}, codes=(0, 2)),
    "folder deleted": Oddity(setup=_deleted_folder, codes=(0, 2)),
    "dumb terminal": Oddity({"TERM": "dumb", "COLUMNS": "0", "LINES": "0"}),
    "no columns": Oddity({"COLUMNS": "x"}),
    "umask 077": Oddity(setup=_mask),
    "few file handles": Oddity(setup=_limit(resource.RLIMIT_NOFILE, 64), codes=(0, 2)),
    "very few file handles": Oddity(setup=_limit(resource.RLIMIT_NOFILE, 24), codes=(0, 2)),
    "small stack": Oddity(setup=_limit(resource.RLIMIT_STACK, 1 << 19)),
    "zero threads": Oddity({"OMP_NUM_THREADS": "0"}, other_sums=True),
    "many threads": Oddity({"OMP_NUM_THREADS": "64"}, other_sums=True),
    "threads in words": Oddity({"OMP_NUM_THREADS": "two"}, other_sums=True),
    "SLURM": Oddity({"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_JOB_ID": "7"}),
    "SLURM of two": Oddity({"SLURM_PROCID": "x", "SLURM_NTASKS": "two"}, codes=(0, 2)),
    "RANK alone": Oddity({"RANK": "0"}, codes=(0, 2)),
    "RANK 1 alone": Oddity({"RANK": "1"}, codes=(0, 2)),
    "RANK in words": Oddity({"RANK": "a", "WORLD_SIZE": "b"}, codes=(0, 2)),
    "time zone": Oddity({"TZ": "Nowhere/Land"}),
    "time zone of 99 hours": Oddity({"TZ": "ABC-99:99"}),
    "empty PATH": Oddity({"PATH": ""}),
    "warnings are errors of others": Oddity({"PYTHONWARNINGS": "always"}),
    "hash seed": Oddity({"PYTHONHASHSEED": "12345"}),
    "optimised": Oddity({"PYTHONOPTIMIZE": "1"}, codes=(0, 2)),  # refused where hydra fails
    "empty cache variable": Oddity({"GENKT_CACHE": "", "XDG_CACHE_HOME": ""}),
}
COMMANDS = ("transfer", "predict", "evaluate", "cache", "synthesize", "retrieve", "compare")


class Environments:
    """Trials of this kind."""

    name = "environments"

    def __init__(self, bench: Bench, seed: int) -> None:
        self.bench, self.seed = bench, seed
        self._names = [name for name in bench.names(lambda case: True) if name in COMMANDS]

    def title(self, trial: int) -> str:
        """What the trial does."""
        return self._plan(trial)[0]

    def run(self, trial: int) -> list[str]:
        """The command in its environment, then as usual; what is wrong."""
        _, name, act = self._plan(trial)
        self.bench.restore(self.bench.reference(name).before)
        return act() or self.bench.again(name)

    def _plan(self, trial: int) -> tuple[str, str, Callable[[], list[str]]]:
        """Two oddities, then a signal, then two at once, and so on."""
        rng = seeded(self.seed, self.name, trial)
        name = rng.choice(self._names)
        if trial % 5 in (0, 2):
            names = list(ODDITIES)
            random.Random(f"{self.seed}/oddities/{trial // (5 * len(names))}").shuffle(names)
            odd = names[(trial // 5 * 2 + trial % 5 // 2) % len(names)]
            return f"{name}, {odd}", name, lambda: self._odd(name, odd)
        if trial % 5 in (1, 3):
            number = rng.choice(sorted(_ENDS))
            seconds = rng.uniform(0, self.bench.reference(name).seconds)
            title = f"{name}, {number.name} after {seconds:.2f} s"
            return title, name, lambda: self._signal(name, number, seconds)
        if rng.random() < 0.5:
            pause = rng.choice((0.0, rng.uniform(0, self.bench.reference(name).seconds)))
            title = f"{name}, twice at once, {pause:.2f} s apart"
            return title, name, lambda: self._twice(name, pause)
        return "transfer, another with the same out at once", "transfer", self._one_out

    def _odd(self, name: str, odd: str) -> list[str]:
        oddity = ODDITIES[odd]
        ended = self._run_in(oddity, name)
        if ended.code == 2 and 2 in oddity.codes and "genkt" not in ended.err:
            return [] if "closed" in odd or "full" in odd else ["code 2 without a line of its own"]
        faults = self.bench.faults(ended, oddity.codes)
        if not faults and ended.code == 0 and odd == "umask 077":
            faults = self._open_files(self.bench.reference(name).before)
        if not faults and oddity.other_sums:
            faults = self._same_bits_again(oddity, name)
        return [f"{fault} [{odd}]" for fault in faults]

    def _run_in(self, oddity: Oddity, name: str) -> Ended:
        words = self.bench.reference(name).words
        return self.bench.run(words, env=oddity.env, setup=oddity.setup, fresh=True)

    def _same_bits_again(self, oddity: Oddity, name: str) -> list[str]:
        """A second run in the same environment must equal the first, to the byte.

        The folder is left as it was before both.
        """
        reference, first = self.bench.reference(name), snapshot(self.bench.home)
        self.bench.restore(reference.before)
        faults = self.bench.faults(self._run_in(oddity, name), (0,))
        lines = differences(first, snapshot(self.bench.home))
        lines += [f"{path}: left over or missing" for path in first.keys() ^ reference.state.keys()]
        self.bench.restore(reference.before)
        return faults or [f"silent difference: {line}" for line in lines]

    def _open_files(self, before: Path) -> list[str]:
        """New files that others may read, as the user does not want."""
        home = self.bench.home
        new = [each for each in home.rglob("*") if not (before / each.relative_to(home)).exists()]
        wide = [each.name for each in new if each.lstat().st_mode & 0o077]
        return [f"umask 077: others may read {wide[0]} and {len(wide) - 1} more"] if wide else []

    def _signal(self, name: str, number: signal.Signals, seconds: float) -> list[str]:
        running = Running(self.bench.job(self.bench.reference(name).words))
        ended = running.wait(seconds, lambda other: other.signal(number))
        faults = self.bench.faults(ended, _ENDS[number])
        if ended.code == 130 and number.name not in ended.err:
            faults.append("an interrupt that nobody is told of")
        return [f"{fault} [{number.name}]" for fault in faults]

    def _twice(self, name: str, pause: float) -> list[str]:
        words = self.bench.reference(name).words
        return self._together([(words, 0.0), (words, pause)])

    def _one_out(self) -> list[str]:
        words = self.bench.reference("transfer").words
        faults = self._together([(words, 0.0), ([*words, "seed=5"], 0.0)])
        if faults:
            return faults
        ended = self.bench.run(words)
        if ended.code == 2:  # the other one has the folder
            ended = self.bench.run([*words, "seed=5"])
            if faults := self.bench.faults(ended, (0,)):
                return faults
            self.bench.restore(self.bench.reference("transfer").before)
        return self.bench.faults(ended, (0,))

    def _together(self, commands: list[tuple[list[str], float]]) -> list[str]:
        running = []
        for number, (words, pause) in enumerate(commands):
            if number and pause:
                time.sleep(pause)
            running.append(Running(self.bench.job(words), number))
        ended: list[Ended] = [each.wait() for each in running]
        return [f"{fault} [two at once]" for each in ended for fault in self.bench.faults(each)]
