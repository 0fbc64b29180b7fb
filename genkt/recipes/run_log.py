"""What a run writes while it works: metrics, TensorBoard events, its log."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from genkt.disk import naming_place
from genkt.io import write_text
from genkt.training.stage import Record

METRICS_LOCK = ".metrics.lock"

logger = logging.getLogger("genkt")


class RunLog:
    """``metrics.jsonl`` and TensorBoard events of a run; both stay consistent when it resumes.

    Several processes may write to it, each of other students.
    """

    def __init__(self, folder: Path, *, enabled: bool = True) -> None:
        self.path = folder / "metrics.jsonl"
        self.lock = FileLock(folder / METRICS_LOCK)
        self.events = folder / "tensorboard"
        self.enabled = enabled

    def stage(self, draw: int, arm: str) -> StageLog:
        """The log of one student's stages."""
        return StageLog(self, draw, arm)

    def tell_missing(self, curves: Mapping[tuple[int, str], Sequence[Record]]) -> None:
        """Tell once how many records of finished trainings are not in the file any more.

        Args:
            curves: by (draw, arm), the stages of all records that must be there.
        """
        if not self.enabled:
            return
        expected = Counter(
            (*key, record["stage"]) for key, curve in curves.items() for record in curve
        )
        found = Counter(_stage_of(line) for line in self.lines())
        if missing := (expected - found).total():
            logger.warning(
                "%s: %d of %d records of finished trainings are missing from it: the file was "
                "damaged meanwhile", self.path, missing, expected.total(),
            )  # fmt: skip

    def lines(self) -> list[str]:
        """The lines of the file, as it is now."""
        if not self.path.is_file():
            return []
        return self.path.read_text(encoding="utf-8", errors="backslashreplace").splitlines()


class StageLog:
    """Records of one student, stage after stage."""

    def __init__(self, log: RunLog, draw: int, arm: str) -> None:
        self.log, self.draw, self.arm = log, draw, arm
        self._writer: Any = None
        self._begun: tuple[str, int] | None = None

    def begin(self, stage: str, step: int, known: Sequence[Record] = ()) -> None:
        """A stage starts or resumes at ``step``: records it will write again are dropped.

        Args:
            known: its records up to ``step``; those that are missing are written again, and told.
        """
        if not self.log.enabled:
            return
        self._put_right(stage, step, [self._line(record) for record in known])
        self.close()
        self._begun = stage, step

    def _put_right(self, stage: str, step: int, known: Sequence[str]) -> None:
        """Drop what will be written again; what is missing or altered is as it was, and told."""
        path = self.log.path
        if not path.is_file() and not known:
            return
        key = {"draw": self.draw, "arm": self.arm, "stage": stage}
        with self.log.lock:
            lines = self.log.lines()
            kept = [line for line in lines if not _again(line, key, step)]
            if known:
                own = (self.draw, self.arm, stage)
                kept = [line for line in kept if line in known or _stage_of(line) != own]
            lost = [line for line in known if line not in kept]
            if lost:
                logger.warning(
                    "%s: %d records of %s were missing or altered; they are written again",
                    path, len(lost), stage,
                )  # fmt: skip
            if lost or len(kept) < len(lines):
                write_text(path, "".join(line + "\n" for line in [*kept, *lost]))

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
        writer = self._events()
        for name, value in record.items():
            if isinstance(value, float) and writer is not None:
                writer.add_scalar(name, value, int(record["step"]))

    def _events(self) -> Any:
        """The events of the stage that has begun; None: none has."""
        if self._writer is None and self._begun is not None:
            from torch.utils.tensorboard import SummaryWriter

            stage, step = self._begun
            folder = self.log.events / f"{self.arm}-draw{self.draw}-{stage}"
            self._writer = SummaryWriter(str(folder), purge_step=step)  # type: ignore[no-untyped-call]
        return self._writer

    def _line(self, record: Record) -> str:
        return json.dumps({"draw": self.draw, "arm": self.arm, **record})

    def close(self) -> None:
        """Flush the events of the current stage."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _stage_of(line: str) -> tuple[Any, ...]:
    """(draw, arm, stage) of a line; what is none has none."""
    try:
        record = json.loads(line)
        return record["draw"], record["arm"], record["stage"]
    except (ValueError, TypeError, KeyError):
        return ()


def _again(line: str, key: dict[str, Any], step: int) -> bool:
    try:
        record = json.loads(line)
        same = all(record.get(k) == v for k, v in key.items())
        return same and int(record.get("step", 0)) > step
    except (ValueError, AttributeError, TypeError):  # the last line of a killed process, or damage
        return True


class _LogFile(logging.FileHandler):
    """A log file that cannot be written any more says so once; the work goes on without it."""

    _told = False

    def handleError(self, record: logging.LogRecord) -> None:
        """One line in place of logging's traceback."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            self._tell(error)
        else:
            super().handleError(record)

    def close(self) -> None:
        """Close the file; what is left may not find room."""
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
