"""The run folder: who may write it, what is finished, and the logs in it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from genkt.disk import writing_fault
from genkt.earlier import as_now
from genkt.execution.ranks import Processes
from genkt.files import SEALS, damaged_files, discard, read_signed, seal, write_signed
from genkt.io import contents, held, reading, write_text
from genkt.locks import LOCKS, at_work, claiming, end_of_locks, refuse_at_work
from genkt.runs.run_log import METRICS_LOCK
from genkt.runs.student_places import student_folder
from genkt.settings.written import write_yaml
from genkt.types import DamagedError, UserError

_FREE = {
    "out", "overwrite", "dry_run", "cache", "device", "train.num_workers", "train.save_seconds",
    "plan",  # what follows from it are other settings
    "save_seconds",
    "batch_size", "num_threads", "transfer_set.batch_size",
    "store", "transfer_set.store", "transfer_set.num_threads",
    "decontaminate.decisions", "decontaminate.assume",
    "executor", "executor.name", "executor.num_workers", "executor.address",
}  # fmt: skip
"""Settings that may change between the start of a run and its continuation."""

RESULT = "result.json"
"""The file of a student that is written last."""

CLAIM = "run.json"
"""The file with the settings and command of a run."""

_QUIET_SECONDS = 10.0
"""How long a process waits for another before it says so."""

logger = logging.getLogger("genkt")


class RunFolder:
    """One run's folder: claimed by a configuration, continued by the same one, then finished.

    Nothing is written or removed before ``claim``, so a failed start changes nothing.

    Args:
        path: the folder.
        config: the plain resolved configuration.
        overwrite: replace an earlier run in this folder: a finished one, or one of other
            settings. An interrupted run of the same settings is continued.
        last: the file that a run writes last.

    Raises:
        UserError: the folder has another run, or other files.
    """

    def __init__(
        self,
        path: str | Path,
        config: Mapping[str, Any],
        *,
        overwrite: bool,
        last: str = "report.json",
    ) -> None:
        self.path = Path(path)
        self._last = self.path / last
        self.config = json.loads(json.dumps(config))
        self._replace = self._claimed = False
        self._overwrite = overwrite
        self._look()

    def _look(self) -> None:
        """Check that the folder may be used; return whether its content must be removed first."""
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"out={self.path}: expected a folder, got a file")
        if not self.path.exists() and (fault := writing_fault(self.path)):
            raise UserError(f"out={self.path}: cannot be written: {fault}")
        self._replace = self._ended() and self._overwrite
        if self._is_run() and not self._replace:
            self._check_same()
        elif not self._is_run() and self._holds_other():
            raise UserError(f"out={self.path}: the folder is not empty and holds no genkt run")

    @property
    def finished(self) -> bool:
        """Whether the run in this folder has ended."""
        return self._ended() and not self._replace

    def claim(self, command: str, inputs: Mapping[str, str] | None = None) -> None:
        """Write ``run.json`` and ``config.yaml``; from here on the folder is this run's.

        The folder is checked once more under a lock, because another command may have been first.

        Args:
            command: how to repeat the run.
            inputs: fingerprints of images, and of models given in Python.

        Raises:
            UserError: another run is in the folder or is writing to it, or the inputs are not those
            of the first start.
        """
        inputs = dict(inputs or {})
        with claiming(self.path):
            self._look()
            if self._is_run() and not self._replace:
                self._check_inputs(inputs)
            if self._replace or not self._is_run():
                refuse_at_work(self.path)
            if self._replace:
                self._empty()
            self._write_claim(command, inputs)
            self._claimed = True

    def at_work(self) -> AbstractContextManager[None]:
        """Work in the claimed folder; no other process can replace it meanwhile.

        The process that claimed it holds it for all processes of a launch.

        Raises:
            UserError: another command has replaced it since.
        """
        if not self._claimed:
            return nullcontext()
        return at_work(self.path, self._require_own)

    def _require_own(self) -> None:
        if not self._is_run() or self._changed():
            raise UserError(
                f"out={self.path}: another command started a run with other settings there "
                "at the same time; give another out="
            )

    def _check_inputs(self, inputs: Mapping[str, str]) -> None:
        earlier = self._earlier()["inputs"]
        changed = [name for name, value in inputs.items() if earlier.get(name) != value]
        if changed and not self._overwrite:
            raise UserError(
                f"out={self.path}: the run there was started with other {' and '.join(changed)}"
                " (by content, the settings agree); give another out= or overwrite=true"
            )
        self._replace = bool(changed)

    def _empty(self) -> None:
        for path in list(self.path.iterdir()):
            if path.name != LOCKS:
                discard(path)
        self._replace = False

    def _write_claim(self, command: str, inputs: Mapping[str, str]) -> None:
        if not self._is_run():
            facts = {"config": self.config, "inputs": inputs, "command": command}
            write_signed(self.path / CLAIM, facts)
        repeated = dict(self.config)
        if "overwrite" in repeated:
            repeated["overwrite"] = False  # repeating a run must never remove one
        text = write_yaml(repeated)
        write_text(self.path / "config.yaml", f"# {' '.join(command.splitlines())}\n{text}")

    def seal(self, names: Sequence[str]) -> None:
        """Write the digests of files that others read or copy from a finished run."""
        seal(self.path, names)

    def remove_damaged(self) -> None:
        """Remove damaged sealed files, so that they are made again, and log it."""
        names = damaged_files(self.path)
        if not self.finished:  # files of an unfinished run are made again anyway
            names = [name for name in names if (self.path / name).exists()]
        for name in names:
            logger.warning("%s: damaged or missing, it is made again", self.path / name)
            discard(self.path / name)
        if names or _half_sealed(self.path, self._last.name):
            self.reopen()

    def reopen(self) -> None:
        """Mark a finished run as unfinished, because a part of it is made again."""
        discard(self._last)

    def student(self, draw: int, arm: str, seed: int = 0) -> Path:
        """Where one student of the run keeps its state and results."""
        return student_folder(self.path, draw, arm, seed)

    def alone(self, name: str, *, first: bool) -> AbstractContextManager[float]:
        """Lock a part of the run; all processes of the launch make it together.

        Args:
            first: whether this is the first process of its launch, which holds the lock for all.

        Returns:
            A context that gives the seconds waited for another process.
        """
        return self.lock(name) if first else nullcontext(0.0)

    def lock(self, name: str) -> AbstractContextManager[float]:
        """A lock for one part of the run; several processes may make different parts.

        A process of a killed run may still hold one.

        Args:
            name: of the part, also for a message.
        """
        told = f"{name}: another process is making it; waiting"
        return held(self.path / LOCKS / f"{name}.lock", told, quiet_seconds=_QUIET_SECONDS)

    @contextmanager
    def one_command(self, processes: Processes) -> Iterator[None]:
        """Hold the folder's lock in the first process, so that two commands do not make one set.

        Processes without a barrier share the work and take no lock.
        """
        with (
            nullcontext() if processes.rank or processes.by_files else self.lock("set"),
            nullcontext() if processes.rank else self.at_work(),
        ):
            yield

    def end(self) -> None:
        """Remove the lock files, as no process writes any more."""
        (self.path / METRICS_LOCK).unlink(missing_ok=True)
        end_of_locks(self.path)

    def _is_run(self) -> bool:
        return (self.path / CLAIM).exists()

    def _holds_other(self) -> bool:
        return bool(contents(self.path) - {LOCKS})

    def _ended(self) -> bool:
        return self._is_run() and self._last.is_file()

    def _earlier(self) -> dict[str, Any]:
        return read_claim(self.path)

    def _changed(self) -> list[str]:
        """The settings that differ from the run in the folder, one line each."""
        return [
            f"{key}: was {_shown(old)}, now {_shown(new)}"
            for key, old, new in _differences(
                as_now(self._earlier()["config"], like=self.config), self.config
            )
            if key not in _FREE
        ]

    def _check_same(self) -> None:
        try:
            changed = self._changed()
        except DamagedError:
            if not self._overwrite:
                raise
            changed = [CLAIM]
        if changed and self._overwrite:
            self._replace = True
        elif changed:
            raise UserError(
                "\n".join(
                    [
                        f"out={self.path}: holds a run with other settings; give another out=, "
                        "overwrite=true, or the same settings to continue it",
                        *changed,
                    ]
                )
            )


OUTPUTS = "cache"
"""A folder beside a draw's students for teacher outputs that no other draw reads."""


