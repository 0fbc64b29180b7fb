"""Full disks: the run folder, the cache or both on a disk of a random size, then with more room."""

from __future__ import annotations

import random
import resource
import signal
from contextlib import suppress
from pathlib import Path

from trials.bench import Bench, seeded
from trials.sandbox import mount_tmpfs, resize_tmpfs, unmount

_LARGE = "size=512m,nr_inodes=0"
_PAGE = 4096


class Disks:
    """Trials of this kind."""

    name = "disks"

    def __init__(self, bench: Bench, seed: int) -> None:
        self.bench, self.seed = bench, seed
        self._cycle = bench.names(lambda case: not (case.processes or case.after))

    def title(self, trial: int) -> str:
        """What the trial does."""
        name, places, size = self._plan(trial)
        return f"{name}, {' and '.join(places)}: {size} bytes"

    def run(self, trial: int) -> list[str]:
        """A small disk, then a large one; what is wrong."""
        name, places, size = self._plan(trial)
        self.bench.restore(self.bench.reference(name).before)
        if not self.bench.isolated:
            return self._limited(name, size)
        mounted: list[Path] = []
        try:
            for place in places:
                (self.bench.home / place).mkdir(exist_ok=True)
                mount_tmpfs(self.bench.home / place, f"size={size}")
                mounted.append(self.bench.home / place)
            faults = self._told(name, [str(path) for path in mounted])
            if faults:
                return faults
            for path in mounted:
                resize_tmpfs(path, _LARGE)
            return self.bench.again(name)
        finally:
            for path in mounted:
                with suppress(OSError):
                    unmount(path)

    def _plan(self, trial: int) -> tuple[str, list[str], int]:
        rng = seeded(self.seed, self.name, trial)
        name = self._cycle[trial % len(self._cycle)]
        made = self._made(name)
        chosen = sorted(place for place in made if rng.random() < 0.6) or [rng.choice(sorted(made))]
        most = max(made[place] for place in chosen)
        return name, chosen, self._size(rng, most)

    @staticmethod
    def _size(rng: random.Random, most: int) -> int:
        """Mostly too small for what is to be written, in whole pages."""
        return _PAGE * rng.randint(1, max(2, int(1.2 * most / _PAGE)))

    def _made(self, name: str) -> dict[str, int]:
        """The folders that a case makes, with the bytes in each."""
        reference = self.bench.reference(name)
        return {
            path.name: sum(
                _PAGE * (1 + file.stat().st_size // _PAGE)
                for file in path.rglob("*")
                if file.is_file()
            )
            for path in sorted(reference.after.iterdir())
            if path.is_dir() and not (reference.before / path.name).exists()
        }

    def _told(self, name: str, places: list[str]) -> list[str]:
        ended = self.bench.run(self.bench.reference(name).words)
        if faults := self.bench.faults(ended):
            return faults
        if ended.code == 2 and not any(place in ended.err for place in places):
            return [f"code 2 does not name the place: {ended.err.strip().splitlines()[-1][:200]}"]
        return []

    def _limited(self, name: str, size: int) -> list[str]:
        """Where nothing can be mounted: no file may be larger."""

        def setup() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

        ended = self.bench.run(self.bench.reference(name).words, setup=setup)
        if faults := self.bench.faults(ended):
            return faults
        if ended.code == 2 and str(self.bench.home) not in ended.err:
            return [f"code 2 does not name the place: {ended.err.strip().splitlines()[-1][:200]}"]
        return self.bench.again(name)
