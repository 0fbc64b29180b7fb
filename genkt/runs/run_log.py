"""What a run writes while it works: metrics, TensorBoard events, its log."""

from __future__ import annotations

import json
import logging
import sys
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


class StageLog:
    """Records of one student, stage after stage."""

    def __init__(self, log: RunLog, draw: int, arm: str) -> None:
        self.log, self.draw, self.arm = log, draw, arm
        self._writer: Any = None
        self._offset = 0

    @property
    def place(self) -> str:
        """Which student it is."""
        return f"draw {self.draw}, {self.arm}"

    def begin(self, stage: str, step: int) -> None:
        """A stage starts or resumes at ``step``: records it will write again are dropped."""
        if not self.log.enabled:
            return
        key = {"draw": self.draw, "arm": self.arm, "stage": stage}
        if self.log.path.is_file():
            with self.log.lock:
                text = self.log.path.read_text(encoding="utf-8", errors="backslashreplace")
                lines = text.splitlines()
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
