"""One arm as a task for any executor: an ordinary transfer in its own folder."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from filelock import FileLock

from genkt.config.transfer_settings import TransferConfig
from genkt.disk import make_folder
from genkt.execution.tasks import INLINE, Progress
from genkt.files import number, read_or_forget, read_signed, write_signed
from genkt.io import reading
from genkt.runs.run_folder import CLAIM, RESULT, RunFolder, is_whole, read_claim
from genkt.runs.scores import read_scores
from genkt.runs.student_files import read_result, weights_digest
from genkt.runs.student_places import student_folder
from genkt.transfers.plan_rules import Derived
from genkt.types import Cost, DamagedError, StudentResult, StudentScores, UserError

ARMS, OUTCOMES, LOGS = "arms", "outcomes", "logs"
"""Folders of a comparison: the arms' runs, outcomes and logs."""

_SAMPLES_A_MADE_IMAGE = 30
_SAMPLES_A_PASS = 2
"""Rough costs of a synthesized image and of a teacher's pass, in images a student trains on."""


@dataclass(frozen=True)
class ArmTask:
    """One arm of a comparison; its result is the outcome file, for success and failure.

    Args:
        name: of the arm.  home: folder of the comparison.
        config: of the transfer.  command: that repeats it by hand.
        plan: settings that were derived for it, and are in ``config``.
    """

    name: str
    home: str
    config: TransferConfig
    command: str
    plan: tuple[Derived, ...] = ()

    @property
    def size(self) -> int:
        """A rough measure of its work: images that students train on, and other costs."""
        config = self.config
        decided = "train.steps" not in config.undecided
        steps = config.train.num_steps(0) if decided else config.pilot.most_steps
        steps += config.finetune.steps
        views = config.transfer_set.stored_views or config.data.views.num_views
        made = config.transfer_set.most_made if config.reads_transfer_set else 0
        a_draw = config.seeds_per_draw * steps * config.train.batch_size
        return config.num_draws * (
            a_draw + made * (_SAMPLES_A_MADE_IMAGE + _SAMPLES_A_PASS * max(1, views))
        )

    @property
    def folder(self) -> Path:
        """Its run folder."""
        return Path(self.config.out)

    @property
    def outcome(self) -> Path:
        """The file that records its end."""
        return Path(self.home) / OUTCOMES / f"{self.name}.json"

    def is_done(self) -> bool:
        """Whether it has ended in this start, with success or failure."""
        return self.outcome.is_file()

    def failure(self) -> str | None:
        """Why it ended early, in one line; None where it did not."""
        return self._ended()[0] if self.is_done() else None

    def seconds(self) -> float:
        """Wall seconds of its run in this start."""
        return self._ended()[1]

    def is_kept(self) -> bool:
        """Whether an earlier start finished it; a damaged outcome is reported and removed."""
        again = "the arm is looked at again"
        ended = read_or_forget(self.outcome, self._ended, again) if self.outcome.exists() else None
        right = ended is not None and ended[0] is None
        return right and is_whole(self.folder) and self._has_whole_results()

    def _has_whole_results(self) -> bool:
        """Whether the figures are intact; otherwise its run trains those students again."""
        try:
            self.results(), self.scores()
        except DamagedError:
            return False
        return True

    @property
    def students(self) -> list[Path]:
        """The folders of its students, draw after draw."""
        config = self.config
        return [
            student_folder(self.folder, draw, config.main_arm, seed)
            for draw in range(config.num_draws)
            for seed in range(config.seeds_per_draw)
        ]

    def results(self) -> list[tuple[StudentResult, dict[str, Cost]]]:
        """The figures of its students and what their stages cost, draw after draw, seed after seed.

        Raises:
            DamagedError: they are not what was written.
        """
        return [read_result(folder) for folder in self.students]

    def scores(self) -> list[StudentScores | None]:
        """Of its students on every test image; None where an older genkt did not keep them.

        Raises:
            DamagedError: they are not what was written.
        """
        return [read_scores(folder) for folder in self.students]

    def weights(self) -> list[str]:
        """Digests of its students' weights; "" where an older genkt kept none.

        Raises:
            DamagedError: they are not what was written.
        """
        return [weights_digest(folder) for folder in self.students]

    def _ended(self) -> tuple[str | None, float]:
        """Why it ended early, if it did, and after how many seconds."""
        expected = "how an arm ended"
        saved = read_signed(self.outcome, expected, unsigned=("failed", "seconds"))
        with reading(self.outcome, expected):
            return str(saved["failed"] or "") or None, number(saved["seconds"])

    def num_finished(self) -> int:
        """The number of finished students."""
        return sum((folder / RESULT).is_file() for folder in self.students)

    def run(self, progress: Progress) -> None:
        """Train what is missing, on one core; the outcome file records any error."""
        log = Path(self.home) / LOGS / f"{self.name}.log"
        make_folder(log.parent)
        # A process left over from a killed comparison may still be training this arm.
        with FileLock(log.with_suffix(".lock")):
            if not self.is_done():
                self._train(log)

    def _train(self, log: Path) -> None:
        from genkt.precision import threads
        from genkt.transfers.run_transfer import run_transfer

        started, reason = time.perf_counter(), None
        with (
            open(log, "a", encoding="utf-8", errors="backslashreplace") as stream,
            contextlib.redirect_stdout(stream),
            contextlib.redirect_stderr(stream),
            threads(1),
        ):
            try:
                settings = asdict(self.config)
                run_transfer(self.config, settings, command=self.command, plan=self.plan)
            except UserError as error:
                reason = "; ".join(str(error).splitlines())
            except Exception as error:  # the other arms continue; the traceback is in the log
                traceback.print_exc()
                reason = f"{type(error).__name__}: {' '.join(str(error).split())} (see {log})"
        self.end(reason, time.perf_counter() - started)

    def end(self, reason: str | None, seconds: float) -> None:
        """Write the outcome."""
        write_signed(self.outcome, {"failed": reason, "seconds": seconds})


def differences(task: ArmTask, generators: Mapping[str, str]) -> list[str]:
    """How the settings of an earlier run of this arm in this folder differ; one line each.

    Args:
        generators: name -> fingerprint of those that arms use; the settings do not contain it.
    """
    try:
        RunFolder(task.folder, asdict(task.config), overwrite=False)
    except UserError as error:
        lines = str(error).splitlines()
        return lines[1:] or lines
    inputs = read_claim(task.folder)["inputs"] if (task.folder / CLAIM).is_file() else {}
    return [
        f"{key}: other weights than the arm was started with"
        for name, value in generators.items()
        for key in [f"generator {name}"]
        if inputs.get(key, value) != value
    ]


def arm_folder(home: str | Path, name: str) -> Path:
    """Where an arm, or a candidate, of a comparison runs."""
    return Path(home) / ARMS / name


def as_arm(config: TransferConfig, home: Path, name: str) -> TransferConfig:
    """The transfer of one arm: in its folder, with no baseline of its own."""
    return replace(
        config, out=str(arm_folder(home, name)), baseline=False, overwrite=False, dry_run=False,
        executor=INLINE,
    )  # fmt: skip
