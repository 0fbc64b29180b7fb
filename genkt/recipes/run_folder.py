"""The run folder: who may write it, what is finished, and the logs in it."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from filelock import FileLock

from genkt.disk import writing_fault
from genkt.io import held, make_folder, naming_place, read_json, write_json, write_text
from genkt.training.stage import Record
from genkt.types import UserError

_FREE = {
    "out", "overwrite", "dry_run", "cache", "device", "train.num_workers", "train.save_seconds",
    "save_seconds",
    "batch_size", "num_threads", "transfer_set.batch_size",
    "store", "transfer_set.store", "transfer_set.num_threads",
    "decontaminate.decisions", "decontaminate.assume",
    "executor", "executor.name", "executor.num_workers", "executor.address",
}  # fmt: skip
"""Settings that may change between the start of a run and its continuation."""

RESULT = "result.json"
"""The file of a student that is written last."""

_METRICS_LOCK = ".metrics.lock"
_LOCKS = ".locks"
_QUIET_SECONDS = 10.0
"""How long a process waits for another before it says so."""

logger = logging.getLogger("genkt")


class RunFolder:
    """One run's folder: claimed by a configuration, continued by the same one, then finished.

    Nothing is written or removed before ``claim``, so a start that fails leaves all as it was.

    Args:
        path: the folder.
        config: the plain resolved configuration.
        overwrite: replace an earlier run in this folder: a finished one, or one of other
            settings. An interrupted run of the same settings is continued.
        last: the file that a run writes last.

    Raises:
        UserError: the folder holds another run, or something that is no run at all.
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
        self._replace = False
        self._overwrite = overwrite
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"out={self.path}: expected a folder, it is a file")
        if not self.path.exists() and (fault := writing_fault(self.path)):
            raise UserError(f"out={self.path}: cannot be written: {fault}")
        if self._ended():
            self._replace = overwrite
        if self._is_run() and not self._replace:
            self._check_same(self._earlier()["config"], self.config)
        elif not self._is_run() and self.path.is_dir() and any(self.path.iterdir()):
            raise UserError(f"out={self.path}: the folder is not empty and holds no genkt run")

    @property
    def finished(self) -> bool:
        """Whether the run in this folder has ended."""
        return self._ended() and not self._replace

    def claim(self, command: str, inputs: Mapping[str, str] | None = None) -> None:
        """Write ``run.json`` and ``config.yaml``; from here on the folder is this run's.

        Args:
            command: how to repeat the run.
            inputs: fingerprints of what the settings only name (images, models given in Python).

        Raises:
            UserError: the inputs are not those this run was started with.
        """
        import yaml

        inputs = dict(inputs or {})
        if self._is_run() and not self._replace:
            earlier = self._earlier().get("inputs", {})
            changed = [name for name, value in inputs.items() if earlier.get(name) != value]
            if changed and not self._overwrite:
                raise UserError(
                    f"out={self.path}: the run there was started with other {' and '.join(changed)}"
                    " (by content, the settings agree); give another out= or overwrite=true"
                )
            self._replace = bool(changed)
        if self._replace:
            shutil.rmtree(self.path)
            self._replace = False
        make_folder(self.path)
        if not self._is_run():
            facts = {"config": self.config, "inputs": inputs, "command": command}
            write_json(self.path / "run.json", facts)
        repeated = dict(self.config)
        if "overwrite" in repeated:
            repeated["overwrite"] = False  # to repeat a run must never remove one
        text = yaml.safe_dump(repeated, sort_keys=False, allow_unicode=True)
        write_text(self.path / "config.yaml", f"# {' '.join(command.splitlines())}\n{text}")

    def cell(self, draw: int, arm: str) -> Path:
        """Where one student of the run keeps its state and results."""
        return cell_folder(self.path, draw, arm)

    def lock(self, name: str) -> AbstractContextManager[float]:
        """Held while one part of the run is made; several processes may make parts of it.

        A killed run may have left a process at one.

        Args:
            name: of the part, for a message as well.
        """
        told = f"{name}: another process is at it, waiting for it"
        return held(self.path / _LOCKS / f"{name}.lock", told, quiet_seconds=_QUIET_SECONDS)

    def end(self) -> None:
        """Nobody writes any more: remove what kept writers apart."""
        (self.path / _METRICS_LOCK).unlink(missing_ok=True)
        shutil.rmtree(self.path / _LOCKS, ignore_errors=True)

    def _is_run(self) -> bool:
        return (self.path / "run.json").is_file()

    def _ended(self) -> bool:
        return self._is_run() and self._last.is_file()

    def _earlier(self) -> dict[str, Any]:
        facts: dict[str, Any] = read_json(self.path / "run.json")
        return facts

    def _check_same(self, earlier: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        changed = [
            f"{key}: was {_shown(old)}, now {_shown(new)}"
            for key, old, new in _differences(earlier, now)
            if key not in _FREE
        ]
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
"""Beside the students of a draw: outputs of its teachers that no other draw reads."""


def teacher_folder(index: int) -> str:
    """Beside the students of a draw: where a teacher is trained on its labels."""
    return f"teacher{index}"


def cell_folder(out: str | Path, draw: int, arm: str) -> Path:
    """Where the run in ``out`` keeps one student."""
    return Path(out) / "draws" / str(draw) / arm


def _differences(a: Any, b: Any, key: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(a, dict) and isinstance(b, dict):
        if a.get("name") != b.get("name"):  # another choice: its own settings say nothing more
            return [(f"{key}.name", a.get("name"), b.get("name"))]
        names = list(dict.fromkeys([*a, *b]))
        prefix = f"{key}." if key else ""
        return [d for n in names for d in _differences(a.get(n), b.get(n), f"{prefix}{n}")]
    return [] if a == b else [(key, a, b)]


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


class RunLog:
    """``metrics.jsonl`` and TensorBoard events of a run; both stay consistent when it resumes.

    Several processes may write to it, each of other students.
    """

    def __init__(self, folder: Path, *, enabled: bool = True) -> None:
        self.path = folder / "metrics.jsonl"
        self.lock = FileLock(folder / _METRICS_LOCK)
        self.events = folder / "tensorboard"
        self.enabled = enabled

    def stage(self, draw: int, arm: str) -> StageLog:
        """The log of one student's stages."""
        return StageLog(self, draw, arm)


class StageLog:
    """Records of one student, stage after stage."""

    def __init__(self, log: RunLog, draw: int, arm: str) -> None:
        self.log, self.draw, self.arm = log, draw, arm
        self._writer: Any = None
        self._offset = 0

    def begin(self, stage: str, step: int) -> None:
        """A stage starts or resumes at ``step``: records it will write again are dropped."""
        if not self.log.enabled:
            return
        key = {"draw": self.draw, "arm": self.arm, "stage": stage}
        if self.log.path.is_file():
            with self.log.lock:
                lines = self.log.path.read_text(encoding="utf-8").splitlines()
                kept = [line for line in lines if not _again(line, key, step)]
                if len(kept) < len(lines):
                    write_text(self.log.path, "".join(line + "\n" for line in kept))
        from torch.utils.tensorboard import SummaryWriter

        self.close()
        folder = self.log.events / f"{self.arm}-draw{self.draw}-{stage}"
        self._writer = SummaryWriter(str(folder), purge_step=step)  # type: ignore[no-untyped-call]

    def record(self, record: Record) -> None:
        """Append one record to both logs."""
        if not self.log.enabled:
            return
        line = json.dumps({"draw": self.draw, "arm": self.arm, **record})
        self.log.path.parent.mkdir(parents=True, exist_ok=True)
        path = self.log.path
        with self.log.lock, naming_place(path), open(path, "a", encoding="utf-8") as stream:
            stream.write(line + "\n")
        for name, value in record.items():
            if isinstance(value, float) and self._writer is not None:
                self._writer.add_scalar(name, value, int(record["step"]))

    def close(self) -> None:
        """Flush the events of the current stage."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _again(line: str, key: dict[str, Any], step: int) -> bool:
    try:
        record = json.loads(line)
    except json.JSONDecodeError:  # the last line of a killed process
        return True
    return all(record.get(k) == v for k, v in key.items()) and int(record.get("step", 0)) > step


def log_to_file(path: Path | None) -> logging.Handler:
    """Send genkt's messages to ``train.log`` as well; remove the handler when the run ends.

    None for the processes of a run that write no files.
    """
    if path is None:
        return logging.NullHandler()
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    return handler
