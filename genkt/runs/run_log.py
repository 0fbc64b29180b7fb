"""What a run writes while it works: metrics, TensorBoard events, its log."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from genkt.disk import naming_place
from genkt.io import write_text
from genkt.training.stage import Record
from genkt.types import counted, draw_text

Key = tuple[int, int, str, str]
"""The owner of a line: draw, seed, arm, stage."""

METRICS_LOCK = ".metrics.lock"

logger = logging.getLogger("genkt")


class RunLog:
    """``metrics.jsonl`` and TensorBoard events of a run; both stay consistent when it resumes.

    Several processes may write to it, each for other students.
    """

    def __init__(self, folder: Path, *, enabled: bool = True) -> None:
        self.path = folder / "metrics.jsonl"
        self.lock = FileLock(folder / METRICS_LOCK)
        self.events = folder / "tensorboard"
        self.enabled = enabled

    def stage(self, draw: int, arm: str, seed: int = 0) -> StageLog:
        """The log of one student's stages."""
        return StageLog(self, draw, arm, seed)

    def put_right(self, known: Mapping[Key, Sequence[str]]) -> None:
        """Restore the lines of stages; lines that are not records are dropped.

        Lost or altered lines are written again, which is reported.

        Args:
            known: all lines of stages, by owner; other stages stay as they are.
        """
        if not self.enabled or not (self.path.is_file() or any(known.values())):
            return
        expected = {key: set(lines) for key, lines in known.items()}
        with self.lock:
            lines = self.lines()
            kept = [
                line
                for line in lines
                if (key := _key_of(line)) and line in expected.get(key, (line,))
            ]
            there = set(kept)
            lost = [line for own in known.values() for line in own if line not in there]
            if lost:
                logger.warning(
                    "%s: %s missing or altered; written again",
                    self.path, counted(len(lost), "record", "was"),
                )  # fmt: skip
            if lost or len(kept) < len(lines):
                write_text(self.path, "".join(line + "\n" for line in [*kept, *lost]))

    def lines(self) -> list[str]:
        """The current lines of the file."""
        if not self.path.is_file():
            return []
        return self.path.read_text(encoding="utf-8", errors="backslashreplace").splitlines()


class StageLog:
    """Records of one student, stage after stage."""

    def __init__(self, log: RunLog, draw: int, arm: str, seed: int = 0, prefix: str = "") -> None:
        self.log, self.draw, self.arm, self.seed, self.prefix = log, draw, arm, seed, prefix
        self.known: dict[Key, list[str]] = {}
        """All lines of the stages that started here, if known from the first step."""
        self._writer: Any = None
        self._begun: tuple[str, int] | None = None

    def below(self, prefix: str) -> StageLog:
        """The log of trainings for the same student; ``prefix`` is put before their stages."""
        found = StageLog(self.log, self.draw, self.arm, self.seed, self.prefix + prefix)
        found.known = self.known
        return found

    @property
    def place(self) -> str:
        """Which student it is."""
        fold = f", {self.prefix.rstrip('-')}" if self.prefix else ""
        return f"{self.draw_text}, {self.arm}{fold}"

    @property
    def draw_text(self) -> str:
        """The same without the arm."""
        return draw_text(self.draw, self.seed)

    def begin(self, stage: str, step: int, known: Sequence[Record] | None = None) -> None:
        """A stage starts, resumes or has ended at ``step``; later lines are dropped.

        Args:
            known: its records up to there, which the log must have; None: they are not known.
        """
        if not self.log.enabled:
            return
        stage = self.prefix + stage
        key = (self.draw, self.seed, self.arm, stage)
        self.known[key] = [self._line(record) for record in known or ()]
        if known is None and step:
            del self.known[key]
            there = [line for line in self.log.lines() if _key_of(line) == key]
            self.log.put_right({key: [line for line in there if _step(line) <= step]})
        else:
            self.log.put_right({key: self.known[key]})
        self.close()
        self._begun = stage, step

    def record(self, record: Record) -> None:
        """Append one record to both logs."""
        if not self.log.enabled:
            return
        line = self._line(record)
        self.log.path.parent.mkdir(parents=True, exist_ok=True)
        path = self.log.path
        room = naming_place(path, num_bytes=len(line))
        with self.log.lock, room, open(path, "a", encoding="utf-8") as stream:
            stream.write(line + "\n")
        if (own := _key_of(line)) in self.known:
            self.known[own].append(line)
        writer = self._events()
        for name, value in record.items():
            if isinstance(value, float) and writer is not None:
                writer.add_scalar(name, value, int(record["step"]))

    def _events(self) -> Any:
        """The events of the current stage; None before the first."""
        if self._writer is None and self._begun is not None:
            from torch.utils.tensorboard import SummaryWriter

            stage, step = self._begun
            seed = f"-seed{self.seed}" if self.seed else ""
            folder = self.log.events / f"{self.arm}-draw{self.draw}{seed}-{stage}"
            self._writer = SummaryWriter(str(folder), purge_step=step)  # type: ignore[no-untyped-call]
        return self._writer

    def _line(self, record: Record) -> str:
        seed = {"seed": self.seed} if self.seed else {}
        named = {**record, "stage": f"{self.prefix}{record['stage']}"}
        return json.dumps({"draw": self.draw, **seed, "arm": self.arm, **named})

    def close(self) -> None:
        """Flush the events of the current stage."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _key_of(line: str) -> Key | None:
    """The owner of a line; None: a line torn by a kill, or damage."""
    try:
        record = json.loads(line)
        key = record["draw"], record.get("seed", 0), record["arm"], record["stage"]
        hash((*key, record["step"] + 0))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return key


def lines_by_stage(lines: Iterable[str]) -> dict[Key, list[str]]:
    """Lines of a log by owner."""
    found: dict[Key, list[str]] = {}
    for line in lines:
        if key := _key_of(line):
            found.setdefault(key, []).append(line)
    return found


def _step(line: str) -> int:
    return int(json.loads(line)["step"])


class _LogFile(logging.FileHandler):
    """A log file that reports a failed write once; the work continues without the log."""

    _told = False

    def handleError(self, record: logging.LogRecord) -> None:
        """One line in place of logging's traceback."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            self._tell(error)
        else:
            super().handleError(record)

    def close(self) -> None:
        """Close the file, although the disk may be full."""
        try:
            super().close()
        except OSError as error:
            self._tell(error)

    def _tell(self, error: OSError) -> None:
        if not self._told:
            self._told = True
            print(f"{self.baseFilename}: {error.strerror}: the log ends here", file=sys.stderr)


def log_to_file(path: Path | None) -> logging.Handler:
    """Send genkt's messages to ``train.log`` as well; remove the handler when the run ends.

    None for the processes of a run that write no files.
    """
    if path is None:
        return logging.NullHandler()
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _LogFile(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    return handler
