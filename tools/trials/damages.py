"""Damage of what is on the disk: finished and half-done runs, sets, caches, generators."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trials.bench import Bench, seeded
from trials.cases import CASES, READERS
from trials.points import Points
from trials.state import Snapshot, differences, snapshot

_INPUTS = ("images", "gallery", "configs", "upstream", "tmp")
"""What is the user's own: another picture is another run, no damage."""
_REPLACED = "another transfer image takes its place"
"""What a run says of a picture that it can no longer read; its students are then others."""

_PLAN = re.compile(r"^store/\w+/plans/")
FOREIGN = '{"format": 1, "a": [1, null, {"b": "c"}]}'


def _flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def _truncate(path: Path, rng: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data) or 1)])


def _empty(path: Path, rng: random.Random) -> None:
    path.write_bytes(b"")


def _lengthen(path: Path, rng: random.Random) -> None:
    path.write_bytes(path.read_bytes() + rng.randbytes(rng.choice((1, 100, 5000))))


def _swap(path: Path, rng: random.Random) -> None:
    """The content of another file of this kind in the same tree."""
    top = next(each for each in path.parents if each.name == "home")
    alike = [other for other in sorted(top.rglob(f"*{path.suffix}")) if other.is_file()]
    others = [other for other in alike if other.read_bytes() != path.read_bytes()]
    path.write_bytes(rng.choice(others).read_bytes() if others else b"nothing like it")


def _foreign(path: Path, rng: random.Random) -> None:
    path.write_text(rng.choice((FOREIGN, "[]", "null", "3", '"text"', "{}")))