def teacher_folder(index: int) -> str:
    """A folder beside a draw's students for a teacher trained on its labels."""
    return f"teacher{index}"


def is_whole(folder: Path) -> bool:
    """Whether a run has ended and the files that others read are intact."""
    last = "report.json"
    ended = (folder / last).is_file() and not _half_sealed(folder, last)
    return ended and not damaged_files(folder)


def _half_sealed(folder: Path, last: str) -> bool:
    """Whether a run was killed between its last file and the digest of that one.

    Its files cannot be checked then, so the last one is written again from the rest.
    """
    if not (folder / SEALS).is_file():
        return False  # of an older genkt
    try:
        return last not in read_signed(folder / SEALS, "digests of the files beside it")
    except DamagedError:  # reported where damaged files are handled
        return False


def read_claim(folder: Path) -> dict[str, Any]:
    """The content of a run's ``run.json``: "config", "inputs" (not in old runs) and "command".

    Raises:
        DamagedError: its ``run.json`` cannot be read.
    """
    path, expected = folder / CLAIM, "the settings of a run"
    remedy = "take it from a copy, or start over with overwrite=true"
    facts = read_signed(path, expected, remedy, unsigned=("config", "inputs", "command"))
    with reading(path, expected, remedy):
        facts = {"inputs": {}, **facts}
        if not (isinstance(facts["config"], dict) and isinstance(facts["inputs"], dict)):
            raise TypeError("no settings")
    return facts


def _differences(a: Any, b: Any, key: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(a, dict) and isinstance(b, dict):
        if a.get("name") != b.get("name"):  # a different choice, so its settings cannot be compared
            return [(f"{key}.name", a.get("name"), b.get("name"))]
        names = list(dict.fromkeys([*a, *b]))
        prefix = f"{key}." if key else ""
        return [d for n in names for d in _differences(a.get(n), b.get(n), f"{prefix}{n}")]
    return [] if a == b else [(key, a, b)]


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