def _wrong_type(path: Path, rng: random.Random) -> None:
    """Another type for one value of a JSON file, else random bytes in its middle."""
    try:
        value = json.loads(path.read_bytes())
    except ValueError:
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] + rng.randbytes(8) + data[len(data) // 2 + 8 :])
        return
    path.write_text(json.dumps(_changed(value, rng)))


def _changed(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        return {**value, key: _changed(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        place = rng.randrange(len(value))
        return [*value[:place], _changed(value[place], rng), *value[place + 1 :]]
    others: tuple[Any, ...] = (None, -1, "text", [], {}, True, 1e300, [1, "a"])
    return rng.choice([other for other in others if type(other) is not type(value)])


def _folder(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _link(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.symlink_to("nothing")


def _delete(path: Path, rng: random.Random) -> None:
    path.unlink()


DAMAGES: dict[str, Callable[[Path, random.Random], None]] = {
    "flip": _flip, "truncate": _truncate, "empty": _empty, "lengthen": _lengthen, "swap": _swap,
    "foreign": _foreign, "wrong type": _wrong_type, "folder": _folder, "link": _link,
    "delete": _delete,
}  # fmt: skip


def _delete_tree(path: Path, rng: random.Random) -> None:
    shutil.rmtree(path)


def _file_for_tree(path: Path, rng: random.Random) -> None:
    shutil.rmtree(path)
    path.write_text("a file")


TREE_DAMAGES = {"delete the folder": _delete_tree, "file for the folder": _file_for_tree}


class Damages:
    """Trials of this kind."""

    name = "damages"

    def __init__(self, bench: Bench, seed: int) -> None:
        self.bench, self.seed = bench, seed
        self._cycle = bench.names(lambda case: not (case.processes or case.after))

    def title(self, trial: int) -> str:
        """What the trial does; the file is found out on the way."""
        return self._cycle[trial % len(self._cycle)]

    def run(self, trial: int) -> list[str]:
        """Damage one thing, then the same command or one that reads what is there."""
        rng = seeded(self.seed, self.name, trial)
        name = self.title(trial)
        reference = self.bench.reference(name)
        half, read = rng.random() < 0.4, rng.random() < 0.4
        if name in READERS and read:
            return self._reader(rng.choice(READERS[name]), rng)
        if half:
            self.bench.restore(reference.before)
            points = Points(self.bench.home, rng.randrange(reference.points))
            ended = self.bench.run(reference.words, setup=points.install)
            if faults := self.bench.faults(ended, (0, -signal.SIGKILL)):
                return faults
        else:
            self.bench.restore(reference.after)
        damaged, how = self._damage(rng)
        told = f"{how} of {damaged} ({'half-done' if half else 'finished'})"
        faults = self._command(name, damaged, fresh=rng.random() < 0.03)
        return [f"{fault} [{told}]" for fault in faults]

    def _damage(self, rng: random.Random) -> tuple[str, str]:
        home = self.bench.home
        every = sorted(
            path for path in home.rglob("*") if path.relative_to(home).parts[0] not in _INPUTS
        )
        trees = [path for path in every if path.is_dir() and not path.is_symlink()]
        files = [path for path in every if path.is_file()]
        if trees and (rng.random() < 0.08 or not files):
            path, how = rng.choice(trees), rng.choice(sorted(TREE_DAMAGES))
            TREE_DAMAGES[how](path, rng)
        elif files:
            path, how = rng.choice(files), rng.choice(sorted(DAMAGES))
            DAMAGES[how](path, rng)
        else:
            return "", "nothing"
        return path.relative_to(home).as_posix(), how

    def _command(self, name: str, damaged: str, *, fresh: bool) -> list[str]:
        """The same command: results as the reference's, or a line that names the place."""
        before = snapshot(self.bench.home)
        ended = self.bench.run(self.bench.reference(name).words, fresh=fresh)
        if faults := self.bench.faults(ended):
            return faults
        if ended.code == 2:
            return self._named(ended.err, damaged)
        if self._replaced(ended.err, damaged):
            return []
        reads = bool(CASES[name].after)
        if faults := self._compared(name, before, damaged, reads=reads):
            return faults
        if reads and _printed(ended.out) != _printed(self.bench.reference(name).out):
            noted = f"note: {self.bench.home / damaged}: damaged" in ended.out
            same = _figures(ended.out) == _figures(self.bench.reference(name).out)
            return [] if noted and same else ["silent difference: what it prints"]
        return []

    def _reader(self, name: str, rng: random.Random) -> list[str]:
        """A command that reads finished files: what it prints and writes, or a line."""
        reference = self.bench.reference(name)
        self.bench.restore(reference.before)
        damaged, how = self._damage(rng)
        faults = self._command(name, damaged, fresh=False)
        return [f"{name}: {fault} [{how} of {damaged}]" for fault in faults]

    def _compared(self, name: str, before: Snapshot, damaged: str, *, reads: bool) -> list[str]:
        """What the command did not read may stay as it is; what it has made may not."""
        expected, found = self.bench.reference(name).state, snapshot(self.bench.home)
        below = f"{damaged}/"
        unread = {
            path
            for path in {*expected, *found}
            if (path == damaged or path.startswith(below))
            and (reads or not re.search(CASES[name].results, path))
            and found.get(path) == before.get(path)
        } | self._told(expected, found, damaged)
        lines = differences(
            {path: each for path, each in expected.items() if path not in unread},
            {path: each for path, each in found.items() if path not in unread},
        )
        return [f"silent difference: {line}" for line in lines]

    def _told(self, expected: Snapshot, found: Snapshot, damaged: str) -> set[str]:
        """Files whose difference is told, so it is not silent.

        A plan of embeddings says which images were missing when it was made: made again, it says
        so of a later time. A note on the damaged file, beside the same figures, is what a reader
        of it has to say.
        """
        place = str(self.bench.home / damaged)
        told = {damaged} if _PLAN.search(damaged) else set()
        for path, value in found.items():
            before = expected.get(path)
            if not (isinstance(value, dict) and isinstance(before, dict)):
                continue
            notes = value.get("notes", [])
            added = [note for note in notes if note not in before.get("notes", [])]
            same = {**value, "notes": before.get("notes")} == before
            if same and added and all(note.startswith(place) for note in added):
                told.add(path)
        return told

    def _replaced(self, err: str, damaged: str) -> bool:
        """Whether it says that another transfer image is shown in place of a damaged one."""
        place = str(self.bench.home / damaged)
        return any(place in line and _REPLACED in line for line in err.splitlines())

    def _named(self, err: str, damaged: str) -> list[str]:
        """Code 2 must name the file, a folder that it lies in, or what it belongs to."""
        places = [damaged, *map(str, Path(damaged).parents)]
        if any(str(self.bench.home / place) in err for place in places if place != "."):
            return []
        if Path(damaged).parts[0] == "generator" and "generator" in err:
            return []
        last = (err.strip().splitlines() or [""])[-1][:200]
        return [f"code 2 does not name the place: {last}"]


def _printed(text: str) -> str:
    """What a command prints, without how much room the damaged files take."""
    return re.sub(r"[\d.]+ [kM]?B\b", "SIZE", text)


def _figures(text: str) -> list[str]:
    """What it prints beside its notes."""
    return [line for line in _printed(text).splitlines() if not line.startswith("  note: ")]
